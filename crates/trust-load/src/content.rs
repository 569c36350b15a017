//! Payloads that a seed and their place decide, cheap to make and to compare.

mod words;

use trust_cli::random::{GAMMA, SplitMix, mix};

use crate::content::words::WORD;

/// Words of the table: 4 KiB, so that it stays in the first-level cache beside everything else.
const TABLE_WORDS: usize = 512;

/// Bytes of a payload that have a key of their own.
const BLOCK: usize = TABLE_WORDS * WORD;

/// Bits of a letter that vary, in each byte, and those that make it one: `@` to `_`, no newline
/// among them.
const LETTER_VARIES: u64 = 0x1f1f_1f1f_1f1f_1f1f;
const LETTER_FIXED: u64 = 0x4040_4040_4040_4040;

/// All payloads that a seed decides.
///
/// A payload is a table of random words, each combined with a key that its connection, its message
/// and the block of the payload decide. So any byte can be told without those before it, and two
/// payloads have nothing in common: one that comes back on another connection, twice or in another
/// place is seen.
#[derive(Clone, Debug)]
pub struct Content {
    table: Box<[u64; TABLE_WORDS]>,
    seed: u64,
    /// Bits of a key that are used.
    varying: u64,
}

/// The payload of one message.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    table: &'a [u64; TABLE_WORDS],
    key: u64,
    varying: u64,
}

impl Content {
    /// Payloads of any bytes.
    pub fn of_bytes(seed: u64) -> Content {
        Content::new(seed, u64::MAX, 0)
    }

    /// Payloads of printable ASCII without spaces and newlines.
    pub fn of_letters(seed: u64) -> Content {
        Content::new(seed, LETTER_VARIES, LETTER_FIXED)
    }

    fn new(seed: u64, varying: u64, fixed: u64) -> Content {
        let mut random = SplitMix::new(seed);
        let mut table = Box::new([0; TABLE_WORDS]);
        table.fill_with(|| random.next_u64() & varying | fixed);
        Content { table, seed: random.next_u64(), varying }
    }

    /// What all payloads of a connection have in common.
    pub fn key(&self, connection: u64) -> u64 {
        mix(self.seed ^ connection.wrapping_mul(GAMMA))
    }

    /// The payload of a message of the connection with that key.
    #[inline]
    pub fn payload(&self, key: u64, message: u64) -> Payload<'_> {
        // Different for each message, which is all that is asked of it: the table is random enough.
        let key = key.wrapping_add(message.wrapping_mul(GAMMA));
        Payload { table: &self.table, key, varying: self.varying }
    }
}

