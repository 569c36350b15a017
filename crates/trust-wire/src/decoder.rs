//! From received bytes to whole frames, in place.
//!
//! Whole frames are found where they were received and are not copied. Only the unfinished tail of a
//! frame is kept, and while there is one, the caller can receive straight into its buffer
//! ([`Decoder::room`]).

use alloc::vec::Vec;
use core::mem;

use crate::frame::{Frames, HEADER_LEN, peek_header};

/// Room, in bytes, that an unfinished frame gets however little of it has arrived: enough for most
/// small frames, and too little to be worth an attack.
const MIN_ROOM: usize = 512;

/// Finds whole frames in a stream of bytes.
///
/// Invariants: `filled <= held.len()`; `held[..filled]` is an unfinished frame whose declared length,
/// if all of its header is there, is at most `max_payload`; `held.len() - filled` never exceeds the
/// larger of 512 bytes and `filled`, whatever length the frame declares.
#[derive(Debug)]
pub struct Decoder {
    max_payload: u32,
    filled: usize,
    held: Vec<u8>,
}

/// What [`Decoder::decode`] found.
#[derive(Debug, Default)]
pub struct Decoded<'a> {
    /// The frame that was unfinished before and is whole now; else empty.
    completed: Vec<u8>,
    /// Whole frames where they were received.
    run: &'a [u8],
    /// How many frames there are in all.
    pub count: u64,
    /// How decoding stopped.
    pub end: DecodeEnd,
}

impl Decoded<'_> {
    /// The whole frames.
    pub fn frames(&self) -> Frames<'_> {
        Frames::new(&self.completed, self.run, self.count)
    }
}

/// How decoding of what was received stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecodeEnd {
    /// All bytes are used up; perhaps part of a frame is held.
    #[default]
    Exhausted,
    /// A frame begins where none may begin any more; it and what follows were left alone.
    Fence,
    /// A header declares a payload above the limit; it and what follows were left alone.
    TooLarge {
        /// The length that the header declares, in bytes.
        declared: u32,
    },
}

impl Decoder {
    /// A decoder that takes payloads of at most `max_payload` bytes.
    pub const fn new(max_payload: u32) -> Decoder {
        Decoder { max_payload, filled: 0, held: Vec::new() }
    }

    /// Bytes of an unfinished frame that are held, header included.
    pub fn held_len(&self) -> usize {
        self.filled
    }

    /// Bytes that the unfinished frame has when it is whole, as far as known: of a header that is not
    /// whole only the header itself.
    pub fn needed_len(&self) -> usize {
        match peek_header(&self.held[..self.held_len()]) {
            Some(payload_len) => HEADER_LEN + payload_len as usize,
            None => HEADER_LEN,
        }
    }

    /// Bytes of memory that are held for an unfinished frame.
    pub fn capacity(&self) -> usize {
        self.held.capacity()
    }

    /// Where the next bytes of the unfinished frame can be received without a copy; empty if no frame
    /// is unfinished. Pass the number of bytes that were put here to [`Decoder::decode`].
    pub fn room(&mut self) -> &mut [u8] {
        let filled = self.held_len();
        if filled == 0 {
            return &mut [];
        }
        self.make_room();
        &mut self.held[filled..]
    }

