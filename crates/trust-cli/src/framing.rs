//! How a server separates messages.

use std::fmt;

use trust_wire::format::LengthFormat;

use crate::exclusions::When;
use crate::exit_code::Failure;
use crate::layers::Layers;
use crate::settings::{AnySetting, ValueKind};
use crate::values::parse_size;

/// How a server separates messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A length before each message.
    Length(LengthFormat),
    /// Not at all: bytes are echoed as they come.
    Raw,
    /// A newline after each message.
    Line,
}

impl Framing {
    /// The framing with this name.
    pub fn parse(text: &str) -> Option<Framing> {
        match text {
            "raw" => Some(Framing::Raw),
            "line" => Some(Framing::Line),
            _ => LengthFormat::parse(text).map(Framing::Length),
        }
    }

    /// The message in its form on the wire.
    ///
    /// # Panics
    ///
    /// If the length field cannot hold the payload's length.
    pub fn encode(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![];
        if let Framing::Length(format) = self {
            let len = payload.len() as u64;
            format.encode(len, &mut bytes).expect("the payload is not above the longest");
        }
        bytes.extend_from_slice(payload);
        if *self == Framing::Line {
            bytes.push(b'\n');
        }
        bytes
    }

    /// Bytes in front of a payload.
    pub fn header_len(&self) -> usize {
        match self {
            Framing::Length(format) => format.header_len(),
            Framing::Raw | Framing::Line => 0,
        }
    }

    /// Bytes added to a payload.
    pub fn overhead(&self) -> usize {
        match self {
            Framing::Length(format) => format.header_len(),
            Framing::Raw => 0,
            Framing::Line => 1,
        }
    }
}

/// The name of a framing.
pub const FRAMING: ValueKind<Framing> = ValueKind::of_text(
    "FRAMING",
    "u8, u16, u24, u32 or u64 with be or le, perhaps with +incl; raw; or line",
    Framing::parse,
);

/// Bytes before the length field.
pub const OFFSET: ValueKind<u16> =
    ValueKind::of_text("BYTES", "a whole number of bytes from 0 to 255", |text| {
        let with_unit = || parse_size(text)?.try_into().ok();
        text.parse().ok().or_else(with_unit).filter(|bytes| *bytes <= 255)
    });

/// Added to the length field's value.
pub const ADJUST: ValueKind<i64> =
    ValueKind::of_text("BYTES", "a whole number of bytes from -65536 to 65536", |text| {
        let with_unit = || {
            let (sign, size) = text.strip_prefix('-').map_or((1, text), |size| (-1, size));
            Some(sign * i64::from(parse_size(size)?))
        };
        text.parse().ok().or_else(with_unit).filter(|bytes| (-65_536..=65_536).contains(bytes))
    });

/// Why a framing without a length field excludes settings for that field.
pub const NO_LENGTH: &str = "only a length field has an offset or an adjustment";

/// Used if the setting names a framing without a length field.
pub const fn without_length(framing: &'static dyn AnySetting) -> When {
    When::Is(framing, |text| matches!(text, "raw" | "line"), "raw or line")
}

/// The framing given by three settings of a command together: its name, the bytes before the length
/// field, and the adjustment of that field's value.
///
/// # Errors
///
/// 64, or 78 from the file, for an offset or an adjustment that does not fit the framing.
pub fn of_settings(
    layers: &Layers,
    (framing, named): (&dyn AnySetting, Framing),
    (offset, bytes_before): (&dyn AnySetting, u16),
    (adjust, added): (&dyn AnySetting, i64),
) -> Result<Framing, Failure> {
    let Framing::Length(format) = named else { return Ok(named) };
    let refused = |setting: &dyn AnySetting| {
        let message = format!("{} cannot be used with framing {named}", layers.place(setting));
        Failure::new(layers.blame(&[framing, setting]), message)
    };
    let format = format.with_offset(bytes_before).ok_or_else(|| refused(offset))?;
    Ok(Framing::Length(format.with_adjust(added).ok_or_else(|| refused(adjust))?))
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Framing::Length(format) => format.fmt(f),
            Framing::Raw => f.write_str("raw"),
            Framing::Line => f.write_str("line"),
        }
    }
}
