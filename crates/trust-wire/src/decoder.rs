//! From received bytes to whole frames, in place.
//!
//! Whole frames are decoded where they were received, without a copy. Only the unfinished tail of a
//! frame is kept. While there is one, the caller can receive straight into its buffer
//! ([`Decoder::room`]).
//!
//! Functions marked `inline(never)` handle unfinished frames. Keeping them out of line saves
//! instructions in a receive without one: `make instructions`.

use alloc::vec::Vec;
use core::mem;

use crate::format::{BadLength, Format};
use crate::frame::{Frames, U32Be};

/// Room, in bytes, for an unfinished frame however little of it has arrived: enough for most small
/// frames, and too little to be worth an attack.
const MIN_ROOM: usize = 512;

/// Finds whole frames in a stream of bytes.
///
/// Invariants: `filled <= held.len()`; `held[..filled]` is an unfinished frame whose header, if
/// complete, declares at most `max_payload`; `held.len() - filled` never exceeds the larger of 512
/// bytes and `filled`, whatever length the frame declares.
///
/// ```
/// use trust_wire::decoder::DecodeEnd;
/// use trust_wire::{Decoder, LengthFormat};
///
/// // A length of two bytes, little-endian, that counts itself.
/// let format = LengthFormat::parse("u16le+incl").expect("a format");
/// let mut decoder = Decoder::with_format(format, 1000);
/// let decoded = decoder.decode(0, b"\x05\0one\x02\0\x05", usize::MAX);
/// assert_eq!(decoded.frames().into_iter().collect::<Vec<_>>(), [&b"one"[..], b""]);
/// assert_eq!(decoder.held_len(), 1);
///
/// let decoded = decoder.decode(0, b"\0two\x01\0", usize::MAX);
/// assert_eq!(decoded.frames().into_iter().collect::<Vec<_>>(), [b"two"]);
/// assert_eq!(decoded.end, DecodeEnd::BadLength { value: 1 });
/// ```
#[derive(Debug)]
pub struct Decoder<F = U32Be> {
    format: F,
    max_payload: u32,
    filled: usize,
    held: Vec<u8>,
}

/// What [`Decoder::decode`] found.
#[derive(Debug, Default)]
pub struct Decoded<'a, F: Format = U32Be> {
    format: F,
    /// The previously unfinished frame, if it is now whole; otherwise empty.
    completed: Vec<u8>,
    /// Whole frames where they were received.
    run: &'a [u8],
    /// Total number of frames.
    pub count: u64,
    /// How decoding stopped.
    pub end: DecodeEnd<F::Length>,
}

impl<F: Format> Decoded<'_, F> {
    /// The whole frames.
    pub fn frames(&self) -> Frames<'_, F> {
        Frames::new(self.format, &self.completed, self.run, self.count)
    }
}

/// How decoding the received bytes stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecodeEnd<L = u32> {
    /// All bytes are used up; part of a frame may be held.
    #[default]
    Exhausted,
    /// A frame begins at or after the fence; it and everything after it were left alone.
    Fence,
    /// A header declares a payload above the limit; it and everything after it were left alone.
    TooLarge {
        /// The length that the header declares, in bytes.
        declared: L,
    },
    /// A header declares no valid length; it and everything after it were left alone. This cannot
    /// happen with [`U32Be`].
    BadLength {
        /// The value of the length field.
        value: L,
    },
}

impl Decoder {
    /// A decoder for [`crate::frame`]'s format that accepts payloads of at most `max_payload`
    /// bytes.
    pub const fn new(max_payload: u32) -> Decoder {
        Decoder::with_format(U32Be, max_payload)
    }
}

impl<F: Format> Decoder<F> {
    /// A decoder for any format that accepts payloads of at most `max_payload` bytes.
    pub const fn with_format(format: F, max_payload: u32) -> Decoder<F> {
        Decoder { format, max_payload, filled: 0, held: Vec::new() }
    }

    /// Bytes held of an unfinished frame, header included.
    pub fn held_len(&self) -> usize {
        self.filled
    }

    /// The unfinished frame, as far as it has arrived.
    pub fn held(&self) -> &[u8] {
        &self.held[..self.filled]
    }

    /// Length of the unfinished frame when complete, as far as known: while its header is
    /// incomplete, the length of the header alone.
    pub fn needed_len(&self) -> usize {
        needed_len(self.format, &self.held[..self.held_len()])
    }

    /// Bytes of memory allocated for an unfinished frame.
    pub fn capacity(&self) -> usize {
        self.held.capacity()
    }

    /// Where the next bytes of the unfinished frame can be received without a copy; empty if no
    /// frame is unfinished. Pass the number of bytes received here to [`Decoder::decode`].
    #[inline(never)]
    pub fn room(&mut self) -> &mut [u8] {
        let filled = self.held_len();
        if filled == 0 {
            return &mut [];
        }
        self.make_room();
        &mut self.held[filled..]
    }

