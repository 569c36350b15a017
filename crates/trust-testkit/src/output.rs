//! The output of a process, read in the background so that the process never waits for the test.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::event::Event;

/// Read size of the background thread, the default capacity of a pipe.
const READ_BYTES: usize = 65_536;

/// The bytes that a process has written to one pipe so far.
pub struct Output {
    shared: Arc<(Mutex<Collected>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

/// Why something awaited did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// The time was up first.
    Deadline(Duration),
    /// The process closed its end first, most likely by ending.
    EndOfOutput,
}

impl fmt::Display for Missed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Deadline(timeout) => write!(formatter, "within {timeout:?}"),
            Missed::EndOfOutput => formatter.write_str("before the end of the output"),
        }
    }
}

/// Invariant: `events` are the lines of `bytes[..parsed]`, and `parsed` follows a newline.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    parsed: usize,
    events: Vec<Event>,
    ended: bool,
}

impl Output {
    pub fn collect(mut pipe: impl Read + Send + 'static) -> Output {
        let shared = Arc::new((Mutex::new(Collected::default()), Condvar::new()));
        let writer = Arc::clone(&shared);
        let reader = thread::spawn(move || {
            let (collected, changed) = &*writer;
            let mut buffer = vec![0; READ_BYTES];
            loop {
                let received = match pipe.read(&mut buffer) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Ok(received) => received,
                    Err(_) => 0,
                };
                let mut collected = lock(collected);
                collected.bytes.extend_from_slice(&buffer[..received]);
                collected.ended = received == 0;
                changed.notify_all();
                if collected.ended {
                    return;
                }
            }
        });
        Output { shared, reader: Some(reader) }
    }

    /// Waits until at least this many bytes have come.
    pub fn wait_for_bytes(&self, wanted: usize, timeout: Duration) -> Result<(), Missed> {
        self.wait(timeout, |collected| (collected.bytes.len() >= wanted).then_some(()))
    }

    /// Waits until this text has come.
    pub fn wait_for_text(&self, text: &str, timeout: Duration) -> Result<(), Missed> {
        let is_there = |collected: &mut Collected| {
            String::from_utf8_lossy(&collected.bytes).contains(text).then_some(())
        };
        self.wait(timeout, is_there)
    }

    /// Waits for an event with this name that fits the predicate, searching from the first line.
    ///
    /// # Panics
    ///
    /// If a line is not an event.
    #[track_caller]
    pub fn wait_for_event(
        &self,
        name: &str,
        predicate: impl Fn(&Event) -> bool,
        timeout: Duration,
    ) -> Result<Event, Missed> {
        let mut seen = 0;
        self.wait(timeout, |collected| {
            collected.parse_new_lines();
            let fresh = &collected.events[seen..];
            seen = collected.events.len();
            fresh.iter().find(|event| event.name() == name && predicate(event)).cloned()
        })
    }

    /// Waits for the end of the output and returns all of it.
    pub fn wait_for_end(&mut self, timeout: Duration) -> Result<Vec<u8>, Missed> {
        let bytes =
            self.wait(timeout, |collected| collected.ended.then(|| collected.bytes.clone()))?;
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reading thread does not panic");
        }
        Ok(bytes)
    }

    /// The output so far, as text.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shared.0).bytes).into_owned()
    }

    fn wait<T>(
        &self,
        timeout: Duration,
        mut check: impl FnMut(&mut Collected) -> Option<T>,
    ) -> Result<T, Missed> {
        let (collected, changed) = &*self.shared;
        let deadline = Instant::now() + timeout;
        let mut collected = lock(collected);
        loop {
            if let Some(found) = check(&mut collected) {
                return Ok(found);
            }
            if collected.ended {
                return Err(Missed::EndOfOutput);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missed::Deadline(timeout));
            }
            collected =
                changed.wait_timeout(collected, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Collected {
    #[track_caller]
    fn parse_new_lines(&mut self) {
        while let Some(length) = self.bytes[self.parsed..].iter().position(|b| *b == b'\n') {
            let line = &self.bytes[self.parsed..self.parsed + length];
            match Event::parse(line) {
                Ok(event) => self.events.push(event),
                Err(wrong) => panic!("a line of stdout is not an event: {wrong}"),
            }
            self.parsed += length + 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
