//! What clients cost while they are there, and send nothing.

use std::time::{Duration, Instant};

use trust_cli::text::grouped;

use super::{mebibytes, watched};
use crate::declaration::refuses_all;
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Finding, Judged, Verdict};
use crate::watch::{IDLE_SHARE_MAX, Watch};
use crate::wire::Wire;

/// Clients that declare the longest message at most.
const DECLARING_MAX: u64 = 50;

/// How long memory is looked at while they are there and the server rests, and how often.
const MEMORY_TIME: Duration = Duration::from_millis(500);
const MEMORY_LOOK: Duration = Duration::from_millis(50);

/// The longest time for that while the server computes or its memory grows, and the growth that
/// counts, in bytes.
const STILL_MAX: Duration = Duration::from_secs(5);
const STILL_BYTES: u64 = 64 * 1024;

/// Bytes of a message of a client that does not read.
const UNREAD_BYTES: u64 = 4096;

/// Bytes that a client sends at most to find the server waiting for it to read.
const UNREAD_MAX: usize = 4 * 1024 * 1024;

/// Longest time for that.
const UNREAD_TIME: Duration = Duration::from_millis(500);

/// A server that takes nothing for that long waits.
const UNREAD_STALL: Duration = Duration::from_millis(50);

/// Lengths that are declared where the longest message is not known, in bytes, until one is taken.
const LENGTHS: [u64; 6] = [64 << 20, 16 << 20, 4 << 20, 1 << 20, 256 << 10, 64 << 10];

/// Clients declare the longest message and send a byte of it: memory grows with what has arrived.
pub(super) fn declared(trial: &mut CaseTrial<'_>) -> Judged {
    let watch = watched(trial)?;
    let (allowed, lengths) = (trial.setup.memory_allowance, trial.lengths_to_declare(&LENGTHS)?);
    let most = if trial.setup.one_at_a_time { 1 } else { DECLARING_MAX };
    let most = match trial.setup.exchanges {
        None => most,
        Some(_) => trial.setup.together(most as usize) as u64,
    };
    let count_of = |length: u64| (3 * allowed).div_ceil(length.max(1)).min(most);
    // Twice as much, so that half of it is more than what memory may grow by for other reasons.
    let is_enough = |count: u64, length: u64| count.saturating_mul(length) >= 2 * allowed;
    let mut too_few = None;
    let seen = lengths.iter().filter(|length| is_enough(count_of(**length), **length));
    for length in seen.clone().copied() {
        let count = count_of(length);
        let Some(open) = judge_growth(trial, watch, count, length)? else { continue };
        if is_enough(open, length) {
            return Ok(Verdict::Pass);
        }
        too_few = Some((open, count));
    }
    match too_few {
        Some((open, count)) => Err(Verdict::inconclusive(format!(
            "only {open} of {count} clients could declare the longest message at the same time"
        ))),
        None if seen.count() > 0 => Err(refuses_all()),
        None => {
            let which = match count_of(lengths[0]) {
                1 => "the longest message is".to_owned(),
                count => format!("{count} of the longest messages are"),
            };
            Ok(Verdict::skipped(format!(
                "{which} less than what is seen with a --memory-allowance of {} bytes",
                grouped(allowed)
            )))
        }
    }
}

/// That many clients declare that length, and memory does not grow by it. Returns how many could,
/// at the same time; `None` if the server takes no such length.
fn judge_growth(
    trial: &mut CaseTrial<'_>,
    watch: &Watch,
    count: u64,
    length: u64,
) -> Judged<Option<u64>> {
    let (before, cost) = match trial.short_declaration() {
        None => (watch.resident_bytes(), 0),
        Some(short) => {
            let had = watch.settled(trial.setup)?;
            // What a client costs by itself: a process of its own, a thread, a buffer.
            let held = hold(trial, watch, count, &short.beginning(), u64::MAX)?;
            let cost = held.most.saturating_sub(had.resident);
            // Those that the server has not seen leave by then have not given it back.
            watch.await_return(trial.setup, &had)?;
            let before = watch.resident_bytes() + cost;
            if !trial.takes(length)? {
                return Ok(None);
            }
            watch.await_return(trial.setup, &had)?;
            (before, cost)
        }
    };
    // Clients that cost much do not always cost the same.
    let enough = (trial.setup.memory_allowance + 1).max(count * length / 2).max(cost / 2);
    let beginning = trial.declaration(length)?.beginning();
    let held = hold(trial, watch, count, &beginning, before + enough)?;
    let grown = held.most.saturating_sub(before);
    if grown < enough {
        return Ok(Some(held.open));
    }
    let declared = mebibytes(length);
    let who = match count {
        1 => format!("one client had declared {declared} and sent a byte of it"),
        _ => format!("{count} clients had declared {declared} each and sent a byte of it"),
    };
    Err(Verdict::fail(
        "a declared length takes no memory before the bytes arrive",
        format!("{} more while {who}", mebibytes(grown)),
    ))
}

