//! Whether latency grows while a run goes on: how a server that falls behind is told from one that
//! is far away.

/// The least number of messages whose latency can be said to grow: two always lie on a line.
const MESSAGES_MIN: f64 = 3.0;

/// So many standard errors are left to chance: one steady run in a thousand is taken for one that
/// falls behind.
const STANDARD_ERRORS: f64 = 3.0;

/// A straight line through latencies over the times at which their messages were due, by least
/// squares, in memory that does not grow.
///
/// A server that keeps up answers each message after about the same time, however long that is. One
/// that is asked for `r` messages per second and answers `c` falls behind by `r / c - 1` seconds
/// each second, and so its latency grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trend {
    count: f64,
    mean_due: f64,
    mean_latency: f64,
    /// Sums of products of what the messages differ from the means by.
    due_due: f64,
    due_latency: f64,
    latency_latency: f64,
}

impl Trend {
    /// Adds `count` messages that were due at `due`, and took `latency`; both in seconds.
    pub fn add(&mut self, due: f64, latency: f64, count: u64) {
        let count = count as f64;
        self.count += count;
        let (from_due, from_latency) = (due - self.mean_due, latency - self.mean_latency);
        self.mean_due += from_due * count / self.count;
        self.mean_latency += from_latency * count / self.count;
        self.due_due += count * from_due * (due - self.mean_due);
        self.due_latency += count * from_due * (latency - self.mean_latency);
        self.latency_latency += count * from_latency * (latency - self.mean_latency);
    }

    /// By how many seconds latency grew in a second; 0 if it did not, or if chance explains it.
    pub fn growth(&self) -> f64 {
        if self.count < MESSAGES_MIN || self.due_due <= 0.0 {
            return 0.0;
        }
        let slope = self.due_latency / self.due_due;
        let unexplained = (self.latency_latency - slope * self.due_latency).max(0.0);
        let error = (unexplained / (self.count - 2.0) / self.due_due).sqrt();
        if slope > STANDARD_ERRORS * error { slope } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use trust_cli::random::SplitMix;

    use super::*;

    /// The growth of latencies that are told by when their messages were due: a thousand in ten
    /// seconds.
    fn growth(latency: impl FnMut(f64) -> f64) -> f64 {
        let mut trend = Trend::default();
        let mut latency = latency;
        for message in 0..1000 {
            let due = f64::from(message) / 100.0;
            trend.add(due, latency(due), 1);
        }
        trend.growth()
    }

    #[test]
    fn an_overload_is_told_to_the_rate_that_is_answered() {
        for rise in [0.02, 1.0, 9.0] {
            let grown = growth(|due| 0.15 + rise * due);
            assert!((grown - rise).abs() < 1e-9, "{grown} for {rise}");
        }
    }

    #[test]
    fn a_latency_that_varies_however_much_does_not_grow() {
        let mut random = SplitMix::new(1);
        let mut uniform = move || ((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        assert_eq!(growth(|_| 1.0), 0.0);
        let mut grown = 0;
        for _ in 0..200 {
            // Exponentially distributed, of a second on average.
            grown += u32::from(growth(|_| -uniform().ln()) > 0.0);
        }
        assert!(grown <= 2, "{grown} of 200 steady runs");
    }

    #[test]
    fn what_gets_faster_and_what_is_too_little_to_tell_does_not_grow() {
        assert_eq!(growth(|due| 10.0 - due), 0.0);
        let mut trend = Trend::default();
        assert_eq!(trend.growth(), 0.0);
        trend.add(0.0, 1.0, 1);
        trend.add(1.0, 2.0, 1);
        assert_eq!(trend.growth(), 0.0);
        // All of them due at once.
        let mut trend = Trend::default();
        trend.add(0.5, 1.0, 5);
        trend.add(0.5, 2.0, 5);
        assert_eq!(trend.growth(), 0.0);
    }

    #[test]
    fn many_at_once_are_as_many_one_by_one() {
        let (mut together, mut apart) = (Trend::default(), Trend::default());
        for second in 0..20_u32 {
            let (due, latency) = (f64::from(second), f64::from(second * second));
            together.add(due, latency, u64::from(second) + 1);
            (0..=second).for_each(|_| apart.add(due, latency, 1));
        }
        assert!((together.growth() - apart.growth()).abs() < 1e-9, "{together:?} {apart:?}");
        assert!(together.growth() > 10.0);
    }
}
