//! Reads the words of a rule.

use std::time::Duration;

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::quantity::{SHARES, SIZES, with_unit};
use trust_cli::values::parse_time;

const BYTES: &str = "\"TEXT\" or 0xHEX";

/// What is wrong with the text of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where, in characters from the start.
    at: usize,
    /// What is expected there.
    expected: String,
}

impl RuleError {
    /// The failure of a run that was given this rule: what is wrong, and a caret where, unless the
    /// rule is blank.
    pub fn failure(&self, exit: ExitCode, place: &str, text: &str) -> Failure {
        let failure = Failure::new(exit, self.message(place));
        // As far to the right as the rule is after the word in front of it.
        match self.pointed(text, "hint: ".len()) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }

    /// The same as lines of text.
    pub fn pointed_at(&self, place: &str, text: &str) -> String {
        let pointed = self.pointed(text, 0);
        [Some(self.message(place)), pointed].into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn message(&self, place: &str) -> String {
        format!("{place}: invalid fault rule: expected {}", self.expected)
    }

    /// The text, and a caret below the place, `indent` columns to the right of that.
    fn pointed(&self, text: &str, indent: usize) -> Option<String> {
        let shown: String = text.chars().map(|it| if it.is_control() { '?' } else { it }).collect();
        let caret = format!("{}^", " ".repeat(indent + self.at));
        (!text.trim().is_empty()).then(|| format!("{shown}\n{caret}"))
    }
}

/// The text, and how much of it was read.
pub(super) struct Scanner<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// The next word: up to a blank, or to :, @ or =.
    pub(super) fn peek(&mut self) -> &'a str {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest.find(|it: char| it.is_whitespace() || ":@=".contains(it));
        &rest[..end.unwrap_or(rest.len())]
    }

    pub(super) fn take(&mut self) -> &'a str {
        let word = self.peek();
        self.at += word.len();
        word
    }

    pub(super) fn take_if(&mut self, word: &str) -> bool {
        let is_next = self.peek() == word;
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    pub(super) fn take_character(&mut self, character: char) -> bool {
        self.skip_blanks();
        let is_next = self.rest().starts_with(character);
        if is_next {
            self.at += character.len_utf8();
        }
        is_next
    }

    /// What is expected where the next word begins.
    pub(super) fn expected(&mut self, what: impl Into<String>) -> RuleError {
        self.skip_blanks();
        self.expected_at(self.at, what)
    }

    pub(super) fn expected_at(&self, at: usize, what: impl Into<String>) -> RuleError {
        RuleError { at: self.text[..at].chars().count(), expected: what.into() }
    }

    pub(super) fn number(&mut self, from: u64, what: &str) -> Result<u64, RuleError> {
        let word = self.peek();
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| word.parse().ok()).flatten();
        match number.filter(|number| *number >= from) {
            Some(number) => {
                self.at += word.len();
                Ok(number)
            }
            None => Err(self.expected(what)),
        }
    }

    /// The next word, if it is what is expected.
    fn word<T>(
        &mut self,
        parse: impl FnOnce(&str) -> Option<T>,
        what: &str,
    ) -> Result<T, RuleError> {
        let word = self.peek();
        match parse(word) {
            Some(value) => {
                self.at += word.len();
                Ok(value)
            }
            None => Err(self.expected(what)),
        }
    }

    pub(super) fn time(&mut self) -> Result<Duration, RuleError> {
        self.word(parse_time, "a time with its unit, as 2s or 500ms")
    }

    /// A time that is not zero.
    pub(super) fn positive_time(&mut self) -> Result<Duration, RuleError> {
        let positive = |word: &str| parse_time(word).filter(|time| !time.is_zero());
        self.word(positive, "a time above 0 with its unit, as 2s or 500ms")
    }

    /// How much more or less, if that is there.
    pub(super) fn jitter(&mut self) -> Result<Duration, RuleError> {
        self.plus_minus(parse_time, "± and a time with its unit, as ±5ms")
    }

    /// How many more or less than `of`, if that is there; fewer than that.
    pub(super) fn spread(&mut self, of: u64) -> Result<u64, RuleError> {
        let parse = |word: &str| word.parse().ok().filter(|vary| *vary < of);
        self.plus_minus(parse, &format!("± and how many bytes, below {of}"))
    }

    /// What comes after ±, if that is there.
    fn plus_minus<T: Default>(
        &mut self,
        parse: impl FnOnce(&str) -> Option<T>,
        what: &str,
    ) -> Result<T, RuleError> {
        let word = self.peek();
        let after = ["±", "+-", "+/-"].iter().find_map(|sign| word.strip_prefix(sign));
        match after.map(parse) {
            None => Ok(T::default()),
            Some(Some(value)) => {
                self.at += word.len();
                Ok(value)
            }
            Some(None) => Err(self.expected(what)),
        }
    }

    /// Bytes per second.
    pub(super) fn rate(&mut self) -> Result<u64, RuleError> {
        let rate = |word: &str| {
            let (number, unit) = with_unit(word.strip_suffix("/s")?, SIZES)?;
            unit.whole(number)
        };
        self.word(rate, "bytes per second, as 64kB/s or 1.5MB/s")
    }

    /// A share in percent, in millionths.
    pub(super) fn share(&mut self) -> Result<u32, RuleError> {
        self.word(parse_share, "a share from 0.0001% to 100%")
    }

    /// Whether a number of times is next.
    pub(super) fn is_at_times(&self) -> bool {
        let mut words = self.rest().split_whitespace();
        let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
        words.next().is_some_and(is_number) && matches!(words.next(), Some("time" | "times"))
    }

    /// What says that a word is there, or is not.
    pub(super) fn require(&mut self, word: &str) -> Result<(), RuleError> {
        match self.take_if(word) {
            true => Ok(()),
            false => Err(self.expected(word)),
        }
    }

    /// A word in the singular or in the plural.
    pub(super) fn require_plural(&mut self, word: &str) -> Result<(), RuleError> {
        match self.take_if(word) || self.take_if(&format!("{word}s")) {
            true => Ok(()),
            false => Err(self.expected(format!("{word}s"))),
        }
    }

    /// Everything up to the next blank.
    pub(super) fn peek_all(&mut self) -> &'a str {
        self.skip_blanks();
        let rest = self.rest();
        &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())]
    }

    /// Bytes as text in quotes, or in hexadecimal; at least one.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, RuleError> {
        self.skip_blanks();
        let start = self.at;
        let bytes = match self.take_character('"') {
            true => self.quoted(start)?,
            false => self.hexadecimal()?,
        };
        match bytes.is_empty() {
            true => Err(self.expected_at(start, "at least one byte")),
            false => Ok(bytes),
        }
    }

    fn hexadecimal(&mut self) -> Result<Vec<u8>, RuleError> {
        let word = self.peek();
        let digits = word.strip_prefix("0x").unwrap_or_default();
        let pair = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok()?;
            let are_digits = pair.len() == 2 && pair.bytes().all(|it| it.is_ascii_hexdigit());
            are_digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(pair).collect();
        match bytes.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => {
                self.at += word.len();
                Ok(bytes)
            }
            None => Err(self.expected(BYTES)),
        }
    }

    /// The rest of a text in quotes that begins at `start`.
    fn quoted(&mut self, start: usize) -> Result<Vec<u8>, RuleError> {
        let mut bytes = vec![];
        let mut characters = self.rest().char_indices();
        while let Some((index, character)) = characters.next() {
            let escaped = match character {
                '"' => {
                    self.at += index + 1;
                    return Ok(bytes);
                }
                '\\' => match characters.next().map(|(_, escaped)| escaped) {
                    Some('n') => Some(b'\n'),
                    Some('r') => Some(b'\r'),
                    Some('t') => Some(b'\t'),
                    Some('0') => Some(0),
                    Some('"') => Some(b'"'),
                    Some('\\') => Some(b'\\'),
                    _ => {
                        let known = "\\n, \\r, \\t, \\0, \\\" or \\\\";
                        return Err(self.expected_at(self.at + index, known));
                    }
                },
                _ => None,
            };
            match escaped {
                Some(byte) => bytes.push(byte),
                None => bytes.extend(character.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        Err(self.expected_at(start, "a closing quote"))
    }
}

/// A share in percent, in millionths.
pub(super) fn parse_share(word: &str) -> Option<u32> {
    let (number, unit) = with_unit(word, SHARES)?;
    let share = unit.whole(number)?;
    (1..=1_000_000).contains(&share).then_some(share as u32)
}
