//! The decoder with any length format, against a naive one that sees everything received at once.

use std::ops::Range;

use trust_wire::decoder::DecodeEnd;
use trust_wire::{Decoder, LengthFormat};

use crate::choices::Choices;
use crate::decoder::{CHUNKS_MAX, MAX_PAYLOADS, MIN_ROOM, fill_room};

/// Length fields: name, width in bytes, whether the first byte is the lowest.
const FIELDS: [(&str, usize, bool); 9] = [
    ("u8", 1, false),
    ("u16be", 2, false),
    ("u16le", 2, true),
    ("u24be", 3, false),
    ("u24le", 3, true),
    ("u32be", 4, false),
    ("u32le", 4, true),
    ("u64be", 8, false),
    ("u64le", 8, true),
];

/// Input: the length field, whose highest bit says whether it counts its header; the offset; the
/// adjustment, from -128 to 127; the limit, the fence, the number of chunk sizes (0: all at once),
/// the sizes, the stream. A fence below 128 means none. The highest bit of a size says whether to
/// use the room; a size of 0 is the rest of the stream.
///
/// # Panics
///
/// If the decoder's findings differ from the naive one's.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let naive = Naive::choose(&mut choices);
    let Some(format) = naive.format() else { return };
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
    let mut decoder = Decoder::with_format(format, max_payload);
    let mut received = 0;
    let mut answered = 0;
    let mut found = 0;
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
        let decoded = decoder.decode(in_room, &bytes[in_room..], fence.saturating_sub(received));
        received += size;

        let whole = naive.decode(&stream[..received], fence, max_payload);
        assert_eq!(decoded.frames().byte_len(), whole.begun - answered, "bytes of whole frames");
        let due = whole.payloads[found..].iter().map(|range| &stream[range.clone()]);
        assert_eq!(decoded.count as usize, due.len(), "the number of frames");
        found += due.len();
        assert!(decoded.frames().into_iter().eq(due), "payloads, after {received} bytes");
        answered = whole.begun;

        assert_eq!(decoded.end, whole.end, "after {received} bytes");
        if whole.end != DecodeEnd::Exhausted {
            assert_eq!(decoder.capacity(), 0, "nothing is held of what is left alone");
            break;
        }
        let have = received - whole.begun;
        assert_eq!(
            (decoder.held_len(), decoder.needed_len()),
            (have, whole.needed),
            "what is held"
        );
        let spare = decoder.capacity() - have;
        assert!(spare <= have.max(MIN_ROOM), "{spare} bytes of memory beside {have} that arrived");
    }
    for payload in naive.decode(&stream[..received], fence, max_payload).payloads {
        let mut header = vec![];
        format.encode(payload.len() as u64, &mut header).expect("what was declared can be said");
        let field = &stream[payload.start - naive.width..payload.start];
        assert_eq!(&header[format.length_at()], field, "the header of {} bytes", payload.len());
    }
}

/// The chosen format with its own arithmetic, in numbers that cannot overflow.
struct Naive {
    name: String,
    width: usize,
    is_little_endian: bool,
    offset: usize,
    /// What to add to the value of the length field.
    correction: i128,
    adjust: i8,
}

/// What the naive decoder finds in the bytes received so far.
struct Whole {
    payloads: Vec<Range<usize>>,
    end: DecodeEnd<u64>,
    /// Where the first incomplete frame begins.
    begun: usize,
    /// Its length when complete, as far as known.
    needed: usize,
}

impl Naive {
    fn choose(choices: &mut Choices) -> Naive {
        let field = choices.byte();
        let (name, width, is_little_endian) = FIELDS[usize::from(field & 127) % FIELDS.len()];
        let is_inclusive = field >= 128;
        let offset = usize::from(choices.byte());
        let adjust = choices.byte().cast_signed();
        let counted = if is_inclusive { offset + width } else { 0 };
        Naive {
            name: format!("{name}{}", if is_inclusive { "+incl" } else { "" }),
            width,
            is_little_endian,
            offset,
            correction: i128::from(adjust) - counted as i128,
            adjust,
        }
    }

    /// The library's format, if the choice is a valid one.
    fn format(&self) -> Option<LengthFormat> {
        let format = LengthFormat::parse(&self.name).expect("a name of a format");
        let offset = u16::try_from(self.offset).expect("it is a byte");
        let format =
            format.with_offset(offset).and_then(|format| format.with_adjust(self.adjust.into()));
        let largest = (1_i128 << (8 * self.width)) - 1 + self.correction;
        let is_one = self.offset < 255 && largest >= 0;
        assert_eq!(
            format.is_some(),
            is_one,
            "{} offset {} adjust {}",
            self.name,
            self.offset,
            self.adjust
        );
        format
    }

    fn decode(&self, bytes: &[u8], fence: usize, max_payload: u32) -> Whole {
        let header_len = self.offset + self.width;
        let mut payloads = vec![];
        let mut begun = 0;
        let mut needed = header_len;
        let end = loop {
            if begun >= fence && begun < bytes.len() {
                break DecodeEnd::Fence;
            }
            let Some(field) = bytes.get(begun + self.offset..begun + header_len) else {
                break DecodeEnd::Exhausted;
            };
            let mut value = 0;
            for (at, byte) in field.iter().enumerate() {
                let power = if self.is_little_endian { at } else { self.width - 1 - at };
                value += u64::from(*byte) << (8 * power);
            }
            let Ok(declared) = u64::try_from(i128::from(value) + self.correction) else {
                break DecodeEnd::BadLength { value };
            };
            if declared > u64::from(max_payload) {
                break DecodeEnd::TooLarge { declared };
            }
            let payload = begun + header_len..begun + header_len + declared as usize;
            if payload.end > bytes.len() {
                needed = payload.end - begun;
                break DecodeEnd::Exhausted;
            }
            begun = payload.end;
            payloads.push(payload);
        };
        Whole { payloads, end, begun, needed }
    }
}
