//! Deadlines of many connections, at no cost while bytes flow.
//!
//! A connection's deadline moves on with every byte, but here it is looked at only when the time
//! comes for which it was entered: if it has moved, it is entered again, O(log n). Times are
//! rounded up to a common grid, so that thousands of idle connections share one wake-up.

use std::collections::BTreeMap;
use std::time::Duration;

use trust_wire::connection::PROBES_PER_LIMIT;
use trust_wire::{Limits, Timestamp};

/// How fine the grid is compared with the shortest limit, and its bounds: a limit is kept within
/// about three per cent, and never later than 100 ms.
const STEPS_PER_LIMIT: u32 = 32;
const FINEST: Duration = Duration::from_millis(1);
const COARSEST: Duration = Duration::from_millis(100);

/// Times with keys, the earliest first. Keys have four bytes, because each connection of a server
/// is here, several times while it is busy.
///
/// Invariant: `len` is the number of keys in all buckets, and none of these is empty.
#[derive(Debug)]
pub(crate) struct Timers {
    grid: Duration,
    /// The least time from a receive or a send to a deadline that comes of it, while no end is
    /// decided.
    soonest: Duration,
    buckets: BTreeMap<Timestamp, Vec<u32>>,
    len: usize,
}

impl Timers {
    pub(crate) fn new(limits: &Limits) -> Timers {
        let Limits { timeout, frame_timeout, max_lifetime, proxy_header, .. } = *limits;
        let shortest = [timeout, frame_timeout, max_lifetime, proxy_header]
            .into_iter()
            .flatten()
            .chain((!limits.linger_timeout.is_zero()).then_some(limits.linger_timeout))
            .min()
            .unwrap_or(Duration::MAX);
        let grid = (shortest / STEPS_PER_LIMIT).clamp(FINEST, COARSEST);
        let soonest =
            [limits.timeout.map(|timeout| timeout / PROBES_PER_LIMIT), limits.frame_timeout];
        let soonest = soonest.into_iter().flatten().min().unwrap_or(Duration::MAX);
        Timers { grid, soonest, buckets: BTreeMap::new(), len: 0 }
    }

    /// Enters `key` for `time` and returns the time on the grid for which it was entered.
    pub(crate) fn arm(&mut self, time: Timestamp, key: u32) -> Timestamp {
        let time = time.round_up(self.grid);
        if time != Timestamp::NEVER {
            self.buckets.entry(time).or_default().push(key);
            self.len += 1;
        }
        time
    }

    /// Whether a connection that is in for `armed` can have come to an earlier deadline by what it
    /// has done since `since`, so that it is worthwhile to ask it. Not if its end was decided
    /// meanwhile.
    pub(crate) fn may_be_earlier(&self, armed: Timestamp, since: Timestamp) -> bool {
        armed == Timestamp::NEVER || armed > since + self.soonest
    }

    /// Whether `time` would be entered for an earlier time on the grid than `armed`, for which a
    /// key is in.
    pub(crate) fn is_earlier(&self, time: Timestamp, armed: Timestamp) -> bool {
        // Both are a step of the grid apart, or `time` is rounded up to `armed` itself.
        time <= armed.before(self.grid)
    }

    /// The earliest time; [`Timestamp::NEVER`] if there is none.
    pub(crate) fn next(&self) -> Timestamp {
        self.buckets.first_key_value().map_or(Timestamp::NEVER, |(time, _)| *time)
    }

    /// How many entries there are, those of closed connections included until their time comes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps the entries that are still of use.
    pub(crate) fn retain(&mut self, is_live: impl Fn(Timestamp, u32) -> bool) {
        self.buckets.retain(|time, keys| {
            keys.retain(|key| is_live(*time, *key));
            // Who is in a place now may be in for the same time as those who were there before.
            keys.sort_unstable();
            keys.dedup();
            !keys.is_empty()
        });
        self.len = self.buckets.values().map(Vec::len).sum();
    }

