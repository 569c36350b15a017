//! Simulated time: it passes only from one scheduled event to the next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Scheduled events in order of time; those for the same time keep their order.
#[derive(Debug)]
pub struct Clock<E> {
    now: Duration,
    next_number: u64,
    queue: BinaryHeap<Scheduled<E>>,
}

#[derive(Debug)]
struct Scheduled<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> Default for Clock<E> {
    /// A clock at zero with nothing scheduled.
    fn default() -> Clock<E> {
        Clock { now: Duration::ZERO, next_number: 0, queue: BinaryHeap::new() }
    }
}

impl<E> Clock<E> {
    /// The time since the start of the simulation.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Schedules `event` for `at`, or for now if that has passed.
    pub fn schedule(&mut self, at: Duration, event: E) {
        self.next_number += 1;
        let at = at.max(self.now);
        self.queue.push(Scheduled { at, number: self.next_number, event });
    }

    /// Moves on to the next event; `None` if none is left.
    pub fn advance(&mut self) -> Option<E> {
        let next = self.queue.pop()?;
        self.now = next.at;
        Some(next.event)
    }
}

impl<E> Ord for Scheduled<E> {
    /// The greatest happens next.
    fn cmp(&self, other: &Scheduled<E>) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Scheduled<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Scheduled<E>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Scheduled<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_happen_in_order_of_time_and_then_of_scheduling() {
        let mut clock = Clock::default();
        let second = Duration::from_secs;
        for (at, event) in [(3, 'd'), (1, 'a'), (1, 'b'), (2, 'c')] {
            clock.schedule(second(at), event);
        }
        let happened: String = std::iter::from_fn(|| clock.advance()).collect();
        assert_eq!((happened.as_str(), clock.now()), ("abcd", second(3)));
    }
}
