//! The length-prefixed formats of other protocols: where a frame's length is, and what it counts.
//!
//! A frame is a header and a payload. The header is [`LengthFormat::header_len`] bytes: the length
//! field and the bytes before it. The payload is the rest of the frame, whatever it means in that
//! protocol.
//!
//! A [`crate::Decoder`] takes any [`Format`]. [`crate::U32Be`] is known at compile time and costs
//! nothing; a [`LengthFormat`] is chosen at run time.

use alloc::vec::Vec;
use core::error::Error;
use core::fmt::{self, Debug};
use core::ops::Range;

/// The most bytes before the length field. With a one-byte length field that makes a header of 255
/// bytes, the longest that such a field can still count.
pub const MAX_OFFSET: u16 = 254;

/// The largest adjustment of the length field's value, in bytes, up or down: far more than any
/// fields around a payload take, and small enough that no sum overflows.
pub const MAX_ADJUST: i64 = 65_536;

/// Widths of a length field in bytes, and their names.
const WIDTHS: [(&str, u8); 5] = [("u8", 1), ("u16", 2), ("u24", 3), ("u32", 4), ("u64", 8)];

/// Suffix of the name of a format whose length counts its own header.
const INCLUSIVE: &str = "+incl";

/// How a [`crate::Decoder`] reads headers.
///
/// ```
/// use trust_wire::{BadLength, Decoder, Format};
///
/// /// Two bytes, big-endian, whose highest bit is a flag.
/// #[derive(Clone, Copy)]
/// struct Flagged;
///
/// impl Format for Flagged {
///     type Length = u32;
///
///     fn header_len(&self) -> usize {
///         2
///     }
///
///     fn peek(&self, bytes: &[u8]) -> Option<Result<u32, BadLength<u32>>> {
///         let header = *bytes.first_chunk()?;
///         Some(Ok(u32::from(u16::from_be_bytes(header) & 0x7fff)))
///     }
/// }
///
/// let mut decoder = Decoder::with_format(Flagged, 1000);
/// let decoded = decoder.decode(0, b"\x80\x02hi\0\x01!", usize::MAX);
/// assert_eq!(decoded.frames().into_iter().collect::<Vec<_>>(), [&b"hi"[..], b"!"]);
/// ```
pub trait Format: Copy {
    /// Holds the value of a length field, and any length that a header declares.
    type Length: Copy + Debug + Eq + Into<u64>;

    /// Length of a header in bytes; constant, and at least 1.
    fn header_len(&self) -> usize;

    /// The payload length, in bytes, declared by the header at the front of `bytes`; `None` while
    /// the header is incomplete.
    fn peek(&self, bytes: &[u8]) -> Option<Result<Self::Length, BadLength<Self::Length>>>;
}

impl Format for LengthFormat {
    type Length = u64;

    fn header_len(&self) -> usize {
        LengthFormat::header_len(self)
    }

    fn peek(&self, bytes: &[u8]) -> Option<Result<u64, BadLength>> {
        bytes.get(..self.header_len()).map(|header| self.decode(header))
    }
}

/// Where a frame's length is, and what it counts.
///
/// Invariants: the length field can declare at least one payload, even if only an empty one; a
/// one-byte field is big-endian, so that equal formats compare equal.
///
/// ```
/// use trust_wire::{BadLength, LengthFormat};
///
/// // A byte for the kind of message, then a length that counts itself but not that byte.
/// let format = LengthFormat::parse("u32be")
///     .and_then(|format| format.with_offset(1)?.with_adjust(-4))
///     .expect("the offset and the adjustment are small");
/// assert_eq!(format.to_string(), "u32be offset 1 adjust -4");
/// assert_eq!(format.decode(b"Z\0\0\0\x05"), Ok(1));
/// assert_eq!(format.decode(b"Z\0\0\0\x03"), Err(BadLength { value: 3 }));
///
/// let mut header = vec![];
/// format.encode(1, &mut header)?;
/// assert_eq!(header, b"\0\0\0\0\x05");
/// # Ok::<(), trust_wire::CannotSay>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthFormat {
    /// Width of the length field in bytes.
    width: u8,
    is_big_endian: bool,
    /// Whether the length counts the header as well.
    is_inclusive: bool,
    /// Bytes before the length field.
    offset: u16,
    /// Added to the length field's value.
    adjust: i64,
}

/// A header whose length field says less than it must count, or more than fits in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLength<L = u64> {
    /// The value of the length field.
    pub value: L,
}

/// No header of the format declares a payload of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotSay {
    /// The length of the payload in bytes.
    pub payload_len: u64,
}

