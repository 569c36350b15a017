//! Events: one JSON object a line, appended to the log file and, where a command says so, to stdout.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use rustix::fs::OFlags;
use serde::Serialize;

/// How much an event matters; `--log-level` is the lowest one that is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Single steps.
    Debug,
    /// What normally happens.
    Info,
    /// What a peer or the network did wrong.
    Warn,
    /// What this program failed at.
    Error,
}

impl Level {
    /// Every level, the least important one first.
    pub const ALL: [Level; 4] = [Level::Debug, Level::Info, Level::Warn, Level::Error];

    /// The word in events and in `--log-level`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }

    /// The level with that name.
    pub fn parse(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// Where events go; clones write to the same place, from any thread.
///
/// Invariant: whatever the values contain, what is written is whole lines of one JSON object each.
#[derive(Clone)]
pub struct EventLog(Arc<Shared>);

struct Shared {
    lowest: Level,
    request_id: String,
    sinks: Vec<Mutex<Sink>>,
}

impl EventLog {
    /// A log that writes events of `lowest` and above to the file and to stdout, where asked for.
    pub fn new(lowest: Level, request_id: String, file: Option<File>, stdout: bool) -> EventLog {
        let file = file.map(Output::File);
        let stdout = stdout.then_some(Output::Stdout);
        let sinks = file.into_iter().chain(stdout).map(|output| Mutex::new(Sink::new(output)));
        EventLog(Arc::new(Shared { lowest, request_id, sinks: sinks.collect() }))
    }

    /// A log that goes nowhere.
    pub fn disabled() -> EventLog {
        EventLog::new(Level::Error, String::new(), None, false)
    }

    /// Whether an event of this level is written anywhere.
    pub fn enabled(&self, level: Level) -> bool {
        level >= self.0.lowest && !self.0.sinks.is_empty()
    }

    /// The identity of this run, which every event carries.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Starts an event; nothing is built when its level is off.
    pub fn event(&self, level: Level, name: &'static str) -> Event<'_> {
        if !self.enabled(level) {
            return Event(None);
        }
        let mut line = LINE.take();
        line.clear();
        line.extend_from_slice(b"{\"ts\":\"");
        TIMESTAMPS
            .print_timestamp(&Timestamp::now(), &mut line)
            .expect("formatting into memory does not fail");
        line.push(b'"');
        Event(Some(Line { log: &self.0, bytes: line }))
            .field("level", level.name())
            .field("event", name)
            .field("request_id", &self.0.request_id)
    }
}

/// An event that is being built; [`Event::write`] sends it.
#[must_use = "an event is only sent by write()"]
pub struct Event<'a>(Option<Line<'a>>);

struct Line<'a> {
    log: &'a Shared,
    bytes: Vec<u8>,
}

impl Event<'_> {
    /// Adds a field. A value that has no JSON form becomes `null`.
    pub fn field<V: Serialize + ?Sized>(mut self, key: &'static str, value: &V) -> Self {
        if let Some(Line { bytes, .. }) = &mut self.0 {
            bytes.push(b',');
            append_json(bytes, key);
            bytes.push(b':');
            append_json(bytes, value);
        }
        self
    }

    /// Sends the event as one whole line. A failing write never fails the caller.
    pub fn write(self) {
        let Some(Line { log, mut bytes }) = self.0 else {
            return;
        };
        bytes.extend_from_slice(b"}\n");
        for sink in &log.sinks {
            sink.lock().unwrap_or_else(PoisonError::into_inner).write_line(&bytes);
        }
        if bytes.capacity() <= LINE_KEPT_BYTES {
            LINE.set(bytes);
        }
    }
}

/// Opens a log file for appending, makes its directory, and closes a torn last line.
///
/// # Errors
///
/// Whatever the system says about the directory or the file. A FIFO that nobody reads is an error
/// too, instead of a wait without end.
pub fn open_log_file(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().append(true).create(true).custom_flags(nonblocking).open(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    if ends_in_torn_line(&file, path) {
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&file, b"\n"));
    }
    Ok(file)
}

