//! What is sent on each connection, and so what has to come back, as a stream of bytes.

use trust_cli::framing::Framing;

use crate::content::{Content, Payload};
use crate::sizes::Sizes;

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// All that is sent, on any connection: the same for the same seed.
#[derive(Clone, Debug)]
pub struct Script {
    framing: Framing,
    sizes: Sizes,
    content: Content,
    /// The header of all messages, if they are of one size.
    header: Option<Header>,
    batch: Option<Batch>,
}

/// What lets whole messages of one size be written and compared without a look at their parts: a
/// header that is in one word, which their first bytes are as well.
#[derive(Clone, Copy, Debug)]
struct Batch {
    /// The header, and zeros instead of the payload after it.
    word: u64,
    /// The header's bytes of that word.
    mask: u64,
    header_len: usize,
    /// Bytes of a message.
    len: usize,
}

/// One message as it goes over the wire: header, payload, and what ends it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    header: Header,
    payload: Payload<'a>,
    trailer: &'static [u8],
}

/// Bytes in front of a payload: zeros and the length field.
#[derive(Clone, Copy, Debug)]
struct Header {
    /// The length field, its first byte first; what follows it is not used.
    field: [u8; 8],
    zeros: usize,
    len: usize,
    payload_len: usize,
}

impl Script {
    /// How messages are told apart.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Messages of these sizes, each of which the framing can say.
    ///
    /// # Panics
    ///
    /// If a message could have no bytes at all, which no server can send back.
    pub fn new(framing: Framing, sizes: Sizes, seed: u64) -> Script {
        assert!(framing.overhead() > 0 || sizes.min() > 0, "every message has bytes on the wire");
        let content = match framing {
            Framing::Line => Content::of_letters(seed),
            Framing::Length(_) | Framing::Raw => Content::of_bytes(seed),
        };
        let header = (sizes.min() == sizes.max()).then(|| Header::new(&framing, sizes.max()));
        let batch = header.as_ref().and_then(|header| Batch::new(header, &framing));
        Script { framing, sizes, content, header, batch }
    }

    /// Writes whole messages from number `from` on, at most `most`, as far as there is room; how
    /// many. None is written if this takes looking at each: then [`Script::message`] does it.
    pub fn fill_whole(&self, key: u64, from: u64, most: u64, out: &mut [u8]) -> u64 {
        let Some(batch) = &self.batch else { return 0 };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let messages = out.chunks_exact_mut(batch.len).take(most);
        let mut number = from;
        for message in messages {
            message[..WORD].copy_from_slice(&batch.word.to_le_bytes());
            self.content.payload(key, number).fill(0, &mut message[batch.header_len..]);
            number += 1;
        }
        number - from
    }

    /// How many whole messages from number `from` on, at most `most`, stand right at the front of
    /// `bytes`. The first that is not among them may be wrong, or not whole, or one that takes a
    /// closer look.
    pub fn count_right(&self, key: u64, from: u64, most: u64, bytes: &[u8]) -> u64 {
        let Some(batch) = &self.batch else { return 0 };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let messages = bytes.chunks_exact(batch.len).take(most);
        let mut number = from;
        for message in messages {
            let word = message.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
            let payload = self.content.payload(key, number);
            if (word ^ batch.word) & batch.mask != 0
                || payload.mismatch(0, &message[batch.header_len..]).is_some()
            {
                break;
            }
            number += 1;
        }
        number - from
    }

    /// What all messages of a connection have in common.
    pub fn key(&self, connection: u64) -> u64 {
        self.content.key(connection)
    }

    /// Message `number`, from 0, of the connection with that key.
    #[inline]
    pub fn message(&self, key: u64, number: u64) -> Message<'_> {
        let payload = self.content.payload(key, number);
        let header = match self.header {
            Some(header) => header,
            None => Header::new(&self.framing, self.sizes.pick(payload.random())),
        };
        let trailer: &[u8] = if self.framing == Framing::Line { b"\n" } else { b"" };
        Message { header, payload, trailer }
    }
}

impl Batch {
    fn new(header: &Header, framing: &Framing) -> Option<Batch> {
        let len = header.len + header.payload_len;
        if *framing == Framing::Line || header.len > WORD || len < WORD {
            return None;
        }
        let mut word = [0; WORD];
        header.fill(0, &mut word[..header.len]);
        let mut mask = [0; WORD];
        mask[..header.len].fill(u8::MAX);
        let (word, mask) = (u64::from_le_bytes(word), u64::from_le_bytes(mask));
        Some(Batch { word, mask, header_len: header.len, len })
    }
}

