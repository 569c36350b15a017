//! From received bytes to whole frames, in place.
//!
//! Whole frames are found where they were received and are not copied. Only the unfinished tail of a
//! frame is kept, and while there is one, the caller can receive straight into its buffer
//! ([`Decoder::room`]).
//!
//! Functions that are marked `inline(never)` have to do with unfinished frames. A receive that finds none executes
//! fewer instructions without them: `make instructions`.

use alloc::vec::Vec;
use core::mem;

use crate::format::{BadLength, Format, U32Be};
use crate::frame::Frames;

/// Room, in bytes, that an unfinished frame gets however little of it has arrived: enough for most
/// small frames, and too little to be worth an attack.
const MIN_ROOM: usize = 512;

/// Finds whole frames in a stream of bytes.
///
/// Invariants: `filled <= held.len()`; `held[..filled]` is an unfinished frame whose header, if all of it
/// is there, declares at most `max_payload`; `held.len() - filled` never exceeds the larger of 512 bytes and
/// `filled`, whatever length the frame declares.
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
    /// The frame that was unfinished before and is whole now; else empty.
    completed: Vec<u8>,
    /// Whole frames where they were received.
    run: &'a [u8],
    /// How many frames there are in all.
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

/// How decoding of what was received stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecodeEnd<L = u32> {
    /// All bytes are used up; perhaps part of a frame is held.
    #[default]
    Exhausted,
    /// A frame begins where none may begin any more; it and what follows were left alone.
    Fence,
    /// A header declares a payload above the limit; it and what follows were left alone.
    TooLarge {
        /// The length that the header declares, in bytes.
        declared: L,
    },
    /// A header declares no length at all; it and what follows were left alone. No header of [`U32Be`] does.
    BadLength {
        /// What the length field says.
        value: L,
    },
}

impl Decoder {
    /// A decoder of [`crate::frame`]'s format that takes payloads of at most `max_payload` bytes.
    pub const fn new(max_payload: u32) -> Decoder {
        Decoder::with_format(U32Be, max_payload)
    }
}

impl<F: Format> Decoder<F> {
    /// A decoder of any format that takes payloads of at most `max_payload` bytes.
    pub const fn with_format(format: F, max_payload: u32) -> Decoder<F> {
        Decoder { format, max_payload, filled: 0, held: Vec::new() }
    }

    /// Bytes of an unfinished frame that are held, header included.
    pub fn held_len(&self) -> usize {
        self.filled
    }

    /// Bytes that the unfinished frame has when it is whole, as far as known: of a header that is not
    /// whole only the header itself.
    pub fn needed_len(&self) -> usize {
        needed_len(self.format, &self.held[..self.held_len()])
    }

    /// Bytes of memory that are held for an unfinished frame.
    pub fn capacity(&self) -> usize {
        self.held.capacity()
    }

    /// Where the next bytes of the unfinished frame can be received without a copy; empty if no frame
    /// is unfinished. Pass the number of bytes that were put here to [`Decoder::decode`].
    #[inline(never)]
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
    /// After every [`DecodeEnd`] but [`DecodeEnd::Exhausted`] the stream is over for this decoder.
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