/// Capacity above which a line's buffer is given back to the allocator; ordinary lines have 300 bytes.
const LINE_KEPT_BYTES: usize = 16 * 1024;

/// How long a stdout that somebody else made non-blocking may stay full before a line is given up.
const FULL_SINK_WAIT: rustix::event::Timespec =
    rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

static TIMESTAMPS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

thread_local! {
    /// The buffer of the thread's last line, so that a line costs no allocation.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// One place that lines go to.
struct Sink {
    output: Output,
    state: SinkState,
}

enum Output {
    File(File),
    Stdout,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SinkState {
    /// The next byte starts a line.
    AtLineStart,
    /// Only a part of the last line could be written.
    Torn,
    /// Nobody reads it any more.
    Gone,
}

impl Sink {
    fn new(output: Output) -> Sink {
        Sink { output, state: SinkState::AtLineStart }
    }

    fn write_line(&mut self, line: &[u8]) {
        self.state = match self.state {
            SinkState::Gone => return,
            SinkState::AtLineStart => self.output.write_all(line, SinkState::AtLineStart),
            // Both in one write, so that no other process gets between them.
            SinkState::Torn => self.output.write_all(&[b"\n", line].concat(), SinkState::Torn),
        };
    }
}

impl Output {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Output::File(file) => file.as_fd(),
            Output::Stdout => rustix::stdio::stdout(),
        }
    }

    /// Writes everything if it can: an append may be short. `before` is the state if not one byte
    /// of it could be written.
    fn write_all(&self, bytes: &[u8], before: SinkState) -> SinkState {
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(self.descriptor(), &bytes[written..]) {
                Ok(0) => break,
                Ok(n) => written += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) if self.becomes_writable() => {}
                Err(rustix::io::Errno::PIPE) => return SinkState::Gone,
                Err(_) => break,
            }
        }
        match written {
            0 => before,
            _ if written == bytes.len() => SinkState::AtLineStart,
            _ => SinkState::Torn,
        }
    }

    fn becomes_writable(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut polled = [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::OUT)];
        matches!(poll(&mut polled, Some(&FULL_SINK_WAIT)), Ok(1))
    }
}

fn append_json<V: Serialize + ?Sized>(line: &mut Vec<u8>, value: &V) {
    let start = line.len();
    if serde_json::to_writer(&mut *line, value).is_err() {
        line.truncate(start);
        line.extend_from_slice(b"null");
    }
}

