//! From the text of a rule to the rule.

use std::time::Duration;

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::values::parse_time;
use trust_wire::relay::FramePart;

use super::{Direction, MATCH_MAX, Rule, RuleAction, RulePlace, Selector};

/// What is wrong with the text of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where, in characters from the start.
    at: usize,
    /// What is expected there.
    expected: String,
}

const ACTIONS: &str = "rst, fin early, close, stall TIME, hold, black-hole, drop N bytes, \
                       flip N bits, xor 0xHEX, set BYTES, insert BYTES, length = N, swallow fin, \
                       accept-rst or accept-silent";
const PLACES: &str = "byte N, frame N, match BYTES, eof or connect";
const PARTS: &str = "byte N, payload, end, -N or nothing";
const SELECTORS: &str = "N, N..M, every N or *";
const BYTES: &str = "\"TEXT\" or 0xHEX";

impl RuleError {
    /// The failure of a run that was given this rule: what is wrong, and a caret where.
    pub fn failure(&self, exit: ExitCode, place: &str, text: &str) -> Failure {
        let shown: String = text.chars().map(|it| if it.is_control() { '?' } else { it }).collect();
        let message = format!("{place}: invalid fault rule: expected {}", self.expected);
        // As far to the right as the rule is after the word in front of it.
        let caret = format!("{}^", " ".repeat("hint: ".len() + self.at));
        Failure::new(exit, message).with_hint(format!("{shown}\n{caret}"))
    }
}

/// The text, and how much of it was read.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// The next word: up to a blank, or to :, @ or =.
    fn peek(&mut self) -> &'a str {
        self.skip_blanks();
        let rest = self.rest();
        let end = rest.find(|it: char| it.is_whitespace() || ":@=".contains(it));
        &rest[..end.unwrap_or(rest.len())]
    }

    fn take(&mut self) -> &'a str {
        let word = self.peek();
        self.at += word.len();
        word
    }

    fn take_if(&mut self, word: &str) -> bool {
        let is_next = self.peek() == word;
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    fn take_character(&mut self, character: char) -> bool {
        self.skip_blanks();
        let is_next = self.rest().starts_with(character);
        if is_next {
            self.at += character.len_utf8();
        }
        is_next
    }

    /// What is expected where the next word begins.
    fn expected(&mut self, what: impl Into<String>) -> RuleError {
        self.skip_blanks();
        self.expected_at(self.at, what)
    }

    fn expected_at(&self, at: usize, what: impl Into<String>) -> RuleError {
        RuleError { at: self.text[..at].chars().count(), expected: what.into() }
    }

    fn number(&mut self, from: u64, what: &str) -> Result<u64, RuleError> {
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

    fn time(&mut self) -> Result<Duration, RuleError> {
        let word = self.peek();
        match parse_time(word) {
            Some(time) => {
                self.at += word.len();
                Ok(time)
            }
            None => Err(self.expected("a time with its unit, as 2s or 500ms")),
        }
    }

    /// Bytes as text in quotes, or in hexadecimal; at least one.
    fn bytes(&mut self) -> Result<Vec<u8>, RuleError> {
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

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    ///
    /// Where the first wrong word is, and what is expected there.
    pub fn parse(text: &str) -> Result<Rule, RuleError> {
        let mut scanner = Scanner { text, at: 0 };
        let connections = selector(&mut scanner)?;
        scanner.skip_blanks();
        let action_at = scanner.at;
        let action = action(&mut scanner)?;
        let place = place(&mut scanner, &action)?;
        let is_at_connect = matches!(action, RuleAction::AcceptReset | RuleAction::AcceptSilent);
        if place == RulePlace::Connect && !is_at_connect {
            let what = "accept-rst or accept-silent, which happen at connect";
            return Err(scanner.expected_at(action_at, what));
        }
        if matches!(action, RuleAction::SetLength(_))
            && !matches!(place, RulePlace::Frame(_, FramePart::Byte(0)))
        {
            let what = "another action here: length needs @ frame N";
            return Err(scanner.expected_at(action_at, what));
        }
        let direction = match scanner.peek() {
            "up" if !is_at_connect => Some(Direction::Up),
            "down" if !is_at_connect => Some(Direction::Down),
            _ => None,
        };
        if direction.is_some() {
            scanner.take();
        }
        scanner.skip_blanks();
        if !scanner.rest().is_empty() {
            let what = match direction {
                None if !is_at_connect => "up, down or the end of the rule",
                _ => "the end of the rule",
            };
            return Err(scanner.expected(what));
        }
        Ok(Rule { connections, action, place, direction })
    }
}

fn selector(scanner: &mut Scanner<'_>) -> Result<Selector, RuleError> {
    if !scanner.take_if("conn") {
        return Ok(Selector::All);
    }
    let selector = match scanner.peek() {
        "*" => {
            scanner.take();
            Selector::All
        }
        "every" => {
            scanner.take();
            Selector::Every(scanner.number(1, "a number from 1")?)
        }
        word => {
            let (first, last) = word.split_once("..").unwrap_or((word, word));
            let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => {
                    scanner.take();
                    Selector::Range(first, last)
                }
                _ => return Err(scanner.expected(format!("connections: {SELECTORS}"))),
            }
        }
    };
    match scanner.take_character(':') {
        true => Ok(selector),
        false => Err(scanner.expected("a colon after the connections")),
    }
}

fn action(scanner: &mut Scanner<'_>) -> Result<RuleAction, RuleError> {
    let known = match scanner.peek() {
        "rst" => Some(RuleAction::Reset),
        "close" => Some(RuleAction::Close),
        "hold" => Some(RuleAction::Hold),
        "black-hole" => Some(RuleAction::BlackHole),
        "accept-rst" => Some(RuleAction::AcceptReset),
        "accept-silent" => Some(RuleAction::AcceptSilent),
        _ => None,
    };
    if let Some(known) = known {
        scanner.take();
        return Ok(known);
    }
    let second = |scanner: &mut Scanner<'_>, word: &str, action| match scanner.take_if(word) {
        true => Ok(action),
        false => Err(scanner.expected(word)),
    };
    match scanner.peek() {
        "fin" => {
            scanner.take();
            second(scanner, "early", RuleAction::FinEarly)
        }
        "swallow" => {
            scanner.take();
            second(scanner, "fin", RuleAction::SwallowFin)
        }
        "stall" => {
            scanner.take();
            scanner.time().map(RuleAction::Stall)
        }
        "drop" => {
            scanner.take();
            let count = scanner.number(1, "how many bytes, from 1")?;
            match scanner.take_if("bytes") || scanner.take_if("byte") {
                true => Ok(RuleAction::Drop(count)),
                false => Err(scanner.expected("bytes")),
            }
        }
        "flip" => {
            scanner.take();
            let at = scanner.at;
            let count = scanner.number(1, "how many bits, from 1 to 8")?;
            if count > 8 {
                let mut scanner = Scanner { at, ..*scanner };
                return Err(scanner.expected("how many bits, from 1 to 8"));
            }
            match scanner.take_if("bits") || scanner.take_if("bit") {
                true => Ok(RuleAction::Flip(count as u32)),
                false => Err(scanner.expected("bits")),
            }
        }
        "length" => {
            scanner.take();
            match scanner.take_character('=') {
                true => scanner.number(0, "what the length field says").map(RuleAction::SetLength),
                false => Err(scanner.expected("= and what the length field says")),
            }
        }
        "xor" => {
            scanner.take();
            scanner.bytes().map(RuleAction::Xor)
        }
        "set" => {
            scanner.take();
            scanner.bytes().map(RuleAction::Set)
        }
        "insert" => {
            scanner.take();
            scanner.bytes().map(RuleAction::Insert)
        }
        _ => Err(scanner.expected(format!("an action: {ACTIONS}"))),
    }
}

