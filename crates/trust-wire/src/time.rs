//! The monotonic time, passed in by callers.

use core::ops::Add;
use core::time::Duration;

/// A point in time: nanoseconds since a start chosen by the caller, on a clock that never goes back
/// (`CLOCK_MONOTONIC` of `clock_gettime(2)`).
///
/// It takes eight bytes, so a connection can afford several. Additions saturate at
/// [`Timestamp::NEVER`], so a disabled limit needs no special case.
///
/// ```
/// use std::time::{Duration, Instant};
/// use trust_wire::Timestamp;
///
/// let started = Instant::now();
/// let now = Timestamp::from_start(started.elapsed());
/// assert!(now + Duration::from_secs(5) < now.after(None));
/// assert_eq!(now.after(None), Timestamp::NEVER);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Later than every other point in time: stands for "no deadline".
    pub const NEVER: Timestamp = Timestamp(u64::MAX);

    /// The point in time `elapsed` after the start; [`Timestamp::NEVER`] after 584 years.
    pub fn from_start(elapsed: Duration) -> Timestamp {
        Timestamp(nanoseconds(elapsed))
    }

    /// The point in time `elapsed` nanoseconds after the start.
    pub const fn from_nanos(elapsed: u64) -> Timestamp {
        Timestamp(elapsed)
    }

    /// Nanoseconds from the start to this point in time.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point in time minus `duration`; no earlier than the start.
    pub fn before(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(nanoseconds(duration)))
    }

    /// The first multiple of `grid` at or after this point in time.
    ///
    /// # Panics
    ///
    /// If `grid` is zero.
    pub fn round_up(self, grid: Duration) -> Timestamp {
        let grid = nanoseconds(grid);
        Timestamp(self.0.div_ceil(grid).saturating_mul(grid))
    }

    /// This point in time plus a limit; [`Timestamp::NEVER`] if there is no limit.
    pub fn after(self, limit: Option<Duration>) -> Timestamp {
        limit.map_or(Timestamp::NEVER, |limit| self + limit)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(nanoseconds(duration)))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    const PER_SECOND: u64 = 1_000_000_000;
    // In 64 bits, because this runs several times per receive.
    duration.as_secs().saturating_mul(PER_SECOND).saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_off_never_comes() {
        let now = Timestamp::from_start(Duration::from_secs(7));
        assert_eq!(now.after(None), Timestamp::NEVER);
        assert_eq!(now.after(Some(Duration::MAX)), Timestamp::NEVER);
        assert_eq!(Timestamp::NEVER + Duration::from_secs(1), Timestamp::NEVER);
    }

    #[test]
    fn a_grid_only_makes_later() {
        let grid = Duration::from_nanos(10);
        let nanos = |count| Timestamp::from_start(Duration::from_nanos(count));
        assert_eq!(nanos(20).round_up(grid), nanos(20));
        assert_eq!(nanos(21).round_up(grid), nanos(30));
        assert_eq!(Timestamp::NEVER.round_up(grid), Timestamp::NEVER);
    }

    #[test]
    fn differences_do_not_go_below_zero() {
        let early = Timestamp::from_start(Duration::from_millis(1));
        let late = Timestamp::from_start(Duration::from_millis(3));
        assert_eq!(late.since(early), Duration::from_millis(2));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.before(Duration::from_millis(2)), early);
        assert_eq!(early.before(Duration::from_secs(1)), Timestamp::default());
    }
}
