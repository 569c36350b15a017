//! What is left of clients that the timeout has ended.

use std::time::{Duration, Instant};

use super::{exercised, mebibytes, watched};
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Judged, Verdict};
use crate::watch::ProcessSample;
use crate::wire::Wire;

/// Clients that time out together: more than what a server may have more of for other reasons.
const CLIENTS: u64 = 10;

/// Rounds of that many clients, each of which has to leave as much: pools and heaps grow too, but
/// not again and again.
const ROUNDS: u64 = 3;

/// Growth of memory by client below which it may be anything, in bytes.
const BY_CLIENT_MIN: u64 = 256 * 1024;

/// What a busy server may be late with, beside half of its timeout.
const LATE: Duration = Duration::from_secs(1);

/// Something that clients may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Descriptors,
    Memory,
}

impl Left {
    const ALL: [Left; 2] = [Left::Descriptors, Left::Memory];

    /// How much of it there is more.
    fn grown(self, before: &ProcessSample, after: &ProcessSample) -> u64 {
        match self {
            Left::Descriptors => after.descriptors().saturating_sub(before.descriptors()),
            Left::Memory => after.resident.saturating_sub(before.resident),
        }
    }

    /// What it is at least if each of the clients has left some.
    fn least(self) -> u64 {
        match self {
            Left::Descriptors => CLIENTS,
            Left::Memory => CLIENTS * BY_CLIENT_MIN,
        }
    }

    fn told(self, grown: u64) -> String {
        match self {
            Left::Descriptors => format!("{grown} descriptors"),
            Left::Memory => mebibytes(grown),
        }
    }
}

/// Clients that the timeout ends leave nothing. The cases about time have had such clients; only if
/// there is more of something since then, or if they were not tried, are there more of them.
pub(super) fn timed_out(trial: &mut CaseTrial<'_>) -> Judged {
    let Some(timeout) = trial.setup.timeout else {
        return Ok(Verdict::skipped("needs --timeout"));
    };
    if trial.setup.one_at_a_time || trial.setup.together(CLIENTS as usize) < CLIENTS as usize {
        let why = format!("the server serves fewer than {CLIENTS} clients at a time");
        return Ok(Verdict::skipped(why));
    }
    let watch = watched(trial)?;
    let looks = exercised(trial)?;
    let mut suspected = Left::ALL.to_vec();
    if let Some(pair) = looks.windows(2).find(|pair| pair[1].group == "timing") {
        suspected.retain(|left| left.grown(&pair[0].had, &pair[1].had) >= left.least());
    }
    if suspected.is_empty() {
        return Ok(Verdict::Pass);
    }
    let first = watch.settled(trial.setup)?;
    let mut before = first.clone();
    for _ in 0..ROUNDS {
        let longest = timeout.mul_f64(1.5) + LATE;
        let ended = let_time_out(trial, longest)?;
        if ended < CLIENTS {
            return Err(Verdict::inconclusive(format!(
                "the timeout ended {ended} of {CLIENTS} idle clients"
            )));
        }
        let after = watch.settled(trial.setup)?;
        suspected.retain(|left| left.grown(&before, &after) >= left.least());
        if suspected.is_empty() {
            return Ok(Verdict::Pass);
        }
        before = after;
    }
    let left = suspected[0];
    Err(Verdict::fail_by(
        Evidence::Bytes,
        "what a connection had is given back when the timeout ends it",
        format!(
            "{} more after {} clients that were ended by the timeout, {CLIENTS} at a time",
            left.told(left.grown(&first, &before)),
            ROUNDS * CLIENTS
        ),
    ))
}

/// Clients send a message, and half of them part of another one, and are silent; how many of them
/// the server ended.
fn let_time_out(trial: &mut CaseTrial<'_>, longest: Duration) -> Judged<u64> {
    let message = trial.message(32);
    let frame = &message.bytes;
    let part = trial.cut_payload(1000).unwrap_or_default();
    let mut wires: Vec<Wire<'_>> = vec![];
    for number in 0..CLIENTS {
        let mut wire = trial.connect()?;
        wire.send(frame)?;
        wire.expect_answers(&[&message])?;
        if number % 2 == 0 {
            wire.try_send(&part, trial.setup.settle)?;
        }
        wires.push(wire);
    }
    let until = Instant::now() + longest;
    let mut ended = 0;
    for wire in &mut wires {
        wire.receive_into(&mut vec![], 1, until.saturating_duration_since(Instant::now()))?;
        ended += u64::from(wire.end().is_some());
    }
    Ok(ended)
}