fn place(scanner: &mut Scanner<'_>, action: &RuleAction) -> Result<RulePlace, RuleError> {
    if !scanner.take_character('@') {
        let is_at_connect = matches!(action, RuleAction::AcceptReset | RuleAction::AcceptSilent);
        return match action.may_hold_from_the_start() {
            true => Ok(RulePlace::Byte(0)),
            false if is_at_connect => Err(scanner.expected("@ connect")),
            false => Err(scanner.expected(format!("@ and a place: {PLACES}"))),
        };
    }
    match scanner.peek() {
        "connect" => {
            scanner.take();
            Ok(RulePlace::Connect)
        }
        _ if matches!(action, RuleAction::AcceptReset | RuleAction::AcceptSilent) => {
            Err(scanner.expected("connect"))
        }
        "byte" => {
            scanner.take();
            scanner.number(0, "how many bytes come before it, from 0").map(RulePlace::Byte)
        }
        "frame" => {
            scanner.take();
            let number = scanner.number(1, "the number of a frame, from 1")?;
            Ok(RulePlace::Frame(number, part(scanner)?))
        }
        "eof" => {
            scanner.take();
            Ok(RulePlace::Eof)
        }
        "match" => {
            scanner.take();
            scanner.skip_blanks();
            let at = scanner.at;
            let bytes = scanner.bytes()?;
            match bytes.len() {
                0..=MATCH_MAX => Ok(RulePlace::Match(bytes)),
                _ => Err(scanner.expected_at(at, format!("up to {MATCH_MAX} bytes"))),
            }
        }
        _ => Err(scanner.expected(format!("a place: {PLACES}"))),
    }
}

/// Where in a frame; nothing stands for its start.
fn part(scanner: &mut Scanner<'_>) -> Result<FramePart, RuleError> {
    // The first bytes of a frame are its header.
    let is_header = scanner.take_if("header");
    match scanner.peek() {
        "byte" => {
            scanner.take();
            scanner.number(0, "how many bytes of the frame come before it").map(FramePart::Byte)
        }
        _ if is_header => Ok(FramePart::Byte(0)),
        "start" => {
            scanner.take();
            Ok(FramePart::Byte(0))
        }
        "payload" => {
            scanner.take();
            Ok(FramePart::Payload)
        }
        "end" => {
            scanner.take();
            Ok(FramePart::End)
        }
        word if word.starts_with('-') => {
            scanner.take_character('-');
            scanner.number(1, "how many of the last bytes").map(FramePart::BeforeEnd)
        }
        "" | "up" | "down" => Ok(FramePart::Byte(0)),
        _ => Err(scanner.expected(format!("a part of the frame: {PARTS}"))),
    }
}
