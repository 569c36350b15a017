//! Where messages end, as `[message]` of an exchange file says it.

use toml::de::DeValue;
use trust_wire::format::{MAX_ADJUST, MAX_OFFSET};
use trust_wire::{CountedLine, LengthFormat, MessageEnd};

use super::fields::{Fields, Mistake, kind};
use super::hex::parse_hex;
use super::nearest::nearest;
use crate::values::quoted;

/// Keys of `[message]`.
pub const KEYS: &[&str] = &[
    "length", "offset", "adjust", "varint", "end", "end_hex", "counted", "max", "id", "ignore",
    "unasked", "last", "more", "request", "answer",
];

const REQUEST_KEYS: &[&str] =
    &["length", "offset", "adjust", "varint", "end", "end_hex", "counted", "first"];
/// Keys of `[message.answer]`.
pub const ANSWER_KEYS: &[&str] =
    &["length", "offset", "adjust", "varint", "end", "end_hex", "counted", "last", "more"];
const FIRST_KEYS: &[&str] = &["length", "offset", "adjust", "varint", "end", "end_hex", "counted"];

/// Ways to say where a message ends, of which there can be one.
const ENDS: &[&str] = &["length", "varint", "end", "end_hex", "counted"];

/// Names of ends that need nothing else.
const NAMED_ENDS: &[&str] = &["resp", "http", "line"];

/// The most bytes of an end, and of an id.
pub const BYTES_MAX: usize = 64;

/// The most words of `counted`, and the largest place of a count.
const COUNTED_MAX: usize = 100;

/// Where the messages of a protocol end; `None` where that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageEnds {
    /// Where a request ends.
    pub request: Option<MessageEnd>,
    /// Where the first request of a connection ends, if it is unlike the others (PostgreSQL).
    pub first_request: Option<MessageEnd>,
    /// Where a message of an answer ends.
    pub answer: Option<MessageEnd>,
}

impl MessageEnds {
    /// Reads them from the table, which has [`KEYS`].
    ///
    /// # Errors
    ///
    /// What is wrong in it, and where.
    pub fn read(both: &Fields<'_>) -> Result<MessageEnds, Mistake> {
        let end_of_both = end(both)?;
        let request = both.table("request", REQUEST_KEYS)?;
        let answer = both.table("answer", ANSWER_KEYS)?;
        let own = |fields: &Option<Fields<'_>>| match fields {
            Some(fields) => Ok(end(fields)?.or_else(|| end_of_both.clone())),
            None => Ok(end_of_both.clone()),
        };
        let request_end = own(&request)?;
        let first_request = match request.as_ref().map(|it| it.table("first", FIRST_KEYS)) {
            Some(first) => first?.map(|first| first_end(&first)).transpose()?,
            None => None,
        };
        Ok(MessageEnds { request: request_end, first_request, answer: own(&answer)? })
    }
}

/// Where a message ends, if the table says so.
fn end(fields: &Fields<'_>) -> Result<Option<MessageEnd>, Mistake> {
    let way = fields.one_of(ENDS)?;
    let offset = fields.number("offset", 0..=MAX_OFFSET.into())?;
    let adjust = fields.number("adjust", -MAX_ADJUST..=MAX_ADJUST)?;
    if offset.is_some() && !matches!(way, Some("length" | "varint")) {
        let what = "no length to count from: expected length or varint too";
        return Err(fields.mistake("offset", what));
    }
    if adjust.is_some() && way != Some("length") {
        return Err(fields.mistake("adjust", "no length to add to: expected length too"));
    }
    // It is in the range of the number above.
    let offset = offset.and_then(|offset| u16::try_from(offset).ok()).unwrap_or(0);
    match way {
        Some("length") => length(fields, offset, adjust.unwrap_or(0)).map(Some),
        Some("varint") => {
            fields.only_true("varint")?;
            Ok(Some(MessageEnd::Varint { offset }))
        }
        Some("end") => named_end(fields).map(Some),
        Some("end_hex") => end_bytes(fields).map(Some),
        Some("counted") => counted(fields).map(Some),
        _ => Ok(None),
    }
}

