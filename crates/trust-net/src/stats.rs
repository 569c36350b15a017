//! How a running server is asked for its statistics: each worker adds what it knows when it next
//! looks, and the last one has the sum. No thread waits.

use std::sync::PoisonError;

use trust_wire::Reason;
use trust_wire::connection::Totals;

use crate::observer::Stats;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What one worker has closed; only that worker counts here.
#[derive(Debug, Default)]
pub(crate) struct ClosedCounters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
    /// By the kind of the reason.
    closed: [AtomicU64; Reason::KINDS.len()],
}

impl ClosedCounters {
    pub(crate) fn note(&self, totals: Totals, reason: &Reason) {
        self.closed[reason.kind()].fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(totals.bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(totals.bytes_out, Ordering::Relaxed);
        self.frames_in.fetch_add(totals.frames_in, Ordering::Relaxed);
        self.frames_out.fetch_add(totals.frames_out, Ordering::Relaxed);
    }

    pub(crate) fn add_to(&self, stats: &mut Stats) {
        stats.totals.add(Totals {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            frames_in: self.frames_in.load(Ordering::Relaxed),
            frames_out: self.frames_out.load(Ordering::Relaxed),
        });
        for (sum, count) in stats.closed.iter_mut().zip(&self.closed) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

/// The request, and what has been contributed to it.
#[derive(Debug)]
pub(crate) struct StatsRequest {
    /// How often statistics were asked for.
    round: AtomicU64,
    shares: Mutex<Shares>,
}

#[derive(Debug)]
struct Shares {
    /// For each worker what it knew last, and in which round that was.
    latest: Vec<(u64, Stats)>,
    /// The last round that was reported.
    reported: u64,
}

impl StatsRequest {
    pub(crate) fn new(workers: usize) -> StatsRequest {
        let latest = vec![(0, Stats::default()); workers];
        StatsRequest {
            round: AtomicU64::new(0),
            shares: Mutex::new(Shares { latest, reported: 0 }),
        }
    }

    pub(crate) fn request(&self) {
        self.round.fetch_add(1, Ordering::SeqCst);
    }

    /// The current round, if a worker that has contributed to `last` has not contributed to it yet.
    pub(crate) fn wanted(&self, last: u64) -> Option<u64> {
        let round = self.round.load(Ordering::SeqCst);
        (round != last).then_some(round)
    }

    /// Puts in what a worker knows; the sum, if a round is complete with it.
    pub(crate) fn contribute(&self, worker: usize, round: u64, share: &Stats) -> Option<Stats> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.latest[worker] = (round, *share);
        // Workers that have ended count as far ahead; a round that was not asked for is none.
        let complete = shares.latest.iter().map(|(round, _)| *round).min()?;
        let complete = complete.min(self.round.load(Ordering::SeqCst));
        if complete == shares.reported {
            return None;
        }
        shares.reported = complete;
        let mut sum = Stats::default();
        for (_, share) in &shares.latest {
            sum.connected += share.connected;
            sum.open += share.open;
            sum.lingering += share.lingering;
            sum.totals.add(share.totals);
            sum.closed.iter_mut().zip(share.closed).for_each(|(sum, count)| *sum += count);
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(count: u64) -> Stats {
        Stats { open: count, ..Stats::default() }
    }

    #[test]
    fn the_last_worker_of_a_round_has_the_sum() {
        let request = StatsRequest::new(3);
        assert_eq!(request.wanted(0), None);
        for round in 1..4 {
            request.request();
            assert_eq!(request.wanted(round - 1), Some(round));
            assert_eq!(request.contribute(0, round, &open(round)), None);
            assert_eq!(request.contribute(2, round, &open(10)), None);
            let sum = request.contribute(1, round, &open(100)).expect("the round is complete");
            assert_eq!(sum.open, 110 + round);
            assert_eq!(request.wanted(round), None);
        }
    }

    #[test]
    fn a_worker_that_has_ended_keeps_no_round_waiting_and_asks_for_none() {
        let request = StatsRequest::new(2);
        assert_eq!(request.contribute(0, u64::MAX, &open(0)), None);
        request.request();
        assert_eq!(request.contribute(1, 1, &open(5)).map(|sum| sum.open), Some(5));
        assert_eq!(request.contribute(1, u64::MAX, &open(0)), None);
    }

    #[test]
    fn a_worker_that_skips_a_round_does_not_upset_the_sums() {
        let request = StatsRequest::new(2);
        request.request();
        assert_eq!(request.contribute(0, 1, &open(1)), None);
        request.request();
        assert_eq!(request.contribute(1, 2, &open(10)).map(|sum| sum.open), Some(11));
        assert_eq!(request.contribute(0, 2, &open(2)).map(|sum| sum.open), Some(12));
        request.request();
        assert_eq!(request.contribute(0, 3, &open(3)), None);
        assert_eq!(request.contribute(1, 3, &open(30)).map(|sum| sum.open), Some(33));
    }
}
