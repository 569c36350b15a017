//! One event as a line: a JSON object whose text moves no terminal and ends no line for anybody.

use std::io;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::event_log::Level;

/// An event that is being written down.
///
/// Invariant: a JSON object without its closing brace, whatever names and values it was given.
#[derive(Debug)]
pub struct EventLine(Vec<u8>);

impl EventLine {
    /// The line of an event of this moment, in `buffer`, whose content is dropped.
    pub fn start(buffer: Vec<u8>, level: Level, name: &str, request_id: &str) -> EventLine {
        let mut line = EventLine(buffer);
        line.0.clear();
        line.0.extend_from_slice(b"{\"ts\":\"");
        TIMESTAMPS
            .print_timestamp(&Timestamp::now(), &mut line.0)
            .expect("formatting into memory does not fail");
        line.0.push(b'"');
        line.add("level", level.name());
        line.add("event", name);
        line.add("request_id", request_id);
        line
    }

    /// Adds a field. A value that has no JSON form becomes `null`.
    pub fn add<V: Serialize + ?Sized>(&mut self, key: &str, value: &V) {
        self.0.push(b',');
        append_json(&mut self.0, key);
        self.0.push(b':');
        append_json(&mut self.0, value);
    }

    /// The whole line, with its newline.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }
}

static TIMESTAMPS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

fn append_json<V: Serialize + ?Sized>(line: &mut Vec<u8>, value: &V) {
    let start = line.len();
    let mut json = serde_json::Serializer::with_formatter(&mut *line, InertText);
    if value.serialize(&mut json).is_err() {
        line.truncate(start);
        line.extend_from_slice(b"null");
    }
}

/// Escapes what JSON leaves as it is although terminals obey it (DEL, and C1 with its CSI) or readers
/// other than JSON's end a line there (NEL, U+2028, U+2029).
struct InertText;

impl serde_json::ser::Formatter for InertText {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let is_live = |character: char| {
            character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
        };
        let mut inert = fragment;
        while let Some(at) = inert.find(is_live) {
            let (before, rest) = inert.split_at(at);
            let mut rest = rest.chars();
            let live = rest.next().map_or(0, u32::from);
            write!(writer, "{before}\\u{live:04x}")?;
            inert = rest.as_str();
        }
        writer.write_all(inert.as_bytes())
    }
}