    /// Takes out at most `most` keys of the earliest time, if that has come: those that were
    /// entered first.
    pub(crate) fn take_due(
        &mut self,
        now: Timestamp,
        most: usize,
    ) -> Option<(Timestamp, Vec<u32>)> {
        let mut first = self.buckets.first_entry().filter(|first| *first.key() <= now)?;
        let (time, keys) = (*first.key(), first.get_mut());
        let taken: Vec<u32> = keys.drain(..most.min(keys.len())).collect();
        if keys.is_empty() {
            first.remove();
        }
        self.len -= taken.len();
        Some((time, taken))
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
            let wanted = second(5.0001 + f64::from(key) / 10_000.0);
            let armed = timers.arm(wanted, key);
            assert!(armed >= wanted);
            assert_eq!(armed, second(5.0625));
        }
        assert_eq!((timers.len(), timers.next()), (100, second(5.0625)));
        assert_eq!(timers.take_due(second(5.06), usize::MAX), None);
        let (time, keys) = timers.take_due(second(5.0625), usize::MAX).expect("it is due");
        assert_eq!((time, keys), (second(5.0625), (0..100).collect()));
        assert_eq!((timers.len(), timers.take_due(second(9.0), usize::MAX)), (0, None));
        assert_eq!(timers.next(), Timestamp::NEVER);
    }

    #[test]
    fn as_many_are_taken_as_are_wanted_and_the_others_stay_due() {
        let mut timers = Timers::new(&Limits::default());
        let time = timers.arm(Timestamp::from_start(Duration::from_secs(1)), 0);
        (1..5).for_each(|key| assert_eq!(timers.arm(time, key), time));
        assert_eq!(timers.take_due(time, 3), Some((time, vec![0, 1, 2])));
        assert_eq!((timers.len(), timers.next()), (2, time));
        assert_eq!(timers.take_due(time, 3), Some((time, vec![3, 4])));
        assert_eq!((timers.len(), timers.take_due(time, 3)), (0, None));
    }

    #[test]
    fn a_deadline_that_does_not_move_is_entered_once() {
        let mut timers = Timers::new(&Limits::default());
        let at = |ms| Timestamp::from_start(Duration::from_millis(ms));
        for deadline in [at(100), at(125), at(126), at(187)] {
            let armed = timers.arm(deadline, 1);
            assert!(!timers.is_earlier(deadline, armed), "{deadline:?} is in for {armed:?}");
            assert!(timers.is_earlier(at(30), armed));
            assert!(timers.is_earlier(deadline, Timestamp::NEVER));
        }
        assert!(!timers.is_earlier(Timestamp::NEVER, Timestamp::NEVER));
    }

    #[test]
    fn a_connection_is_asked_only_if_it_can_have_come_to_an_earlier_deadline() {
        let timers = Timers::new(&Limits::default());
        let at = |ms| Timestamp::from_start(Duration::from_millis(ms));
        // The first look at acknowledgements comes a quarter of 5 s after a send.
        assert!(!timers.may_be_earlier(at(2250), at(1000)));
        assert!(timers.may_be_earlier(at(2251), at(1000)));
        assert!(timers.may_be_earlier(Timestamp::NEVER, at(1000)));
        let off = Limits { timeout: None, frame_timeout: None, ..Limits::default() };
        assert!(Timers::new(&off).may_be_earlier(Timestamp::NEVER, at(1000)));
    }

    #[test]
    fn what_has_no_deadline_is_not_entered() {
        let mut timers = Timers::new(&Limits::default());
        assert_eq!(timers.arm(Timestamp::NEVER, 1), Timestamp::NEVER);
        assert_eq!(timers.next(), Timestamp::NEVER);
    }

    #[test]
    fn a_sweep_leaves_one_entry_for_a_place_that_was_taken_again_and_again() {
        let mut timers = Timers::new(&Limits::default());
        for _ in 0..2000 {
            timers.arm(Timestamp::from_start(Duration::from_secs(1)), 7);
        }
        timers.retain(|_, _| true);
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn entries_of_no_use_can_be_swept_out() {
        let mut timers = Timers::new(&Limits::default());
        for key in 0..100 {
            timers.arm(Timestamp::from_start(Duration::from_secs(1)), key);
        }
        timers.retain(|_, key| key == 42);
        assert_eq!(timers.len(), 1);
        assert_eq!(
            timers.take_due(Timestamp::NEVER, usize::MAX).map(|(_, keys)| keys),
            Some(vec![42])
        );
    }
}
