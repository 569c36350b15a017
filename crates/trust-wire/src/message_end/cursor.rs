//! A place in the bytes of a message, which moves forward.

use core::ops::Range;
use core::str;

use super::Found;

/// A place in the bytes of a message, which moves forward.
///
/// Where it runs out of bytes, the error is [`Found::More`]; at a byte that cannot be there,
/// [`Found::Wrong`]. So a finder that uses `?` needs to think of neither, and as it never looks
/// further than it moves, its answer does not change when more bytes come.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    /// At most the length of the bytes.
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of the bytes.
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// How many bytes are before it.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The bytes from here on.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The bytes from an earlier place to here.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    /// The byte here cannot be there.
    pub(super) fn wrong(&self) -> Found {
        Found::Wrong(self.at)
    }

    /// The byte before this place, which is not the first one, cannot be there.
    pub(super) fn wrong_before(&self) -> Found {
        Found::Wrong(self.at.saturating_sub(1))
    }

    /// The byte here.
    pub(super) fn peek(&self) -> Result<u8, Found> {
        self.bytes.get(self.at).copied().ok_or(Found::More)
    }

    /// The byte here, and moves past it.
    pub(super) fn byte(&mut self) -> Result<u8, Found> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// Moves past `len` bytes, whatever they are.
    pub(super) fn skip(&mut self, len: u64) -> Result<(), Found> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let end = end.ok_or(self.wrong_before())?;
        if end > self.bytes.len() {
            return Err(Found::More);
        }
        self.at = end;
        Ok(())
    }

    /// Moves past these bytes, which must be there.
    pub(super) fn expect(&mut self, expected: &[u8]) -> Result<(), Found> {
        for byte in expected {
            if self.peek()? != *byte {
                return Err(self.wrong());
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Moves past the first occurrence of these bytes.
    pub(super) fn skip_through(&mut self, last: &[u8]) -> Result<(), Found> {
        let mut windows = self.rest().windows(last.len().max(1));
        let start = windows.position(|window| window == last).ok_or(Found::More)?;
        self.at += start + last.len();
        Ok(())
    }

    /// Moves to the first byte that is not of this kind, and returns those before it.
    pub(super) fn skip_while(&mut self, is_one: impl Fn(u8) -> bool) -> Result<&'a [u8], Found> {
        let rest = self.rest();
        let len = rest.iter().position(|byte| !is_one(*byte)).ok_or(Found::More)?;
        self.at += len;
        Ok(&rest[..len])
    }

    /// The same, and there must be at least one.
    pub(super) fn skip_some(&mut self, is_one: impl Fn(u8) -> bool) -> Result<&'a [u8], Found> {
        let skipped = self.skip_while(is_one)?;
        if skipped.is_empty() { Err(self.wrong()) } else { Ok(skipped) }
    }

    /// Moves past a digit, and returns its value.
    pub(super) fn digit(&mut self, radix: u32) -> Result<u64, Found> {
        let digit = char::from(self.peek()?).to_digit(radix).ok_or(self.wrong())?;
        self.at += 1;
        Ok(digit.into())
    }

    /// Moves past a number of one digit or more, as far as it goes, and returns it.
    pub(super) fn number(&mut self, radix: u32) -> Result<u64, Found> {
        let mut number = self.digit(radix)?;
        while char::from(self.peek()?).is_digit(radix) {
            let digit = self.digit(radix)?;
            let sum = number.checked_mul(radix.into()).and_then(|tens| tens.checked_add(digit));
            number = sum.ok_or(self.wrong_before())?;
        }
        Ok(number)
    }

    /// Moves to the end of the line, which is the first CR or LF.
    pub(super) fn skip_text(&mut self) -> Result<&'a [u8], Found> {
        self.skip_while(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Moves past CR LF, or an LF alone.
    pub(super) fn skip_line_end(&mut self) -> Result<(), Found> {
        if self.peek()? == b'\r' {
            self.at += 1;
        }
        self.expect(b"\n")
    }
}

/// Where a message declares the length of its payload, and where that payload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    /// The length field, or the digits.
    pub(super) field: Range<usize>,
    /// The bytes that it counts, after it.
    pub(super) payload: Range<usize>,
}

/// The number that consists of these digits; `None` without any, with anything else between them,
/// and above `u64::MAX`.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}
