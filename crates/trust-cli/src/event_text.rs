//! Events as lines for people: time, event, peer and details in columns, coloured by level.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Effects, Style};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::colours::Colours;
use crate::event_line::inert_json;
use crate::level::Level;
use crate::text::grouped;

/// The format of events on standard output, as set by `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, as in the log file.
    Json,
    /// One line for people.
    Text,
    /// Text on a terminal, JSON elsewhere.
    Auto,
}

impl LogFormat {
    const ALL: [LogFormat; 3] = [LogFormat::Json, LogFormat::Text, LogFormat::Auto];

    /// Its name in `--log-format`.
    pub const fn name(self) -> &'static str {
        match self {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
            LogFormat::Auto => "auto",
        }
    }

    /// The format with this name.
    pub fn parse(name: &str) -> Option<LogFormat> {
        LogFormat::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The colours for rewriting lines on standard output; `None` leaves them as JSON.
    pub(crate) fn rewriting(self) -> Option<Colours> {
        let is_text = match self {
            LogFormat::Json => false,
            LogFormat::Text => true,
            LogFormat::Auto => io::stdout().is_terminal(),
        };
        is_text.then(Colours::of_stdout)
    }
}

/// Widths of the columns: the longest event name, and the longest IPv4 address with a port.
const EVENT_WIDTH: usize = 20;
const PEER_WIDTH: usize = 21;

/// Fields that people can do without. `conn` and `client_fd` are hidden, like `request_id`, because
/// the line shows the peer.
const HIDDEN: [&str; 10] = [
    "request_id",
    "conn",
    "client_fd",
    "errno",
    "addr",
    "port",
    "frames_in",
    "frames_out",
    "rtt_us",
    "max_clients",
];

/// Fields that need no name, because the value says it all.
const NAMELESS: [&str; 9] =
    ["reason", "cmd", "message", "errno_name", "signal", "action", "hint", "mode", "model"];

/// Rewrites whole lines of JSON; lines that are not events stay unchanged.
pub(crate) fn rewrite(lines: &[u8], colours: Colours) -> Vec<u8> {
    let mut text = String::with_capacity(lines.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice::<EventFields>(line) {
            Ok(fields) => write_line(&mut text, &fields, colours),
            Err(_) => text.push_str(&String::from_utf8_lossy(line)),
        }
    }
    text.into_bytes()
}

fn write_line(text: &mut String, fields: &EventFields, colours: Colours) {
    let word = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
    let (ts, event) = (word("ts"), word("event"));
    // The time of day from 2026-11-20T07:43:16.123Z.
    let time = ts.split_once('T').map_or(ts, |(_, time)| time.trim_end_matches('Z'));
    let style = Level::parse(word("level")).map_or(Style::new(), style);
    let time = colours.paint(Style::new().effects(Effects::DIMMED), time);
    let name = colours.paint(style, &format!("{event:EVENT_WIDTH$}"));
    let _ = write!(text, "{time}  {name}");
    if let Some(peer) = fields.get("peer").and_then(Value::as_str) {
        let peer = inert_text(peer);
        let _ = write!(text, "  {peer:PEER_WIDTH$}");
    }
    let shown = fields.0.iter().filter_map(|(key, value)| detail(event, key, value));
    shown.for_each(|detail| {
        let _ = write!(text, "  {detail}");
    });
    text.truncate(text.trim_end().len());
    text.push('\n');
}

fn style(level: Level) -> Style {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    match level {
        Level::Debug => Style::new().effects(Effects::DIMMED),
        Level::Info => colour(AnsiColor::Green),
        Level::Warn => colour(AnsiColor::Yellow),
        Level::Error => colour(AnsiColor::Red).effects(Effects::BOLD),
    }
}

/// The text for a field, if it is shown.
fn detail(event: &str, key: &str, value: &Value) -> Option<String> {
    let is_shown_elsewhere = matches!(key, "ts" | "level" | "event" | "peer");
    let is_default = key == "mode" && event == "client_close";
    // Nothing was lost, retransmitted or left out.
    let is_loss = matches!(key, "retransmits" | "unacked_bytes" | "suppressed")
        || key.starts_with("undelivered_");
    let is_nothing = is_loss && value.as_u64() == Some(0);
    if is_shown_elsewhere || is_default || is_nothing || HIDDEN.contains(&key) {
        return None;
    }
    let bytes = || format!("{} B", grouped(value.as_u64().unwrap_or_default()));
    let spaced = |key: &str| key.replace('_', " ");
    Some(match key {
        "addresses" => {
            let all = value.as_array().into_iter().flatten().map(plain);
            format!("{:PEER_WIDTH$}", all.collect::<Vec<_>>().join(", "))
        }
        "bytes_in" => format!("{} in", bytes()),
        "bytes_out" => format!("{} out", bytes()),
        "bytes_up" => format!("{} up", bytes()),
        "bytes_down" => format!("{} down", bytes()),
        "duration_ms" => milliseconds(value),
        _ if NAMELESS.contains(&key) => plain(value),
        _ => match key.rsplit_once('_') {
            Some((name, "bytes")) if value.is_number() => format!("{} {}", spaced(name), bytes()),
            Some((name, "sec")) => format!("{} {} s", spaced(name), plain(value)),
            Some((name, "ms")) => format!("{} {}", spaced(name), milliseconds(value)),
            _ => format!("{} {}", spaced(key), plain(value)),
        },
    })
}

