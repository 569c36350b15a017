//! Medians, and what can be said about them on a noisy machine.

/// The probability with which an interval must contain the median.
const COVERAGE: f64 = 0.90;

/// The median of values measured one after another, and an interval that contains the true median
/// with a probability of at least 90 %.
///
/// The interval lies between two of the values, the k-th smallest and the k-th largest, for the
/// largest k that is sure enough. This follows from the binomial distribution alone and holds for
/// any kind of noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// What an estimate says about a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval meets it.
    Met,
    /// The whole interval misses it.
    Missed,
    /// The goal lies in the interval.
    Undecided,
}

impl Estimate {
    /// The estimate from these values; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Estimate> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let middle = count.checked_sub(1)? / 2;
        let median = match count % 2 {
            1 => sorted[middle],
            _ => (sorted[middle] + sorted[middle + 1]) / 2.0,
        };
        let rank = rank(count);
        Some(Estimate { median, low: sorted[rank], high: sorted[count - 1 - rank] })
    }

    /// Whether it is at most `goal`.
    pub fn is_at_most(&self, goal: f64) -> Verdict {
        match () {
            () if self.high <= goal => Verdict::Met,
            () if self.low > goal => Verdict::Missed,
            () => Verdict::Undecided,
        }
    }

    /// Whether it is at least `goal`.
    pub fn is_at_least(&self, goal: f64) -> Verdict {
        match () {
            () if self.low >= goal => Verdict::Met,
            () if self.high < goal => Verdict::Missed,
            () => Verdict::Undecided,
        }
    }
}

/// How many values to leave out at each end: as many as leave the interval sure enough.
fn rank(count: usize) -> usize {
    let mut chance = 0.5f64.powi(count as i32);
    let mut below = 0.0;
    let mut rank = 0;
    for left_out in 0..count / 2 {
        below += chance;
        if 1.0 - 2.0 * below < COVERAGE {
            break;
        }
        rank = left_out;
        chance *= (count - left_out) as f64 / (left_out + 1) as f64;
    }
    rank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // From tables of the binomial distribution: 98.4 % at 7, 93.0 % at 8, 96.1 % at 9, 93.5 %
        // at 11.
        let ranks = [1, 2, 7, 8, 9, 11, 15].map(rank);
        assert_eq!(ranks, [0, 0, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn a_goal_inside_the_interval_is_undecided() {
        let values: Vec<f64> = (1..=11).rev().map(f64::from).collect();
        let estimate = Estimate::of(&values).expect("there are values");
        assert_eq!(estimate, Estimate { median: 6.0, low: 3.0, high: 9.0 });
        assert_eq!(estimate.is_at_most(9.0), Verdict::Met);
        assert_eq!(estimate.is_at_most(2.9), Verdict::Missed);
        assert_eq!(estimate.is_at_most(6.0), Verdict::Undecided);
        assert_eq!(estimate.is_at_least(3.0), Verdict::Met);
        assert_eq!(estimate.is_at_least(9.1), Verdict::Missed);
        assert_eq!(Estimate::of(&[]), None);
    }
}