impl LengthFormat {
    /// The same format as [`crate::U32Be`].
    pub const U32_BE: LengthFormat =
        LengthFormat { width: 4, is_big_endian: true, is_inclusive: false, offset: 0, adjust: 0 };

    /// A name for each width, byte order and way of counting; first those that do not count the
    /// header.
    pub const NAMES: [&str; 18] = [
        "u8",
        "u16be",
        "u16le",
        "u24be",
        "u24le",
        "u32be",
        "u32le",
        "u64be",
        "u64le",
        "u8+incl",
        "u16be+incl",
        "u16le+incl",
        "u24be+incl",
        "u24le+incl",
        "u32be+incl",
        "u32le+incl",
        "u64be+incl",
        "u64le+incl",
    ];

    /// Parses a format's name: `u8`, `u16`, `u24`, `u32` or `u64`, then `be` or `le` (optional for
    /// `u8`), then optionally `+incl` if the length counts its own header.
    pub fn parse(text: &str) -> Option<LengthFormat> {
        let (field, is_inclusive) = match text.strip_suffix(INCLUSIVE) {
            Some(field) => (field, true),
            None => (text, false),
        };
        WIDTHS.iter().find_map(|&(name, width)| {
            let is_big_endian = match field.strip_prefix(name)? {
                "be" => true,
                "le" => width == 1,
                "" if width == 1 => true,
                _ => return None,
            };
            Some(LengthFormat { width, is_big_endian, is_inclusive, ..LengthFormat::U32_BE })
        })
    }

    /// The same format with `bytes` before the length field, which are zeros in encoded headers.
    /// `None` above [`MAX_OFFSET`], or if the field could not declare any payload.
    pub fn with_offset(self, bytes: u16) -> Option<LengthFormat> {
        let format = LengthFormat { offset: bytes, ..self };
        (bytes <= MAX_OFFSET && format.says_something()).then_some(format)
    }

    /// The same format with `bytes` added to the length field's value: negative if it counts more
    /// than the payload, positive if it counts less. `None` beyond [`MAX_ADJUST`], or if the field
    /// could not declare any payload.
    pub fn with_adjust(self, bytes: i64) -> Option<LengthFormat> {
        let format = LengthFormat { adjust: bytes, ..self };
        ((-MAX_ADJUST..=MAX_ADJUST).contains(&bytes) && format.says_something()).then_some(format)
    }

    /// Length of a header in bytes: the length field and the bytes before it.
    pub fn header_len(&self) -> usize {
        usize::from(self.offset) + self.width()
    }

    /// Where in the header the length field is.
    pub fn length_at(&self) -> Range<usize> {
        usize::from(self.offset)..self.header_len()
    }

    /// Width of the length field in bytes.
    pub fn width(&self) -> usize {
        usize::from(self.width)
    }

    /// Whether the length field's first byte is its highest; true for a one-byte field.
    pub fn is_big_endian(&self) -> bool {
        self.is_big_endian
    }

    /// The same format in the other byte order; unchanged if the length field has one byte.
    pub fn swapped(&self) -> LengthFormat {
        LengthFormat { is_big_endian: !self.is_big_endian || self.width == 1, ..*self }
    }

    /// The largest payload, in bytes, that a header can declare; at most `u64::MAX`.
    pub fn max_payload(&self) -> u64 {
        self.max_value().saturating_add_signed(self.correction())
    }

    /// The smallest payload, in bytes, that a header can declare.
    pub fn min_payload(&self) -> u64 {
        u64::try_from(self.correction()).unwrap_or(0)
    }

    /// The length, in bytes, of the payload after this header. It is the peer's claim and can be
    /// any value. Bytes after the header are ignored.
    ///
    /// # Errors
    ///
    /// If the length field says less than what it counts besides the payload, or the sum exceeds
    /// `u64`.
    ///
    /// # Panics
    ///
    /// If the header is incomplete.
    pub fn decode(&self, header: &[u8]) -> Result<u64, BadLength> {
        let field = &header[self.length_at()];
        let append = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        let value = match self.is_big_endian {
            true => field.iter().fold(0, append),
            false => field.iter().rev().fold(0, append),
        };
        value.checked_add_signed(self.correction()).ok_or(BadLength { value })
    }

    /// Appends the header for a payload of `payload_len` bytes to `out`.
    ///
    /// # Errors
    ///
    /// If no header can declare this length; nothing is appended then.
    pub fn encode(&self, payload_len: u64, out: &mut Vec<u8>) -> Result<(), CannotSay> {
        self.value_of(payload_len).map(|value| self.encode_raw(value, out))
    }

