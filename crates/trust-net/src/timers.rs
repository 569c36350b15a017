//! Deadlines of many connections, at no cost while bytes flow.
//!
//! A connection's deadline moves on with every byte, but here it is looked at only when the time
//! comes for which it was entered: if it has moved, it is entered again, O(log n). Times are rounded
//! up to a common grid, so that thousands of idle connections share one wake-up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use trust_wire::{Limits, Timestamp};

/// How fine the grid is compared with the shortest limit, and its bounds: a limit is kept within
/// about three per cent, and never later than 100 ms.
const STEPS_PER_LIMIT: u32 = 32;
const FINEST: Duration = Duration::from_millis(1);
const COARSEST: Duration = Duration::from_millis(100);

/// Times with keys, the earliest first.
#[derive(Debug)]
pub(crate) struct Timers {
    grid: Duration,
    heap: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

impl Timers {
    pub(crate) fn new(limits: &Limits) -> Timers {
        let shortest = [limits.timeout, limits.frame_timeout, limits.max_lifetime]
            .into_iter()
            .flatten()
            .chain((!limits.linger_timeout.is_zero()).then_some(limits.linger_timeout))
            .min()
            .unwrap_or(Duration::MAX);
        let grid = (shortest / STEPS_PER_LIMIT).clamp(FINEST, COARSEST);
        Timers { grid, heap: BinaryHeap::new() }
    }

    /// Enters `key` for `time` and returns the time on the grid for which it was entered.
    pub(crate) fn arm(&mut self, time: Timestamp, key: usize) -> Timestamp {
        let time = time.round_up(self.grid);
        if time != Timestamp::NEVER {
            self.heap.push(Reverse((time, key)));
        }
        time
    }

    /// The earliest time; [`Timestamp::NEVER`] if there is none.
    pub(crate) fn next(&self) -> Timestamp {
        self.heap.peek().map_or(Timestamp::NEVER, |Reverse((time, _))| *time)
    }

    /// How many entries there are, those of closed connections included until their time comes.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Keeps the entries that are still of use.
    pub(crate) fn retain(&mut self, is_live: impl Fn(Timestamp, usize) -> bool) {
        self.heap.retain(|Reverse((time, key))| is_live(*time, *key));
    }

    /// Takes out the earliest entry that is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, usize)> {
        if self.next() > now || self.heap.is_empty() {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_within_one_step_share_a_wake_up_and_none_is_early() {
        let mut timers = Timers::new(&Limits::default());
        let second = |seconds| Timestamp::from_start(Duration::from_secs_f64(seconds));
        assert_eq!(timers.grid, Duration::from_micros(62_500));
        for key in 0..100 {
            let wanted = second(5.0001 + key as f64 / 10_000.0);
            let armed = timers.arm(wanted, key);
            assert!(armed >= wanted);
            assert_eq!(armed, second(5.0625));
        }
        assert_eq!(timers.pop_due(second(5.06)), None);
        for key in 0..100 {
            assert_eq!(timers.pop_due(second(5.0625)), Some((second(5.0625), key)));
        }
        assert_eq!(timers.pop_due(second(9.0)), None);
        assert_eq!(timers.next(), Timestamp::NEVER);
    }

    #[test]
    fn what_has_no_deadline_is_not_entered() {
        let mut timers = Timers::new(&Limits::default());
        assert_eq!(timers.arm(Timestamp::NEVER, 1), Timestamp::NEVER);
        assert_eq!(timers.next(), Timestamp::NEVER);
    }

    #[test]
    fn entries_of_no_use_can_be_swept_out() {
        let mut timers = Timers::new(&Limits::default());
        for key in 0..100 {
            timers.arm(Timestamp::from_start(Duration::from_secs(1)), key);
        }
        timers.retain(|_, key| key == 42);
        assert_eq!(timers.len(), 1);
        assert_eq!(timers.pop_due(Timestamp::NEVER).map(|(_, key)| key), Some(42));
    }
}