impl Message<'_> {
    /// Bytes of all of it.
    #[inline]
    pub fn wire_len(&self) -> usize {
        self.header.len + self.header.payload_len + self.trailer.len()
    }

    /// Bytes in front of the payload.
    pub fn header_len(&self) -> usize {
        self.header.len
    }

    /// Bytes of the payload.
    pub fn payload_len(&self) -> usize {
        self.header.payload_len
    }

    /// Writes its bytes from `offset` on, as many as there are and fit; how many.
    #[inline]
    pub fn fill(&self, offset: usize, out: &mut [u8]) -> usize {
        let len = out.len().min(self.wire_len() - offset);
        let out = &mut out[..len];
        let [header, payload, trailer] = self.parts(offset, len);
        self.header.fill(offset, &mut out[..header]);
        self.payload.fill(self.in_payload(offset), &mut out[header..header + payload]);
        out[header + payload..].copy_from_slice(&self.trailer[..trailer]);
        len
    }

    /// Where `got`, which should be its bytes from `offset` on and goes not beyond its end, first
    /// differs: an index into it, and the byte that should be there.
    #[inline]
    pub fn mismatch(&self, offset: usize, got: &[u8]) -> Option<(usize, u8)> {
        let [header, payload, trailer] = self.parts(offset, got.len());
        let (front, rest) = got.split_at(header);
        if let Some(at) = self.header.mismatch(offset, front) {
            return Some((at, self.header.byte(offset + at)));
        }
        let (middle, end) = rest.split_at(payload);
        let in_payload = self.in_payload(offset);
        if let Some(at) = self.payload.mismatch(in_payload, middle) {
            return Some((header + at, self.payload.byte(in_payload + at)));
        }
        let wrong = (0..trailer).find(|at| end[*at] != self.trailer[*at]);
        wrong.map(|at| (header + payload + at, self.trailer[at]))
    }

    /// How many of the `len` bytes from `offset` on belong to header, payload and trailer.
    #[inline]
    fn parts(&self, offset: usize, len: usize) -> [usize; 3] {
        let header = self.header.len.saturating_sub(offset).min(len);
        let payload =
            (self.header.len + self.header.payload_len).saturating_sub(offset).min(len) - header;
        [header, payload, len - header - payload]
    }

    fn in_payload(&self, offset: usize) -> usize {
        offset.saturating_sub(self.header.len)
    }
}

impl Header {
    fn new(framing: &Framing, payload_len: u32) -> Header {
        let Framing::Length(format) = framing else {
            return Header { field: [0; 8], zeros: 0, len: 0, payload_len: payload_len as usize };
        };
        let value =
            format.value_of(payload_len.into()).expect("sizes are those that the framing can say");
        let field = match format.is_big_endian() {
            true => (value << (u64::BITS as usize - 8 * format.width())).to_be_bytes(),
            false => value.to_le_bytes(),
        };
        let (zeros, len) = (format.length_at().start, format.header_len());
        Header { field, zeros, len, payload_len: payload_len as usize }
    }

    /// Its bytes from `offset` on.
    #[inline]
    fn fill(&self, offset: usize, out: &mut [u8]) {
        // Most headers are nothing but a length, and all of it is asked for.
        if self.zeros == 0 && offset == 0 {
            out.copy_from_slice(&self.field[..out.len()]);
            return;
        }
        for (at, byte) in out.iter_mut().enumerate() {
            *byte = self.byte(offset + at);
        }
    }

    /// Where `got`, its bytes from `offset` on, first differs.
    #[inline]
    fn mismatch(&self, offset: usize, got: &[u8]) -> Option<usize> {
        if self.zeros == 0 && offset == 0 && *got == self.field[..got.len()] {
            return None;
        }
        (0..got.len()).find(|at| got[*at] != self.byte(offset + at))
    }