    /// Drops what is held; for a stream whose frames are of no interest any more.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.held = Vec::new();
    }

    /// Completes the held frame from the front of `rest`: the frame, nothing yet, or how its header ends the
    /// stream.
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

    /// Holds the beginning of a frame, which has no header that ends the stream; nothing is held before.
    #[inline(never)]
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.append(bytes, needed_len(self.format, bytes));
        }
    }

    /// Appends bytes of an unfinished frame that is known to need `needed` bytes.
    fn append(&mut self, bytes: &[u8], needed: usize) {
        self.held.truncate(self.held_len());
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

/// Bytes that the frame at the front of `bytes` has when it is whole; of a header that is not whole only
/// the header itself. The header is none that ends the stream.
fn needed_len<F: Format>(format: F, bytes: &[u8]) -> usize {
    let payload_len = match format.peek(bytes) {
        Some(Ok(payload_len)) => payload_len.into() as usize,
        Some(Err(_)) | None => 0,
    };
    format.header_len() + payload_len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::any_format;
    use crate::format::{LengthFormat, MAX_OFFSET};
    use crate::frame::{HEADER_LEN, encode_frame};
    use alloc::vec;
    use proptest::prelude::*;

    const MAX: u32 = 1000;

    /// What a receiver of the whole byte string would find: payloads, and how it ends.
    #[derive(Debug, PartialEq, Eq)]
    struct Outcome {
        payloads: Vec<Vec<u8>>,
        end: DecodeEnd<u64>,
        left: Vec<u8>,
    }

    /// The naive decoder: looks at the whole stream at once.
    fn decode_whole<F: Format>(format: F, mut bytes: &[u8]) -> Outcome {
        let mut payloads = vec![];
        while let Some(declared) = format.peek(bytes) {
            let len: u64 = match declared {
                Ok(len) => len.into(),
                Err(BadLength { value }) => {
                    let end = DecodeEnd::BadLength { value: value.into() };
                    return Outcome { payloads, end, left: vec![] };
                }
            };
            if len > MAX.into() {
                let end = DecodeEnd::TooLarge { declared: len };
                return Outcome { payloads, end, left: vec![] };
            }
            let behind = &bytes[format.header_len()..];
            let Some((payload, rest)) = behind.split_at_checked(len as usize) else { break };
            payloads.push(payload.to_vec());
            bytes = rest;
        }
        Outcome { payloads, end: DecodeEnd::Exhausted, left: bytes.to_vec() }
    }

    /// Feeds `stream` in chunks; of each chunk as much goes through the room as `use_room` allows.
    fn decode_in_chunks<F: Format>(format: F, stream: &[u8], chunks: &[(usize, bool)]) -> Outcome {
        let mut decoder = Decoder::with_format(format, MAX);
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
            let end = match decoded.end {
                DecodeEnd::Exhausted => continue,
                DecodeEnd::Fence => DecodeEnd::Fence,
                DecodeEnd::TooLarge { declared } => {
                    DecodeEnd::TooLarge { declared: declared.into() }
                }
                DecodeEnd::BadLength { value } => DecodeEnd::BadLength { value: value.into() },
            };
            assert_eq!(decoder.capacity(), 0, "nothing is held of what is left alone");
            return Outcome { payloads, end, left: vec![] };
        }
        let held = decoder.held[..decoder.held_len()].to_vec();
        Outcome { payloads, end: DecodeEnd::Exhausted, left: held }
    }

    fn payloads_of(lens: &[usize]) -> Vec<Vec<u8>> {
        let payload = |(i, &len)| (0..len).map(|j| (i * 31 + j) as u8).collect();
        lens.iter().enumerate().map(payload).collect()
    }

    fn stream_of(payload_lens: &[usize]) -> Vec<u8> {
        let mut stream = vec![];
        for payload in payloads_of(payload_lens) {
            encode_frame(&payload, &mut stream);
        }
        stream
    }

    /// Frames of any format; the bytes before a length are not looked at, so they are any too.
    fn stream_in(format: LengthFormat, payload_lens: &[usize]) -> Vec<u8> {
        let mut stream = vec![];
        for payload in payloads_of(payload_lens) {
            let begin = stream.len();
            let said = format.encode(payload.len() as u64, &mut stream);
            said.expect("a length that the format can say");
            stream[begin..begin + format.length_at().start].fill(0xa5);
            stream.extend_from_slice(&payload);
        }
        stream
    }

    fn format(name: &str, offset: u16, adjust: i64) -> LengthFormat {
        let format = LengthFormat::parse(name).and_then(|format| format.with_offset(offset));
        format.and_then(|format| format.with_adjust(adjust)).expect("a format")
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
        let whole = decode_whole(U32Be, &stream);
        assert_eq!(whole.payloads.len(), 2);
        for split in 1..stream.len() {
            for use_room in [false, true] {
                let chunks = [(split, use_room), (stream.len(), use_room)];
                assert_eq!(decode_in_chunks(U32Be, &stream, &chunks), whole, "split at {split}");
            }
        }
    }

    #[test]
    fn two_frames_of_any_format_split_at_every_offset_come_out_the_same() {
        let formats = [
            (format("u8", 0, 0), [3, 250]),
            (format("u16le", 0, 0), [3, 700]),
            (format("u24le", 0, 0), [0, 700]),
            (format("u32be", 1, -4), [5, 700]),
            (format("u64be+incl", 0, 0), [3, 700]),
            (format("u16be", 2, -3), [0, 700]),
            (format("u24be", 0, 6), [6, 700]),
            (format("u16be+incl", MAX_OFFSET, 0), [0, 700]),
        ];
        for (format, lens) in formats {
            let stream = stream_in(format, &lens);
            for split in 1..stream.len() {
                for use_room in [false, true] {
                    let chunks = [(split, use_room), (stream.len(), use_room)];
                    let found = decode_in_chunks(format, &stream, &chunks);
                    assert_eq!(found.payloads, payloads_of(&lens), "{format} split at {split}");
                    assert_eq!((found.end, found.left), (DecodeEnd::Exhausted, vec![]), "{format}");
                }
            }
        }
    }

    #[test]
    fn a_length_that_does_not_count_its_own_header_ends_the_stream_in_every_chunking() {
        let format = format("u32le+incl", 2, 0);
        let good = stream_in(format, &[7]);
        for value in 0..6 {
            let mut stream = good.clone();
            format.encode_raw(value, &mut stream);
            stream.extend_from_slice(b"what follows");
            for split in 1..stream.len() {
                for use_room in [false, true] {
                    let chunks = [(split, use_room), (stream.len(), use_room)];
                    let found = decode_in_chunks(format, &stream, &chunks);
                    assert_eq!(found.payloads, payloads_of(&[7]), "the frame before it is found");
                    assert_eq!(found.end, DecodeEnd::BadLength { value }, "split at {split}");
                }
            }
        }
    }

    #[test]
    fn a_length_of_64_bits_is_refused_above_the_limit_and_costs_nothing() {
        for (format, value, declared) in [
            (format("u64be", 0, 0), u64::MAX, u64::MAX),
            (format("u64le", 0, 0), 1 << 63, 1 << 63),
            (format("u64le+incl", 0, 0), 1 << 32, (1 << 32) - 8),
            (format("u64be", 0, 1), u64::MAX - 1, u64::MAX),
        ] {
            let mut header = vec![];
            format.encode_raw(value, &mut header);
            for (max_payload, split) in [(MAX, 5), (u32::MAX - 8, 5), (MAX, 0), (u32::MAX - 8, 0)] {
                let mut decoder = Decoder::with_format(format, max_payload);
                let begun = decoder.decode(0, &header[..split], usize::MAX);
                assert_eq!(begun.end, DecodeEnd::Exhausted);
                let decoded = decoder.decode(0, &header[split..], usize::MAX);
                assert_eq!(decoded.end, DecodeEnd::TooLarge { declared }, "{format}");
                assert_eq!(decoder.capacity(), 0, "a refused length costs no memory");
            }
        }
    }

    #[test]
    fn the_default_format_finds_what_the_same_format_chosen_at_run_time_finds() {
        let mut stream = stream_of(&[3, 0, 700]);
        stream.extend_from_slice(b"GET / HTTP/1.1");
        for size in 1..stream.len() {
            let chunks = [(size, size % 2 == 0)];
            let found = decode_in_chunks(LengthFormat::U32_BE, &stream, &chunks);
            assert_eq!(found, decode_in_chunks(U32Be, &stream, &chunks), "{size}");
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
            prop_assert_eq!(decode_in_chunks(U32Be, &stream, &chunks), decode_whole(U32Be, &stream));
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
            prop_assert_eq!(decode_in_chunks(U32Be, &stream, &chunks), decode_whole(U32Be, &stream));
        }

        #[test]
        fn any_chunking_finds_the_same_frames_of_any_format(
            format in any_format(),
            lens in prop::collection::vec(0u64..1100, 0..10),
            raw in prop::option::of(prop_oneof![any::<u64>(), 0..300u64]),
            tail in prop::collection::vec(any::<u8>(), 0..300),
            chunks in prop::collection::vec((1usize..700, any::<bool>()), 1..30),
        ) {
            let sayable = |len: &u64| (*len).clamp(format.min_payload(), format.max_payload()) as usize;
            let lens: Vec<usize> = lens.iter().map(sayable).collect();
            let mut stream = stream_in(format, &lens);
            if let Some(value) = raw {
                format.encode_raw(value, &mut stream);
            }
            stream.extend_from_slice(&tail);
            let whole = decode_whole(format, &stream);
            prop_assert_eq!(decode_in_chunks(format, &stream, &chunks), whole);
        }
    }
}
