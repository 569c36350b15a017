//! One line of the event log, read more strictly than any consumer would.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

/// The fields every event begins with, in this order.
const LEADING_FIELDS: [&str; 4] = ["ts", "level", "event", "request_id"];

/// How far from now `ts` may be, in milliseconds.
static CLOCK_TOLERANCE_MS: AtomicI64 = AtomicI64::new(HOUR_MS);
const HOUR_MS: i64 = 3_600_000;

/// The fields that every `client_close` has about its connection.
const CLOSE_FIELDS: [&str; 10] = [
    "conn",
    "client_fd",
    "peer",
    "reason",
    "mode",
    "bytes_in",
    "bytes_out",
    "frames_in",
    "frames_out",
    "duration_ms",
];

/// An event that passed the checks that apply to all events.
///
/// Invariant: the leading fields are there, and no key occurs twice.
#[derive(Clone)]
pub struct Event {
    line: String,
    fields: Vec<(String, Value)>,
}

impl Event {
    /// Parses one line, without its newline.
    ///
    /// # Errors
    ///
    /// If the line is wrong: a sentence about what is wrong, with the line itself.
    pub fn parse(line: &[u8]) -> Result<Event, String> {
        let line = std::str::from_utf8(line)
            .map_err(|_| format!("not UTF-8: {:?}", String::from_utf8_lossy(line)))?;
        let wrong = |what: &str| format!("{what}: {line:?}");
        if line.chars().any(char::is_control) {
            return Err(wrong("a raw control character"));
        }
        let object: StrictObject =
            serde_json::from_str(line).map_err(|error| wrong(&error.to_string()))?;
        let event = Event { line: line.to_owned(), fields: object.0 };
        event.check_leading_fields().map_err(|what| wrong(&what))?;
        Ok(event)
    }

    /// The name of the event.
    pub fn name(&self) -> &str {
        self.text("event")
    }

    /// The identifier of the run that wrote the event.
    pub fn request_id(&self) -> &str {
        self.text("request_id")
    }

    /// The line as written.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Whether the event has this field.
    pub fn has(&self, key: &str) -> bool {
        self.field(key).is_some()
    }

    /// The string in the field.
    #[track_caller]
    pub fn text(&self, key: &str) -> &str {
        match self.field(key) {
            Some(Value::String(text)) => text,
            _ => panic!("no text in field {key:?} of {}", self.line),
        }
    }

    /// The strings in the field.
    #[track_caller]
    pub fn texts(&self, key: &str) -> Vec<&str> {
        match self.field(key) {
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().expect("a text")).collect()
            }
            _ => panic!("no list in field {key:?} of {}", self.line),
        }
    }

    /// The non-negative integer in the field.
    #[track_caller]
    pub fn count(&self, key: &str) -> u64 {
        match self.field(key).and_then(Value::as_u64) {
            Some(count) => count,
            None => panic!("no count in field {key:?} of {}", self.line),
        }
    }

    /// The number in the field.
    #[track_caller]
    pub fn number(&self, key: &str) -> f64 {
        match self.field(key).and_then(Value::as_f64) {
            Some(number) => number,
            None => panic!("no number in field {key:?} of {}", self.line),
        }
    }

    /// Whether any field other than the leading ones holds exactly this number.
    pub fn mentions(&self, number: u64) -> bool {
        self.fields.iter().any(|(_, value)| value.as_u64() == Some(number))
    }

    /// Whether it is about the connection that this `client_connect` opened.
    pub fn is_of_connection_of(&self, connect: &Event) -> bool {
        let conn = |event: &Event| event.field("conn").and_then(Value::as_u64);
        conn(self) == conn(connect) && self.request_id() == connect.request_id()
    }

    fn field(&self, key: &str) -> Option<&Value> {
        self.fields.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn check_leading_fields(&self) -> Result<(), String> {
        for (place, key) in LEADING_FIELDS.into_iter().enumerate() {
            match self.fields.get(place) {
                Some((name, Value::String(text))) if name == key && !text.is_empty() => (),
                _ => return Err(format!("field {place} is not a text {key:?}")),
            }
        }
        check_timestamp(self.text("ts"))?;
        if !["debug", "info", "warn", "error"].contains(&self.text("level")) {
            return Err("unknown level".to_owned());
        }
        let in_snake_case = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        if !self.name().bytes().all(in_snake_case) {
            return Err("the event's name is not in snake_case".to_owned());
        }
        Ok(())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.line)
    }
}

/// Parses complete lines; the last one must end in a newline too.
///
/// `what` names the source of the bytes, for the failure message.
#[track_caller]
pub fn parse_all(bytes: &[u8], what: &str) -> Vec<Event> {
    let Some(lines) = bytes.strip_suffix(b"\n") else {
        assert!(bytes.is_empty(), "{what} ends in a torn line");
        return Vec::new();
    };
    lines
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(index, line)| match Event::parse(line) {
            Ok(event) => event,
            Err(wrong) => panic!("line {} of {what} is not an event: {wrong}", index + 1),
        })
        .collect()
}

/// The events with this name, in order.
pub fn named<'a>(events: &'a [Event], name: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event.name() == name).collect()
}

