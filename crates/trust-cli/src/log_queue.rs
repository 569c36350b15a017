//! Lines on their way from the threads that log to the one that writes. No I/O.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Lines on their way from any number of threads to a single writer, which may be told to switch to
/// another `File`.
///
/// Invariant: `lines` holds `count` whole lines and at most `max_bytes`.
#[derive(Debug)]
pub(crate) struct Queue<File> {
    max_bytes: usize,
    state: Mutex<State<File>>,
    /// Notified when lines were queued, or everything was written.
    changed: Condvar,
}

#[derive(Debug)]
struct State<File> {
    lines: Vec<u8>,
    count: u64,
    /// Lines that the writer has taken and not finished.
    in_hand: u64,
    /// Lines that did not fit since the last gap was reported.
    dropped: u64,
    /// Lines missing after the batch in hand, until the gap line that reports them is written.
    gap_in_hand: u64,
    /// The writer sleeps until something changes.
    writer_waits: bool,
    /// The writer lets lines accumulate, unless someone is waiting for them.
    writer_rests: bool,
    /// A write is in progress, so the lines in hand may or may not be written.
    writer_writes: bool,
    /// No further write may begin.
    is_given_up: bool,
    /// Someone is waiting for everything to be written.
    is_awaited: bool,
    replacement: Option<File>,
}

impl<File> State<File> {
    /// Whether there is nothing for the writer to take.
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// Lines that are lost or not yet written.
    fn missing(&self) -> u64 {
        self.count + self.in_hand + self.gap_in_hand + self.dropped
    }
}

impl<File> Queue<File> {
    pub(crate) fn new(max_bytes: usize) -> Queue<File> {
        let state = State {
            lines: Vec::new(),
            count: 0,
            in_hand: 0,
            dropped: 0,
            gap_in_hand: 0,
            writer_waits: false,
            writer_rests: false,
            writer_writes: false,
            is_given_up: false,
            is_awaited: false,
            replacement: None,
        };
        Queue { max_bytes, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<File>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues one whole line without waiting; counts it as missing if it does not fit.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lines.len() + line.len() > self.max_bytes {
            state.dropped += 1;
            return;
        }
        state.lines.extend_from_slice(line);
        state.count += 1;
        self.wake_writer(state);
    }

    /// Counts lines that were lost elsewhere, so that they are reported here.
    pub(crate) fn add_missing(&self, lines: u64) {
        let mut state = self.lock();
        state.dropped += lines;
        self.wake_writer(state);
    }

    fn wake_writer(&self, mut state: MutexGuard<'_, State<File>>) {
        if state.writer_waits {
            state.writer_waits = false;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until everything queued so far is written, at most until `until`. Returns how many
    /// lines were lost or are still waiting.
    pub(crate) fn settle(&self, until: Instant) -> u64 {
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let missing = state.missing();
            if missing == 0 || left.is_zero() {
                return missing;
            }
            state.is_awaited = true;
            if std::mem::take(&mut state.writer_rests) {
                self.changed.notify_all();
            }
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Prevents further writes, and waits for one in progress, at most until `until`. Returns how
    /// many lines are lost for good; if there are none, writing goes on.
    pub(crate) fn give_up(&self, until: Instant) -> u64 {
        let mut state = self.lock();
        state.is_given_up = true;
        while state.writer_writes {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.is_awaited = true;
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        let missing = state.missing();
        state.is_given_up = missing > 0;
        missing
    }

    /// Makes the writer switch to another file, from the next line that it takes.
    pub(crate) fn replace(&self, file: File) {
        self.lock().replacement = Some(file);
    }

    /// For the writer: waits for lines, or for missing ones, and moves them into `batch`. Returns
    /// how many lines are missing after them, and the new file to write to, if any. The previous
    /// batch counts as written.
    pub(crate) fn take(&self, batch: &mut Vec<u8>) -> (u64, Option<File>) {
        batch.clear();
        let mut state = self.lock();
        state.in_hand = 0;
        state.gap_in_hand = 0;
        if state.is_awaited && state.is_empty() {
            state.is_awaited = false;
            self.changed.notify_all();
        }
        while state.is_empty() {
            state.writer_waits = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_waits = false;
        std::mem::swap(batch, &mut state.lines);
        state.in_hand = std::mem::take(&mut state.count);
        state.gap_in_hand = std::mem::take(&mut state.dropped);
        (state.gap_in_hand, state.replacement.take())
    }

    /// For the writer: lets lines accumulate for this long, or until someone waits for everything
    /// to be written.
    pub(crate) fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while !state.is_awaited {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.writer_rests = true;
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_rests = false;
    }

    /// For the writer: returns whether it may write. If so, [`Queue::give_up`] waits for
    /// [`Queue::note_written`].
    pub(crate) fn begin_write(&self) -> bool {
        let mut state = self.lock();
        state.writer_writes = !state.is_given_up;
        state.writer_writes
    }

    /// For the writer: a write has ended, and this many lines of the batch in hand were written.
    pub(crate) fn note_written(&self, lines: u64) {
        let mut state = self.lock();
        if lines > state.in_hand {
            // The extra line is the gap line.
            state.gap_in_hand = 0;
        }
        state.in_hand = state.in_hand.saturating_sub(lines);
        if std::mem::take(&mut state.writer_writes) && state.is_awaited {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// For the writer: a new file, if any, while a batch is in hand.
    pub(crate) fn take_replacement(&self) -> Option<File> {
        self.lock().replacement.take()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn nobody_waits_for_the_writer_s_rest() {
        const LONG: Duration = Duration::from_secs(60);
        let queue: Arc<Queue<()>> = Arc::new(Queue::new(100));
        let resting = Arc::clone(&queue);
        thread::spawn(move || {
            let mut batch = Vec::new();
            loop {
                resting.take(&mut batch);
                resting.rest(LONG);
            }
        });
        let started = Instant::now();
        for _ in 0..10 {
            queue.push(b"line\n");
            assert_eq!(queue.settle(started + LONG), 0);
        }
        assert!(started.elapsed() < LONG / 10);
    }

    #[test]
    fn who_gives_up_waits_for_a_write_that_has_begun_and_for_no_other() {
        const LONG: Duration = Duration::from_secs(60);
        let queue: Arc<Queue<()>> = Arc::new(Queue::new(100));
        queue.push(b"line\n");
        queue.take(&mut Vec::new());
        assert!(queue.begin_write());
        let other = Arc::clone(&queue);
        let writer = thread::spawn(move || {
            while !other.lock().is_given_up {
                thread::yield_now();
            }
            other.note_written(1);
        });
        assert_eq!(queue.give_up(Instant::now() + LONG), 0, "a line that was written");
        writer.join().unwrap();
        // Nothing was lost, so writing may go on.
        assert!(queue.begin_write());
        queue.note_written(0);

        queue.push(b"lost\n");
        assert_eq!(queue.give_up(Instant::now() + LONG), 1);
        queue.take(&mut Vec::new());
        assert!(!queue.begin_write());
        assert_eq!(queue.settle(Instant::now()), 1);
    }

    #[test]
    fn what_was_lost_elsewhere_is_told_without_a_line_to_stand_behind() {
        let queue: Queue<()> = Queue::new(100);
        queue.add_missing(3);
        assert_eq!(queue.settle(Instant::now()), 3);
        let mut batch = Vec::new();
        let (missing, _) = queue.take(&mut batch);
        assert_eq!((missing, batch.len()), (3, 0));
        assert_eq!(queue.settle(Instant::now()), 3, "no one has been told yet");
        queue.note_written(1);
        assert_eq!(queue.settle(Instant::now()), 0);
    }
}
