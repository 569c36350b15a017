//! Events: one JSON object per line, appended to the log file and, for some commands, written to
//! stdout, possibly as text for people.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::event_line::EventLine;
use crate::event_text::LogFormat;
use crate::level::Level;
use crate::log_sink::{FILE, LogFile, Sink, SinkOutput};

/// How long the exit waits for each sink: a stdout without a reader must not keep a process alive.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);
/// The last part of that, for a write in progress: it is unknown how much of it gets written.
const WRITE_PATIENCE: Duration = Duration::from_millis(200);

/// Where events go; clones write to the same place, from any thread.
///
/// Invariant: whatever the values contain, it writes whole lines of one JSON object each.
#[derive(Clone)]
pub struct EventLog(Arc<Shared>);

struct Shared {
    lowest: Level,
    request_id: String,
    format: LogFormat,
    /// Standard output is a terminal.
    is_watched: bool,
    sinks: Vec<Sink>,
    followers: Followers,
}

/// Is given each event as a line with one JSON object, by the thread that logs it; must not block,
/// nor log anything.
pub type EventFollower = Box<dyn FnMut(&str) + Send>;

/// Those who are given each event besides the sinks.
#[derive(Default)]
struct Followers {
    /// There are some.
    are_there: AtomicBool,
    all: Mutex<Vec<EventFollower>>,
}

/// Lines that a sink did not write.
#[derive(Clone, Copy, Debug)]
pub struct Missing {
    /// The name of the sink.
    pub sink: &'static str,
    /// How many.
    pub lines: u64,
}

impl EventLog {
    /// A log that writes events of level `lowest` and above to the file, and to stdout in a format,
    /// as asked for.
    ///
    /// # Errors
    ///
    /// If a writer's thread cannot be started.
    pub fn new(
        lowest: Level,
        request_id: String,
        file: Option<LogFile>,
        stdout: Option<LogFormat>,
    ) -> io::Result<EventLog> {
        let file = file.map(|file| (SinkOutput::File(file), None));
        let (format, is_watched) = (stdout.unwrap_or(LogFormat::Json), io::stdout().is_terminal());
        let stdout = stdout.map(|format| (SinkOutput::stdout(), format.rewriting()));
        let start = |(output, rewriting)| {
            let request_id = request_id.clone();
            let gap_line = move |lines, sink| gap_line(&request_id, lines, sink);
            Sink::start(output, rewriting, Box::new(gap_line))
        };
        let sinks = file.into_iter().chain(stdout).map(start).collect::<io::Result<_>>()?;
        let followers = Followers::default();
        Ok(EventLog(Arc::new(Shared { lowest, request_id, format, is_watched, sinks, followers })))
    }

    /// A log that writes nowhere.
    pub fn disabled() -> EventLog {
        EventLog(Arc::new(Shared {
            lowest: Level::Error,
            request_id: String::new(),
            format: LogFormat::Json,
            is_watched: false,
            sinks: Vec::new(),
            followers: Followers::default(),
        }))
    }

    /// Waits until everything logged so far is written, for at most one second per sink.
    pub fn settle(&self) {
        for sink in &self.0.sinks {
            sink.settle(Instant::now() + EXIT_PATIENCE);
        }
    }

    /// Ends the log: waits for everything logged so far, reports missing lines in the other sinks,
    /// lets `last` log the last event, and waits for that; for at most one second per sink in
    /// total.
    pub fn finish(&self, last: impl FnOnce()) {
        self.finish_telling(|missing| {
            self.tell_elsewhere(missing);
            last();
        });
    }

    /// Like [`EventLog::finish`], but `last` must report how many lines are missing in which sink.
    pub fn finish_telling(&self, last: impl FnOnce(&[Missing])) {
        let sinks = &self.0.sinks;
        let all = EXIT_PATIENCE * u32::try_from(sinks.len()).unwrap_or(u32::MAX);
        let until = Instant::now() + all;
        for sink in sinks {
            sink.settle(Instant::now() + EXIT_PATIENCE - WRITE_PATIENCE);
        }
        // Not before all of them had their time: one may have recovered meanwhile.
        let give_up = |sink: &Sink| match sink.settle(Instant::now()) {
            0 => 0,
            _ => sink.give_up(Instant::now() + WRITE_PATIENCE),
        };
        let missing: Vec<Missing> =
            sinks.iter().map(|sink| Missing { sink: sink.name(), lines: give_up(sink) }).collect();
        last(&missing);
        for (sink, _) in sinks.iter().zip(missing).filter(|(_, missing)| missing.lines == 0) {
            sink.settle(until);
        }
    }

