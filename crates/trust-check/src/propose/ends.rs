//! Guesses where messages end, from whole requests and their whole answers.

use std::cmp::Reverse;
use std::ops::Range;

use trust_wire::{Found, LengthFormat, MessageEnd};

use crate::exchange::learned::answer_end;
use crate::exchange::pattern::Pattern;
use crate::exchange::protocol::{AnswerEnd, Several};

/// The most bytes before a length field.
const OFFSET_MAX: u16 = 8;

/// The longest bytes at the end of all messages: `\r\n.\r\n`.
const LAST_BYTES_MAX: usize = 5;

/// The longest last line that says that an answer of lines is whole, as `END`.
const LAST_LINE_MAX: usize = 10;

/// The last line of a reply of several lines has a space after its code (RFC 5321, 4.2.1).
const LAST_OF_REPLY: &str = r"[0-9]{3}[ \r\n]";

/// A whole request, and all that it was answered.
#[derive(Clone, Copy, Debug)]
pub struct WholePair<'a> {
    /// Empty if the server spoke first.
    pub request: &'a [u8],
    /// Never empty.
    pub answer: &'a [u8],
    /// Whether the server ended the connection after the answer.
    pub is_over: bool,
}

/// An end that fits all samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndGuess {
    /// The likeliest one.
    pub end: AnswerEnd,
    /// Others that fit as well, and mean something else.
    pub others: Vec<AnswerEnd>,
}

/// What is guessed for both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndGuesses {
    /// Where a request ends.
    pub request: Option<EndGuess>,
    /// Where an answer ends.
    pub answer: Option<EndGuess>,
}

