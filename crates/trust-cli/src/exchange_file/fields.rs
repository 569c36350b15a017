//! A table of an exchange file, read key by key.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::bad_text::{BadText, line_and_column};
use super::nearest::nearest;
use crate::values::quoted;

/// The most patterns in a list.
const TEXTS_MAX: usize = 100;

/// A value of the file.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// An error, and where it is in the file.
#[derive(Debug)]
pub struct Mistake {
    /// Where the key or the value begins, in bytes from the start of the file.
    offset: usize,
    /// The key and its table, before the message; empty if the message has them.
    place: String,
    message: String,
    /// The text that the value is, and the offset of the mistake in it.
    inside: Option<(String, usize)>,
}

impl Mistake {
    /// An error somewhere in what begins at this offset.
    pub fn new(offset: usize, message: String) -> Mistake {
        Mistake { offset, place: String::new(), message, inside: None }
    }

    /// One line with the place in the file, whose text is `document`.
    pub fn told(self, file: &str, document: &str) -> String {
        let Mistake { offset, place, message, inside } = self;
        let (line, _) = line_and_column(document, offset);
        let Some((text, at)) = inside else { return format!("{file}:{line}: {place}{message}") };
        match offset_inside(document, offset, &text, at) {
            Some(offset) => {
                let (line, column) = line_and_column(document, offset);
                format!("{file}:{line}:{column}: {place}{message}")
            }
            None => {
                let message = BadText { at, message }.with_place(&text);
                format!("{file}:{line}: {place}{message}")
            }
        }
    }
}

/// Where in the document the offset `at` of a string's value is; `None` if that is not the same
/// text, because of escapes before it.
fn offset_inside(document: &str, start: usize, text: &str, at: usize) -> Option<usize> {
    let string = document.get(start..)?;
    let inner = match ["\"\"\"", "'''"].iter().find_map(|quotes| string.strip_prefix(quotes)) {
        Some(inner) => {
            let inner = inner.strip_prefix('\r').unwrap_or(inner);
            inner.strip_prefix('\n').unwrap_or(inner)
        }
        None => string.get(1..)?,
    };
    let is_same = inner.as_bytes().starts_with(text.as_bytes().get(..at)?);
    is_same.then_some(document.len() - inner.len() + at)
}

/// A table, whose keys are all known.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    /// As messages name it: `[allow]`; empty for the top of the file.
    name: String,
    table: &'a DeTable<'a>,
    offset: usize,
}

