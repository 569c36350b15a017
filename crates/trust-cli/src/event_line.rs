//! One event as a line: a JSON object that is safe for terminals and one line to every reader.

use std::cell::Cell;
use std::io;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::level::Level;

/// An event being written.
///
/// Invariant: a JSON object without its closing brace, whatever names and values it was given.
#[derive(Debug)]
pub struct EventLine(Vec<u8>);

impl EventLine {
    /// Starts the line of an event that happens now, in `buffer`, whose contents are dropped.
    pub fn start(buffer: Vec<u8>, level: Level, name: &str, request_id: &str) -> EventLine {
        let mut line = EventLine(buffer);
        line.0.clear();
        line.0.extend_from_slice(b"{\"ts\":\"");
        append_timestamp(&mut line.0, Timestamp::now());
        line.0.push(b'"');
        for (key, text) in [("level", level.name()), ("event", name), ("request_id", request_id)] {
            line.start_field(key);
            append_text(&mut line.0, text);
        }
        line
    }

    /// Adds a field. A value without a JSON form becomes `null`.
    pub fn add<V: Serialize + ?Sized>(&mut self, key: &str, value: &V) {
        self.start_field(key);
        append_json(&mut self.0, value);
    }

    fn start_field(&mut self, key: &str) {
        self.0.push(b',');
        append_text(&mut self.0, key);
        self.0.push(b':');
    }

    /// The complete line, with its newline.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }
}

/// Prints up to the second. The rest is written by hand, because it is most of what changes between
/// two lines.
static SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

/// Length of "2026-11-20T07:43:16", the same for every four-digit year.
const SECOND_BYTES: usize = 19;

thread_local! {
    /// The second of the thread's last line, and its text.
    static LAST_SECOND: Cell<(i64, [u8; SECOND_BYTES])> =
        const { Cell::new((i64::MIN, [0; SECOND_BYTES])) };
}

/// Appends the time in UTC with milliseconds (RFC 3339).
fn append_timestamp(line: &mut Vec<u8>, now: Timestamp) {
    let milliseconds = now.as_millisecond();
    let (second, millisecond) = (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000));
    let (mut last, mut text) = LAST_SECOND.get();
    if last != second {
        last = second;
        let whole = Timestamp::from_second(second).unwrap_or_default();
        let mut printed = Vec::with_capacity(SECOND_BYTES + 1);
        SECONDS
            .print_timestamp(&whole, &mut printed)
            .expect("formatting into memory does not fail");
        text.copy_from_slice(&printed[..SECOND_BYTES]);
        LAST_SECOND.set((last, text));
    }
    line.extend_from_slice(&text);
    let digit = |divisor: i64| b'0' + (millisecond / divisor % 10) as u8;
    line.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
}

/// Appends a string. Nearly all strings have nothing to escape, and a line has a dozen of them.
fn append_text(line: &mut Vec<u8>, text: &str) {
    if !text.bytes().all(|byte| is_plain(byte) && !matches!(byte, b'"' | b'\\')) {
        return append_json(line, text);
    }
    line.push(b'"');
    line.extend_from_slice(text.as_bytes());
    line.push(b'"');
}

/// Whether every terminal prints it unchanged.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

fn append_json<V: Serialize + ?Sized>(line: &mut Vec<u8>, value: &V) {
    let start = line.len();
    let mut json = serde_json::Serializer::with_formatter(&mut *line, InertText);
    if value.serialize(&mut json).is_err() {
        line.truncate(start);
        line.extend_from_slice(b"null");
    }
}

/// JSON that is safe for terminals and one line to every reader.
pub(crate) fn inert_json<V: Serialize + ?Sized>(value: &V) -> String {
    let mut json = vec![];
    append_json(&mut json, value);
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// Escapes characters that JSON leaves alone although terminals obey them (DEL, and C1 with its
/// CSI) or other readers end a line there (NEL, U+2028, U+2029).
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
        if fragment.bytes().all(is_plain) {
            return writer.write_all(fragment.as_bytes());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_printer_also_where_a_second_begins() {
        let whole = DateTimePrinter::new().precision(Some(3));
        for milliseconds in [0, 1, 999, 1000, 1_789_999_999_999, 1_790_000_000_000, 999, -1] {
            let now = Timestamp::from_millisecond(milliseconds).unwrap();
            let (mut ours, mut theirs) = (vec![], vec![]);
            append_timestamp(&mut ours, now);
            whole.print_timestamp(&now, &mut theirs).unwrap();
            assert_eq!(String::from_utf8(ours), String::from_utf8(theirs));
        }
    }
}