    /// Decodes received bytes: `in_room` bytes in [`Decoder::room`], followed by `rest`.
    ///
    /// Frames that begin at or after byte `fence` of this input are left alone (`usize::MAX`:
    /// none). After any [`DecodeEnd`] except [`DecodeEnd::Exhausted`] the stream is over for this
    /// decoder.
    ///
    /// # Panics
    ///
    /// If `in_room` is larger than the room.
    pub fn decode<'a>(&mut self, in_room: usize, rest: &'a [u8], fence: usize) -> Decoded<'a, F> {
        let mut rest = rest;
        let mut decoded = Decoded {
            format: self.format,
            completed: Vec::new(),
            run: &[],
            count: 0,
            end: DecodeEnd::Exhausted,
        };
        let mut fence = fence.saturating_sub(in_room);
        self.filled += in_room;
        assert!(self.held_len() <= self.held.len(), "more bytes in the room than it has");

        if self.filled > 0 {
            let before = rest.len();
            match self.finish_held(&mut rest) {
                Ok(None) => return decoded,
                Ok(Some(frame)) => {
                    decoded.completed = frame;
                    decoded.count = 1;
                }
                Err(end) => {
                    decoded.end = end;
                    return decoded;
                }
            }
            fence = fence.saturating_sub(before - rest.len());
        }

        let (found, tail) = decode_in_place(self.format, rest, self.max_payload, fence);
        decoded.run = found.run;
        decoded.count += found.count;
        decoded.end = found.end;
        self.hold(tail);
        decoded
    }

    /// Drops the held bytes, for a stream whose frames no longer matter.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.held = Vec::new();
    }

    /// Completes the held frame from the front of `rest`. Returns the frame, nothing yet, or how
    /// its header ends the stream.
    #[inline(never)]
    fn finish_held(&mut self, rest: &mut &[u8]) -> Result<Option<Vec<u8>>, DecodeEnd<F::Length>> {
        // At most three rounds: the header, the payload, the whole frame.
        loop {
            let mut needed = self.format.header_len();
            match self.format.peek(&self.held[..self.held_len()]) {
                None => {}
                Some(Ok(declared)) if declared.into() > u64::from(self.max_payload) => {
                    self.clear();
                    return Err(DecodeEnd::TooLarge { declared });
                }
                Some(Ok(declared)) => needed += declared.into() as usize,
                Some(Err(BadLength { value })) => {
                    self.clear();
                    return Err(DecodeEnd::BadLength { value });
                }
            }
            if self.held_len() == needed {
                let mut frame = mem::take(&mut self.held);
                frame.truncate(mem::take(&mut self.filled));
                return Ok(Some(frame));
            }
            if rest.is_empty() {
                return Ok(None);
            }
            let (taken, left) = rest.split_at(rest.len().min(needed - self.held_len()));
            self.append(taken, needed);
            *rest = left;
        }
    }

    /// Holds the beginning of a frame, which has no header that ends the stream.
    #[inline(never)]
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.append(bytes, needed_len(self.format, bytes));
        }
    }

    /// Appends bytes of an unfinished frame whose needed length so far is `needed`.
    fn append(&mut self, bytes: &[u8], needed: usize) {
        self.held.truncate(self.held_len());
        let arrived = self.held.len() + bytes.len();
        if self.held.capacity() < arrived {
            // Including the room that the frame may get next, so that it is not moved again at
            // once.
            let room = needed.saturating_sub(arrived).min(arrived.max(MIN_ROOM));
            self.held.reserve_exact(arrived + room - self.held.len());
        }
        self.held.extend_from_slice(bytes);
        self.filled = arrived;
    }

    /// Gives the held frame as much zeroed room as its bytes have earned.
    fn make_room(&mut self) {
        let filled = self.held_len();
        let missing = self.needed_len() - filled;
        let room = missing.min(filled.max(MIN_ROOM));
        if self.held.len() - filled < room {
            self.held.reserve_exact(filled + room - self.held.len());
            self.held.resize(filled + room, 0);
        } else {
            self.held.truncate(filled + room);
        }
    }
}

/// What a decoder that holds nothing finds in `bytes`, and the beginning of a frame that it must
/// then hold.
pub(crate) fn decode_in_place<F: Format>(
    format: F,
    bytes: &[u8],
    max_payload: u32,
    fence: usize,
) -> (Decoded<'_, F>, &[u8]) {
    let Scan { whole, count, end } = scan(format, bytes, max_payload, fence);
    let (run, rest) = bytes.split_at(whole);
    let tail = if end == DecodeEnd::Exhausted { rest } else { &[] };
    (Decoded { format, completed: Vec::new(), run, count, end }, tail)
}

struct Scan<L> {
    /// Bytes of whole frames at the front.
    whole: usize,
    count: u64,
    end: DecodeEnd<L>,
}

fn scan<F: Format>(format: F, bytes: &[u8], max_payload: u32, fence: usize) -> Scan<F::Length> {
    let header_len = format.header_len();
    let mut whole = 0;
    let mut count = 0;
    let end = loop {
        if whole >= fence && whole < bytes.len() {
            break DecodeEnd::Fence;
        }
        let declared = match format.peek(&bytes[whole..]) {
            Some(Ok(declared)) => declared,
            Some(Err(BadLength { value })) => break DecodeEnd::BadLength { value },
            None => break DecodeEnd::Exhausted,
        };
        if declared.into() > u64::from(max_payload) {
            break DecodeEnd::TooLarge { declared };
        }
        let payload_len = declared.into() as usize;
        if bytes.len() - whole - header_len < payload_len {
            break DecodeEnd::Exhausted;
        }
        whole += header_len + payload_len;
        count += 1;
    };
    Scan { whole, count, end }
}

/// Length of the frame at the front of `bytes` when complete; while its header is incomplete, the
/// length of the header alone. The header must not be one that ends the stream.
fn needed_len<F: Format>(format: F, bytes: &[u8]) -> usize {
    let payload_len = match format.peek(bytes) {
        Some(Ok(payload_len)) => payload_len.into() as usize,
        Some(Err(_)) | None => 0,
    };
    format.header_len() + payload_len
}

#[cfg(test)]
mod tests;
