//! Patterns over bytes.

use std::ops::Range;
use std::sync::Arc;

use regex_lite::Regex;

/// A regular expression over bytes, in the syntax of `regex_lite`: `\xNN` is that byte, `.` any
/// byte but LF, and `(?s:.)` any byte at all. Letters, digits and spaces of classes such as `\w`
/// are those of ASCII.
///
/// The expressions of `regex_lite` are about text, so bytes are looked at as the first 256
/// characters of Unicode. A pattern itself is ASCII: a letter beyond it would stand for one byte,
/// which is not what a server sends for it.
///
/// ```
/// use trust_check::exchange::pattern::Pattern;
///
/// let date = Pattern::parse("Date: [^\r\n]*")?;
/// assert_eq!(date.places(b"\xff\r\nDate: Mon\r\n"), [3..12]);
/// assert!(Pattern::parse(r"\x00.\xff")?.is_whole(b"\0a\xff"));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    compiled: Arc<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    /// What each match begins with, one of these; empty if that is not known.
    beginnings: Vec<Vec<u8>>,
    regex: Regex,
    /// The same for the start of a text: it gives up where `regex` would look further.
    start: Regex,
    /// The same for all of a text. The leftmost match of `regex` may be a shorter one.
    whole: Regex,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one line.
    pub fn parse(source: &str) -> Result<Pattern, String> {
        if !source.is_ascii() {
            let message = "a character beyond ASCII: expected the bytes of its UTF-8, as \\xNN";
            return Err(message.to_owned());
        }
        let compile = |regex: &str| Regex::new(regex).map_err(|error| one_line(&error.to_string()));
        let regex = compile(source)?;
        let start = compile(&format!(r"\A(?:{source})"))?;
        let whole = compile(&format!(r"\A(?:{source})\z"))?;
        let compiled = Compiled { beginnings: beginnings(source), regex, start, whole };
        Ok(Pattern { source: source.to_owned(), compiled: Arc::new(compiled) })
    }

    /// The text that it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The places that match, from left to right, without overlap. None is empty.
    pub fn places(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let text = as_text(bytes);
        let mut offsets = Offsets { text: &text, in_text: 0, in_bytes: 0 };
        let matches = self.compiled.regex.find_iter(&text).filter(|found| !found.is_empty());
        matches.map(|found| offsets.of(found.start())..offsets.of(found.end())).collect()
    }

    /// Whether it matches all of the bytes.
    pub fn is_whole(&self, bytes: &[u8]) -> bool {
        self.compiled.whole.is_match(&as_text(bytes))
    }

    /// Whether the bytes begin with a match, even with an empty one.
    pub fn is_at_start(&self, bytes: &[u8]) -> bool {
        self.len_at_start(bytes).is_some()
    }

    /// How many bytes match at the start of these; `None` if they do not begin with a match.
    pub fn len_at_start(&self, bytes: &[u8]) -> Option<usize> {
        // Most messages are not like it, and there may be many: this is much faster.
        let may_begin = |beginning: &Vec<u8>| bytes.starts_with(beginning);
        if !self.compiled.beginnings.is_empty() && !self.compiled.beginnings.iter().any(may_begin) {
            return None;
        }
        let text = as_text(bytes);
        self.compiled.start.find(&text).map(|found| text[..found.end()].chars().count())
    }
}

/// Patterns are equal if they are written the same.
impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

/// What the matches of an expression begin with, as far as that is plain: the letters of each
/// alternative up to the first that stands for something else. None if one has no such letters.
fn beginnings(source: &str) -> Vec<Vec<u8>> {
    // An alternative inside of a group or a class is none of these.
    let alternatives = match source.contains(['(', '[']) {
        true if source.contains('|') => return vec![],
        _ => source.split('|'),
    };
    let beginnings: Vec<Vec<u8>> = alternatives.map(beginning).collect();
    if beginnings.iter().any(Vec::is_empty) { vec![] } else { beginnings }
}

fn beginning(alternative: &str) -> Vec<u8> {
    let (mut found, mut rest) = (vec![], alternative);
    while let Some((byte, len)) = literal(rest) {
        rest = &rest[len..];
        if rest.starts_with(['*', '?', '+', '{']) {
            break;
        }
        found.push(byte);
    }
    found
}

/// The byte that an expression begins with, and how long it is there.
fn literal(rest: &str) -> Option<(u8, usize)> {
    match rest.as_bytes() {
        [b'\\', b'x', high, low, ..] => {
            let digits = [*high, *low];
            let digits = std::str::from_utf8(&digits).ok()?;
            u8::from_str_radix(digits, 16).ok().map(|byte| (byte, 4))
        }
        [b'\\', b'r', ..] => Some((b'\r', 2)),
        [b'\\', b'n', ..] => Some((b'\n', 2)),
        [b'\\', b't', ..] => Some((b'\t', 2)),
        [b'\\', mark, ..] if mark.is_ascii_punctuation() && !b"<>".contains(mark) => {
            Some((*mark, 2))
        }
        [byte, ..] if !b"\\.+*?()|[]{}^$".contains(byte) => Some((*byte, 1)),
        _ => None,
    }
}

