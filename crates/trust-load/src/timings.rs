//! Many times in memory that does not grow: how often each came, to a thousandth, and the extremes
//! exactly.

use std::ops::Deref;

use hdrhistogram::Histogram;

use crate::support::{confidence_ranks, is_supported};

/// The longest time that is told apart from longer ones, in nanoseconds: an hour.
pub const TIME_MAX_NS: u64 = 3_600_000_000_000;

/// Digits of a time that are kept: a recorded time is exact to a thousandth.
pub const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of times in nanoseconds, as all of them are.
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TIME_MAX_NS, SIGNIFICANT_DIGITS).expect("the bounds are legal")
}

/// Times in nanoseconds, at most [`TIME_MAX_NS`] each: a longer one counts as that.
///
/// A histogram in all that is read, but that the shortest and the longest are exact, and so no
/// percentile is beyond them.
#[derive(Clone, Debug, PartialEq)]
pub struct Timings {
    counts: Histogram<u64>,
    min_ns: u64,
    max_ns: u64,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings { counts: times(), min_ns: u64::MAX, max_ns: 0 }
    }
}

impl Timings {
    /// Adds a time.
    pub fn add(&mut self, ns: u64) {
        self.add_many(ns, 1);
    }

    /// Adds a time so often.
    pub fn add_many(&mut self, ns: u64, count: u64) {
        if count > 0 {
            self.counts.saturating_record_n(ns, count);
            let ns = ns.min(TIME_MAX_NS);
            (self.min_ns, self.max_ns) = (self.min_ns.min(ns), self.max_ns.max(ns));
        }
    }

    /// Adds all times of others.
    pub fn merge(&mut self, others: &Timings) {
        self.counts.add(&others.counts).expect("all have the same bounds");
        self.min_ns = self.min_ns.min(others.min_ns);
        self.max_ns = self.max_ns.max(others.max_ns);
    }

    /// Forgets all of them.
    pub fn reset(&mut self) {
        self.counts.reset();
        (self.min_ns, self.max_ns) = (u64::MAX, 0);
    }

    /// The shortest; 0 if there is none.
    pub fn min(&self) -> u64 {
        if self.counts.is_empty() { 0 } else { self.min_ns }
    }

    /// The longest; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max_ns
    }

    /// The time that this share of them does not exceed, rounded up by a thousandth at most.
    pub fn value_at_quantile(&self, quantile: f64) -> u64 {
        match quantile {
            1.0.. => self.max(),
            _ => self.counts.value_at_quantile(quantile).clamp(self.min(), self.max()),
        }
    }

    /// Between which of them the percentile of all that could be measured lies, with
    /// [`CONFIDENCE`](crate::support::CONFIDENCE) if they are independent; `None` where there are
    /// too few for a bound.
    pub fn confidence(&self, quantile: f64) -> (Option<u64>, Option<u64>) {
        let (low, high) = confidence_ranks(self.len(), quantile);
        let count = self.len() as f64;
        // From the middle of a rank no rounding leads to its neighbour.
        let at = |rank: u64| self.value_at_quantile((rank as f64 - 0.5) / count);
        let extreme = |rank| if rank == self.len() { self.max() } else { at(rank) };
        (low.map(extreme), high.map(extreme))
    }

    /// Whether there are enough of them for this percentile: see [`support`](crate::support).
    pub fn supports(&self, quantile: f64) -> bool {
        is_supported(self.len(), quantile)
    }
}

impl From<Histogram<u64>> for Timings {
    /// As exact as the histogram is.
    fn from(counts: Histogram<u64>) -> Timings {
        let (min_ns, max_ns) = match counts.is_empty() {
            true => (u64::MAX, 0),
            false => (counts.min(), counts.max()),
        };
        Timings { counts, min_ns, max_ns }
    }
}

impl Deref for Timings {
    type Target = Histogram<u64>;

    fn deref(&self) -> &Histogram<u64> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_exact_and_no_percentile_is_beyond_them() {
        let mut timings = Timings::default();
        assert_eq!((timings.min(), timings.max(), timings.value_at_quantile(0.5)), (0, 0, 0));
        timings.add(1_000_000_001);
        for quantile in [0.5, 0.99, 1.0] {
            assert_eq!(timings.value_at_quantile(quantile), 1_000_000_001);
        }
        timings.add_many(7_654_321, 0);
        timings.add_many(87_654_321, 3);
        assert_eq!((timings.min(), timings.max(), timings.len()), (87_654_321, 1_000_000_001, 4));
        let median = timings.value_at_quantile(0.5);
        assert!((87_654_321..=87_654_321 * 1001 / 1000).contains(&median), "{median}");
    }

    #[test]
    fn a_percentile_lies_between_two_of_them() {
        let mut timings = Timings::default();
        (1..=1000).for_each(|time| timings.add(time));
        let (low, high) = timings.confidence(0.99);
        assert!((980..=986).contains(&low.unwrap()), "{low:?}");
        assert!((995..=998).contains(&high.unwrap()), "{high:?}");
        timings.reset();
        assert_eq!(timings.confidence(0.99), (None, None));
        (1..=20).for_each(|time| timings.add(time));
        assert_eq!(timings.confidence(0.99), (Some(19), None));
    }

    #[test]
    fn parts_have_the_extremes_of_the_whole_and_nothing_is_left_after_a_reset() {
        let (mut whole, mut part) = (Timings::default(), Timings::default());
        whole.merge(&part);
        assert_eq!(whole, Timings::default());
        part.add(3_000_001);
        whole.merge(&part);
        part.reset();
        assert_eq!(part, Timings::default());
        part.add(2 * TIME_MAX_NS);
        whole.merge(&part);
        assert_eq!((whole.min(), whole.max(), whole.len()), (3_000_001, TIME_MAX_NS, 2));
    }
}
