//! Proposes patterns for what differs between answers to the same request.

use std::fmt::Write as _;
use std::ops::Range;

use super::ends::is_text;

/// The most patterns: where more would be needed, the answer is better left to a person.
const PATTERNS_MAX: usize = 64;

/// The longest name of a field, as `Date` in `Date: …`.
const NAME_MAX: usize = 40;

/// The most bytes before what differs that a pattern has.
const CONTEXT_MAX: usize = 16;

/// The most bytes in a row that differ in an answer without lines, and the most such ranges.
const RANGE_MAX: usize = 32;
const RANGES_MAX: usize = 16;

/// The longest answers that are compared, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

/// A place where answers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// A pattern that matches it.
    pub pattern: String,
    /// What differs, in a few words.
    pub why: String,
    /// Whether it is one value among others that are the same, and not all that is said.
    pub is_value: bool,
}

/// What differs between some answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variation {
    /// What may be ignored.
    pub differences: Vec<Difference>,
    /// What no pattern is proposed for.
    pub notes: Vec<String>,
}

/// What differs between these answers to the same request.
pub fn between(answers: &[&[u8]]) -> Variation {
    let mut variation = Variation::default();
    let Some((first, others)) = answers.split_first() else { return variation };
    if others.iter().all(|other| other == first) {
        return variation;
    }
    if answers.iter().any(|answer| answer.len() > ANSWER_MAX) {
        variation.notes.push("they are longer than 1 MiB".to_owned());
        return variation;
    }
    let lines: Vec<Vec<&[u8]>> =
        answers.iter().map(|it| it.split(|byte| *byte == b'\n').collect()).collect();
    let has_same_lines = lines.iter().all(|it| it.len() == lines[0].len());
    let same = |place: &usize| lines.iter().all(|it| it[*place] == lines[0][*place]);
    let differing: Vec<usize> = match has_same_lines {
        true => (0..lines[0].len()).filter(|place| !same(place)).collect(),
        false => vec![],
    };
    let line = |place: usize| lines.iter().map(|it| it[place]).collect::<Vec<_>>();
    let are_text = differing.iter().all(|place| text_part(&line(*place)).is_some());
    if has_same_lines && are_text {
        for place in differing {
            let line = line(place);
            let before = place.checked_sub(1).map(|before| lines[0][before]);
            variation.differences.extend(before.filter(|line| is_bulk_length(line)).map(|_| {
                let why = "the length of a value that differs".to_owned();
                Difference { pattern: r"(?m)^\$[0-9]+".to_owned(), why, is_value: true }
            }));
            let begin = text_part(&line).unwrap_or_default();
            let rest: Vec<&[u8]> = line.iter().map(|line| &line[begin..]).collect();
            variation.differences.extend(in_line(&rest, begin == 0));
        }
    } else if others.iter().all(|other| other.len() == first.len()) {
        in_bytes(answers, &mut variation);
    } else {
        let (least, most) = extremes(answers.iter().map(|it| it.len()));
        let note = format!("they have {least} to {most} bytes and differ in more than values");
        variation.notes.push(note);
    }
    let mut seen = vec![];
    variation.differences.retain(|Difference { pattern, .. }| {
        let is_new = !seen.contains(pattern);
        seen.push(pattern.clone());
        is_new
    });
    if variation.differences.len() > PATTERNS_MAX {
        let note = format!("they differ in {} places", variation.differences.len());
        variation = Variation { differences: vec![], notes: vec![note] };
    }
    variation
}

fn extremes(values: impl Iterator<Item = usize> + Clone) -> (usize, usize) {
    (values.clone().min().unwrap_or(0), values.max().unwrap_or(0))
}