/// Whether a killed writer or a full disk left a part of a line at the end.
fn ends_in_torn_line(file: &File, path: &Path) -> bool {
    let last_byte = || -> io::Result<u8> {
        let mut reader = File::open(path)?;
        reader.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        reader.read_exact(&mut byte)?;
        Ok(byte[0])
    };
    let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    is_regular && last_byte().is_ok_and(|byte| byte != b'\n')
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    struct Scratch {
        directory: tempfile::TempDir,
        path: PathBuf,
    }

    impl Scratch {
        fn new() -> Scratch {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("logs").join("trustctl.log");
            Scratch { directory, path }
        }

        fn log(&self, lowest: Level, request_id: &str) -> EventLog {
            EventLog::new(
                lowest,
                request_id.into(),
                Some(open_log_file(&self.path).unwrap()),
                false,
            )
        }

        fn text(&self) -> String {
            fs::read_to_string(&self.path).unwrap()
        }
    }

    #[test]
    fn every_event_starts_with_the_same_four_fields() {
        let scratch = Scratch::new();
        let log = scratch.log(Level::Info, "run 1");
        log.event(Level::Warn, "signal_received").field("signal", "SIGINT").field("n", &7).write();
        let text = scratch.text();
        let (start, rest) = text.split_at("{\"ts\":\"2026-11-20T07:43:16.123Z\"".len());
        let expected = ",\"level\":\"warn\",\"event\":\"signal_received\",\"request_id\":\"run 1\",\
                        \"signal\":\"SIGINT\",\"n\":7}\n";
        assert_eq!(rest, expected);
        let timestamp = &start[7..start.len() - 1];
        assert!(timestamp.parse::<Timestamp>().is_ok() && timestamp.ends_with('Z'), "{timestamp}");
    }

    #[test]
    fn events_below_the_lowest_level_are_not_written() {
        let scratch = Scratch::new();
        let log = scratch.log(Level::Warn, "");
        for level in Level::ALL {
            assert_eq!(log.enabled(level), level >= Level::Warn);
            log.event(level, "tried").write();
        }
        let text = scratch.text();
        let levels: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["level"].clone())
            .collect();
        assert_eq!(levels, ["warn", "error"]);
        assert!(!EventLog::disabled().enabled(Level::Error));
    }

    #[test]
    fn a_torn_last_line_is_closed_once() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path.parent().unwrap()).unwrap();
        for (before, expected) in [("", ""), ("{}\n", "{}\n"), ("{\"to", "{\"to\n"), ("\n", "\n")] {
            fs::write(&scratch.path, before).unwrap();
            open_log_file(&scratch.path).unwrap();
            open_log_file(&scratch.path).unwrap();
            assert_eq!(scratch.text(), expected);
        }
    }

    #[test]
    fn a_line_after_a_short_write_starts_on_a_line_of_its_own() {
        let scratch = Scratch::new();
        let mut sink = Sink::new(Output::File(open_log_file(&scratch.path).unwrap()));
        sink.write_line(b"{}\n");
        sink.output.write_all(b"{\"to", SinkState::AtLineStart);
        sink.state = SinkState::Torn;
        sink.write_line(b"{}\n");
        assert_eq!(scratch.text(), "{}\n{\"to\n{}\n");
    }

    #[test]
    fn a_full_disk_costs_lines_but_fails_nobody() {
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let log = EventLog::new(Level::Info, String::new(), Some(full), false);
        log.event(Level::Info, "lost").write();
    }

    #[test]
    fn a_path_that_cannot_be_a_log_file_is_refused_at_once() {
        let scratch = Scratch::new();
        let directory = scratch.directory.path();
        assert!(open_log_file(directory).is_err());
        fs::write(directory.join("file"), "").unwrap();
        assert!(open_log_file(&directory.join("file").join("x.log")).is_err());
        let fifo = directory.join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        assert!(open_log_file(&fifo).is_err());
    }

    #[test]
    fn lines_of_several_threads_are_not_mixed() {
        const THREADS: usize = 4;
        const EVENTS: usize = 500;
        let scratch = Scratch::new();
        let log = scratch.log(Level::Info, "same");
        let other = scratch.log(Level::Info, "other");
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let log = if thread % 2 == 0 { log.clone() } else { other.clone() };
                scope.spawn(move || {
                    for _ in 0..EVENTS {
                        log.event(Level::Info, "tick")
                            .field("pad", &"x".repeat(thread * 40))
                            .write();
                    }
                });
            }
        });
        let text = scratch.text();
        assert_eq!(text.lines().count(), THREADS * EVENTS);
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }

    proptest! {
        #[test]
        fn whatever_a_value_contains_the_line_is_one_json_object(
            request_id in prop::collection::vec(any::<u8>(), 0..60),
            value in prop::collection::vec(any::<u8>(), 0..200),
            number in any::<f64>(),
        ) {
            let scratch = Scratch::new();
            let request_id = String::from_utf8_lossy(&request_id);
            let value = String::from_utf8_lossy(&value);
            let log = scratch.log(Level::Info, &request_id);
            log.event(Level::Info, "odd").field("value", &value).field("number", &number).write();
            let text = scratch.text();
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert!(text.ends_with('\n'));
            let event: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&event["request_id"], &*request_id);
            prop_assert_eq!(&event["value"], &*value);
            prop_assert_eq!(event.as_object().unwrap().len(), 6);
        }
    }
}