fn milliseconds(value: &Value) -> String {
    let milliseconds = value.as_f64().unwrap_or_default();
    match milliseconds < 1000.0 {
        true => format!("{milliseconds:.1} ms"),
        false => format!("{:.1} s", milliseconds / 1000.0),
    }
}

/// A value without quotes, if that is safe on a terminal.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => inert_text(text),
        Value::Number(number) => match number.as_f64() {
            // 5, not 5.0
            Some(float) if !number.is_u64() => float.to_string(),
            _ => number.to_string(),
        },
        other => inert_json(other),
    }
}

fn inert_text(text: &str) -> String {
    let quoted = inert_json(text);
    // Something had to be escaped, so it stays quoted.
    match quoted.len() == text.len() + 2 && !text.is_empty() {
        true => text.to_owned(),
        false => quoted,
    }
}

/// The fields of an event, in order.
struct EventFields(Vec<(String, Value)>);

impl EventFields {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find_map(|(name, value)| (name == key).then_some(value))
    }
}

impl<'de> Deserialize<'de> for EventFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EventFields, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = EventFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventFields, A::Error> {
                let mut fields = vec![];
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(EventFields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        String::from_utf8(rewrite(line.as_bytes(), Colours::Off)).unwrap()
    }

    #[test]
    fn the_end_of_a_connection_is_a_line_in_columns() {
        let line = "{\"ts\":\"2026-11-20T16:12:32.165Z\",\"level\":\"info\",\
            \"event\":\"client_close\",\
            \"request_id\":\"x\",\"conn\":6,\"client_fd\":20,\"peer\":\"127.0.0.1:57280\",\
            \"reason\":\"peer_fin\",\"mode\":\"raw\",\"bytes_in\":19,\"bytes_out\":12345,\
            \"frames_in\":0,\"frames_out\":0,\"duration_ms\":0.1309,\"rtt_us\":23,\
            \"retransmits\":0,\"unacked_bytes\":0}\n";
        let expected = "16:12:32.165  client_close          127.0.0.1:57280        peer_fin  \
            19 B in  12,345 B out  0.1 ms\n";
        assert_eq!(rewritten(line), expected);
    }

    #[test]
    fn a_field_that_is_not_known_is_shown_with_its_name() {
        let line = "{\"ts\":\"2026-11-20T16:12:32.165Z\",\"level\":\"warn\",\"event\":\"new\",\
            \"request_id\":\"x\",\"have_bytes\":4,\"first_bytes\":\"GET /\",\
            \"timeout_sec\":5.0,\"uptime_ms\":61000,\
            \"by_state\":{\"open\":1},\"retransmits\":2}\n";
        let expected = "16:12:32.165  new                   have 4 B  first bytes GET /  \
            timeout 5 s  uptime 61.0 s  \
            by state {\"open\":1}  retransmits 2\n";
        assert_eq!(rewritten(line), expected);
    }

    #[test]
    fn nothing_in_a_value_moves_a_terminal() {
        let line = "{\"ts\":\"2026-11-20T16:12:32.165Z\",\"level\":\"error\",\"event\":\"error\",\
            \"request_id\":\"x\",\"message\":\"a\\u001b[31mb\",\"exit\":64}\n";
        let expected = "16:12:32.165  error                 \"a\\u001b[31mb\"  exit 64\n";
        assert_eq!(rewritten(line), expected);
    }

    #[test]
    fn the_level_is_seen_by_the_colour_and_lines_that_are_no_events_stay() {
        let line = "torn\n{\"ts\":\"T1Z\",\"level\":\"warn\",\"event\":\"e\"}\n";
        let text = String::from_utf8(rewrite(line.as_bytes(), Colours::On)).unwrap();
        let expected = "torn\n\u{1b}[2m1\u{1b}[0m  \u{1b}[33me                   \u{1b}[0m\n";
        assert_eq!(text, expected);
    }
}