    /// Reports lines missing in one sink through the others.
    pub fn tell_elsewhere(&self, missing: &[Missing]) {
        for Missing { sink, lines } in missing.iter().filter(|missing| missing.lines > 0) {
            let line = gap_line(&self.0.request_id, *lines, sink);
            let others = self.0.sinks.iter().filter(|other| other.name() != *sink);
            others.for_each(|other| other.push(&line));
        }
    }

    /// Reports lines that another process could not write to the same place.
    pub fn add_missing(&self, Missing { sink, lines }: Missing) {
        if let Some(sink) = self.0.sinks.iter().find(|own| own.name() == sink)
            && lines > 0
        {
            sink.add_missing(lines);
        }
    }

    /// Switches to another log file, from the next line written; does nothing without a log file.
    pub fn replace_file(&self, file: LogFile) {
        if let Some(sink) = self.0.sinks.iter().find(|sink| sink.name() == FILE) {
            sink.replace_file(file);
        }
    }

    /// Whether events of this level are written anywhere.
    pub fn enabled(&self, level: Level) -> bool {
        level >= self.0.lowest && !(self.0.sinks.is_empty() && self.0.followers.are_none())
    }

    /// Has each event from now on that is of a level that is written given to a follower too.
    pub fn follow(&self, follower: EventFollower) {
        let Followers { are_there, all } = &self.0.followers;
        all.lock().unwrap_or_else(PoisonError::into_inner).push(follower);
        are_there.store(true, Ordering::Relaxed);
    }

    /// The lowest level that is written.
    pub fn lowest(&self) -> Level {
        self.0.lowest
    }

    /// The format of events on stdout.
    pub fn format(&self) -> LogFormat {
        self.0.format
    }

    /// The identity of this run, which every event carries.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Starts an event; nothing is built if its level is disabled.
    pub fn event(&self, level: Level, name: &'static str) -> EventBuilder<'_> {
        if !self.enabled(level) {
            return EventBuilder(None);
        }
        let line = EventLine::start(LINE.take(), level, name, &self.0.request_id);
        EventBuilder(Some((&self.0, line)))
    }
}

/// An event being built; [`EventBuilder::write`] sends it.
#[must_use = "an event is only sent by write()"]
pub struct EventBuilder<'a>(Option<(&'a Shared, EventLine)>);

impl EventBuilder<'_> {
    /// Adds a field. A value without a JSON form becomes `null`.
    pub fn field<V: Serialize + ?Sized>(mut self, key: &'static str, value: &V) -> Self {
        if let Some((_, line)) = &mut self.0 {
            line.add(key, value);
        }
        self
    }

    /// Sends the event as one whole line. A failing write never fails the caller.
    pub fn write(self) {
        if let Some((log, line)) = self.0 {
            push(line, log, |_| true);
        }
    }

    /// Like [`EventBuilder::write`], but not to a terminal, where the user typed the command and
    /// sees how it ended.
    pub fn write_off_terminal(self) {
        if let Some((log, line)) = self.0 {
            push(line, log, |sink| sink.name() == FILE || !log.is_watched);
        }
    }
}

impl Followers {
    fn are_none(&self) -> bool {
        !self.are_there.load(Ordering::Relaxed)
    }

    fn push(&self, line: &[u8]) {
        if self.are_none() {
            return;
        }
        // It is JSON, which is UTF-8.
        let line = String::from_utf8_lossy(line);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter_mut().for_each(|follower| follower(&line));
    }
}

