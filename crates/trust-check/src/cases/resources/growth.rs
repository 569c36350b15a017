//! Whether what has grown goes on growing. Growth alone is a suspicion: pools, caches and heaps
//! grow too, and stop.

use std::time::{Duration, Instant};

use super::{CLIENTS, WAYS_TO_LEAVE, send_clients};
use crate::trial::CaseTrial;
use crate::verdict::{Judged, Verdict};
use crate::watch::{ProcessSample, Watch};

/// Rounds of clients in which a leak goes on growing.
const ROUNDS: usize = 3;

/// Least leaked things per round that count as a leak: more than half of the clients that left in
/// one particular way.
const LEAST_BY_ROUND: u64 = CLIENTS / WAYS_TO_LEAVE / 2 + 1;

/// Longest time for rounds that judge the growth of memory.
const MEMORY_TIME_MAX: Duration = Duration::from_secs(10);

/// Rounds in a row that bring next to nothing when memory counts as no longer growing.
const STILL_ROUNDS: u32 = 3;

/// What came of further rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Further {
    /// Clients that came and left.
    pub(super) clients: u64,
    /// How much there was more at their end.
    pub(super) growth: u64,
    /// Whether it went on to the last round.
    pub(super) goes_on: bool,
}

/// Whether something that can be counted goes on growing by at least what the clients of one way to
/// leave make, round after round. A server that no longer serves is taken for one that has nothing
/// left.
///
/// # Errors
///
/// Only when the run is to end.
pub(super) fn of_count(
    trial: &mut CaseTrial<'_>,
    watch: &Watch,
    of: impl Fn(&ProcessSample) -> u64,
) -> Judged<Further> {
    let start = of(&watch.settled(trial.setup)?);
    let (mut last, mut clients, mut goes_on) = (start, 0, true);
    for _ in 0..ROUNDS {
        let sent = send_clients(trial)?;
        clients += sent.clients;
        let now = of(&watch.settled(trial.setup)?);
        goes_on &= now >= last + LEAST_BY_ROUND || sent.are_lost;
        last = now;
        if !goes_on {
            break;
        }
    }
    Ok(Further { clients, growth: last.saturating_sub(start), goes_on })
}

/// Whether memory grows by `much` more, or stops.
///
/// # Errors
///
/// Only when the run is to end.
pub(super) fn of_memory(trial: &mut CaseTrial<'_>, watch: &Watch, much: u64) -> Judged<Further> {
    let (since, start) = (Instant::now(), watch.resident_bytes());
    let (mut largest, mut clients, mut still) = (start, 0, 0);
    loop {
        let sent = send_clients(trial)?;
        clients += sent.clients;
        let now = watch.resident_bytes();
        // Less than one part in a hundred of what is too much is nothing, for so many clients.
        still = if now < largest + much / 100 { still + 1 } else { 0 };
        largest = largest.max(now);
        let growth = largest.saturating_sub(start);
        if growth >= much || still >= STILL_ROUNDS || since.elapsed() >= MEMORY_TIME_MAX {
            return Ok(Further { clients, growth, goes_on: growth >= much });
        }
        if sent.are_lost {
            return Err(Verdict::inconclusive("the server serves no more clients"));
        }
    }
}
