//! `[message]`: where messages end, and what is in them.

use std::ops::Range;

use trust_cli::exchange_file::fields::{Fields, Mistake};
use trust_cli::exchange_file::message_ends::{ANSWER_KEYS, BYTES_MAX, MessageEnds};
use trust_cli::values::quoted;
use trust_wire::MessageEnd;

use super::patterns::PatternFields as _;
use crate::exchange::pattern::Pattern;
use crate::exchange::protocol::{AnswerEnd, IdPlaces, Several};

/// What is wrong with a key about messages that have no end.
pub(super) const NO_END: &str = "no end of a message to look at: expected length, varint, end, \
                                 end_hex or counted too";

/// The most bytes before the end of an id.
const ID_END_MAX: usize = 65_536;

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
        let MessageEnds { request, first_request, answer } = MessageEnds::read(both)?;
        let answer_fields = both.table("answer", ANSWER_KEYS)?;
        let answer_end = answer_end(answer, both, answer_fields.as_ref())?;
        let messages = Messages {
            max: max(both, request.as_ref())?,
            id: id(both, request.as_ref(), answer_end.as_ref())?,
            ignore: both.patterns("ignore")?,
            unasked: unasked(both, answer_end.as_ref())?,
            request_end: request,
            first_request_end: first_request,
            answer_end,
        };
        Ok(messages)
    }
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
