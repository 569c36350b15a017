//! A log file that is read while it is written, as by `tail -f`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::event::Event;
use super::kernel;

/// A log file that is being written; lines that are not events are set aside.
pub struct Followed {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line that has not been completed yet.
    begun: Vec<u8>,
    events: Vec<Event>,
    /// Lines that are not events.
    torn: Vec<String>,
    /// How many of the events [`Followed::wait_for`] has looked at.
    seen: usize,
}

impl Followed {
    pub fn new(path: &Path) -> Followed {
        let (begun, events, torn) = (Vec::new(), Vec::new(), Vec::new());
        Followed { path: path.to_owned(), file: None, begun, events, torn, seen: 0 }
    }

    /// Waits for such an event after the last one that was waited for.
    #[track_caller]
    pub fn wait_for(&mut self, name: &str, fits: impl Fn(&Event) -> bool) -> Event {
        let mut fitting = None;
        kernel::wait_until(&format!("a fitting {name} event in the file"), || {
            self.read_on();
            let mut new = self.events[self.seen..].iter();
            let at = new.position(|event| event.name() == name && fits(event));
            fitting = at.map(|at| self.seen + at);
            fitting.is_some()
        });
        let at = fitting.expect("it has come");
        self.seen = at + 1;
        self.events[at].clone()
    }

    /// The first such event in the whole file, if there is one yet.
    pub fn find(&mut self, name: &str, fits: impl Fn(&Event) -> bool) -> Option<Event> {
        self.read_on();
        self.events.iter().find(|event| event.name() == name && fits(event)).cloned()
    }

    /// The events, and the lines that are not events, of a file that is no longer being written.
    #[track_caller]
    pub fn finish(mut self) -> (Vec<Event>, Vec<String>) {
        self.read_on();
        if !self.begun.is_empty() {
            self.torn.push(String::from_utf8_lossy(&self.begun).into_owned());
        }
        (self.events, self.torn)
    }

    #[track_caller]
    fn read_on(&mut self) {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return };
        let searched = self.begun.len();
        file.read_to_end(&mut self.begun).expect("read the log file");
        let Some(last) = self.begun[searched..].iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let rest = self.begun.split_off(searched + last + 1);
        for line in self.begun[..searched + last].split(|byte| *byte == b'\n') {
            match Event::parse(line) {
                Ok(event) => self.events.push(event),
                Err(_) => self.torn.push(String::from_utf8_lossy(line).into_owned()),
            }
        }
        self.begun = rest;
    }
}
