//! The histogram in a line: Base64 around V2 or V2 deflate, decoded without trust in what it
//! declares.
//!
//! The library's deserializer is not used: it makes room for the bytes that a header declares, and
//! for every value that could come where this one holds those that came.

use std::array;
use std::io::{ErrorKind, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::ZlibDecoder;

/// Bytes of an inflated histogram: nine for each count of one that has all values of a day in
/// nanoseconds at three digits, with room for more digits where fewer values came.
pub const INFLATED_BYTES_MAX: usize = 8 << 20;

/// Counts that a histogram can have, whose room is 32 MiB: five digits of nanoseconds up to a day.
pub const COUNTS_MAX: u64 = 1 << 22;

/// Bytes before the counts: cookie, length, offset, digits, lowest and highest value, ratio.
const HEADER_BYTES: usize = 40;

/// A byte of the cookie has the size of a count, which is not what is encoded since V2: any will
/// do.
const COOKIE_MASK: u32 = 0xffff_ff0f;
const V2: u32 = 0x1c84_9303;
const V2_DEFLATE: u32 = 0x1c84_9304;
/// Plain and deflated V1, and V0.
const OLDER: [u32; 4] = [0x1c84_9301, 0x1c84_9302, 0x1c84_9308, 0x1c84_9309];

/// What decides which values a histogram distinguishes: only those that have it in common add up
/// exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Significant decimal digits, from 0 to 5.
    pub digits: u8,
    /// The lowest value that is told from 0.
    pub lowest: u64,
}

/// Decodes histograms, with room that it keeps for the next one.
#[derive(Debug, Default)]
pub struct Decoder {
    packed: Vec<u8>,
    plain: Vec<u8>,
    counts: Vec<(u64, u64)>,
}

impl Decoder {
    /// Decodes a line's last field.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn decode(&mut self, text: &[u8]) -> Result<Precision, String> {
        self.packed.clear();
        STANDARD
            .decode_vec(text, &mut self.packed)
            .map_err(|_| "the histogram is not Base64".to_owned())?;
        let (cookie, rest) = number(&self.packed)?;
        match cookie & COOKIE_MASK {
            V2 => decode_plain(&self.packed, &mut self.counts),
            V2_DEFLATE => {
                let (len, deflated) = number(rest)?;
                if deflated.len() != len as usize {
                    let found = deflated.len();
                    return Err(format!(
                        "the histogram declares {len} deflated bytes and has {found}"
                    ));
                }
                inflate(deflated, &mut self.plain)?;
                decode_plain(&self.plain, &mut self.counts)
            }
            older if OLDER.contains(&older) => {
                Err("the histogram has an older format, V0 or V1: only V2 is read".to_owned())
            }
            _ => Err("what should be a histogram is none".to_owned()),
        }
    }

    /// The lowest value and the count of each group of values that came, in the order of the
    /// values. Their sum fits 64 bits.
    pub fn counts(&self) -> &[(u64, u64)] {
        &self.counts
    }
}

fn inflate(deflated: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
    plain.clear();
    let mut inflating = ZlibDecoder::new(deflated);
    let bounded = inflating.by_ref().take(INFLATED_BYTES_MAX as u64 + 1).read_to_end(plain);
    bounded.map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => "the deflated histogram is not complete",
        _ => "the histogram cannot be inflated",
    })?;
    if plain.len() > INFLATED_BYTES_MAX {
        return Err(format!("the histogram has more than {INFLATED_BYTES_MAX} bytes"));
    }
    match inflating.total_in() == deflated.len() as u64 {
        true => Ok(()),
        false => Err("bytes follow the deflated histogram".to_owned()),
    }
}

/// Decodes V2 as it is before deflating.
fn decode_plain(bytes: &[u8], counts: &mut Vec<(u64, u64)>) -> Result<Precision, String> {
    let short = || format!("the histogram has {} bytes, which is too short", bytes.len());
    let (header, mut encoded) = bytes.split_first_chunk().ok_or_else(short)?;
    let buckets = Buckets::new(header, encoded.len())?;
    counts.clear();
    let (mut index, mut total) = (0u64, 0u64);
    while let [first, ..] = encoded {
        let number = varint(&mut encoded)
            .ok_or_else(|| format!("the histogram ends inside a count that begins with {first}"))?;
        // Zigzag: even numbers are counts, odd ones so many groups without any.
        let half = number >> 1;
        let groups = if number & 1 == 1 { half + 1 } else { 1 };
        if groups > buckets.len - index {
            let highest = buckets.highest;
            return Err(format!("the histogram has counts above its highest value, {highest}"));
        }
        if number & 1 == 0 && half > 0 {
            total = total.checked_add(half).ok_or("the histogram's counts exceed 64 bits")?;
            counts.push((buckets.value(index), half));
        }
        index += groups;
    }
    Ok(buckets.precision)
}

