//! The decoder against the naive model, with any stream, limit, fence and way of receiving.

use trust_sim::model::{Model, Tail};
use trust_wire::decoder::DecodeEnd;
use trust_wire::{Decoder, Format, HEADER_LEN, Mode};

use crate::choices::Choices;

/// Limits on the payload; mostly small, so that few bytes make frames, and frames close to the
/// limit.
pub(crate) const MAX_PAYLOADS: [u32; 16] =
    [0, 1, 2, 3, 4, 5, 8, 16, 64, 200, 255, 256, 1000, 65_536, 0x7fff_ffff, u32::MAX];

/// The most chunk sizes; after the last one they repeat.
pub(crate) const CHUNKS_MAX: usize = 8;

/// Room, in bytes, that a frame gets without having earned it.
pub(crate) const MIN_ROOM: usize = 512;

/// Input: the limit, the fence, the number of chunk sizes (0: all at once), the sizes, the stream.
/// A fence below 128 means none. The highest bit of a size says whether to use the room; a size of
/// 0 is the rest of the stream.
///
/// # Panics
///
/// If the decoder's findings differ from what the model finds in the whole byte string.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let max_payload = choices.one_of(&MAX_PAYLOADS);
    let fence = match choices.byte() {
        fence @ 128.. => usize::from(fence - 128),
        _ => usize::MAX,
    };
    let count = usize::from(choices.byte()) % (CHUNKS_MAX + 1);
    let chunks = match choices.bytes(count) {
        [] => &[0],
        chunks => chunks,
    };
    let stream = choices.rest();
    let model = Model::of(stream, Mode::Framed, max_payload);
    let mut decoder = Decoder::new(max_payload);
    let mut received = 0;
    let mut answered = 0;
    for chunk in chunks.iter().cycle() {
        if received == stream.len() {
            break;
        }
        let size = match usize::from(chunk & 127) {
            0 => stream.len() - received,
            size => size.min(stream.len() - received),
        };
        let bytes = &stream[received..received + size];
        let in_room = if *chunk >= 128 { fill_room(&mut decoder, bytes) } else { 0 };
        let begun = decoder.held_len() + in_room;
        let decoded = decoder.decode(in_room, &bytes[in_room..], fence.saturating_sub(received));
        received += size;

        let due = model.answer_len(received, fence);
        let frames = decoded.frames();
        let [first, run] = frames.parts();
        assert_eq!(first.len() + run.len(), due - answered, "bytes of whole frames");
        assert!(begun > 0 || first.is_empty(), "a frame was put together although none was begun");
        let mut at = answered;
        let mut found = 0;
        for payload in frames {
            at += HEADER_LEN;
            assert_eq!(payload, &stream[at..at + payload.len()], "the payload after byte {at}");
            at += payload.len();
            found += 1;
        }
        assert_eq!(at, due, "frames with their headers");
        assert_eq!(decoded.count, found, "the number of frames");
        answered = due;

        let expected = expected_end(&model, received, fence, answered);
        assert_eq!(decoded.end, expected, "after {received} bytes");
        if expected != DecodeEnd::Exhausted {
            assert_eq!(decoder.held_len(), 0, "nothing is held of what is left alone");
            return;
        }
        check_held(&decoder, model.tail(received, fence));
    }
}

/// Receives the front of `bytes` into the unfinished frame's room; returns how many bytes fitted.
pub(crate) fn fill_room<F: Format>(decoder: &mut Decoder<F>, bytes: &[u8]) -> usize {
    let missing = decoder.needed_len() - decoder.held_len();
    let is_begun = decoder.held_len() > 0;
    let room = decoder.room();
    assert!(room.len() <= missing, "the room ends with the frame");
    assert_eq!(is_begun, !room.is_empty(), "there is room while a frame is unfinished");
    // Bytes that were not received must not be read.
    room.fill(0xa5);
    let in_room = room.len().min(bytes.len());
    room[..in_room].copy_from_slice(&bytes[..in_room]);
    in_room
}

fn expected_end(model: &Model, received: usize, fence: usize, answered: usize) -> DecodeEnd {
    match model.tail(received, fence) {
        Tail::TooLarge { declared } => DecodeEnd::TooLarge { declared },
        Tail::Nothing if received > answered => DecodeEnd::Fence,
        Tail::Nothing | Tail::Unfinished { .. } => DecodeEnd::Exhausted,
    }
}

fn check_held(decoder: &Decoder, tail: Tail) {
    let (have, need) = match tail {
        Tail::Unfinished { have, need, .. } => (have, need),
        Tail::Nothing | Tail::TooLarge { .. } => (0, HEADER_LEN),
    };
    assert_eq!((decoder.held_len(), decoder.needed_len()), (have, need), "what is held");
    let spare = decoder.capacity() - have;
    assert!(spare <= have.max(MIN_ROOM), "{spare} bytes of memory beside {have} that arrived");
}