    /// The value of the length field for a payload of `payload_len` bytes.
    ///
    /// # Errors
    ///
    /// If no header can declare this length.
    pub fn value_of(&self, payload_len: u64) -> Result<u64, CannotSay> {
        let value = payload_len.checked_add_signed(-self.correction());
        value.filter(|value| *value <= self.max_value()).ok_or(CannotSay { payload_len })
    }

    /// Appends a header whose length field says `value`, right or wrong, to `out`. If the value is
    /// too large for the field, its highest bytes are cut off.
    pub fn encode_raw(&self, value: u64, out: &mut Vec<u8>) {
        out.resize(out.len() + usize::from(self.offset), 0);
        let bytes = value.to_be_bytes();
        let field = &bytes[bytes.len() - self.width()..];
        match self.is_big_endian {
            true => out.extend_from_slice(field),
            false => out.extend(field.iter().rev()),
        }
    }

    /// The largest value of the length field.
    fn max_value(&self) -> u64 {
        u64::MAX >> (u64::BITS - 8 * u32::from(self.width))
    }

    /// What to add to the length field's value to get the payload's length.
    fn correction(&self) -> i64 {
        let counted =
            if self.is_inclusive { i64::from(self.offset) + i64::from(self.width) } else { 0 };
        self.adjust - counted
    }

    /// Whether a header can declare any payload, even if only an empty one.
    fn says_something(&self) -> bool {
        self.correction() >= 0 || self.correction().unsigned_abs() <= self.max_value()
    }
}

/// Writes the name that [`LengthFormat::parse`] takes, then offset and adjustment unless they are
/// zero.
impl fmt::Display for LengthFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match (self.width, self.is_big_endian) {
            (1, _) => "",
            (_, true) => "be",
            (_, false) => "le",
        };
        let inclusive = if self.is_inclusive { INCLUSIVE } else { "" };
        write!(f, "u{}{order}{inclusive}", 8 * self.width())?;
        if self.offset != 0 {
            write!(f, " offset {}", self.offset)?;
        }
        if self.adjust != 0 {
            write!(f, " adjust {}", self.adjust)?;
        }
        Ok(())
    }
}

impl fmt::Display for BadLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a length field of {} is no length of a payload", self.value)
    }
}

impl fmt::Display for CannotSay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no header declares a payload of {} bytes", self.payload_len)
    }
}

impl Error for BadLength {}
impl Error for CannotSay {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;
    use proptest::prelude::*;

    fn format(name: &str, offset: u16, adjust: i64) -> LengthFormat {
        let format = LengthFormat::parse(name).and_then(|format| format.with_offset(offset));
        format.and_then(|format| format.with_adjust(adjust)).expect("a format")
    }

    fn encoded(format: &LengthFormat, payload_len: u64) -> Result<Vec<u8>, CannotSay> {
        let mut header = vec![];
        format.encode(payload_len, &mut header).map(|()| header)
    }

    /// Every width, byte order and way of counting, with any valid offset and adjustment.
    pub(crate) fn any_format() -> impl Strategy<Value = LengthFormat> {
        let offset = prop_oneof![Just(0), 0..=8u16, 0..=MAX_OFFSET];
        let adjust = prop_oneof![Just(0), -20..=20i64, -MAX_ADJUST..=MAX_ADJUST];
        let parts = (prop::sample::select(&LengthFormat::NAMES[..]), offset, adjust);
        parts.prop_filter_map("it says something", |(name, offset, adjust)| {
            LengthFormat::parse(name)?.with_offset(offset)?.with_adjust(adjust)
        })
    }

