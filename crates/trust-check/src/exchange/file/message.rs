//! `[message]`: where messages end, and what is in them.

use std::ops::Range;

use toml::de::DeValue;
use trust_cli::values::quoted;
use trust_wire::format::{MAX_ADJUST, MAX_OFFSET};
use trust_wire::{CountedLine, LengthFormat, MessageEnd};

use super::fields::{Fields, Mistake, kind};
use super::nearest::nearest;
use crate::exchange::escapes::parse_hex;
use crate::exchange::pattern::Pattern;
use crate::exchange::protocol::{AnswerEnd, IdPlaces, Several};

/// Keys of `[message]`.
pub(super) const KEYS: &[&str] = &[
    "length", "offset", "adjust", "varint", "end", "end_hex", "counted", "max", "id", "ignore",
    "unasked", "last", "more", "request", "answer",
];

const REQUEST_KEYS: &[&str] =
    &["length", "offset", "adjust", "varint", "end", "end_hex", "counted", "first"];
const ANSWER_KEYS: &[&str] =
    &["length", "offset", "adjust", "varint", "end", "end_hex", "counted", "last", "more"];
const FIRST_KEYS: &[&str] = &["length", "offset", "adjust", "varint", "end", "end_hex", "counted"];

/// Ways to say where a message ends, of which there can be one.
const ENDS: &[&str] = &["length", "varint", "end", "end_hex", "counted"];

/// Names of ends that need nothing else.
const NAMED_ENDS: &[&str] = &["resp", "http", "line"];

/// What is wrong with a key about messages that have no end.
pub(super) const NO_END: &str = "no end of a message to look at: expected length, varint, end, \
                                 end_hex or counted too";

/// The most bytes of an end, and of an id.
const BYTES_MAX: usize = 64;

/// The most bytes before the end of an id.
const ID_END_MAX: usize = 65_536;

/// The most words of `counted`, and the largest place of a count.
const COUNTED_MAX: usize = 100;

/// The largest length of four bytes with seven bits each.
const VARINT_MAX: u64 = (1 << 28) - 1;

/// What `[message]` says.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) request_end: Option<MessageEnd>,
    pub(super) first_request_end: Option<MessageEnd>,
    pub(super) answer_end: Option<AnswerEnd>,
    pub(super) max: Option<u64>,
    pub(super) id: Option<IdPlaces>,
    pub(super) ignore: Vec<Pattern>,
    pub(super) unasked: Vec<Pattern>,
}

