use super::*;
use crate::format::tests::any_format;
use crate::format::{LengthFormat, MAX_OFFSET};
use crate::frame::{HEADER_LEN, encode_frame};
use alloc::vec;
use proptest::prelude::*;

const MAX: u32 = 1000;

/// What a receiver of the whole byte string would find: payloads, and how decoding ends.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    payloads: Vec<Vec<u8>>,
    end: DecodeEnd<u64>,
    left: Vec<u8>,
}

/// The naive decoder: it sees the whole stream at once.
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
        let body = &bytes[format.header_len()..];
        let Some((payload, rest)) = body.split_at_checked(len as usize) else { break };
        payloads.push(payload.to_vec());
        bytes = rest;
    }
    Outcome { payloads, end: DecodeEnd::Exhausted, left: bytes.to_vec() }
}

/// Feeds `stream` in chunks; if a chunk's flag is set, as much of it as fits goes through the room.
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
            DecodeEnd::TooLarge { declared } => DecodeEnd::TooLarge { declared: declared.into() },
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

/// Frames of any format; the bytes before a length are ignored, so they are arbitrary.
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
