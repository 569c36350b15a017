//! What is on the wire: `length (u32, big-endian) · payload (length bytes)`.
//!
//! A length of 0 is a valid frame. The format does not limit the payload; the receiver does: see
//! [`crate::Decoder`]. For the formats of other protocols see [`crate::format`].

use alloc::vec::Vec;

use crate::format::{BadLength, Format};

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 4;

/// The default limit on the payload, in bytes, inclusive.
pub const DEFAULT_MAX_PAYLOAD: u32 = 65_536;

/// Four bytes, big-endian, that count the payload: the format of this module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct U32Be;

impl Format for U32Be {
    type Length = u32;

    fn header_len(&self) -> usize {
        HEADER_LEN
    }

    fn peek(&self, bytes: &[u8]) -> Option<Result<u32, BadLength<u32>>> {
        peek_header(bytes).map(Ok)
    }
}

/// The header of a frame with a payload of `payload_len` bytes.
pub const fn encode_header(payload_len: u32) -> [u8; HEADER_LEN] {
    payload_len.to_be_bytes()
}

/// The payload length, in bytes, declared by a header. It is the peer's claim and can be any value.
pub const fn decode_header(header: [u8; HEADER_LEN]) -> u32 {
    u32::from_be_bytes(header)
}

/// The payload length declared by `bytes`, or `None` if there are fewer than [`HEADER_LEN`] bytes.
pub fn peek_header(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<HEADER_LEN>().map(|header| decode_header(*header))
}

/// Appends one frame to `out`.
///
/// ```
/// let mut out = vec![];
/// trust_wire::frame::encode_frame(b"hello", &mut out);
/// assert_eq!(out, b"\0\0\0\x05hello");
/// ```
///
/// # Panics
///
/// If the payload is longer than `u32::MAX` bytes.
pub fn encode_frame(payload: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(payload.len()).expect("a payload is at most u32::MAX bytes");
    out.reserve(HEADER_LEN + payload.len());
    out.extend_from_slice(&encode_header(len));
    out.extend_from_slice(payload);
}

/// Whole frames as they lie in memory: one assembled from pieces, then a run of received ones.
///
/// Both parts hold whole frames and nothing else. To send the same frames again, send
/// [`Frames::parts`]; to read them, iterate over their payloads.
///
/// ```
/// use trust_wire::Decoder;
///
/// let mut decoder = Decoder::new(1000);
/// let _ = decoder.decode(0, b"\0\0\0\x03o", usize::MAX);
/// let decoded = decoder.decode(0, b"ne\0\0\0\x03two\0\0\0\0", usize::MAX);
///
/// let frames = decoded.frames();
/// assert_eq!(frames.count(), 3);
/// assert_eq!(frames.into_iter().collect::<Vec<_>>(), [&b"one"[..], b"two", b""]);
/// // An echo sends the frames as they are: the assembled one, then those found in place.
/// assert_eq!(frames.parts(), [&b"\0\0\0\x03one"[..], b"\0\0\0\x03two\0\0\0\0"]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames<'a, F = U32Be> {
    format: F,
    first: &'a [u8],
    run: &'a [u8],
    count: u64,
}

impl<'a, F: Format> Frames<'a, F> {
    /// Both parts must hold only whole frames, as [`crate::Decoder`] yields them.
    pub(crate) fn new(format: F, first: &'a [u8], run: &'a [u8], count: u64) -> Frames<'a, F> {
        Frames { format, first, run, count }
    }

    /// How many frames there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The frames with their headers, in order; either part may be empty.
    pub fn parts(&self) -> [&'a [u8]; 2] {
        [self.first, self.run]
    }

    /// Total length in bytes, headers included.
    pub fn byte_len(&self) -> usize {
        self.first.len() + self.run.len()
    }

    /// Whether there are no frames.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.run.is_empty()
    }
}

impl<'a, F: Format> IntoIterator for Frames<'a, F> {
    type Item = &'a [u8];
    type IntoIter = Payloads<'a, F>;

    fn into_iter(self) -> Payloads<'a, F> {
        Payloads { frames: self }
    }
}

/// The payloads of [`Frames`], in order.
#[derive(Clone, Debug)]
pub struct Payloads<'a, F = U32Be> {
    frames: Frames<'a, F>,
}

impl<'a, F: Format> Iterator for Payloads<'a, F> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let part = match self.frames.first {
            [] => &mut self.frames.run,
            _ => &mut self.frames.first,
        };
        let header_len = self.frames.format.header_len();
        let len = self.frames.format.peek(part)?.ok()?.into() as usize;
        let (frame, rest) = part.split_at(header_len + len);
        *part = rest;
        Some(&frame[header_len..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn the_length_is_big_endian() {
        assert_eq!(encode_header(5), [0, 0, 0, 5]);
        assert_eq!(decode_header([0x80, 0, 0, 1]), 0x8000_0001);
        assert_eq!(decode_header(*b"GET "), 1_195_725_856);
    }

    #[test]
    fn a_header_is_not_read_before_it_is_whole() {
        assert_eq!(peek_header(&[0, 0, 1]), None);
        assert_eq!(peek_header(&[0, 0, 1, 0, 9]), Some(256));
    }

    #[test]
    fn payloads_come_out_of_both_parts_in_order() {
        let mut first = vec![];
        encode_frame(b"one", &mut first);
        let mut run = vec![];
        encode_frame(b"", &mut run);
        encode_frame(b"three", &mut run);
        let frames = Frames::new(U32Be, &first, &run, 3);
        let payloads: Vec<&[u8]> = frames.into_iter().collect();
        assert_eq!(payloads, [&b"one"[..], b"", b"three"]);
        assert_eq!(frames.byte_len(), 3 * HEADER_LEN + 8);
    }
}