impl Messages {
    /// Reads the table.
    pub(super) fn read(both: &Fields<'_>) -> Result<Messages, Mistake> {
        let end_of_both = end(both)?;
        let request = both.table("request", REQUEST_KEYS)?;
        let answer = both.table("answer", ANSWER_KEYS)?;
        let own = |fields: &Option<Fields<'_>>| match fields {
            Some(fields) => Ok(end(fields)?.or_else(|| end_of_both.clone())),
            None => Ok(end_of_both.clone()),
        };
        let request_end = own(&request)?;
        let first_request_end = match request.as_ref().map(|it| it.table("first", FIRST_KEYS)) {
            Some(first) => first?.map(|first| first_end(&first)).transpose()?,
            None => None,
        };
        let answer_end = answer_end(own(&answer)?, both, answer.as_ref())?;
        let messages = Messages {
            max: max(both, request_end.as_ref())?,
            id: id(both, request_end.as_ref(), answer_end.as_ref())?,
            ignore: both.patterns("ignore")?,
            unasked: unasked(both, answer_end.as_ref())?,
            request_end,
            first_request_end,
            answer_end,
        };
        Ok(messages)
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

fn answer_end(
    message: Option<MessageEnd>,
    both: &Fields<'_>,
    answer: Option<&Fields<'_>>,
) -> Result<Option<AnswerEnd>, Mistake> {
    let told: Vec<_> = [Some(both), answer]
        .into_iter()
        .flatten()
        .flat_map(|fields| [(fields, "last"), (fields, "more")])
        .filter(|(fields, key)| fields.has(key))
        .collect();
    if let [(_, one), (fields, other), ..] = &told[..] {
        let what = format!("a second one after {one}: expected last or more, once");
        return Err(fields.mistake(other, what));
    }
    match (message, told.first()) {
        (Some(message), None) => Ok(Some(AnswerEnd { message, several: None })),
        (Some(message), Some((fields, _))) => {
            Ok(Some(AnswerEnd { message, several: several(fields)? }))
        }
        (None, None) => Ok(None),
        (None, Some((fields, key))) => Err(fields.mistake(key, NO_END)),
    }
}

/// How far an answer of several messages goes, if the table says so.
pub(super) fn several(fields: &Fields<'_>) -> Result<Option<Several>, Mistake> {
    Ok(match fields.one_of(&["last", "more"])? {
        Some("last") => fields.pattern("last")?.map(Several::Last),
        Some(_) => fields.pattern("more")?.map(Several::More),
        None => None,
    })
}

/// How messages begin that come unasked. To tell them from an answer, the ends of messages have to
/// be known, whatever was asked.
fn unasked(fields: &Fields<'_>, answer_end: Option<&AnswerEnd>) -> Result<Vec<Pattern>, Mistake> {
    let unasked = fields.patterns("unasked")?;
    match answer_end.map(|end| &end.message) {
        _ if unasked.is_empty() => Ok(unasked),
        Some(MessageEnd::Http) => {
            Err(fields.mistake("unasked", "in HTTP nothing comes that was not asked for"))
        }
        Some(_) => Ok(unasked),
        None => Err(fields.mistake("unasked", NO_END)),
    }
}

fn max(fields: &Fields<'_>, request_end: Option<&MessageEnd>) -> Result<Option<u64>, Mistake> {
    let Some(max) = fields.number("max", 1..=i64::MAX)? else { return Ok(None) };
    let max = max.unsigned_abs();
    let most = match request_end {
        Some(MessageEnd::Length(format)) => format.max_payload(),
        Some(MessageEnd::Varint { .. }) => VARINT_MAX,
        _ => {
            let what = "no length field that could exceed it: expected length or varint too";
            return Err(fields.mistake("max", what));
        }
    };
    match max <= most {
        true => Ok(Some(max)),
        false => {
            let what =
                format!("{max}: expected at most {most}, which the length field can declare");
            Err(fields.mistake("max", what))
        }
    }
}

fn id(
    fields: &Fields<'_>,
    request_end: Option<&MessageEnd>,
    answer_end: Option<&AnswerEnd>,
) -> Result<Option<IdPlaces>, Mistake> {
    let Some(id) = fields.table("id", &["send", "want"])? else { return Ok(None) };
    let send = place(&id, "send", request_end)?;
    let want = place(&id, "want", answer_end.map(|end| &end.message))?;
    if send.len() != want.len() {
        let what = format!("{} bytes, and send has {}: expected as many", want.len(), send.len());
        return Err(id.mistake("want", what));
    }
    Ok(Some(IdPlaces { send, want }))
}

/// A place of an id in a message.
fn place(id: &Fields<'_>, key: &str, end: Option<&MessageEnd>) -> Result<Range<usize>, Mistake> {
    let expected = "a range of bytes, as '2..4'";
    let text = id.text(key, expected)?;
    let Some(text) = text else {
        return Err(id.mistake(key, format!("missing: expected {expected}")));
    };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<usize>().ok().filter(|_| is_number)
    };
    let range = text.split_once("..").and_then(|(start, end)| {
        let range = number(start)?..number(end)?;
        (!range.is_empty() && range.len() <= BYTES_MAX && range.end <= ID_END_MAX).then_some(range)
    });
    let Some(range) = range else {
        let what = format!(
            "{}: expected {expected}, 1 to {BYTES_MAX} of them, up to byte {ID_END_MAX}",
            quoted(text)
        );
        return Err(id.mistake(key, what));
    };
    if let Some(MessageEnd::Length(format)) = end {
        let length = format.length_at();
        if range.start < length.end && length.start < range.end {
            let (start, end) = (length.start, length.end);
            let shown = quoted(text);
            let what =
                format!("{shown}: the length field is at {start}..{end}: expected other bytes");
            return Err(id.mistake(key, what));
        }
    }
    Ok(range)
}