/// Where which values are counted.
struct Buckets {
    precision: Precision,
    highest: u64,
    /// Bits of a value below the lowest.
    unit_bits: u32,
    /// Bits that number the upper half of a bucket.
    half_bits: u32,
    /// Counts in all buckets.
    len: u64,
}

impl Buckets {
    /// Those of a header before so many bytes.
    fn new(header: &[u8; HEADER_BYTES], found: usize) -> Result<Buckets, String> {
        let word = |at: usize| u32::from_be_bytes(array::from_fn(|byte| header[at + byte]));
        let long = |at: usize| u64::from_be_bytes(array::from_fn(|byte| header[at + byte]));
        let [cookie, len, offset, digits] = [0, 4, 8, 12].map(word);
        let [lowest, highest, ratio] = [16, 24, 32].map(long);
        if cookie & COOKIE_MASK != V2 {
            return Err("what was deflated is no V2 histogram".to_owned());
        }
        if len as usize != found {
            return Err(format!("the histogram declares {len} bytes of counts and has {found}"));
        }
        if offset != 0 {
            return Err("the histogram's counts are shifted, which is not read".to_owned());
        }
        if f64::from_bits(ratio) != 1.0 {
            return Err("the histogram is one of fractions, which is not read".to_owned());
        }
        if digits > 5 {
            return Err(format!("the histogram has {digits} significant digits: 5 is the most"));
        }
        let is_range = lowest >= 1 && lowest <= highest / 2 && highest <= i64::MAX as u64;
        let unit_bits = lowest.checked_ilog2().unwrap_or(0);
        // Values up to twice the power of ten have a count each.
        let half_bits = 10u64.pow(digits).next_power_of_two().ilog2();
        // As other implementations have it.
        if !is_range || unit_bits + half_bits + 1 > 61 {
            let range = format!("{lowest} to {highest}");
            return Err(format!("the histogram's range cannot be: {range} at {digits} digits"));
        }
        // And from there each power of two has half as many.
        let buckets = (highest >> unit_bits >> half_bits).checked_ilog2().unwrap_or(0) + 1;
        let len = u64::from(buckets + 1) << half_bits;
        match len > COUNTS_MAX {
            true => {
                Err(format!("the histogram has room for {len} counts: {COUNTS_MAX} is the most"))
            }
            false => {
                let precision = Precision { digits: digits as u8, lowest };
                Ok(Buckets { precision, highest, unit_bits, half_bits, len })
            }
        }
    }

    /// The lowest value that is counted there.
    fn value(&self, index: u64) -> u64 {
        let above_first = (index >> self.half_bits).saturating_sub(1);
        (index - (above_first << self.half_bits)) << (above_first as u32 + self.unit_bits)
    }
}

/// Takes a number of up to nine bytes, the last of which has eight bits of it and the others seven.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    const LAST: usize = 8;
    let others = bytes.iter().take(LAST).take_while(|byte| **byte >= 0x80).count();
    let (number, rest) = bytes.split_at_checked(others + 1)?;
    *bytes = rest;
    let bits = |place| if place == LAST { 0xff } else { 0x7f };
    let parts = number.iter().enumerate();
    Some(parts.fold(0, |sum, (place, byte)| sum | u64::from(byte & bits(place)) << (7 * place)))
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), String> {
    let (first, rest) = bytes.split_first_chunk().ok_or("the histogram is too short")?;
    Ok((u32::from_be_bytes(*first), rest))
}

