//! Events for those who follow them. Toxiproxy has no part in it.
//!
//! The thread that has the events never waits: it puts each line into a ring, which followers read
//! at their own pace. One that is too slow is told how many lines it has missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender};

/// How many lines a follower may be late by.
const RING_LINES: usize = 1024;

/// Lines that are sent at once at most.
const LINES_PER_PIECE: usize = 64;

/// The longest line that is passed on, in bytes. Together with the number of lines it bounds the
/// memory that events take, whatever names clients choose: 16 MiB.
const LINE_MAX: usize = 16 * 1024;

/// How many lines are kept for those who come later.
pub const KEPT_LINES: usize = 1000;

/// Where events go. Shared between the thread that has them and those who follow them.
#[derive(Debug)]
pub struct EventHub {
    lines: Sender<Arc<str>>,
    /// The names of the events that are kept.
    kept_names: &'static [&'static str],
    kept: Mutex<KeptEvents>,
}

/// The last events of some names.
#[derive(Clone, Debug, Default)]
pub struct KeptEvents {
    /// At most [`KEPT_LINES`], JSON objects all.
    pub lines: VecDeque<Arc<str>>,
    /// How many there were before those.
    pub dropped: u64,
}

/// How a follower gets lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventForm {
    /// Each with its newline.
    JsonLines,
    /// As messages of an event stream, which pages read.
    ServerSent,
}

/// Reads events as they happen.
#[derive(Debug)]
pub struct EventFollower {
    lines: Receiver<Arc<str>>,
    form: EventForm,
    /// The names of the events that it gets; `None`: all.
    names: Option<&'static [&'static str]>,
    has_started: bool,
}

/// Waits for events of the names that are kept.
#[derive(Debug)]
pub struct KeptWatcher {
    lines: Receiver<Arc<str>>,
    names: &'static [&'static str],
}

impl EventHub {
    /// No events yet. Those with one of these names are kept.
    pub fn new(kept_names: &'static [&'static str]) -> EventHub {
        let lines = Sender::new(RING_LINES);
        EventHub { lines, kept_names, kept: Mutex::default() }
    }

    /// Takes an event: one JSON object, with or without a newline. Never waits for a follower.
    pub fn note(&self, line: &str) {
        let line = line.trim_end();
        let line: Arc<str> = if line.len() > LINE_MAX {
            let name = name(line).unwrap_or_default();
            format!(r#"{{"event":"{name}","left_out_bytes":{}}}"#, line.len()).into()
        } else {
            line.into()
        };
        if is_named(&line, self.kept_names) {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.lines.len() == KEPT_LINES {
                kept.lines.pop_front();
                kept.dropped += 1;
            }
            kept.lines.push_back(line.clone());
        }
        // It fails if there is no follower.
        let _ = self.lines.send(line);
    }

    /// The last events that are kept.
    pub fn kept(&self) -> KeptEvents {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows all events from now on.
    pub fn follow(&self, form: EventForm) -> EventFollower {
        EventFollower { lines: self.lines.subscribe(), form, names: None, has_started: false }
    }

    /// Follows the events that are kept, from now on.
    pub fn follow_kept(&self, form: EventForm) -> EventFollower {
        EventFollower { names: Some(self.kept_names), ..self.follow(form) }
    }

    /// Watches from now on.
    pub fn watch_kept(&self) -> KeptWatcher {
        KeptWatcher { lines: self.lines.subscribe(), names: self.kept_names }
    }
}

impl EventForm {
    /// The type of a body in this form.
    pub const fn content_type(self) -> &'static str {
        match self {
            EventForm::JsonLines => "application/x-ndjson",
            EventForm::ServerSent => "text/event-stream",
        }
    }

    /// Adds a JSON object that is one line.
    pub fn add(self, line: &str, text: &mut String) {
        let (before, after) = match self {
            EventForm::JsonLines => ("", "\n"),
            EventForm::ServerSent => ("data: ", "\n\n"),
        };
        for part in [before, line, after] {
            text.push_str(part);
        }
    }
}