/// What was seen while clients were there that had sent a part of a message.
struct Held {
    /// The most memory that the server had, in bytes.
    most: u64,
    /// How many were still there at the end, and had got no answer.
    open: u64,
}

/// That many clients send these bytes and stay for a while, or until the server has so much memory.
fn hold(
    trial: &mut CaseTrial<'_>,
    watch: &Watch,
    count: u64,
    bytes: &[u8],
    enough: u64,
) -> Judged<Held> {
    let mut wires = vec![];
    for _ in 0..count {
        let mut wire = match trial.connect() {
            // Perhaps a limit on clients: those that are there are looked at.
            Err(Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. }))
                if trial.setup.exchanges.is_some() =>
            {
                break;
            }
            connected => connected?,
        };
        wire.try_send(bytes, trial.setup.settle)?;
        wires.push(wire);
    }
    let mut memory = Memory::looked_at_from(Instant::now());
    let mut is_known = false;
    while !is_known && memory.most < enough {
        trial.pause(MEMORY_LOOK)?;
        let began = Instant::now();
        let (is_computing, bytes) = (watch.is_computing(), watch.resident_bytes());
        is_known = memory.note(bytes, is_computing, began, Instant::now());
    }
    let open = count_open(trial, &mut wires)?;
    Ok(Held { most: memory.most, open })
}

/// The memory of a server, until it has rested for [`MEMORY_TIME`].
struct Memory {
    most: u64,
    rests_since: Instant,
    until: Instant,
}

impl Memory {
    fn looked_at_from(now: Instant) -> Memory {
        Memory { most: 0, rests_since: now, until: now + STILL_MAX }
    }

    /// Notes what a look showed, and returns whether it was the last one. On a busy machine a look
    /// takes long, and what it shows is the beginning of it: so the server rests only from the end
    /// of a look that showed growth, and the last look begins a while after that.
    fn note(&mut self, bytes: u64, is_computing: bool, began: Instant, ended: Instant) -> bool {
        let is_growing = bytes > self.most + STILL_BYTES;
        self.most = self.most.max(bytes);
        if (is_growing || is_computing) && began < self.until {
            self.rests_since = ended;
        }
        began.saturating_duration_since(self.rests_since) >= MEMORY_TIME
    }
}

/// How many of these connections have not ended, and wait for more where an answer is known from
/// the message.
fn count_open(trial: &CaseTrial<'_>, wires: &mut [Wire<'_>]) -> Judged<u64> {
    let mut open = 0;
    for wire in wires {
        let has_answered = wire.receive_into(&mut vec![], 1, Duration::ZERO)?;
        let is_waiting = trial.setup.exchanges.is_none() || !has_answered;
        open += u64::from(wire.end().is_none() && is_waiting);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_growing_in_a_slow_look_is_looked_at_again() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut memory = Memory::looked_at_from(begin);
        // It was growing when the look began, and done when it ended.
        assert!(!memory.note(20 << 20, false, at(50), at(800)));
        assert!(!memory.note(64 << 20, false, at(850), at(1600)));
        assert!(!memory.note(64 << 20, false, at(1650), at(1700)));
        assert!(memory.note(64 << 20, false, at(2100), at(2150)));
        assert_eq!(memory.most, 64 << 20);
    }

    #[test]
    fn a_server_that_never_rests_is_looked_at_for_a_bounded_time() {
        let begin = Instant::now();
        let mut memory = Memory::looked_at_from(begin);
        let mut looks = (1..).map(|number| begin + MEMORY_LOOK * number);
        let last = looks.find(|at| memory.note(1 << 20, true, *at, *at));
        assert!(last.expect("a last look") - begin <= STILL_MAX + MEMORY_TIME + MEMORY_LOOK);
    }
}