#[cfg(test)]
pub(crate) mod tests {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer, V2Serializer};
    use proptest::prelude::*;

    use super::*;

    /// As in a line.
    pub(crate) fn encoded(histogram: &Histogram<u64>) -> String {
        STANDARD.encode(deflated(histogram))
    }

    fn plain(histogram: &Histogram<u64>) -> Vec<u8> {
        let mut bytes = vec![];
        V2Serializer::new().serialize(histogram, &mut bytes).expect("it can be encoded");
        bytes
    }

    fn deflated(histogram: &Histogram<u64>) -> Vec<u8> {
        let mut bytes = vec![];
        V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("it can be encoded");
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<(Precision, Vec<(u64, u64)>), String> {
        let mut decoder = Decoder::default();
        let precision = decoder.decode(STANDARD.encode(bytes).as_bytes())?;
        Ok((precision, decoder.counts().to_vec()))
    }

    fn two_values() -> Histogram<u64> {
        let mut histogram = crate::timings::times();
        histogram.record_n(1_000_000, 3).expect("it is in range");
        histogram.record(7).expect("it is in range");
        histogram
    }

    /// One with these four bytes at a place.
    fn patched(place: usize, bytes: &[u8]) -> Vec<u8> {
        let mut histogram = plain(&two_values());
        histogram[place..place + bytes.len()].copy_from_slice(bytes);
        histogram
    }

    proptest! {
        #[test]
        fn what_another_implementation_encodes_is_decoded_as_it_is(
            digits in 0u8..=3,
            lowest in prop_oneof![Just(1u64), 1u64..5000],
            values in prop::collection::vec((0u64..1 << 40, 1u64..1 << 40), 0..20),
        ) {
            let mut histogram = Histogram::new_with_bounds(lowest, 1 << 40, digits).expect("legal");
            for (value, count) in values {
                histogram.record_n(value, count).expect("it is in range");
            }
            for bytes in [plain(&histogram), deflated(&histogram)] {
                let (precision, counts) = decode(&bytes).expect("it is a histogram");
                prop_assert_eq!(precision, Precision { digits, lowest });
                let mut again = Histogram::new_with_bounds(lowest, 1 << 40, digits).expect("legal");
                for (value, count) in counts {
                    again.record_n(value, count).expect("it is in range");
                }
                prop_assert_eq!(&again, &histogram);
                prop_assert_eq!((again.max(), again.min()), (histogram.max(), histogram.min()));
            }
        }
    }

    #[test]
    fn what_a_histogram_declares_is_checked_before_anything_is_made_for_it() {
        let cases: [(Vec<u8>, &str); 13] = [
            (vec![], "the histogram is too short"),
            (patched(0, &[0; 4]), "what should be a histogram is none"),
            (patched(3, &[0x11]), "the histogram has an older format, V0 or V1: only V2 is read"),
            (patched(4, &[0xff; 4]), "the histogram declares 4294967295 bytes of counts and has 6"),
            (patched(8, &[1]), "the histogram's counts are shifted, which is not read"),
            (patched(12, &[0, 0, 0, 6]), "the histogram has 6 significant digits: 5 is the most"),
            (
                patched(16, &[0; 8]),
                "the histogram's range cannot be: 0 to 3600000000000 at 3 digits",
            ),
            (
                patched(24, &[0xff; 8]),
                "the histogram's range cannot be: 1 to 18446744073709551615 at 3 digits",
            ),
            (
                patched(24, &[0, 0, 0, 0, 0, 0, 0, 9]),
                "the histogram has counts above its highest value, 9",
            ),
            (
                patched(15, &[5, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f]),
                "the histogram has room for 6160384 counts: 4194304 is the most",
            ),
            (patched(32, &[0x40, 0]), "the histogram is one of fractions, which is not read"),
            (plain(&two_values())[..39].to_vec(), "the histogram has 39 bytes, which is too short"),
            (patched(45, &[0x80]), "the histogram ends inside a count that begins with 128"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(&bytes).expect_err("it is wrong"), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn a_deflated_histogram_is_whole_and_nothing_follows_it() {
        let whole = deflated(&two_values());
        let with_length = |bytes: &[u8]| {
            let len = (bytes.len() as u32 - 8).to_be_bytes();
            [&bytes[..4], &len, &bytes[8..]].concat()
        };
        for len in 9..whole.len() {
            let problem = decode(&with_length(&whole[..len])).expect_err("its end is missing");
            assert_eq!(problem, "the deflated histogram is not complete", "{len}");
        }
        let problem = decode(&with_length(&[&whole[..], b"x"].concat())).expect_err("it has more");
        assert_eq!(problem, "bytes follow the deflated histogram");
        assert!(decode(&whole[..20]).expect_err("its length is wrong").contains("deflated bytes"));
        let mut flipped = whole.clone();
        flipped[20] ^= 1;
        decode(&flipped).expect_err("a bit was flipped");
    }

    #[test]
    fn a_deflate_bomb_stops_at_the_bound() {
        use std::io::Write;
        let mut bomb = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::best());
        bomb.write_all(&vec![0; 4 * INFLATED_BYTES_MAX]).expect("memory takes it");
        let bomb = bomb.finish().expect("memory takes it");
        let cookie = (V2_DEFLATE | 0x10).to_be_bytes();
        let bytes = [&cookie[..], &(bomb.len() as u32).to_be_bytes(), &bomb].concat();
        assert!(bytes.len() < 40_000, "{}", bytes.len());
        let mut decoder = Decoder::default();
        let problem = decoder.decode(STANDARD.encode(bytes).as_bytes()).expect_err("a bomb");
        assert_eq!(problem, "the histogram has more than 8388608 bytes");
        assert!(decoder.plain.capacity() <= 2 * INFLATED_BYTES_MAX);
    }

    #[test]
    fn counts_that_are_too_many_together_are_refused() {
        let most = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let header = &plain(&two_values())[8..40];
        let encode = |times: usize| {
            let counts = most.repeat(times);
            let len = (counts.len() as u32).to_be_bytes();
            [&(V2 | 0x10).to_be_bytes()[..], &len, header, &counts].concat()
        };
        let (_, counts) = decode(&encode(2)).expect("64 bits hold them");
        assert_eq!(counts, [(0, i64::MAX as u64), (1, i64::MAX as u64)]);
        let problem = decode(&encode(3)).expect_err("64 bits do not");
        assert_eq!(problem, "the histogram's counts exceed 64 bits");
    }
}
