//! The clock of a script, and how far the machine lags behind it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use trust_testkit::event::Event;

/// How long the meter sleeps, and how late a sleep usually ends.
const METER_SLEEP: Duration = Duration::from_millis(5);
const USUAL_LATENESS: Duration = Duration::from_millis(1);

/// A moment between two others: a call began at the first and had returned at the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// Time since the start of a script, on the monotonic clock. It also converts the log's dates,
/// which are by the other clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    start: Instant,
    wall_start: jiff::Timestamp,
}

impl Watch {
    pub(crate) fn start() -> Watch {
        Watch { start: Instant::now(), wall_start: jiff::Timestamp::now() }
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Does something and returns when.
    pub(crate) fn span<T>(&self, action: impl FnOnce() -> T) -> (Span, T) {
        let from = self.now();
        let done = action();
        (Span { from, to: self.now() }, done)
    }

    /// When an event was logged, up to a millisecond too early.
    ///
    /// # Panics
    ///
    /// If its `ts` is not a date, which the reader of the log rules out.
    pub(crate) fn of(&self, event: &Event) -> Duration {
        let at: jiff::Timestamp = event.text("ts").parse().expect("a date");
        let since = at.duration_since(self.wall_start);
        Duration::try_from(since).unwrap_or_default()
    }

    /// How far the two clocks have drifted apart since the start.
    pub(crate) fn drift(&self) -> Duration {
        let wall = jiff::Timestamp::now().duration_since(self.wall_start);
        Duration::try_from(wall).unwrap_or_default().abs_diff(self.now())
    }

    /// The moment of the machine's clock.
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.start + at
    }
}

/// Measures how late a runnable thread gets to run: what a busy machine adds to all times.
#[derive(Default)]
pub(crate) struct LagMeter {
    late: Mutex<Vec<(Instant, Duration)>>,
    ends: AtomicBool,
}

impl LagMeter {
    /// Measures until [`LagMeter::end`].
    pub(crate) fn run(&self) {
        while !self.ends.load(Ordering::SeqCst) {
            let start = Instant::now();
            thread::sleep(METER_SLEEP);
            let late = start.elapsed().saturating_sub(METER_SLEEP);
            if late > USUAL_LATENESS {
                self.lock().push((Instant::now(), late));
            }
        }
    }

    pub(crate) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
    }

    /// The worst lag since then.
    pub(crate) fn worst_since(&self, since: Instant) -> Duration {
        let late = self.lock();
        let recent = late.iter().rev().take_while(|(at, _)| *at >= since);
        recent.map(|(_, late)| *late).max().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, Duration)>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