/// Whether the line says how long the next one is (RESP).
fn is_bulk_length(line: &[u8]) -> bool {
    let digits = line.trim_ascii_end().strip_prefix(b"$").unwrap_or_default();
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Where text begins in these lines, all of which are the same before it, as after a length; `None`
/// if there are other bytes after the first difference.
fn text_part(samples: &[&[u8]]) -> Option<usize> {
    let (first, others) = (samples[0], &samples[1..]);
    let is_same = |place: &usize| others.iter().all(|it| it.get(*place) == Some(&first[*place]));
    let same = (0..first.len()).take_while(is_same).count();
    let begin = (0..same).rev().find(|place| !is_text(&first[*place..=*place]));
    let begin = begin.map_or(0, |place| place + 1);
    samples.iter().all(|line| is_text(&line[begin..])).then_some(begin)
}

/// What differs in one line, or in the text at its end. It may end with CR.
fn in_line(samples: &[&[u8]], is_whole: bool) -> Vec<Difference> {
    let samples: Vec<&[u8]> =
        samples.iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    if let Some(name) = field_name(&samples).filter(|_| is_whole) {
        let pattern = format!("(?m)^{}[^\\r\\n]*", escaped(name));
        let why = two(&samples, name.len()..usize::MAX);
        return vec![Difference { pattern, why, is_value: true }];
    }
    let words: Vec<Vec<&[u8]>> = samples.iter().map(|line| words(line)).collect();
    let is_word = |word: &[u8]| word[0].is_ascii_alphanumeric();
    let is_alike = |other: &Vec<&[u8]>| {
        other.len() == words[0].len()
            && other.iter().zip(&words[0]).all(|(other, first)| match is_word(first) {
                true => is_word(other),
                false => other == first,
            })
    };
    if !words.iter().all(is_alike) {
        return vec![rest_of_line(&samples, is_whole)];
    }
    let varies = |place: usize| words.iter().any(|line| line[place] != words[0][place]);
    let has_digit = |place: usize| words[0][place].iter().any(u8::is_ascii_digit);
    let joins = |place: usize| matches!(words[0][place], [b'.' | b':' | b'-' | b'/' | b'+' | b',']);
    let belongs = |place: usize| varies(place) || has_digit(place);
    let (mut found, mut from) = (vec![], 0);
    while let Some(at) = (from..words[0].len()).find(|place| varies(*place)) {
        // The whole time, and not only its seconds.
        let mut group = at..at + 1;
        while group.start >= from + 2 && joins(group.start - 1) && belongs(group.start - 2) {
            group.start -= 2;
        }
        while group.end + 1 < words[0].len() && joins(group.end) && belongs(group.end + 1) {
            group.end += 2;
        }
        found.push(in_words(&words, from, group.clone(), is_whole));
        from = group.end;
    }
    found
}

/// A pattern for a group of words, with what stands before it, from the word `from` on.
fn in_words(words: &[Vec<&[u8]>], from: usize, group: Range<usize>, is_whole: bool) -> Difference {
    let texts: Vec<Vec<u8>> = words.iter().map(|line| line[group.clone()].concat()).collect();
    let before = words[0][from..group.start].concat();
    // Digits before it may change too.
    let digit = before.iter().rposition(u8::is_ascii_digit).map_or(0, |digit| digit + 1);
    let context = &before[digit.max(before.len().saturating_sub(CONTEXT_MAX))..];
    let is_line_start = is_whole && from == 0 && context.len() == before.len();
    let start = if is_line_start { "(?m)^" } else { "" };
    let pattern = format!("{start}{}{}+", escaped(context), class(&texts.concat()));
    let samples: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let why = two(&samples, 0..usize::MAX);
    Difference { pattern, why, is_value: !context.is_empty() }
}

/// A pattern for the line from the first byte on that differs.
fn rest_of_line(samples: &[&[u8]], is_whole: bool) -> Difference {
    let (first, others) = (samples[0], &samples[1..]);
    let same = (0..first.len())
        .take_while(|place| others.iter().all(|it| it.get(*place) == Some(&first[*place])))
        .count();
    // Not in the middle of a word.
    let word = first[..same].iter().rev().take_while(|it| it.is_ascii_alphanumeric()).count();
    let context = &first[(same - word).saturating_sub(CONTEXT_MAX)..same - word];
    let start = if is_whole && same == word { "(?m)^" } else { "" };
    let why = format!("the rest of a line: {}", two(samples, same - word..usize::MAX));
    let pattern = format!("{start}{}[^\\r\\n]*", escaped(context));
    Difference { pattern, why, is_value: false }
}

/// The name that all of these lines begin with, with its colon or equals sign.
fn field_name<'a>(samples: &[&'a [u8]]) -> Option<&'a [u8]> {
    let first = samples[0];
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let len = first.iter().take_while(|byte| is_name(byte)).count();
    let is_field = matches!(first.get(len), Some(b':' | b'=')) && first[0].is_ascii_alphabetic();
    let name = first.get(..len + 1).filter(|_| is_field && len <= NAME_MAX)?;
    samples.iter().all(|line| line.starts_with(name)).then_some(name)
}

/// Runs of letters and digits, and single other bytes.
fn words(line: &[u8]) -> Vec<&[u8]> {
    let is_in_word = |byte: &u8| byte.is_ascii_alphanumeric();
    line.chunk_by(|one, next| is_in_word(one) && is_in_word(next)).collect()
}