fn length(fields: &Fields<'_>, offset: u16, adjust: i64) -> Result<MessageEnd, Mistake> {
    let name = fields.text("length", "the name of a length, as 'u32be'")?.unwrap_or_default();
    let Some(format) = LengthFormat::parse(name) else {
        let expected = match nearest(name, &LengthFormat::NAMES) {
            Some(nearest) => nearest.to_owned(),
            None => LengthFormat::NAMES.join(", "),
        };
        let what = format!("{}: expected {expected}", quoted(name));
        return Err(fields.mistake("length", what));
    };
    let moved = format.with_offset(offset).and_then(|format| format.with_adjust(adjust));
    moved.map(MessageEnd::Length).ok_or_else(|| {
        let what = format!(
            "{name} offset {offset} adjust {adjust} can declare no message: expected a wider \
             length, or a smaller offset or adjust"
        );
        fields.mistake("length", what)
    })
}

fn named_end(fields: &Fields<'_>) -> Result<MessageEnd, Mistake> {
    let expected = "'resp', 'http' or 'line', or the bytes in end_hex";
    match fields.text("end", expected)? {
        Some("resp") => Ok(MessageEnd::Resp),
        Some("http") => Ok(MessageEnd::Http),
        Some("line") => Ok(MessageEnd::Bytes(vec![b'\n'])),
        other => {
            let other = other.unwrap_or_default();
            let expected = match nearest(other, NAMED_ENDS) {
                Some(nearest) => quoted(nearest),
                None => expected.to_owned(),
            };
            Err(fields.mistake("end", format!("{}: expected {expected}", quoted(other))))
        }
    }
}

fn end_bytes(fields: &Fields<'_>) -> Result<MessageEnd, Mistake> {
    let text = fields.text("end_hex", "hexadecimal digits, as '0d 0a'")?.unwrap_or_default();
    let bytes = parse_hex(text).map_err(|error| fields.mistake_in_text("end_hex", text, error))?;
    match bytes.len() {
        1..=BYTES_MAX => Ok(MessageEnd::Bytes(bytes)),
        len => {
            let what = format!("{len} bytes: expected 1 to {BYTES_MAX}");
            Err(fields.mistake("end_hex", what))
        }
    }
}

fn counted(fields: &Fields<'_>) -> Result<MessageEnd, Mistake> {
    let expected = "a table from first words to the place of the count, as { VALUE = 3 }";
    let wrong = |what: String| fields.mistake("counted", what);
    let table = match fields.value("counted").map(|value| value.get_ref()) {
        Some(DeValue::Table(table)) => table,
        Some(other) => return Err(wrong(format!("{}: expected {expected}", kind(other)))),
        None => return Err(wrong(format!("nothing: expected {expected}"))),
    };
    if table.is_empty() || table.len() > COUNTED_MAX {
        let what = format!("{} words: expected 1 to {COUNTED_MAX}", table.len());
        return Err(wrong(what));
    }
    let known: Vec<&str> = table.keys().map(|key| &**key.get_ref()).collect();
    let places = Fields::new("[message.counted]", table, fields.offset(), &known)?;
    let lines = known.iter().map(|word| {
        let is_word = |byte: u8| byte.is_ascii_graphic();
        if word.is_empty() || word.len() > BYTES_MAX || !word.bytes().all(is_word) {
            let what =
                format!("the word {}: expected 1 to {BYTES_MAX} ASCII characters", quoted(word));
            return Err(wrong(what));
        }
        let count_at = places.number(word, -1..=COUNTED_MAX as i64)?.filter(|place| *place != 0);
        let count_at = count_at.ok_or_else(|| {
            places.mistake(word, "0 is the word itself: expected the place of the count")
        })?;
        Ok(CountedLine { word: word.as_bytes().to_vec(), count_at: count_at as isize })
    });
    lines.collect::<Result<_, _>>().map(MessageEnd::Counted)
}

/// Where the first request ends.
fn first_end(first: &Fields<'_>) -> Result<MessageEnd, Mistake> {
    end(first)?.ok_or_else(|| {
        let what = "no end of the message: expected length, varint, end, end_hex or counted";
        Mistake::new(first.offset(), format!("first in [message.request]: {what}"))
    })
}