impl Payload<'_> {
    /// A number for whatever else is to be random about this message.
    pub fn random(&self) -> u64 {
        mix(!self.key)
    }

    /// Writes the bytes from `offset` on.
    #[inline(always)]
    pub fn fill(&self, offset: usize, out: &mut [u8]) {
        if offset == 0 && out.len() <= BLOCK {
            return words::fill(self.table, self.key & self.varying, out);
        }
        self.fill_runs(offset, out);
    }

    /// Not with [`Payload::fill`], so that the short payloads' way is a few instructions where it
    /// is used.
    #[inline(never)]
    fn fill_runs(&self, offset: usize, out: &mut [u8]) {
        let (mut place, mut out) = (offset, out);
        while !out.is_empty() {
            let (words, key, len) = self.run(place, out.len());
            let (run, rest) = out.split_at_mut(len);
            match place % WORD {
                0 => words::fill(words, key, run),
                skipped => run.copy_from_slice(&(words[0] ^ key).to_le_bytes()[skipped..][..len]),
            }
            (place, out) = (place + len, rest);
        }
    }

    /// Where `got`, which should be the bytes from `offset` on, first differs from them: an index
    /// into it.
    #[inline(always)]
    pub fn mismatch(&self, offset: usize, got: &[u8]) -> Option<usize> {
        if offset == 0 && got.len() <= BLOCK && words::are(self.table, self.key & self.varying, got)
        {
            return None;
        }
        self.mismatch_in_runs(offset, got)
    }

    /// Not with [`Payload::mismatch`], as [`Payload::fill_runs`].
    #[inline(never)]
    fn mismatch_in_runs(&self, offset: usize, got: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < got.len() {
            let (words, key, len) = self.run(offset + at, got.len() - at);
            let run = &got[at..at + len];
            let is_right = match (offset + at) % WORD {
                0 => words::are(words, key, run),
                skipped => *run == (words[0] ^ key).to_le_bytes()[skipped..][..len],
            };
            if !is_right {
                return (at..at + len).find(|at| got[*at] != self.byte(offset + at));
            }
            at += len;
        }
        None
    }

    /// The byte at that place.
    pub fn byte(&self, place: usize) -> u8 {
        let (words, key) = self.words(place);
        (words[0] ^ key).to_le_bytes()[place % WORD]
    }

    /// What of the `len` bytes from that place on has one key and begins with a whole word, or is
    /// in one word: the words, the key, and how many bytes.
    #[inline]
    fn run(&self, place: usize, len: usize) -> (&[u64], u64, usize) {
        let (words, key) = self.words(place);
        let most = match place % WORD {
            0 => BLOCK - place % BLOCK,
            skipped => WORD - skipped,
        };
        (words, key, len.min(most))
    }

    /// The words of the table from that place to the end of its block, and the block's key.
    #[inline]
    fn words(&self, place: usize) -> (&[u64], u64) {
        let (block, in_block) = (place / BLOCK, place % BLOCK);
        let key = match block {
            0 => self.key,
            // Without the inner one the blocks of a message would be those of the next one, moved.
            _ => mix(mix(self.key).wrapping_add((block as u64).wrapping_mul(GAMMA))),
        };
        (&self.table[in_block / WORD..], key & self.varying)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn bytes(content: &Content, connection: u64, message: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        content.payload(content.key(connection), message).fill(0, &mut bytes);
        bytes
    }

    #[test]
    fn no_two_payloads_and_no_two_blocks_begin_alike() {
        let mut seen = HashSet::new();
        for seed in 0..3 {
            let content = Content::of_bytes(seed);
            for (connection, message) in (0..30).flat_map(|c| (0..30).map(move |m| (c, m))) {
                for block in bytes(&content, connection, message, 3 * BLOCK).chunks(BLOCK) {
                    assert!(seen.insert(block[..WORD].to_owned()));
                }
            }
        }
    }

    #[test]
    fn payloads_of_letters_have_only_those() {
        let letters = bytes(&Content::of_letters(1), 2, 3, 100_000);
        assert!(letters.iter().all(|byte| (b'@'..=b'_').contains(byte)));
        let kinds: HashSet<u8> = letters.into_iter().collect();
        assert_eq!(kinds.len(), 32);
    }

    #[test]
    fn a_wrong_bit_is_found_where_it_is() {
        let content = Content::of_bytes(1);
        let mut got = bytes(&content, 1, 1, BLOCK + 13);
        for bit in (0..8 * got.len()).step_by(5) {
            got[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(content.payload(content.key(1), 1).mismatch(0, &got), Some(bit / 8));
            got[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(content.payload(content.key(1), 1).mismatch(0, &got), None);
    }

    proptest! {
        #[test]
        fn any_piece_is_a_piece_of_the_whole(
            offset in 0..3 * BLOCK,
            len in 0..2 * BLOCK,
            wrong in any::<prop::sample::Index>(),
        ) {
            let content = Content::of_bytes(7);
            let whole = bytes(&content, 5, 9, 5 * BLOCK);
            let payload = content.payload(content.key(5), 9);
            let mut piece = vec![0; len];
            payload.fill(offset, &mut piece);
            prop_assert_eq!(&piece, &whole[offset..offset + len]);
            prop_assert_eq!(payload.mismatch(offset, &piece), None);
            if len > 0 {
                let wrong = wrong.index(len);
                piece[wrong] ^= 0x80;
                prop_assert_eq!(payload.mismatch(offset, &piece), Some(wrong));
            }
        }
    }
}