impl EventFollower {
    /// The next piece of the body: at first one that says that events are followed from there on.
    /// `None`: there will be no more. Nothing is lost if it is not waited for to the end.
    pub async fn next(&mut self) -> Option<String> {
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_started, true) {
            self.form.add(r#"{"event":"follow_start"}"#, &mut text);
            return Some(text);
        }
        while text.is_empty() {
            match self.lines.recv().await {
                Ok(line) => self.add(&line, &mut text),
                Err(RecvError::Lagged(count)) => self.form.add(&lost(count), &mut text),
                Err(RecvError::Closed) => return None,
            }
        }
        for _ in 1..LINES_PER_PIECE {
            match self.lines.try_recv() {
                Ok(line) => self.add(&line, &mut text),
                Err(TryRecvError::Lagged(count)) => self.form.add(&lost(count), &mut text),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some(text)
    }

    /// A piece without an event, by which it is noticed that a client is gone.
    pub fn idle(&self) -> String {
        let mut text = String::new();
        self.form.add(r#"{"event":"follow_idle"}"#, &mut text);
        text
    }

    fn add(&self, line: &str, text: &mut String) {
        if self.names.is_none_or(|names| is_named(line, names)) {
            self.form.add(line, text);
        }
    }
}

impl KeptWatcher {
    /// Waits until there was one, or some may have been missed. Others that are there already count
    /// as seen with it.
    pub async fn seen(&mut self) {
        loop {
            match self.lines.recv().await {
                Ok(line) if !is_named(&line, self.names) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
        self.lines = self.lines.resubscribe();
    }
}

fn lost(count: u64) -> String {
    format!(r#"{{"event":"follow_lost","count":{count}}}"#)
}

fn is_named(line: &str, names: &[&str]) -> bool {
    name(line).is_some_and(|name| names.contains(&name))
}

/// The name of an event. A quote in a text is escaped, so the first such place is the key.
fn name(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(r#""event":""#)?;
    let (name, _) = rest.split_once('"')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().expect("it can be built").block_on(work)
    }

    #[test]
    fn a_follower_gets_what_happens_after_it_has_come() {
        let hub = EventHub::new(&[]);
        hub.note(r#"{"event":"before"}"#);
        let mut lines = hub.follow(EventForm::JsonLines);
        let mut messages = hub.follow(EventForm::ServerSent);
        hub.note("{\"event\":\"a\"}\n");
        hub.note(r#"{"event":"b"}"#);
        run(async {
            let start = "{\"event\":\"follow_start\"}\n";
            assert_eq!(lines.next().await.as_deref(), Some(start));
            let both = "{\"event\":\"a\"}\n{\"event\":\"b\"}\n";
            assert_eq!(lines.next().await.as_deref(), Some(both));
            let start = "data: {\"event\":\"follow_start\"}\n\n";
            assert_eq!(messages.next().await.as_deref(), Some(start));
            let both = "data: {\"event\":\"a\"}\n\ndata: {\"event\":\"b\"}\n\n";
            assert_eq!(messages.next().await.as_deref(), Some(both));
            let idle = "{\"event\":\"follow_idle\"}\n";
            assert!(timeout(Duration::ZERO, lines.next()).await.is_err(), "none is left");
            assert_eq!(lines.idle(), idle);
            drop(hub);
            assert_eq!(lines.next().await, None);
        });
    }

    #[test]
    fn a_follower_of_some_events_gets_no_others() {
        let hub = EventHub::new(&["fault"]);
        let mut faults = hub.follow_kept(EventForm::JsonLines);
        for name in ["other", "fault", "other"] {
            hub.note(&format!(r#"{{"event":"{name}"}}"#));
        }
        run(async {
            faults.next().await;
            assert_eq!(faults.next().await.as_deref(), Some("{\"event\":\"fault\"}\n"));
            assert!(timeout(Duration::ZERO, faults.next()).await.is_err(), "none is left");
        });
    }

    #[test]
    fn a_follower_that_is_too_slow_is_told_how_many_it_missed() {
        let hub = EventHub::new(&[]);
        let mut slow = hub.follow(EventForm::JsonLines);
        run(async {
            slow.next().await;
            for number in 0..RING_LINES + 5 {
                hub.note(&format!(r#"{{"event":"e","number":{number}}}"#));
            }
            let text = slow.next().await.expect("there is more");
            let expected =
                "{\"event\":\"follow_lost\",\"count\":5}\n{\"event\":\"e\",\"number\":5}\n";
            assert!(text.starts_with(expected), "{text}");
            assert_eq!(text.lines().count(), LINES_PER_PIECE);
        });
    }

    #[test]
    fn the_last_events_of_some_names_are_kept() {
        let hub = EventHub::new(&["fault"]);
        hub.note(r#"{"event":"other","text":"\"event\":\"fault\""}"#);
        for number in 0..KEPT_LINES + 2 {
            hub.note(&format!(r#"{{"ts":"now","event":"fault","number":{number}}}"#));
        }
        let KeptEvents { lines, dropped } = hub.kept();
        assert_eq!((lines.len(), dropped), (KEPT_LINES, 2));
        assert_eq!(&*lines[0], r#"{"ts":"now","event":"fault","number":2}"#);
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out() {
        let hub = EventHub::new(&["fault"]);
        hub.note(&format!(r#"{{"event":"fault","rule":"{}"}}"#, "r".repeat(LINE_MAX)));
        assert_eq!(&*hub.kept().lines[0], r#"{"event":"fault","left_out_bytes":16411}"#);
    }

    #[test]
    fn a_watcher_sees_only_the_events_that_are_kept() {
        let hub = EventHub::new(&["fault"]);
        let mut watcher = hub.watch_kept();
        run(async {
            hub.note(r#"{"event":"other"}"#);
            assert!(timeout(Duration::ZERO, watcher.seen()).await.is_err());
            hub.note(r#"{"event":"fault"}"#);
            hub.note(r#"{"event":"fault"}"#);
            watcher.seen().await;
            assert!(timeout(Duration::ZERO, watcher.seen()).await.is_err(), "both were seen");
            for _ in 0..=RING_LINES {
                hub.note(r#"{"event":"other"}"#);
            }
            watcher.seen().await;
        });
    }
}
