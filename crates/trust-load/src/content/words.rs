//! Words of a table, each combined with a key: written, and compared.
#![allow(unsafe_code, reason = "two calls of functions that need AVX2, see each SAFETY line")]

/// Bytes of a word.
pub(super) const WORD: usize = size_of::<u64>();

/// From that many bytes on AVX2 gains more than it costs to ask for it.
#[cfg(target_arch = "x86_64")]
const WIDE_MIN: usize = 256;

/// Writes the words, each with the key, as far as there is room: at least as many words as that
/// takes.
#[inline(always)]
pub(super) fn fill(words: &[u64], key: u64, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if out.len() >= WIDE_MIN && std::is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has AVX2.
        return unsafe { fill_wide(words, key, out) };
    }
    fill_any(words, key, out);
}

/// Whether `got` is what [`fill`] writes.
#[inline(always)]
pub(super) fn are(words: &[u64], key: u64, got: &[u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if got.len() >= WIDE_MIN && std::is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has AVX2.
        return unsafe { are_wide(words, key, got) };
    }
    are_any(words, key, got)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fill_wide(words: &[u64], key: u64, out: &mut [u8]) {
    fill_any(words, key, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn are_wide(words: &[u64], key: u64, got: &[u8]) -> bool {
    are_any(words, key, got)
}

#[inline(always)]
fn fill_any(words: &[u64], key: u64, out: &mut [u8]) {
    let (chunks, tail) = out.as_chunks_mut::<WORD>();
    let (whole, rest) = words.split_at(chunks.len());
    for (chunk, word) in chunks.iter_mut().zip(whole) {
        *chunk = (word ^ key).to_le_bytes();
    }
    if !tail.is_empty() {
        tail.copy_from_slice(&(rest[0] ^ key).to_le_bytes()[..tail.len()]);
    }
}

#[inline(always)]
fn are_any(words: &[u64], key: u64, got: &[u8]) -> bool {
    let (chunks, tail) = got.as_chunks::<WORD>();
    let (whole, rest) = words.split_at(chunks.len());
    // Without a branch a word, so that several are compared at once.
    let differing = chunks
        .iter()
        .zip(whole)
        .fold(0, |differing, (chunk, word)| differing | (u64::from_le_bytes(*chunk) ^ word ^ key));
    differing == 0 && (tail.is_empty() || (rest[0] ^ key).to_le_bytes().starts_with(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u64 = 0x0123_4567_89ab_cdef;

    /// Lengths without AVX2 and with it, with tails of every length.
    const LENGTHS: std::ops::Range<usize> = 240..280;

    fn words() -> Vec<u64> {
        (1..40).map(|word: u64| word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
    }

    #[test]
    fn any_length_is_the_front_of_the_words_with_the_key() {
        let all: Vec<u8> = words().iter().flat_map(|word| (word ^ KEY).to_le_bytes()).collect();
        for len in LENGTHS {
            let mut out = vec![0; len];
            fill(&words(), KEY, &mut out);
            assert!(out == all[..len], "{len} bytes");
            assert!(are(&words(), KEY, &out), "{len} bytes");
        }
    }

    #[test]
    fn one_bit_that_differs_is_seen_wherever_it_is() {
        for len in LENGTHS {
            let mut out = vec![0; len];
            fill(&words(), KEY, &mut out);
            for at in 0..len {
                out[at] ^= 1 << (at % 8);
                assert!(!are(&words(), KEY, &out), "byte {at} of {len}");
                out[at] ^= 1 << (at % 8);
            }
        }
    }
}
