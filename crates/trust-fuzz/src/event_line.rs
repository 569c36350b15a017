//! An event as a line: whatever its fields contain, it is one JSON object on one line, which reads
//! back equal.

use std::fmt;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use trust_cli::event_line::EventLine;
use trust_cli::level::Level;

use crate::choices::Choices;

/// Names of fields; none occurs twice in an event. The code chooses them, and could choose odd
/// ones.
const KEYS: [&str; 8] = ["peer", "value", "conn", "", "a\"b", "tab\t", "ü\u{85}", "\u{2028}"];

/// Input: level, identity, the name of the event, then the kind and value of each field.
///
/// # Panics
///
/// If the output is not one line, or reads back different.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let level = choices.one_of(&Level::ALL);
    let request_id = String::from_utf8_lossy(choices.short_bytes());
    let name = String::from_utf8_lossy(choices.short_bytes());
    let mut expected: Vec<(&str, Value)> = vec![
        ("level", level.name().into()),
        ("event", (&*name).into()),
        ("request_id", (&*request_id).into()),
    ];
    // Earlier content of the buffer must not matter.
    let mut line = EventLine::start(b"}\n{".to_vec(), level, &name, &request_id);
    for key in KEYS {
        if choices.is_empty() {
            break;
        }
        expected.push((key, add(&mut line, key, &mut choices)));
    }
    let line = line.finish();
    let text = std::str::from_utf8(&line).expect("a line is UTF-8");
    let text = text.strip_suffix('\n').expect("a line ends with a newline");
    let is_live =
        |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
    assert!(!text.contains(is_live), "a terminal obeys {text:?}");
    let mut read = read_strictly(text).into_iter();
    let (key, time) = read.next().expect("a line has fields");
    assert_eq!((key.as_str(), time.as_str().map(str::len)), ("ts", Some(24)), "{text}");
    let read: Vec<(String, Value)> = read.collect();
    assert_eq!(read.len(), expected.len(), "{text}");
    for ((key, value), (expected_key, expected)) in read.iter().zip(&expected) {
        assert!(
            key == expected_key && is_same(text, value, expected),
            "{key:?}: {value}, {expected}"
        );
    }
}

/// Adds a field with any value; returns what must be read back.
fn add(line: &mut EventLine, key: &str, choices: &mut Choices<'_>) -> Value {
    match choices.byte() % 7 {
        0 => {
            let text = String::from_utf8_lossy(choices.short_bytes());
            line.add(key, &*text);
            Value::from(&*text)
        }
        1 => {
            let number = choices.number();
            line.add(key, &number);
            Value::from(number)
        }
        2 => {
            let number = choices.number().cast_signed();
            line.add(key, &number);
            Value::from(number)
        }
        3 => {
            // No JSON form exists for NaN and infinity.
            let number = f64::from_bits(choices.number());
            line.add(key, &number);
            Value::from(number)
        }
        4 => {
            let is = choices.byte().is_multiple_of(2);
            line.add(key, &is);
            Value::from(is)
        }
        5 => {
            let text = choices.short_bytes();
            let texts: Vec<_> =
                text.split(|byte| *byte == b'\n').map(String::from_utf8_lossy).collect();
            line.add(key, &texts);
            Value::from(texts.iter().map(|text| Value::from(&**text)).collect::<Vec<_>>())
        }
        _ => {
            // It fails half-way: a key must be a string.
            let text = String::from_utf8_lossy(choices.short_bytes());
            let bad = [(vec![0], &*text)];
            line.add(key, &bad.into_iter().collect::<std::collections::BTreeMap<_, _>>());
            Value::Null
        }
    }
}

/// Compares floats as written: serde_json parses them fast, not exactly.
fn is_same(line: &str, value: &Value, expected: &Value) -> bool {
    match expected.as_f64() {
        Some(float) if expected.is_f64() => {
            let written = expected.to_string();
            value.is_f64() && line.contains(&format!(":{written}")) && written.parse() == Ok(float)
        }
        _ => value == expected,
    }
}

/// The fields in order; panics if a name occurs twice.
fn read_strictly(text: &str) -> Vec<(String, Value)> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(String, Value)>;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields: Vec<(String, Value)> = vec![];
            while let Some((key, value)) = map.next_entry()? {
                assert!(fields.iter().all(|(other, _)| *other != key), "{key:?} comes twice");
                fields.push((key, value));
            }
            Ok(fields)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let fields = reader.deserialize_map(Fields).expect("a line is a JSON object");
    reader.end().expect("nothing follows the object");
    fields
}