    /// Takes what was received: `in_room` bytes in [`Decoder::room`], and after them `rest`.
    ///
    /// Frames that begin at or after byte `fence` of this input are left alone (`usize::MAX`: none).
    /// After [`DecodeEnd::Fence`] and [`DecodeEnd::TooLarge`] the stream is over for this decoder.
    ///
    /// # Panics
    ///
    /// If `in_room` is larger than the room.
    pub fn decode<'a>(&mut self, in_room: usize, rest: &'a [u8], fence: usize) -> Decoded<'a> {
        let mut rest = rest;
        let mut decoded = Decoded::default();
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
                Err(declared) => {
                    decoded.end = DecodeEnd::TooLarge { declared };
                    return decoded;
                }
            }
            fence = fence.saturating_sub(before - rest.len());
        }

        let (found, tail) = decode_in_place(rest, self.max_payload, fence);
        decoded.run = found.run;
        decoded.count += found.count;
        decoded.end = found.end;
        self.hold(tail);
        decoded
    }

    /// Drops what is held; for a stream whose frames are of no interest any more.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.held = Vec::new();
    }

    /// Completes the held frame from the front of `rest`: the frame, nothing yet, or the declared
    /// length that is too large.
    fn finish_held(&mut self, rest: &mut &[u8]) -> Result<Option<Vec<u8>>, u32> {
        // At most two rounds: the header, then the payload.
        loop {
            let needed = self.needed_len();
            if let Some(declared) = peek_header(&self.held[..self.held_len()]) {
                if declared > self.max_payload {
                    self.clear();
                    return Err(declared);
                }
                if self.held_len() == needed {
                    let mut frame = mem::take(&mut self.held);
                    frame.truncate(needed);
                    self.filled = 0;
                    return Ok(Some(frame));
                }
            }
            if rest.is_empty() {
                return Ok(None);
            }
            let (taken, left) = rest.split_at(rest.len().min(needed - self.held_len()));
            self.hold(taken);
            *rest = left;
        }
    }

    /// Appends bytes of an unfinished frame.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.held.truncate(self.held_len());
        let needed = match self.held.is_empty() {
            true => peek_header(bytes).map_or(HEADER_LEN, |len| HEADER_LEN + len as usize),
            false => self.needed_len(),
        };
        let arrived = self.held.len() + bytes.len();
        if self.held.capacity() < arrived {
            // With the room that the frame may have afterwards, so that it is not moved at once again.
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

/// What a decoder that holds nothing finds in `bytes`, and the beginning of a frame that it is to hold then.
pub(crate) fn decode_in_place(
    bytes: &[u8],
    max_payload: u32,
    fence: usize,
) -> (Decoded<'_>, &[u8]) {
    let Scan { whole, count, end } = scan(bytes, max_payload, fence);
    let (run, rest) = bytes.split_at(whole);
    let tail = if end == DecodeEnd::Exhausted { rest } else { &[] };
    (Decoded { completed: Vec::new(), run, count, end }, tail)
}

struct Scan {
    /// Bytes of whole frames at the front.
    whole: usize,
    count: u64,
    end: DecodeEnd,
}

fn scan(bytes: &[u8], max_payload: u32, fence: usize) -> Scan {
    let mut whole = 0;
    let mut count = 0;
    let end = loop {
        if whole >= fence && whole < bytes.len() {
            break DecodeEnd::Fence;
        }
        let Some(payload_len) = peek_header(&bytes[whole..]) else {
            break DecodeEnd::Exhausted;
        };
        if payload_len > max_payload {
            break DecodeEnd::TooLarge { declared: payload_len };
        }
        if bytes.len() - whole - HEADER_LEN < payload_len as usize {
            break DecodeEnd::Exhausted;
        }
        whole += HEADER_LEN + payload_len as usize;
        count += 1;
    };
    Scan { whole, count, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode_frame;
    use alloc::vec;
    use proptest::prelude::*;

    const MAX: u32 = 1000;

    /// What a receiver of the whole byte string would find: payloads, and how it ends.
    #[derive(Debug, PartialEq, Eq)]
    struct Outcome {
        payloads: Vec<Vec<u8>>,
        too_large: Option<u32>,
        left: Vec<u8>,
    }

    /// The naive decoder: looks at the whole stream at once.
    fn decode_whole(mut bytes: &[u8]) -> Outcome {
        let mut payloads = vec![];
        while let Some(len) = peek_header(bytes) {
            if len > MAX {
                return Outcome { payloads, too_large: Some(len), left: vec![] };
            }
            let Some(payload) = bytes.get(HEADER_LEN..HEADER_LEN + len as usize) else {
                break;
            };
            payloads.push(payload.to_vec());
            bytes = &bytes[HEADER_LEN + len as usize..];
        }
        Outcome { payloads, too_large: None, left: bytes.to_vec() }
    }

    /// Feeds `stream` in chunks; of each chunk as much goes through the room as `use_room` allows.
    fn decode_in_chunks(stream: &[u8], chunks: &[(usize, bool)]) -> Outcome {
        let mut decoder = Decoder::new(MAX);
        let mut payloads = vec![];
        let mut left = stream;
        let mut chunks = chunks.iter().cycle();
        while !left.is_empty() {
            let &(size, use_room) = chunks.next().unwrap();
            let (mut chunk, after) = left.split_at(size.clamp(1, left.len()));
            left = after;
            let mut in_room = 0;
            if use_room {
                let room = decoder.room();
                in_room = room.len().min(chunk.len());
                room[..in_room].copy_from_slice(&chunk[..in_room]);
                chunk = &chunk[in_room..];
            }
            let decoded = decoder.decode(in_room, chunk, usize::MAX);
            let before = payloads.len();
            payloads.extend(decoded.frames().into_iter().map(<[u8]>::to_vec));
            assert_eq!(decoded.count as usize, payloads.len() - before);
            let spare = decoder.capacity() - decoder.held_len();
            assert!(spare <= decoder.held_len().max(MIN_ROOM), "{spare} bytes to spare");
            if let DecodeEnd::TooLarge { declared } = decoded.end {
                return Outcome { payloads, too_large: Some(declared), left: vec![] };
            }
        }
        let held = decoder.held[..decoder.held_len()].to_vec();
        Outcome { payloads, too_large: None, left: held }
    }

    fn stream_of(payload_lens: &[usize]) -> Vec<u8> {
        let mut stream = vec![];
        for (i, &len) in payload_lens.iter().enumerate() {
            let payload: Vec<u8> = (0..len).map(|j| (i * 31 + j) as u8).collect();
            encode_frame(&payload, &mut stream);
        }
        stream
    }

    #[test]
    fn lengths_up_to_the_limit_are_frames_and_one_more_is_not() {
        for len in [0, 1, MAX as usize - 1, MAX as usize] {
            let stream = stream_of(&[len]);
            let mut decoder = Decoder::new(MAX);
            let decoded = decoder.decode(0, &stream, usize::MAX);
            assert_eq!(decoded.frames().parts(), [&[][..], &stream[..]], "found in place");
            assert_eq!(decoder.held_len(), 0);
        }
        for declared in [MAX + 1, 0x8000_0000, u32::MAX] {
            let mut decoder = Decoder::new(MAX);
            let header = declared.to_be_bytes();
            assert_eq!(decoder.decode(0, &header[..3], usize::MAX).end, DecodeEnd::Exhausted);
            let decoded = decoder.decode(0, &header[3..], usize::MAX);
            assert_eq!(decoded.end, DecodeEnd::TooLarge { declared });
            assert_eq!(decoder.capacity(), 0, "a refused length costs no memory");
        }
    }

    #[test]
    fn two_frames_split_at_every_offset_come_out_the_same() {
        let stream = stream_of(&[3, 700]);
        let whole = decode_whole(&stream);
        assert_eq!(whole.payloads.len(), 2);
        for split in 1..stream.len() {
            for use_room in [false, true] {
                let chunks = [(split, use_room), (stream.len(), use_room)];
                assert_eq!(decode_in_chunks(&stream, &chunks), whole, "split at {split}");
            }
        }
    }

    #[test]
    fn frames_before_a_bad_header_in_the_same_segment_are_found() {
        let mut stream = stream_of(&[5, 6]);
        stream.extend_from_slice(b"GET / HTTP/1.1");
        let mut decoder = Decoder::new(MAX);
        let decoded = decoder.decode(0, &stream, usize::MAX);
        assert_eq!(decoded.count, 2);
        assert_eq!(decoded.end, DecodeEnd::TooLarge { declared: 1_195_725_856 });
    }

    #[test]
    fn no_frame_begins_behind_the_fence() {
        let stream = stream_of(&[10, 10, 10]);
        for fence in 0..=stream.len() {
            let mut decoder = Decoder::new(MAX);
            let decoded = decoder.decode(0, &stream, fence);
            assert_eq!(decoded.count, fence.div_ceil(14) as u64, "fence at {fence}");
            assert_eq!(decoded.end == DecodeEnd::Fence, fence <= 28, "fence at {fence}");
        }
    }

    #[test]
    fn a_frame_that_was_begun_before_the_fence_is_finished_behind_it() {
        let stream = stream_of(&[10, 10]);
        let mut decoder = Decoder::new(MAX);
        assert_eq!(decoder.decode(0, &stream[..3], 3).end, DecodeEnd::Exhausted);
        let decoded = decoder.decode(0, &stream[3..], 0);
        assert_eq!((decoded.count, decoded.end), (1, DecodeEnd::Fence));
    }

    #[test]
    fn a_large_declared_length_earns_no_memory_before_bytes_arrive() {
        let mut decoder = Decoder::new(u32::MAX);
        decoder.decode(0, &[0x40, 0, 0, 0], usize::MAX);
        assert_eq!(decoder.room().len(), MIN_ROOM);
        assert!(decoder.capacity() <= HEADER_LEN + MIN_ROOM);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_chunking_finds_the_same_frames(
            lens in prop::collection::vec(0usize..1000, 0..20),
            tail in 0usize..900,
            chunks in prop::collection::vec((1usize..1500, any::<bool>()), 1..50),
        ) {
            let mut stream = stream_of(&lens);
            stream.extend_from_slice(&stream_of(&[900])[..tail]);
            prop_assert_eq!(decode_in_chunks(&stream, &chunks), decode_whole(&stream));
        }

        #[test]
        fn a_flipped_bit_is_taken_the_same_way_in_any_chunking(
            lens in prop::collection::vec(0usize..300, 1..10),
            position in any::<prop::sample::Index>(),
            bit in 0u32..8,
            chunks in prop::collection::vec((1usize..700, any::<bool>()), 1..50),
        ) {
            let mut stream = stream_of(&lens);
            let at = position.index(stream.len());
            stream[at] ^= 1 << bit;
            prop_assert_eq!(decode_in_chunks(&stream, &chunks), decode_whole(&stream));
        }
    }
}
