//! Bytes as hexadecimal digits.

use super::bad_text::BadText;
use crate::values::quoted;

/// The bytes of hexadecimal digits, two a byte. Between bytes there may be white space.
///
/// # Errors
///
/// The first character that is none, or the first digit without another.
pub fn parse_hex(text: &str) -> Result<Vec<u8>, BadText> {
    let bytes = pairs(text).map(|pair| match pair? {
        (_, Pair::Byte(byte)) => Ok(byte),
        (at, Pair::Any | Pair::Rest) => {
            let message = format!("'{}': expected hexadecimal digits", &text[at..at + 2]);
            Err(BadText { at, message })
        }
    });
    bytes.collect()
}

/// Two characters of a hexadecimal text.
#[derive(Clone, Copy, Debug)]
pub enum Pair {
    /// Two digits.
    Byte(u8),
    /// `??`.
    Any,
    /// `..`.
    Rest,
}

/// The pairs of a text, each with its offset; or the first thing that is none, with its own.
pub fn pairs(text: &str) -> impl Iterator<Item = Result<(usize, Pair), BadText>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text[at..].trim_ascii_start();
        at = text.len() - rest.len();
        let first = rest.chars().next()?;
        let second = rest[first.len_utf8()..].chars().next().filter(|c| !c.is_ascii_whitespace());
        let pair = match (first, second) {
            ('?', Some('?')) => Pair::Any,
            ('.', Some('.')) => Pair::Rest,
            ('?' | '.', _) => {
                let message = format!("a single '{first}': expected two");
                return Some(Err(BadText { at, message }));
            }
            (first, None) if first.is_ascii_hexdigit() => {
                let message = format!("a single digit '{first}': expected two for each byte");
                return Some(Err(BadText { at, message }));
            }
            (first, second) => {
                let is_wrong = |c: &char| !c.is_ascii_hexdigit();
                let wrong = Some(first).filter(is_wrong).or(second.filter(is_wrong));
                if let Some(wrong) = wrong {
                    let at = at + usize::from(wrong != first);
                    let message =
                        format!("{}: expected hexadecimal digits", quoted(wrong.to_string()));
                    return Some(Err(BadText { at, message }));
                }
                Pair::Byte(byte(rest.as_bytes()[0], rest.as_bytes()[1])?)
            }
        };
        at += 2;
        Some(Ok((at - 2, pair)))
    })
}

/// The byte of two hexadecimal digits.
pub fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}
