//! Whether all workers still go round: a sign of life that a worker which hangs keeps back.

use std::sync::PoisonError;
use std::time::Duration;

use trust_wire::Timestamp;

use crate::sync::Mutex;

/// What the workers have shown of themselves since the last sign of life.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Longest time between two beats of a worker; `None` if no one wants to know.
    interval: Option<Duration>,
    workers: Mutex<Vec<Shown>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Beat,
    /// It has ended as intended: it is no longer waited for.
    Ended,
}

impl Pulse {
    pub(crate) fn new(workers: usize, interval: Option<Duration>) -> Pulse {
        Pulse { interval, workers: Mutex::new(vec![Shown::Nothing; workers]) }
    }

    /// When a worker that beats now has to do so again.
    pub(crate) fn next_beat(&self, now: Timestamp) -> Timestamp {
        self.interval.map_or(Timestamp::NEVER, |interval| now + interval)
    }

    /// A worker has gone round. Returns whether all of them have since the last time that they all
    /// had.
    pub(crate) fn beat(&self, worker: usize) -> bool {
        self.show(worker, Shown::Beat)
    }

    /// A worker has ended. Returns what [`Pulse::beat`] does.
    pub(crate) fn end(&self, worker: usize) -> bool {
        self.interval.is_some() && self.show(worker, Shown::Ended)
    }

    fn show(&self, worker: usize, shown: Shown) -> bool {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers[worker] = shown;
        let complete = !workers.contains(&Shown::Nothing) && workers.contains(&Shown::Beat);
        if complete {
            let beaten = workers.iter_mut().filter(|shown| **shown == Shown::Beat);
            beaten.for_each(|shown| *shown = Shown::Nothing);
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    #[test]
    fn a_sign_of_life_needs_a_beat_of_every_worker() {
        let pulse = Pulse::new(3, Some(INTERVAL));
        for _ in 0..3 {
            assert!(!pulse.beat(0));
            assert!(!pulse.beat(2));
            assert!(!pulse.beat(0), "one that beats twice does not stand for another");
            assert!(pulse.beat(1));
        }
    }

    #[test]
    fn a_worker_that_has_ended_is_not_waited_for() {
        let pulse = Pulse::new(2, Some(INTERVAL));
        assert!(!pulse.beat(0));
        assert!(pulse.end(1), "the beat of the other one is to be told at once");
        assert!(pulse.beat(0));
        assert!(!pulse.end(0), "no worker is left to be alive");
    }

    #[test]
    fn without_an_interval_nobody_has_to_beat() {
        let now = Timestamp::from_start(INTERVAL);
        assert_eq!(Pulse::new(1, None).next_beat(now), Timestamp::NEVER);
        assert_eq!(Pulse::new(1, Some(INTERVAL)).next_beat(now), now + INTERVAL);
    }
}