/// The likeliest end that fits all messages of both directions, or else of each one.
pub fn guess(pairs: &[WholePair<'_>]) -> EndGuesses {
    if pairs.is_empty() {
        return EndGuesses::default();
    }
    let all = candidates(pairs);
    let requests: Vec<&[u8]> =
        pairs.iter().map(|pair| pair.request).filter(|request| !request.is_empty()).collect();
    let answers: Vec<&[u8]> = pairs.iter().map(|pair| pair.answer).collect();
    let of_request = |end: &AnswerEnd| {
        requests.iter().all(|it| end.message.find(it, None) == Found::End(it.len()))
    };
    let of_answer = |end: &AnswerEnd| pairs.iter().all(|pair| fits_answer(end, pair));
    let both = [&requests[..], &answers].concat();
    let common = best(&all, &both, |end| of_request(end) && of_answer(end));
    if let Some(both) = common.filter(|_| !requests.is_empty()) {
        return EndGuesses { request: Some(both.clone()), answer: Some(both) };
    }
    let request = match requests.is_empty() {
        true => None,
        false => best(&all, &requests, of_request),
    };
    let answer = best(&all, &answers, of_answer).or_else(|| last_line(pairs));
    EndGuesses { request, answer }
}

fn fits_answer(end: &AnswerEnd, pair: &WholePair<'_>) -> bool {
    let found = answer_end(end, pair.request, pair.answer, pair.is_over);
    found == Found::End(pair.answer.len())
}

/// The first of those that fit, and the others.
fn best(
    candidates: &[AnswerEnd],
    messages: &[&[u8]],
    fits: impl Fn(&AnswerEnd) -> bool,
) -> Option<EndGuess> {
    let has_lengths = messages.iter().any(|it| it.len() != messages[0].len());
    // A byte may be the length of one message by accident.
    let is_supported = |end: &AnswerEnd| match &end.message {
        MessageEnd::Length(format) => format.width() > 1 || has_lengths,
        MessageEnd::Varint { .. } => has_lengths,
        _ => true,
    };
    let mut fitting = candidates.iter().filter(|end| is_supported(end) && fits(end)).cloned();
    let end = fitting.next()?;
    let others = fitting.filter(|other| !is_part_of(other, &end)).collect();
    Some(EndGuess { end, others })
}

/// Whether the other one is the same field without bytes that were zero, or the same last bytes
/// with some before them.
fn is_part_of(other: &AnswerEnd, end: &AnswerEnd) -> bool {
    if let (MessageEnd::Bytes(other), MessageEnd::Bytes(last)) = (&other.message, &end.message) {
        return other.ends_with(last) && (end.several.is_none() || other != last);
    }
    let field = |end: &AnswerEnd| -> Option<Range<usize>> {
        match &end.message {
            MessageEnd::Length(format) => Some(format.length_at()),
            MessageEnd::Varint { offset } => Some((*offset).into()..usize::from(*offset) + 1),
            _ => None,
        }
    };
    // One byte of seven bits is not the same as one of eight.
    let is_same_kind = !matches!(other.message, MessageEnd::Varint { .. });
    match (field(other), field(end)) {
        (Some(other), Some(end)) if other == end => is_same_kind,
        (Some(other), Some(end)) => end.start <= other.start && other.end <= end.end,
        _ => false,
    }
}

/// Every end that is tried, the likeliest first.
fn candidates(pairs: &[WholePair<'_>]) -> Vec<AnswerEnd> {
    let messages = || {
        pairs.iter().flat_map(|pair| [pair.request, pair.answer]).filter(|bytes| !bytes.is_empty())
    };
    let line = MessageEnd::Bytes(b"\n".to_vec());
    let is_text = messages().all(is_text);
    let has_values = pairs.iter().any(|pair| {
        pair.request.starts_with(b"*")
            || pair.answer.first().is_some_and(|first| b"$*:_,#(!=%~>".contains(first))
    });
    let mut all = vec![];
    if pairs.iter().all(|pair| pair.answer.starts_with(b"HTTP/")) {
        all.push(MessageEnd::Http);
    }
    if has_values {
        all.push(MessageEnd::Resp);
    }
    let mut all: Vec<AnswerEnd> = all.into_iter().map(simple).collect();
    if pairs.iter().all(|pair| is_reply(pair.answer)) {
        let last = Pattern::parse(LAST_OF_REPLY).ok();
        all.push(AnswerEnd { message: line.clone(), several: last.map(Several::Last) });
    }
    let (text, others) = match is_text {
        true => (vec![line.clone(), MessageEnd::Resp], vec![]),
        false => (vec![], vec![line, MessageEnd::Resp]),
    };
    all.extend(text.into_iter().map(simple));
    all.extend(lengths().into_iter().map(MessageEnd::Length).map(simple));
    all.extend((0..=1).map(|offset| simple(MessageEnd::Varint { offset })));
    all.extend(others.into_iter().map(simple));
    if let Some(bytes) = messages().next() {
        let is_last = |byte: &u8| !byte.is_ascii_alphanumeric();
        let most = bytes.iter().rev().take(LAST_BYTES_MAX).take_while(|it| is_last(it)).count();
        let last = |len| simple(MessageEnd::Bytes(bytes[bytes.len() - len..].to_vec()));
        all.extend((1..=most).map(last));
    }
    let mut different: Vec<AnswerEnd> = vec![];
    for end in all {
        if !different.contains(&end) {
            different.push(end);
        }
    }
    different
}

fn simple(message: MessageEnd) -> AnswerEnd {
    AnswerEnd { message, several: None }
}

/// Length fields, the likeliest first: those at a multiple of their width, and of these the wider
/// ones, as narrower ones are parts of them.
fn lengths() -> Vec<LengthFormat> {
    let names = LengthFormat::NAMES.iter().filter_map(|name| LengthFormat::parse(name));
    let mut all: Vec<(u16, bool, LengthFormat)> = vec![];
    for (format, offset) in names.flat_map(|it| (0..=OFFSET_MAX).map(move |at| (it, at))) {
        let Some(format) = format.with_offset(offset) else { continue };
        all.push((offset, false, format));
        // It counts itself, but not what stands before it (PostgreSQL).
        let counts_itself = format.with_adjust(-(format.width() as i64));
        let is_another = offset > 0 && format.max_payload() > 0;
        let is_exclusive = format.decode(&[0; 16][..format.header_len()]) == Ok(0);
        all.extend(
            counts_itself.filter(|_| is_another && is_exclusive).map(|it| (offset, true, it)),
        );
    }
    all.sort_by_key(|(offset, is_adjusted, format)| {
        let width = format.width();
        let is_aligned = match width.is_power_of_two() {
            true => usize::from(*offset).is_multiple_of(width),
            false => *offset == 0,
        };
        (*is_adjusted, !is_aligned, Reverse(format.width()), *offset)
    });
    all.into_iter().map(|(.., format)| format).collect()
}

/// Whether all of it can be read.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~' | 0x80..))
}

/// Whether each line begins with a reply code.
fn is_reply(answer: &[u8]) -> bool {
    let Some(lines) = answer.strip_suffix(b"\n") else { return false };
    lines.split(|byte| *byte == b'\n').all(|line| {
        matches!(line, [b'1'..=b'5', tens, ones, b' ' | b'-', ..]
            if tens.is_ascii_digit() && ones.is_ascii_digit())
    })
}

/// Lines of which the last one says that they are all: it is the same in different answers, or a
/// short word in capital letters, or a dot.
fn last_line(pairs: &[WholePair<'_>]) -> Option<EndGuess> {
    let first = pairs.first()?.answer;
    let lines = first.strip_suffix(b"\n")?;
    let start = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let last = &first[start..];
    let word = last.trim_ascii();
    let differ = pairs.iter().any(|pair| pair.answer != first);
    let is_sign = word.iter().all(|byte| byte.is_ascii_uppercase()) || word == b".";
    let is_likely = is_text(first) && !word.is_empty() && last.len() <= LAST_LINE_MAX;
    let end = simple(MessageEnd::Bytes(last.to_vec()));
    let fits = is_likely && (differ || is_sign) && pairs.iter().all(|it| fits_answer(&end, it));
    fits.then_some(EndGuess { end, others: vec![] })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair<'a>(request: &'a [u8], answer: &'a [u8]) -> WholePair<'a> {
        WholePair { request, answer, is_over: false }
    }

    fn length(name: &str, offset: u16) -> AnswerEnd {
        let format = LengthFormat::parse(name).and_then(|format| format.with_offset(offset));
        simple(MessageEnd::Length(format.unwrap()))
    }

    fn bytes(last: &[u8]) -> AnswerEnd {
        simple(MessageEnd::Bytes(last.to_vec()))
    }

    #[track_caller]
    fn both(pairs: &[WholePair<'_>]) -> EndGuess {
        let EndGuesses { request, answer } = guess(pairs);
        assert_eq!(request, answer);
        answer.unwrap()
    }

    #[test]
    fn a_length_is_found_whatever_its_width_order_and_place() {
        for name in LengthFormat::NAMES {
            for offset in [0, 1, 4, 8] {
                let end = length(name, offset);
                let MessageEnd::Length(format) = end.message else { unreachable!() };
                let messages = [&b"a payload"[..], b"one", b"", &[b'z'; 40]].map(|payload| {
                    let mut message = vec![];
                    format.encode(payload.len() as u64, &mut message).unwrap();
                    message[..usize::from(offset)].fill(b'#');
                    [&message, payload].concat()
                });
                let [first, second, third, fourth] = &messages;
                let guess = both(&[pair(first, second), pair(third, fourth)]);
                // Some say the same: a length that counts itself can be a part of a wider one.
                let is_it = guess.end == end || guess.others.contains(&end) || {
                    is_part_of(&guess.end, &end) || is_part_of(&end, &guess.end)
                };
                assert!(is_it, "{name} {offset}: {guess:?}");
            }
        }
    }

    #[test]
    fn the_likeliest_of_several_lengths_is_taken_and_the_others_are_named() {
        // DNS, Kafka, and Modbus, whose protocol identifier is zero.
        let dns = both(&[pair(b"\0\x04\x12\x34ab", b"\0\x06\x12\x34abcd")]);
        assert_eq!(dns, EndGuess { end: length("u16be", 0), others: vec![] });
        let kafka = both(&[pair(b"\0\0\0\x05\0\x12\0\0!", b"\0\0\0\x06\0\0\0\x01\0\0")]);
        assert_eq!(kafka, EndGuess { end: length("u32be", 0), others: vec![] });
        let request = b"\0\x01\0\0\0\x06\x01\x03\0\0\0\x01";
        let modbus = both(&[pair(request, b"\0\x01\0\0\0\x05\x01\x03\x02\0\x07")]);
        assert_eq!(modbus.end, length("u16be", 4));
        assert!(modbus.others.contains(&length("u32be", 2)), "{modbus:?}");
    }

    #[test]
    fn a_length_that_counts_itself_and_no_type_before_it_is_found() {
        let guess = both(&[pair(b"Q\0\0\0\x0dSELECT 1\0", b"Z\0\0\0\x05I")]);
        let MessageEnd::Length(format) = guess.end.message else { panic!("{guess:?}") };
        assert_eq!(format.to_string(), "u32be offset 1 adjust -4");
    }

    #[test]
    fn text_protocols_are_told_apart() {
        assert_eq!(both(&[pair(b"hello\n", b"HELLO\n")]).end, bytes(b"\n"));
        assert_eq!(both(&[pair(b"{\"a\":1}\r\n", b"{\"b\":2}\r\n")]).end, bytes(b"\n"));
        let ping = both(&[pair(b"PING\r\n", b"+PONG\r\n")]);
        assert_eq!((ping.end, ping.others), (bytes(b"\n"), vec![simple(MessageEnd::Resp)]));
        let redis = both(&[pair(b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n")]);
        assert_eq!(redis, EndGuess { end: simple(MessageEnd::Resp), others: vec![] });
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let http = both(&[pair(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer)]);
        assert_eq!(http, EndGuess { end: simple(MessageEnd::Http), others: vec![] });
    }

    #[test]
    fn replies_of_several_lines_end_with_the_line_that_has_a_space() {
        let pairs = [
            pair(b"", b"220 ready\r\n"),
            pair(b"EHLO x\r\n", b"250-here\r\n250-SIZE 10\r\n250 HELP\r\n"),
        ];
        let guess = guess(&pairs).answer.unwrap();
        assert_eq!(guess.end.message, MessageEnd::Bytes(b"\n".to_vec()));
        assert_eq!(guess.end.several.unwrap().key().1.source(), LAST_OF_REPLY);
    }

    #[test]
    fn directions_may_differ() {
        let EndGuesses { request, answer } =
            guess(&[pair(b"get k\r\n", b"VALUE k 0 2\r\nhi\r\nEND\r\n")]);
        assert_eq!(request.unwrap().end, bytes(b"\n"));
        assert_eq!(answer.unwrap().end, bytes(b"END\r\n"));
        let mllp = both(&[pair(b"\x0bA\rB\x1c\r", b"\x0bC\rD\x1c\r")]);
        assert_eq!(mllp.end, bytes(b"\x1c\r"));
    }

    #[test]
    fn an_answer_that_ends_with_the_connection_may_end_so_in_http_alone() {
        let answer = b"HTTP/1.0 200 OK\r\n\r\nhi";
        let whole = WholePair { request: b"GET / HTTP/1.0\r\n\r\n", answer, is_over: true };
        assert_eq!(both(&[whole]).end, simple(MessageEnd::Http));
        let open = WholePair { is_over: false, ..whole };
        assert_eq!(guess(&[open]).answer, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_is_claimed_fits_every_sample(
            pairs in prop::collection::vec(
                (
                    prop::collection::vec(prop_oneof![0..9u8, Just(b'\n'), Just(b'a')], 0..12),
                    prop::collection::vec(prop_oneof![0..9u8, Just(b'\n'), Just(b'a')], 1..12),
                    any::<bool>(),
                ),
                0..3,
            ),
        ) {
            let pairs: Vec<WholePair<'_>> = pairs
                .iter()
                .map(|(request, answer, is_over)| WholePair { request, answer, is_over: *is_over })
                .collect();
            let EndGuesses { request, answer } = guess(&pairs);
            if let Some(EndGuess { end, others }) = answer {
                for end in [&end].into_iter().chain(&others) {
                    prop_assert!(pairs.iter().all(|pair| fits_answer(end, pair)));
                }
            }
            if let Some(EndGuess { end, others }) = request {
                for end in [&end].into_iter().chain(&others) {
                    let requests = pairs.iter().map(|pair| pair.request);
                    prop_assert!(requests.filter(|it| !it.is_empty()).all(
                        |it| end.message.find(it, None) == Found::End(it.len())
                    ));
                }
            }
        }
    }

    #[test]
    fn nothing_is_claimed_where_nothing_fits() {
        for (request, answer) in [
            (&b"abc"[..], &b"xyz"[..]),
            (b"hello", b"HELLO"),
            (b"a", b"line\nand more"),
            (b"get\n", b"two\nlines that are no end\n"),
        ] {
            assert_eq!(guess(&[pair(request, answer)]).answer, None);
        }
        assert_eq!(guess(&[]), EndGuesses::default());
        // By accident the fourth byte is the number of bytes after it.
        assert_eq!(guess(&[pair(b"abc\x02de", b"abc\x02fg")]).request, None);
    }
}
