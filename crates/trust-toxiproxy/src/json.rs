//! JSON as Go's `encoding/json` reads it into a struct, which clients of Toxiproxy rely on: keys
//! match in any letter case, a later duplicate wins, `null` changes nothing, and what follows the
//! first value is ignored.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value, with the members of objects in the order in which they came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Flag(bool),
    Integer(i64),
    /// Written with a fraction or an exponent, or too large for an integer.
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// What is wrong with a value.
type JsonError = String;

impl Json {
    /// The first value of a body.
    ///
    /// # Errors
    ///
    /// What is wrong: in Go's words if the body ends too early, which clients show most often.
    pub(crate) fn first(body: &[u8]) -> Result<Json, JsonError> {
        let body = String::from_utf8_lossy(body);
        let mut values = serde_json::Deserializer::from_str(&body).into_iter();
        match values.next() {
            None => Err("EOF".to_owned()),
            Some(Err(error)) if error.is_eof() => Err("unexpected EOF".to_owned()),
            Some(value) => value.map_err(|error| error.to_string()),
        }
    }

    /// Members with their keys in lower case; none of `null`.
    pub(crate) fn members(self, what: &str) -> Result<Vec<(String, Json)>, JsonError> {
        match self {
            Json::Null => Ok(vec![]),
            Json::Object(members) => {
                let lower = |(key, value): (String, Json)| (key.to_ascii_lowercase(), value);
                Ok(members.into_iter().map(lower).collect())
            }
            other => Err(other.unexpected(what, "an object")),
        }
    }

    /// The values of an array; none of `null`.
    pub(crate) fn values(self, what: &str) -> Result<Vec<Json>, JsonError> {
        match self {
            Json::Null => Ok(vec![]),
            Json::List(values) => Ok(values),
            other => Err(other.unexpected(what, "an array")),
        }
    }

    /// Replaces a text, unless it is `null`.
    pub(crate) fn replace_text(self, what: &str, text: &mut String) -> Result<(), JsonError> {
        match self {
            Json::Null => {}
            Json::Text(new) => *text = new,
            other => return Err(other.unexpected(what, "a string")),
        }
        Ok(())
    }

    /// Replaces a flag, unless it is `null`.
    pub(crate) fn replace_flag(self, what: &str, flag: &mut bool) -> Result<(), JsonError> {
        match self {
            Json::Null => {}
            Json::Flag(new) => *flag = new,
            other => return Err(other.unexpected(what, "true or false")),
        }
        Ok(())
    }

    /// Replaces an integer, unless it is `null`. One with a fraction or an exponent is refused,
    /// even `5.0`.
    pub(crate) fn replace_integer(self, what: &str, integer: &mut i64) -> Result<(), JsonError> {
        match self {
            Json::Null => {}
            Json::Integer(new) => *integer = new,
            other => return Err(other.unexpected(what, "an integer")),
        }
        Ok(())
    }

    /// Replaces a number, unless it is `null`.
    pub(crate) fn replace_float(self, what: &str, float: &mut f32) -> Result<(), JsonError> {
        let new = match self {
            Json::Null => return Ok(()),
            Json::Integer(new) => new as f32,
            Json::Float(new) if (new as f32).is_finite() => new as f32,
            other => return Err(other.unexpected(what, "a number of 32 bits")),
        };
        *float = new;
        Ok(())
    }

    fn unexpected(&self, what: &str, expected: &str) -> JsonError {
        let found = match self {
            Json::Null => "null".to_owned(),
            Json::Flag(flag) => flag.to_string(),
            Json::Integer(number) => number.to_string(),
            Json::Float(number) => format!("{number:?}"),
            Json::Text(_) => "a string".to_owned(),
            Json::List(_) => "an array".to_owned(),
            Json::Object(_) => "an object".to_owned(),
        };
        format!("json: invalid {what}: expected {expected}, found {found}")
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(i64::try_from(number).map_or(Json::Float(number as f64), Json::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json, A::Error> {
        let mut list = vec![];
        while let Some(value) = values.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = vec![];
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Json::Object(object))
    }
}

/// The text of a value as Go writes it: safe to put into a page.
///
/// # Panics
///
/// If it cannot be written, which is so of none that this crate has.
pub(crate) fn to_text(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).expect("maps have texts as keys");
    // Outside of strings there is none of these.
    let escapes = [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ];
    escapes.into_iter().fold(text, |text, (character, escape)| text.replace(character, escape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(body: &str) -> Result<Json, String> {
        Json::first(body.as_bytes())
    }

    #[test]
    fn only_the_first_value_counts() {
        assert_eq!(first("  [1] rubbish"), Ok(Json::List(vec![Json::Integer(1)])));
        assert_eq!(first(""), Err("EOF".to_owned()));
        assert_eq!(first(" \n"), Err("EOF".to_owned()));
        assert_eq!(first("{\"a\":"), Err("unexpected EOF".to_owned()));
        assert!(first("rubbish").is_err());
    }

    #[test]
    fn numbers_are_integers_only_if_they_are_written_so() {
        let integer = |text: &str| {
            let mut integer = 7;
            first(text)?.replace_integer("it", &mut integer).map(|()| integer)
        };
        assert_eq!(integer("-5"), Ok(-5));
        assert_eq!(integer("null"), Ok(7));
        assert_eq!(integer("9223372036854775807"), Ok(i64::MAX));
        let refused = "json: invalid it: expected an integer, found 5.0";
        assert_eq!(integer("5.0"), Err(refused.to_owned()));
        for text in ["5.5", "1e3", "9223372036854775808", "\"5\"", "true", "[]", "{}"] {
            assert!(integer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_toxicity_has_32_bits() {
        let float = |text: &str| {
            let mut float = 1.0;
            first(text)?.replace_float("it", &mut float).map(|()| float)
        };
        assert_eq!(float("0.1"), Ok(0.1));
        assert_eq!(float("-2"), Ok(-2.0));
        assert!(float("1e39").is_err());
        assert!(float("\"1\"").is_err());
    }

    #[test]
    fn members_keep_their_order_and_lose_their_letter_case() {
        let members = first(r#"{"Name":"a","NAME":null,"name":"b"}"#).unwrap().members("it");
        let text = |text: &str| Json::Text(text.to_owned());
        let expected = [text("a"), Json::Null, text("b")].map(|value| ("name".to_owned(), value));
        assert_eq!(members, Ok(expected.to_vec()));
    }

    #[test]
    fn a_text_can_be_put_into_a_page() {
        assert_eq!(to_text(&"<a&b>\u{2028}"), r#""\u003ca\u0026b\u003e\u2028""#);
    }
}