/// A class for these characters.
fn class(bytes: &[u8]) -> String {
    let is_all = |is_it: fn(&u8) -> bool| {
        bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).all(is_it)
    };
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let mut class = String::from(match () {
        () if is_all(is_digit) => "[0-9",
        () if is_all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => "[0-9a-f",
        () if is_all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) => "[0-9A-F",
        () => "[0-9A-Za-z",
    });
    for separator in *b".:/+,-" {
        if bytes.contains(&separator) {
            let _ = write!(class, "\\{}", char::from(separator));
        }
    }
    class.push(']');
    class
}

/// What differs in answers of the same length that are not text.
fn in_bytes(answers: &[&[u8]], variation: &mut Variation) {
    let (first, others) = (answers[0], &answers[1..]);
    let mut ranges: Vec<Range<usize>> = vec![];
    for at in (0..first.len()).filter(|at| others.iter().any(|it| it[*at] != first[*at])) {
        match ranges.last_mut() {
            // A byte between that is the same by accident.
            Some(last) if at <= last.end + 1 => last.end = at + 1,
            _ => ranges.push(at..at + 1),
        }
    }
    if ranges.len() > RANGES_MAX {
        variation.notes.push(format!("they differ in {} places", ranges.len()));
        return;
    }
    for range in ranges {
        let why = format!("bytes {} to {} differ", range.start + 1, range.end);
        let is_once = |context: &[u8]| {
            let mut places = answers.iter().map(|answer| occurrences(answer, context));
            places.all(|count| count == 1)
        };
        let from = range.start.saturating_sub(CONTEXT_MAX / 2);
        let contexts =
            (from..range.start.saturating_sub(1)).rev().map(|at| &first[at..range.start]);
        let context = contexts.into_iter().find(|it| is_once(it));
        match context.filter(|_| range.len() <= RANGE_MAX) {
            Some(context) => {
                let pattern = format!("(?s){}.{{{}}}", escaped(context), range.len());
                variation.differences.push(Difference { pattern, why, is_value: false });
            }
            None => variation.notes.push(why),
        }
    }
}

/// How often the bytes are found, up to two.
fn occurrences(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).filter(|window| *window == wanted).take(2).count()
}

/// A pattern of these bytes alone.
fn escaped(bytes: &[u8]) -> String {
    let mut pattern = String::new();
    for byte in bytes {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => pattern.push(char::from(*byte)),
            b' ' | b'"' | b'_' | b':' | b',' | b'=' | b'/' | b'-' | b'<' | b'>' | b'@' => {
                pattern.push(char::from(*byte));
            }
            b'!'..=b'~' if *byte != b'\'' => {
                pattern.push('\\');
                pattern.push(char::from(*byte));
            }
            other => {
                let _ = write!(pattern, "\\x{other:02x}");
            }
        }
    }
    pattern
}

/// Two samples that differ, at these places.
fn two(samples: &[&[u8]], at: Range<usize>) -> String {
    let part = |bytes: &[u8]| shown(&bytes[at.start.min(bytes.len())..at.end.min(bytes.len())]);
    let other = samples.iter().find(|other| **other != samples[0]).unwrap_or(&samples[0]);
    format!("{} and {}", part(samples[0]), part(other))
}