impl<'a> Fields<'a> {
    /// Checks that each key is one of those.
    pub fn new(
        name: &str,
        table: &'a DeTable<'a>,
        offset: usize,
        known: &[&str],
    ) -> Result<Fields<'a>, Mistake> {
        let unknown = table.keys().filter(|key| !known.contains(&&**key.get_ref()));
        let fields = Fields { name: name.to_owned(), table, offset };
        match unknown.min_by_key(|key| key.span().start) {
            None => Ok(fields),
            Some(key) => {
                let expected = match nearest(key.get_ref(), known) {
                    Some(nearest) => nearest.to_owned(),
                    None => known.join(", "),
                };
                let (shown, place) = (quoted(&**key.get_ref()), fields.place());
                let message = format!("unknown key {shown}{place}: expected {expected}");
                Err(Mistake::new(key.span().start, message))
            }
        }
    }

    /// Where the table begins in the file.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&'a Value<'a>> {
        self.table.get(key)
    }

    /// The one of these keys that is there.
    pub fn one_of(&self, keys: &[&'static str]) -> Result<Option<&'static str>, Mistake> {
        let mut found = keys.iter().filter(|key| self.has(key));
        match (found.next(), found.next()) {
            (Some(one), Some(other)) => {
                let what = format!("cannot be used with {one}: expected one of both");
                Err(self.mistake(other, what))
            }
            (one, _) => Ok(one.copied()),
        }
    }

    /// A text.
    pub fn text(&self, key: &str, expected: &str) -> Result<Option<&'a str>, Mistake> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some(text)),
            other => Err(self.mistake(key, format!("{}: expected {expected}", kind(other)))),
        }
    }

    /// Whether something is so; not if the key is missing.
    pub fn flag(&self, key: &str) -> Result<bool, Mistake> {
        match self.value(key).map(Spanned::get_ref) {
            None => Ok(false),
            Some(DeValue::Boolean(flag)) => Ok(*flag),
            Some(other) => {
                Err(self.mistake(key, format!("{}: expected true or false", kind(other))))
            }
        }
    }

    /// A key that is true or not there.
    pub fn only_true(&self, key: &str) -> Result<bool, Mistake> {
        match self.flag(key)? {
            false if self.has(key) => {
                Err(self.mistake(key, "false: expected true, or no such key"))
            }
            flag => Ok(flag),
        }
    }

    /// A whole number in this range.
    pub fn number(&self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Mistake> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let (shown, number) = match value.get_ref() {
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                (quoted(number.to_string()), parsed.ok())
            }
            other => (kind(other).to_owned(), None),
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (low, high) = range.into_inner();
                let what = format!("{shown}: expected a whole number from {low} to {high}");
                Err(self.mistake(key, what))
            }
        }
    }

    /// A table in this one.
    pub fn table(&self, key: &str, known: &[&str]) -> Result<Option<Fields<'a>>, Mistake> {
        let name = match self.name.trim_matches(['[', ']']) {
            "" => format!("[{key}]"),
            outer => format!("[{outer}.{key}]"),
        };
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Table(table) => Fields::new(&name, table, value.span().start, known).map(Some),
            other => Err(self.mistake(key, format!("{}: expected a table", kind(other)))),
        }
    }

    /// The tables of an array, of which there are at most `max`.
    pub fn tables(
        &self,
        key: &str,
        known: &[&str],
        max: usize,
    ) -> Result<Vec<Fields<'a>>, Mistake> {
        let name = format!("[[{key}]]");
        let Some(value) = self.value(key) else { return Ok(vec![]) };
        let wrong = |other| self.mistake(key, format!("{}: expected {name}", kind(other)));
        let DeValue::Array(array) = value.get_ref() else { return Err(wrong(value.get_ref())) };
        if let Some(beyond) = array.get(max) {
            let message = format!("{key}: {} of them: expected at most {max}", array.len());
            return Err(Mistake::new(beyond.span().start, message));
        }
        let tables = array.iter().map(|value| match value.get_ref() {
            DeValue::Table(table) => Fields::new(&name, table, value.span().start, known),
            other => Err(wrong(other)),
        });
        tables.collect()
    }

    /// What the texts of a list stand for; none if the key is missing.
    pub fn list<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Mistake> {
        let Some(value) = self.value(key) else { return Ok(vec![]) };
        let wrong = |found: &str| format!("{found}: expected {expected}");
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.mistake(key, wrong(kind(value.get_ref()))));
        };
        if array.len() > TEXTS_MAX {
            let what = format!("{} of them: expected at most {TEXTS_MAX}", array.len());
            return Err(self.mistake(key, what));
        }
        let texts = array.iter().map(|value| {
            let at = |what: String| self.mistake_at(value.span().start, key, &what);
            match value.get_ref() {
                DeValue::String(text) => read(text).map_err(at),
                other => Err(at(wrong(&format!("{} in it", kind(other))))),
            }
        });
        texts.collect()
    }

    /// The same for a list that is not empty, or one text alone.
    pub fn one_or_more<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Mistake> {
        let all = match self.value(key).map(Spanned::get_ref) {
            Some(DeValue::String(text)) => {
                vec![read(text).map_err(|what| self.mistake(key, what))?]
            }
            _ => self.list(key, expected, read)?,
        };
        match all.is_empty() {
            false => Ok(all),
            true => Err(self.mistake(key, format!("empty: expected {expected}"))),
        }
    }

    /// That something is wrong with the value of a key, or that it is missing.
    pub fn mistake(&self, key: &str, what: impl AsRef<str>) -> Mistake {
        let offset = self.value(key).map_or(self.offset, |value| value.span().start);
        self.mistake_at(offset, key, what.as_ref())
    }

    /// The same inside of a text that is the value of a key.
    pub fn mistake_in_text(&self, key: &str, text: &str, error: BadText) -> Mistake {
        Mistake { inside: Some((text.to_owned(), error.at)), ..self.mistake(key, error.message) }
    }

    fn mistake_at(&self, offset: usize, key: &str, what: &str) -> Mistake {
        let place = format!("{key}{}: ", self.place());
        Mistake { offset, place, message: what.to_owned(), inside: None }
    }

    fn place(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) }
    }
}

/// What a value is, for people.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