/// Each byte as the character of its number.
fn as_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn one_line(error: &str) -> String {
    error.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// From offsets in a text, in ascending order, to those in the bytes that it stands for.
struct Offsets<'a> {
    text: &'a str,
    in_text: usize,
    in_bytes: usize,
}

impl Offsets<'_> {
    fn of(&mut self, in_text: usize) -> usize {
        self.in_bytes += self.text[self.in_text..in_text].chars().count();
        self.in_text = in_text;
        self.in_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(source: &str) -> Pattern {
        Pattern::parse(source).unwrap()
    }

    #[test]
    fn places_are_those_of_the_bytes_whatever_stands_before_them() {
        let digits = pattern("[0-9]+");
        assert_eq!(digits.places(b"\xff\x8012\xc3\xa9\x003"), [2..4, 7..8]);
        assert_eq!(digits.places(b""), []);
        assert_eq!(pattern("x*").places(b"axxb").first(), Some(&(1..3)), "no empty ones");
        assert_eq!(digits.source(), "[0-9]+");
    }

    #[test]
    fn every_byte_can_be_named_and_is_one_character() {
        for byte in 0..=u8::MAX {
            let named = pattern(&format!(r"\x{byte:02x}"));
            let any = pattern("(?s).");
            for other in [byte, byte.wrapping_add(1), byte ^ 0x80] {
                assert_eq!(named.is_whole(&[other]), other == byte, "{byte:02x}");
                assert!(any.is_whole(&[other]), "{other:02x}");
            }
            assert_eq!(pattern(".").is_whole(&[byte]), byte != b'\n', "{byte:02x}");
        }
    }

    #[test]
    fn a_whole_match_is_found_though_a_shorter_one_comes_first() {
        let either = pattern("a|ab");
        assert!(either.is_whole(b"ab") && either.is_whole(b"a"));
        assert!(!either.is_whole(b"abc") && !either.is_whole(b"xab"));
        assert!(!pattern("-ERR .*").is_whole(b"-ERR x\r\n"), "the line end is not in it");
        assert!(pattern("-ERR .*\r\n").is_whole(b"-ERR x\r\n"));
        assert!(!pattern("a$").is_whole(b"a\n"));
    }

    #[test]
    fn what_matches_begin_with_is_known_where_it_is_plain() {
        let of = |source| beginnings(source).into_iter().map(|it| it.escape_ascii().to_string());
        let known = |source| of(source).collect::<Vec<_>>().join(" or ");
        assert_eq!(known(r"PING\r\n"), r"PING\r\n");
        assert_eq!(known(r"\* OK|\x30.\x02"), "* OK or 0");
        assert_eq!(known(r"-ERR [a-z]*x"), "-ERR ");
        assert_eq!(known("ab*"), "a");
        for unknown in ["a|", "a?", "a|b?", "(?i)ok", "(a)", "[ab]", "^a", "", ".", r"\d", "a|[|]"]
        {
            assert_eq!(known(unknown), "", "{unknown}");
        }
    }

    #[test]
    fn a_start_is_no_match_further_in() {
        let status = pattern(r"HTTP/1\.[01] 4[0-9][0-9] ");
        assert!(status.is_at_start(b"HTTP/1.1 408 Request Timeout\r\n"));
        assert!(!status.is_at_start(b"\nHTTP/1.1 408 Request Timeout\r\n"));
        assert!(!status.is_at_start(b"HTTP/1.1 200 OK\r\n"));
    }

    #[test]
    fn a_wrong_pattern_is_explained_in_one_line() {
        let wrong =
            ["(", ")", "a)|(b", "[", "*", r"\q", "(?x)a # (", "a{9999}{9999}", "ü", "\u{0}("];
        for source in wrong {
            let message = Pattern::parse(source).unwrap_err();
            assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_start_is_what_the_expression_says_whatever_it_begins_with(
            source in r"[ab.*?+|\\x30\[\]()^]{0,6}",
            bytes in prop::collection::vec(prop::sample::select(&b"ab0x"[..]), 0..5),
        ) {
            if let Ok(pattern) = Pattern::parse(&source) {
                let found = pattern.compiled.start.is_match(&as_text(&bytes));
                prop_assert_eq!(pattern.is_at_start(&bytes), found, "{}", source);
            }
        }

        #[test]
        fn bytes_are_found_where_they_are(
            before in prop::collection::vec(any::<u8>(), 0..20),
            needle in prop::collection::vec(any::<u8>(), 1..8),
            after in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let source: String = needle.iter().map(|byte| format!(r"\x{byte:02x}")).collect();
            let pattern = Pattern::parse(&source).expect("a pattern of bytes");
            let bytes = [&before[..], &needle, &after].concat();
            let first = bytes.windows(needle.len()).position(|window| window == needle);
            let first = first.expect("it is in there");
            let place = first..first + needle.len();
            prop_assert_eq!(pattern.places(&bytes).first().cloned(), Some(place));
            prop_assert!(pattern.is_whole(&needle));
            prop_assert_eq!(pattern.is_at_start(&bytes), first == 0);
        }
    }
}