/// The only event with this name.
#[track_caller]
pub fn only<'a>(events: &'a [Event], name: &str) -> &'a Event {
    let found = named(events, name);
    assert_eq!(found.len(), 1, "one {name} expected, found {found:?}");
    found[0]
}

/// The events about the connection of the peer with this address, in the order written.
pub fn about(events: &[Event], peer: SocketAddr) -> Vec<&Event> {
    let peer = peer.to_string();
    let is_its_start =
        |event: &&Event| event.name() == "client_connect" && event.text("peer") == peer;
    let Some(connect) = events.iter().find(is_its_start) else { return Vec::new() };
    events.iter().filter(|event| event.is_of_connection_of(connect)).collect()
}

/// The only event with this name about the connection of the peer with this address. Events of
/// different connections may come in any order, so the last event with a name could be about any of
/// them.
#[track_caller]
pub fn only_about<'a>(events: &'a [Event], peer: SocketAddr, name: &str) -> &'a Event {
    let mut found = about(events, peer);
    found.retain(|event| event.name() == name);
    assert_eq!(found.len(), 1, "one {name} about {peer} expected, found {found:?}");
    found[0]
}

/// The events of several runs, split by run.
pub fn runs(events: &[Event]) -> Vec<Vec<Event>> {
    let mut runs: BTreeMap<&str, Vec<Event>> = BTreeMap::new();
    for event in events {
        runs.entry(event.request_id()).or_default().push(event.clone());
    }
    runs.into_values().collect()
}

/// How many connections all runs together drained, and how many they cut off.
pub fn drained_and_cut(events: &[Event]) -> (u64, u64) {
    let sum = |key| named(events, "drain_done").iter().map(|done| done.count(key)).sum();
    (sum("drained"), sum("cut"))
}

/// Checks the events of one complete run: `cmd_start` first, `cmd_finish` last, the same request
/// identifier throughout.
#[track_caller]
pub fn check_run(events: &[Event]) {
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        panic!("the run logged nothing");
    };
    assert_eq!(first.name(), "cmd_start", "first event is {first:?}");
    assert_eq!(last.name(), "cmd_finish", "last event is {last:?}");
    only(events, "cmd_start");
    only(events, "cmd_finish");
    for event in events {
        assert_eq!(
            event.request_id(),
            first.request_id(),
            "request_id changed within a run, {event:?}"
        );
    }
}

/// Checks that every `client_connect` is followed by exactly one `client_close` with all its
/// fields.
#[track_caller]
pub fn check_connections(events: &[Event]) {
    let mut open = BTreeMap::new();
    let mut numbers = Vec::new();
    for event in events {
        match event.name() {
            "client_connect" => {
                let conn = event.count("conn");
                let before = open.insert(conn, (event.count("client_fd"), event.text("peer")));
                assert!(before.is_none(), "connected twice, {event:?}");
                numbers.push(conn);
            }
            "client_close" => {
                for key in CLOSE_FIELDS {
                    assert!(event.has(key), "no field {key:?}, {event:?}");
                }
                let connected = open.remove(&event.count("conn"));
                let closed = (event.count("client_fd"), event.text("peer"));
                assert_eq!(connected, Some(closed), "closed what was not connected, {event:?}");
            }
            _ => (),
        }
    }
    assert!(open.is_empty(), "connections without client_close: {open:?}");
    numbers.sort_unstable();
    let expected: Vec<u64> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "connection numbers are not 1, 2, 3, … each once");
}

/// While it is alive, `ts` may be days off: the test changes a program's clock.
pub struct MovedClock(());

impl MovedClock {
    pub fn expect() -> MovedClock {
        CLOCK_TOLERANCE_MS.store(72 * HOUR_MS, Ordering::SeqCst);
        MovedClock(())
    }
}

impl Drop for MovedClock {
    fn drop(&mut self) {
        CLOCK_TOLERANCE_MS.store(HOUR_MS, Ordering::SeqCst);
    }
}

/// Checks for the form `2026-01-31T23:59:59.123Z`, and for a time close to now.
fn check_timestamp(text: &str) -> Result<(), String> {
    let shape: String =
        text.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
    if shape != "0000-00-00T00:00:00.000Z" {
        return Err("ts is not RFC 3339 in UTC with milliseconds".to_owned());
    }
    let moment: jiff::Timestamp = text.parse().map_err(|_| "ts is no date".to_owned())?;
    let age_ms = jiff::Timestamp::now().as_millisecond() - moment.as_millisecond();
    if age_ms.abs() > CLOCK_TOLERANCE_MS.load(Ordering::SeqCst) {
        return Err("ts is too far away from now".to_owned());
    }
    Ok(())
}

/// A JSON object whose keys keep their order and occur only once.
struct StrictObject(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for StrictObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = StrictObject;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StrictObject, A::Error> {
                let mut fields: Vec<(String, Value)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if fields.iter().any(|(name, _)| *name == key) {
                        return Err(A::Error::custom(format!("field {key:?} twice")));
                    }
                    fields.push((key, value));
                }
                Ok(StrictObject(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}
