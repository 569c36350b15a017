//! What clients cost while they are there, and send nothing.

use std::time::{Duration, Instant};

use trust_cli::text::grouped;

use super::{mebibytes, watched};
use crate::trial::CaseTrial;
use crate::verdict::{Judged, Verdict};
use crate::watch::{IDLE_SHARE_MAX, Watch};
use crate::wire::Wire;

/// Clients that declare the longest message at most.
const DECLARING_MAX: u64 = 50;

/// How long memory is looked at while they are there, and how often.
const MEMORY_TIME: Duration = Duration::from_secs(1);
const MEMORY_LOOK: Duration = Duration::from_millis(50);

/// Bytes of a message of a client that does not read.
const UNREAD_BYTES: u64 = 4096;

/// Bytes that a client sends at most to find the server waiting for it to read.
const UNREAD_MAX: usize = 4 * 1024 * 1024;

/// Longest time for that.
const UNREAD_TIME: Duration = Duration::from_millis(500);

/// A server that takes nothing for that long waits.
const UNREAD_STALL: Duration = Duration::from_millis(50);

/// Clients declare the longest message and send a byte of it: memory grows with what has arrived.
pub(super) fn declared(trial: &mut CaseTrial<'_>) -> Judged {
    let watch = watched(trial)?;
    let header = trial.longest_header()?;
    let (allowed, longest) = (trial.setup.memory_allowance, trial.setup.payload_max());
    let most = if trial.setup.one_at_a_time { 1 } else { DECLARING_MAX };
    let count = (3 * allowed).div_ceil(longest.max(1)).min(most);
    // Twice as much, so that half of it is more than what memory may grow by for other reasons.
    let is_enough = |count: u64| count.saturating_mul(longest) >= 2 * allowed;
    if !is_enough(count) {
        return Ok(Verdict::skipped(format!(
            "{count} of the longest messages are less than what is seen with a --memory-allowance \
             of {} bytes",
            grouped(allowed)
        )));
    }
    let before = watch.resident_bytes();
    let mut held = vec![];
    for _ in 0..count {
        let mut wire = trial.connect()?;
        wire.try_send(&[&header[..], b"x"].concat(), trial.setup.settle)?;
        held.push(wire);
    }
    let (began, mut most) = (Instant::now(), 0);
    while began.elapsed() < MEMORY_TIME && most < before + allowed {
        trial.pause(MEMORY_LOOK)?;
        most = most.max(watch.resident_bytes());
    }
    let open = count_open(&mut held)?;
    drop(held);
    let grown = most.saturating_sub(before);
    if grown > allowed && grown >= count * longest / 2 {
        return Err(Verdict::fail(
            "a declared length takes no memory before the bytes arrive",
            format!(
                "{} more while {count} clients had declared {} each and sent a byte of it",
                mebibytes(grown),
                mebibytes(longest)
            ),
        ));
    }
    match is_enough(open) {
        true => Ok(Verdict::Pass),
        false => Err(Verdict::inconclusive(format!(
            "only {open} of {count} clients could declare the longest message at the same time"
        ))),
    }
}

/// How many of these connections have not ended.
fn count_open(wires: &mut [Wire<'_>]) -> Judged<u64> {
    let mut open = 0;
    for wire in wires {
        wire.receive_into(&mut vec![], 1, Duration::ZERO)?;
        open += u64::from(wire.end().is_none());
    }
    Ok(open)
}

/// Where a client is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silent {
    AfterAMessage,
    InsideAHeader,
    InsideAPayload,
    WithAnswersUnread,
}

impl Silent {
    const ALL: [Silent; 4] = [
        Silent::AfterAMessage,
        Silent::InsideAHeader,
        Silent::InsideAPayload,
        Silent::WithAnswersUnread,
    ];

    fn name(self) -> &'static str {
        match self {
            Silent::AfterAMessage => "is silent after a message",
            Silent::InsideAHeader => "is silent inside a header",
            Silent::InsideAPayload => "is silent inside a payload",
            Silent::WithAnswersUnread => "does not read its answers",
        }
    }

    /// A client that is silent there; `None` if this framing has no such place.
    fn client<'s>(self, trial: &mut CaseTrial<'s>) -> Judged<Option<Wire<'s>>> {
        let hello = trial.message(32);
        if self == Silent::WithAnswersUnread && trial.unread_message(UNREAD_BYTES).is_err() {
            return Ok(None);
        }
        let part = match self {
            Silent::InsideAHeader => trial.cut_header().ok(),
            Silent::InsideAPayload => trial.cut_payload(1000).ok(),
            Silent::AfterAMessage | Silent::WithAnswersUnread => Some(vec![]),
        };
        let Some(part) = part else { return Ok(None) };
        let mut wire = trial.connect_narrow()?;
        wire.send(&hello.bytes)?;
        wire.expect_answers(&[&hello])?;
        wire.try_send(&part, trial.setup.settle)?;
        if self == Silent::WithAnswersUnread {
            let message = trial.message(UNREAD_BYTES);
            let frame = &message.bytes;
            let many = frame.repeat(UNREAD_MAX / frame.len());
            wire.try_send_for(&many, UNREAD_STALL, UNREAD_TIME)?;
        }
        Ok(Some(wire))
    }
}

/// What the server computes while clients are there that it has to wait for.
pub(super) fn silence(trial: &mut CaseTrial<'_>) -> Judged {
    let watch = watched(trial)?;
    let together = if trial.setup.one_at_a_time { 1 } else { Silent::ALL.len() };
    for silent in Silent::ALL.chunks(together) {
        if share_with(trial, watch, silent)? <= IDLE_SHARE_MAX {
            continue;
        }
        // Each alone, to say which it was, and none.
        let without = share_with(trial, watch, &[])?;
        if without > IDLE_SHARE_MAX {
            return Err(Verdict::inconclusive(format!(
                "it used {} % of a core without clients too",
                percent(without)
            )));
        }
        for one in silent {
            let share = share_with(trial, watch, &[*one])?;
            if share > IDLE_SHARE_MAX {
                return Err(Verdict::fail(
                    "a server that waits for a client computes next to nothing",
                    format!(
                        "it used {} % of a core while one client was there, which {}",
                        percent(share),
                        one.name()
                    ),
                ));
            }
        }
    }
    Ok(Verdict::Pass)
}

/// The share of a core that the server computes while such clients are there.
fn share_with(trial: &mut CaseTrial<'_>, watch: &Watch, silent: &[Silent]) -> Judged<f64> {
    let mut held = vec![];
    for one in silent {
        held.extend(one.client(trial)?);
    }
    trial.pause(trial.setup.settle)?;
    let share = watch.idle_share(trial.setup)?;
    drop(held);
    share.ok_or_else(|| {
        Verdict::inconclusive(
            "the kernel does not tell what threads compute (/proc/PID/task/TID/schedstat)",
        )
    })
}

fn percent(share: f64) -> f64 {
    (share * 100.0).round()
}