fn shown(bytes: &[u8]) -> String {
    crate::exchange::difference::shown(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::pattern::Pattern;

    /// What is left of the bytes without what the patterns match.
    fn kept(variation: &Variation, bytes: &[u8]) -> Vec<u8> {
        let mut kept = bytes.to_vec();
        for Difference { pattern, .. } in &variation.differences {
            let mut places = Pattern::parse(pattern).unwrap().places(&kept);
            places.reverse();
            for place in places {
                kept.drain(place);
            }
        }
        kept
    }

    #[track_caller]
    fn patterns(answers: &[&str]) -> Vec<String> {
        let answers: Vec<&[u8]> = answers.iter().map(|it| it.as_bytes()).collect();
        let variation = between(&answers);
        let first = kept(&variation, answers[0]);
        assert!(answers.iter().all(|answer| kept(&variation, answer) == first), "{variation:?}");
        variation.differences.into_iter().map(|it| it.pattern).collect()
    }

    #[test]
    fn text_after_a_length_is_looked_at_as_text() {
        let one = "\0\0\0\x1f{\"price\": 101.5, \"ts\": 17959751}";
        let two = "\0\0\0\x1f{\"price\": 101.5, \"ts\": 17959802}";
        assert_eq!(patterns(&[one, two]), ["\\.5, \"ts\": [0-9]+".replace("\\.5", "")]);
    }

    #[test]
    fn a_field_is_ignored_as_a_whole_line() {
        let answers = [
            "HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 17:18:09 GMT\r\nX: 1\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 17:18:10 GMT\r\nX: 1\r\n\r\nhi",
        ];
        assert_eq!(patterns(&answers), [r"(?m)^Date:[^\r\n]*"]);
        let answers = ["$9\r\nuptime:9\r\n", "$10\r\nuptime:10\r\n"];
        assert_eq!(patterns(&answers), [r"(?m)^\$[0-9]+", r"(?m)^uptime:[^\r\n]*"]);
    }

    #[test]
    fn a_number_is_ignored_with_what_stands_before_it() {
        let answers = [r#"{"ts":1764436689,"v":"x"}"#, r#"{"ts":1764436690,"v":"x"}"#];
        assert_eq!(patterns(&answers), [r#"(?m)^\{"ts":[0-9]+"#]);
        let answers = [r#"{"id":"0f3c","n":7}"#, r#"{"id":"9a01","n":18}"#];
        assert_eq!(patterns(&answers), [r#"(?m)^\{"id":"[0-9a-f]+"#, r#"","n":[0-9]+"#]);
        assert_eq!(patterns(&["HELLO 1\n", "HELLO 2\n"]), ["(?m)^HELLO [0-9]+"]);
    }

    #[test]
    fn a_time_is_ignored_as_a_whole_though_only_its_seconds_differ() {
        let answers = ["now 17:18:09.5 ok\n", "now 17:18:10.5 ok\n"];
        assert_eq!(patterns(&answers), [r"(?m)^now [0-9\.\:]+"]);
        let answers = ["2026-11-29T17:18:09Z\n", "2026-11-29T17:18:10Z\n"];
        assert_eq!(patterns(&answers), [r"(?m)^[0-9A-Za-z\:\-]+"]);
    }

    #[test]
    fn the_length_of_a_value_that_differs_may_differ_too() {
        let answers = ["*1\r\n$5\r\n99991\r\n", "*1\r\n$5\r\n99992\r\n"];
        assert_eq!(patterns(&answers), [r"(?m)^\$[0-9]+", "(?m)^[0-9]+"]);
    }

    #[test]
    fn a_line_of_other_words_is_ignored_from_where_it_differs() {
        assert_eq!(patterns(&["say a b\n", "say something\n"]), [r"say [^\r\n]*"]);
    }

    #[test]
    fn bytes_are_ignored_only_where_their_place_can_be_told() {
        let answers: [&[u8]; 2] = [b"\x0a\x0b\x0c\0\x01\x02\x07", b"\x0a\x0b\x0c\0\x05\x09\x07"];
        let variation = between(&answers);
        assert_eq!(variation.differences[0].pattern, r"(?s)\x0c\x00.{2}");
        assert_eq!(variation.notes, [""; 0]);
        let answers: [&[u8]; 2] = [b"\x01\x02\x07", b"\x05\x09\x07"];
        let variation = between(&answers);
        assert_eq!(variation.differences, []);
        assert_eq!(variation.notes, ["bytes 1 to 2 differ"]);
    }

    #[test]
    fn what_differs_in_more_than_values_is_told_and_not_ignored() {
        let answers: [&[u8]; 2] = [b"a\nb\n", b"a\n"];
        let variation = between(&answers);
        assert_eq!(variation.differences, []);
        assert!(variation.notes[0].starts_with("they have 2 to 4 bytes"), "{variation:?}");
        assert_eq!(between(&[b"a", b"a"]), Variation::default());
        assert_eq!(between(&[]), Variation::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn every_pattern_of_any_answers_compiles(
            answers in prop::collection::vec(
                prop::collection::vec(
                    prop_oneof![any::<u8>(), Just(b'\n'), Just(b':'), b'0'..=b'9', b'a'..=b'z'],
                    0..40,
                ),
                0..4,
            ),
        ) {
            let answers: Vec<&[u8]> = answers.iter().map(Vec::as_slice).collect();
            for Difference { pattern, why, .. } in between(&answers).differences {
                prop_assert!(Pattern::parse(&pattern).is_ok(), "{}", pattern);
                prop_assert!(!why.contains(char::is_control));
            }
        }
    }
}