    #[test]
    fn a_name_is_parsed_to_the_format_that_shows_it() {
        for name in LengthFormat::NAMES {
            assert_eq!(format(name, 0, 0).to_string(), name);
        }
        assert_eq!(LengthFormat::parse("u32be"), Some(LengthFormat::U32_BE));
        assert_eq!(LengthFormat::parse("u8be"), LengthFormat::parse("u8"));
        assert_eq!(LengthFormat::parse("u8le+incl"), LengthFormat::parse("u8+incl"));
        assert_eq!(format("u16be", 2, -4).to_string(), "u16be offset 2 adjust -4");
        assert_eq!(format("u8+incl", 0, 7).to_string(), "u8+incl adjust 7");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let wrong = [
            "",
            "u",
            "8",
            "u7",
            "u16",
            "u32",
            "u32ne",
            "u32BE",
            "U32be",
            "u32be ",
            " u32be",
            "u32 be",
            "u128be",
            "u32be+",
            "u32be+inc",
            "u32be+incl+incl",
            "+incl",
            "u32+inclbe",
            "u88",
            "u8u8",
            "u32be offset 2",
        ];
        for text in wrong {
            assert_eq!(LengthFormat::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_length_stands_behind_the_offset_in_its_byte_order() {
        let cases: [(&str, u16, &[u8]); 6] = [
            ("u8", 0, &[0x05]),
            ("u8", 2, &[0, 0, 0x05]),
            ("u16le", 0, &[0x05, 0]),
            ("u24be", 1, &[0, 0, 0, 0x05]),
            ("u24le", 1, &[0, 0x05, 0, 0]),
            ("u64be", 0, &[0, 0, 0, 0, 0, 0, 0, 0x05]),
        ];
        for (name, offset, header) in cases {
            let format = format(name, offset, 0);
            assert_eq!(encoded(&format, 5).as_deref(), Ok(header), "{format}");
            assert_eq!(format.header_len(), header.len());
            assert_eq!(format.length_at(), usize::from(offset)..header.len());
            assert_eq!(format.decode(header), Ok(5), "{format}");
        }
        let header = [0xff, 0xff, 0x01, 0x02, 0x03, 0x99];
        assert_eq!(format("u24be", 2, 0).decode(&header), Ok(0x0001_0203), "only the field counts");
        assert_eq!(format("u24le", 2, 0).decode(&header), Ok(0x0003_0201));
    }

    #[test]
    fn a_length_that_counts_its_header_counts_what_stands_before_it_too() {
        let format = format("u16be+incl", 3, 0);
        assert_eq!(encoded(&format, 0), Ok(vec![0, 0, 0, 0, 5]));
        assert_eq!((format.min_payload(), format.max_payload()), (0, 65_530));
        for value in 0..5 {
            assert_eq!(format.decode(&[0, 0, 0, 0, value]), Err(BadLength { value: value.into() }));
        }
    }

    #[test]
    fn an_adjustment_moves_what_can_be_said() {
        let more = format("u8", 0, 6);
        assert_eq!((more.min_payload(), more.max_payload()), (6, 261));
        assert_eq!(encoded(&more, 5), Err(CannotSay { payload_len: 5 }));
        assert_eq!((encoded(&more, 6), encoded(&more, 261)), (Ok(vec![0]), Ok(vec![255])));
        assert_eq!(encoded(&more, 262), Err(CannotSay { payload_len: 262 }));

        let less = format("u8", 0, -4);
        assert_eq!((less.min_payload(), less.max_payload()), (0, 251));
        assert_eq!(less.decode(&[3]), Err(BadLength { value: 3 }));
        assert_eq!((less.decode(&[4]), encoded(&less, 0)), (Ok(0), Ok(vec![4])));
        assert_eq!(encoded(&less, 252), Err(CannotSay { payload_len: 252 }));
    }

    #[test]
    fn a_sum_above_64_bits_is_a_bad_length() {
        let format = format("u64le", 0, 1);
        assert_eq!(format.max_payload(), u64::MAX);
        assert_eq!(format.decode(&[0xff; 8]), Err(BadLength { value: u64::MAX }));
        assert_eq!(encoded(&format, u64::MAX), Ok(vec![0xfe, 255, 255, 255, 255, 255, 255, 255]));
        assert_eq!(encoded(&format, 0), Err(CannotSay { payload_len: 0 }));
    }

    #[test]
    fn offsets_and_adjustments_have_bounds() {
        let u8_incl = format("u8+incl", 0, 0);
        let full =
            u8_incl.with_offset(MAX_OFFSET).expect("255 bytes, of which a byte can count all");
        assert_eq!((full.header_len(), full.max_payload()), (255, 0));
        assert_eq!(full.with_adjust(-1), None, "nothing is left to say");
        assert_eq!(full.with_adjust(1).map(|format| format.max_payload()), Some(1));
        assert_eq!(LengthFormat::U32_BE.with_offset(MAX_OFFSET + 1), None);
        assert_eq!(LengthFormat::U32_BE.with_offset(u16::MAX), None);
        for adjust in [i64::MIN, -MAX_ADJUST - 1, MAX_ADJUST + 1, i64::MAX] {
            assert_eq!(LengthFormat::U32_BE.with_adjust(adjust), None, "{adjust}");
        }
        assert_eq!(format("u8", 0, 0).with_adjust(-256), None);
        assert_eq!(format("u8", 0, -255).max_payload(), 0);
    }

    #[test]
    fn messages_of_other_protocols_end_where_their_lengths_say() {
        let bgp = [&[0xff; 16][..], b"\0\x13\x04"].concat();
        let cases: [(&str, LengthFormat, &[u8]); 8] = [
            (
                "DNS over TCP, a header without a question",
                format("u16be", 0, 0),
                b"\0\x0c\x12\x34\x01\0\0\0\0\0\0\0\0\0",
            ),
            ("HTTP/2, DATA of two bytes", format("u24be", 0, 6), b"\0\0\x02\0\x01\0\0\0\x03hi"),
            (
                "9P, Tversion",
                format("u32le+incl", 0, 0),
                b"\x13\0\0\0d\xff\xff\0 \0\0\x06\x009P2000",
            ),
            ("PostgreSQL, ReadyForQuery", format("u32be", 1, -4), b"Z\0\0\0\x05I"),
            ("TLS, an alert", format("u16be", 3, 0), b"\x15\x03\x03\0\x02\x01\0"),
            ("TPKT, data of no bytes", format("u16be+incl", 2, 0), b"\x03\0\0\x07\x02\xf0\x80"),
            ("BGP, KEEPALIVE", format("u16be+incl", 16, 0), &bgp),
            ("AMQP 0-9-1, a heartbeat", format("u32be", 3, 1), b"\x08\0\0\0\0\0\0\xce"),
        ];
        for (what, format, message) in cases {
            let payload_len = (message.len() - format.header_len()) as u64;
            assert_eq!(format.decode(message), Ok(payload_len), "{what}: {format}");
            let header = encoded(&format, payload_len).expect("it can be said");
            assert_eq!(header[format.length_at()], message[format.length_at()], "{what}: {format}");
        }
    }

    #[test]
    fn a_raw_value_is_written_right_or_wrong_and_cut_to_the_field() {
        let mut out = b"before".to_vec();
        format("u16le+incl", 1, 0).encode_raw(0x0123_4567, &mut out);
        assert_eq!(out, b"before\0\x67\x45");
    }

    #[test]
    fn the_other_byte_order_is_another_format_unless_there_is_one_byte() {
        let little = format("u16le+incl", 2, -1);
        assert_eq!(little.swapped(), format("u16be+incl", 2, -1));
        assert_eq!((little.is_big_endian(), little.swapped().is_big_endian()), (false, true));
        assert_eq!(format("u8", 1, 0).swapped(), format("u8", 1, 0));
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn a_header_that_is_not_whole_is_no_header() {
        let _ = format("u16be", 2, 0).decode(&[0, 0, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_a_header_can_say_is_read_back(
            format in any_format(),
            any in any::<u64>(),
            near in 0u64..300,
        ) {
            let (min, max) = (format.min_payload(), format.max_payload());
            prop_assert!(min <= max);
            let inside = any.clamp(min, max);
            let (low, high) = (min.saturating_add(near), max.saturating_sub(near));
            for len in [any, inside, min, max, low, high, near] {
                let can_say = (min..=max).contains(&len);
                match encoded(&format, len) {
                    Ok(header) => {
                        prop_assert!(can_say);
                        prop_assert_eq!(header.len(), format.header_len());
                        prop_assert_eq!(format.decode(&header), Ok(len));
                        let front = &header[..format.length_at().start];
                        prop_assert!(front.iter().all(|byte| *byte == 0));
                    }
                    Err(error) => {
                        prop_assert!(!can_say);
                        prop_assert_eq!(error, CannotSay { payload_len: len });
                    }
                }
            }
        }

        #[test]
        fn every_header_declares_a_length_or_is_bad(
            format in any_format(),
            bytes in prop::collection::vec(any::<u8>(), usize::from(MAX_OFFSET) + 8),
            fill in prop_oneof![Just(None), Just(Some(0x00)), Just(Some(0xff))],
        ) {
            let mut header = bytes[..format.header_len()].to_vec();
            if let Some(byte) = fill {
                header[format.length_at()].fill(byte);
            }
            match format.decode(&header) {
                Ok(len) => {
                    let again = encoded(&format, len).expect("what was declared can be said");
                    prop_assert_eq!(&again[format.length_at()], &header[format.length_at()]);
                }
                Err(BadLength { value }) => {
                    let mut again = vec![];
                    format.encode_raw(value, &mut again);
                    prop_assert_eq!(&again[format.length_at()], &header[format.length_at()]);
                    let sum = i128::from(value) + i128::from(format.correction());
                    prop_assert!(u64::try_from(sum).is_err());
                }
            }
        }
    }
}
