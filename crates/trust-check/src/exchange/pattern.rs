//! Patterns over bytes.

use std::ops::Range;

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
        Ok(Pattern { source: source.to_owned(), regex, start, whole })
    }

    /// The text that it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The places that match, from left to right, without overlap. None is empty.
    pub fn places(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let text = as_text(bytes);
        let mut offsets = Offsets { text: &text, in_text: 0, in_bytes: 0 };
        let matches = self.regex.find_iter(&text).filter(|found| !found.is_empty());
        matches.map(|found| offsets.of(found.start())..offsets.of(found.end())).collect()
    }

    /// Whether it matches all of the bytes.
    pub fn is_whole(&self, bytes: &[u8]) -> bool {
        self.whole.is_match(&as_text(bytes))
    }

    /// Whether the bytes begin with a match, even with an empty one.
    pub fn is_at_start(&self, bytes: &[u8]) -> bool {
        self.len_at_start(bytes).is_some()
    }

    /// How many bytes match at the start of these; `None` if they do not begin with a match.
    pub fn len_at_start(&self, bytes: &[u8]) -> Option<usize> {
        let text = as_text(bytes);
        self.start.find(&text).map(|found| text[..found.end()].chars().count())
    }
}

/// Patterns are equal if they are written the same.
impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

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