fn push(line: EventLine, log: &Shared, takes_it: impl Fn(&Sink) -> bool) {
    let line = line.finish();
    log.followers.push(&line);
    log.sinks.iter().filter(|sink| takes_it(sink)).for_each(|sink| sink.push(&line));
    if line.capacity() <= LINE_KEPT_BYTES {
        LINE.set(line);
    }
}

/// Capacity above which a line's buffer is returned to the allocator; ordinary lines have 300
/// bytes.
const LINE_KEPT_BYTES: usize = 16 * 1024;

thread_local! {
    /// The buffer of the thread's last line, so that logging needs no allocation.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The event that replaces missing lines.
fn gap_line(request_id: &str, dropped: u64, sink: &str) -> Vec<u8> {
    let mut line = EventLine::start(Vec::new(), Level::Error, "log_gap", request_id);
    line.add("dropped", &dropped);
    line.add("sink", sink);
    line.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    struct Scratch {
        _directory: tempfile::TempDir,
        path: PathBuf,
    }

    impl Scratch {
        fn new() -> Scratch {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("logs").join("trustctl.log");
            Scratch { _directory: directory, path }
        }

        fn log(&self, lowest: Level, request_id: &str) -> EventLog {
            let file = LogFile::open(&self.path).unwrap();
            EventLog::new(lowest, request_id.into(), Some(file), None).unwrap()
        }

        /// The file's text once everything is written.
        fn text(&self, log: &EventLog) -> String {
            log.settle();
            fs::read_to_string(&self.path).unwrap()
        }
    }

    #[test]
    fn every_event_starts_with_the_same_four_fields() {
        let scratch = Scratch::new();
        let log = scratch.log(Level::Info, "run 1");
        log.event(Level::Warn, "signal_received").field("signal", "SIGINT").field("n", &7).write();
        let text = scratch.text(&log);
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
        let text = scratch.text(&log);
        let levels: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["level"].clone())
            .collect();
        assert_eq!(levels, ["warn", "error"]);
        assert!(!EventLog::disabled().enabled(Level::Error));
    }

    #[test]
    fn a_follower_is_given_each_line_that_is_written_though_there_is_no_sink() {
        let log = EventLog::disabled();
        let lines = Arc::new(Mutex::new(vec![]));
        let kept = lines.clone();
        log.event(Level::Error, "before").write();
        log.follow(Box::new(move |line| kept.lock().unwrap().push(line.to_owned())));
        log.event(Level::Info, "below").write();
        log.clone().event(Level::Error, "after").field("n", &7).write();
        let lines = lines.lock().unwrap();
        let [line] = &lines[..] else { panic!("{lines:?}") };
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&value["event"], &value["n"]), (&"after".into(), &7.into()));
    }

    #[test]
    fn a_full_disk_fails_nobody_and_costs_a_second_at_the_end() {
        let full = LogFile::open("/dev/full".as_ref()).unwrap();
        let log = EventLog::new(Level::Info, String::new(), Some(full), None).unwrap();
        log.event(Level::Info, "lost").write();
        let mut was_last = false;
        log.finish(|| was_last = true);
        assert!(was_last);
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
        other.settle();
        let text = scratch.text(&log);
        assert_eq!(text.lines().count(), THREADS * EVENTS);
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }

    #[test]
    fn nothing_in_a_line_moves_a_terminal_or_ends_a_line_for_anybody() {
        let scratch = Scratch::new();
        let log = scratch.log(Level::Info, "run");
        let live = "a\n\u{7f}b\u{85}\u{9b}31m\u{2028}\u{2029}\u{a0}ü";
        log.event(Level::Info, "odd").field("value", live).write();
        let text = scratch.text(&log);
        let expected = r#""value":"a\n\u007fb\u0085\u009b31m\u2028\u2029"#;
        assert!(text.contains(&format!("{expected}\u{a0}ü\"}}\n")), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["value"], live);
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
            let text = scratch.text(&log);
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert!(text.ends_with('\n'));
            let event: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&event["request_id"], &*request_id);
            prop_assert_eq!(&event["value"], &*value);
            prop_assert_eq!(event.as_object().unwrap().len(), 6);
        }
    }
}
