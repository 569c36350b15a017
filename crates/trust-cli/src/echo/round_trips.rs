//! Round-trip times, summed up.

use std::fmt;
use std::time::Duration;

/// The shortest, the longest and the average of some round-trip times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    count: u64,
    sum: Duration,
    min: Duration,
    max: Duration,
}

impl RoundTrips {
    /// Adds one time.
    pub fn add(&mut self, time: Duration) {
        self.merge(&RoundTrips { count: 1, sum: time, min: time, max: time });
    }

    /// Adds all times that another summary has.
    pub fn merge(&mut self, other: &RoundTrips) {
        self.min = match (self.count, other.count) {
            (0, _) => other.min,
            (_, 0) => self.min,
            _ => self.min.min(other.min),
        };
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.sum += other.sum;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn average(&self) -> Duration {
        let nanos = self.sum.as_nanos() / u128::from(self.count.max(1));
        // An average is at most the longest, which a u64 holds for 584 years.
        Duration::from_nanos(nanos as u64)
    }
}

impl fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, max, average] = [self.min, self.max, self.average()].map(millis);
        write!(f, "min={min} max={max} avg={average}")
    }
}

/// A time in milliseconds, exact to a hundredth: `0.12ms`.
pub fn millis(time: Duration) -> String {
    format!("{:.2}ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> RoundTrips {
        let mut round_trips = RoundTrips::default();
        for micros in micros {
            round_trips.add(Duration::from_micros(*micros));
        }
        round_trips
    }

    #[test]
    fn the_extremes_and_the_average_are_shown() {
        assert_eq!(of(&[450, 120, 60]).to_string(), "min=0.06ms max=0.45ms avg=0.21ms");
        assert_eq!(of(&[1_234_567]).to_string(), "min=1234.57ms max=1234.57ms avg=1234.57ms");
    }

    #[test]
    fn merging_is_the_same_as_adding_all() {
        let mut merged = RoundTrips::default();
        for part in [of(&[]), of(&[300, 100]), of(&[]), of(&[200])] {
            merged.merge(&part);
        }
        assert_eq!(merged, of(&[300, 100, 200]));
        assert_eq!(merged.count(), 3);
    }
}