    fn byte(&self, at: usize) -> u8 {
        at.checked_sub(self.zeros).map_or(0, |at| self.field[at])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framing(text: &str, offset: u16) -> Framing {
        match Framing::parse(text).expect("a framing") {
            Framing::Length(format) => {
                Framing::Length(format.with_offset(offset).expect("an offset"))
            }
            other => other,
        }
    }

    fn script(framing: Framing, sizes: &str) -> Script {
        Script::new(framing, Sizes::parse(sizes).expect("sizes"), 1)
    }

    #[test]
    fn a_message_is_what_the_framing_makes_of_its_payload() {
        let names = [
            "u8",
            "u16be",
            "u16le",
            "u24le",
            "u32be",
            "u32le+incl",
            "u64be",
            "u64le+incl",
            "raw",
            "line",
        ];
        for (name, offset) in names.iter().flat_map(|name| [(name, 0), (name, 3)]) {
            let framing = framing(name, offset);
            let script = script(framing, "100");
            let message = script.message(script.key(3), 4);
            let mut bytes = vec![0; message.wire_len()];
            assert_eq!(message.fill(0, &mut bytes), bytes.len());
            let payload = &bytes[message.header_len()..message.header_len() + 100];
            assert_eq!(bytes, framing.encode(payload), "{name}");
            assert_eq!(message.mismatch(0, &bytes), None);
        }
    }

    #[test]
    fn many_messages_at_once_are_those_that_they_are_one_by_one() {
        let names = ["u8", "u16be", "u24le", "u32be", "u32le+incl", "u64be", "raw", "line"];
        let sizes = ["1", "7", "8", "64", "100", "64,100"];
        let scripts = names.iter().flat_map(|name| sizes.map(|sizes| (*name, sizes)));
        for (name, sizes) in scripts {
            for offset in [0, 3] {
                let script = script(framing(name, offset), sizes);
                let key = script.key(1);
                let mut one_by_one = vec![];
                for number in 5..25 {
                    let message = script.message(key, number);
                    let start = one_by_one.len();
                    one_by_one.resize(start + message.wire_len(), 0);
                    message.fill(0, &mut one_by_one[start..]);
                }
                let mut at_once = vec![0; one_by_one.len() + 3];
                let written = script.fill_whole(key, 5, 20, &mut at_once);
                assert!([0, 20].contains(&written), "{name} {sizes}");
                let is_usual = (name, sizes, offset) == ("u32be", "64", 0);
                assert!(written > 0 || !is_usual, "what is usual is not slow");
                if written == 0 {
                    assert_eq!(script.count_right(key, 5, 20, &one_by_one), 0);
                    continue;
                }
                assert_eq!(at_once[..one_by_one.len()], one_by_one, "{name} {sizes}");
                assert_eq!(script.count_right(key, 5, 20, &at_once), 20);
                assert_eq!(script.count_right(key, 5, 7, &at_once), 7);
                for wrong in (0..one_by_one.len()).step_by(3) {
                    let message = wrong / (one_by_one.len() / 20);
                    at_once[wrong] ^= 0x40;
                    assert_eq!(script.count_right(key, 5, 20, &at_once), message as u64);
                    at_once[wrong] ^= 0x40;
                }
            }
        }
    }

    #[test]
    fn sizes_vary_as_asked_and_are_told_without_those_before() {
        let script = script(Framing::Raw, "1,1000");
        let large = (0..1000)
            .filter(|number| script.message(script.key(1), *number).wire_len() == 1000)
            .count();
        assert!((400..600).contains(&large), "{large}");
        let again = script.clone();
        assert_eq!(script.message(7, 5).wire_len(), again.message(7, 5).wire_len());
    }

    proptest! {
        #[test]
        fn any_wrong_byte_of_any_piece_is_found(
            from in 0..110_usize,
            len in 0..110_usize,
            wrong in any::<prop::sample::Index>(),
            is_line in any::<bool>(),
        ) {
            let script = script(if is_line { Framing::Line } else { framing("u32be", 2) }, "100");
            let message = script.message(script.key(1), 2);
            let mut whole = vec![0; message.wire_len()];
            message.fill(0, &mut whole);
            let from = from.min(whole.len());
            let mut piece = vec![0; len];
            let filled = message.fill(from, &mut piece);
            prop_assert_eq!(filled, len.min(whole.len() - from));
            piece.truncate(filled);
            prop_assert_eq!(&piece, &whole[from..from + filled]);
            prop_assert_eq!(message.mismatch(from, &piece), None);
            if filled > 0 {
                let wrong = wrong.index(filled);
                piece[wrong] ^= 1;
                prop_assert_eq!(message.mismatch(from, &piece), Some((wrong, whole[from + wrong])));
            }
        }
    }
}
