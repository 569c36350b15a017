//! How a server tells messages apart.

use std::fmt;

use trust_wire::format::LengthFormat;

use crate::exclusions::When;
use crate::exit_code::Failure;
use crate::layers::Layers;
use crate::settings::{AnySetting, ValueKind};
use crate::values::parse_size;

/// How a server tells messages apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A length in front of each.
    Length(LengthFormat),
    /// It does not: bytes go back as they came.
    Raw,
    /// A newline behind each.
    Line,
}

impl Framing {
    /// The framing of that name.
    pub fn parse(text: &str) -> Option<Framing> {
        match text {
            "raw" => Some(Framing::Raw),
            "line" => Some(Framing::Line),
            _ => LengthFormat::parse(text).map(Framing::Length),
        }
    }

    /// The message as it goes over the wire.
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

    /// Bytes around a payload.
    pub fn overhead(&self) -> usize {
        match self {
            Framing::Length(format) => format.header_len(),
            Framing::Raw => 0,
            Framing::Line => 1,
        }
    }
}

/// Names a framing.
pub const FRAMING: ValueKind<Framing> = ValueKind::of_text(
    "FRAMING",
    "u8, u16, u24, u32 or u64 with be or le, perhaps with +incl; raw; or line",
    Framing::parse,
);

/// Bytes in front of the length field.
pub const OFFSET: ValueKind<u16> =
    ValueKind::of_text("BYTES", "a whole number of bytes from 0 to 255", |text| {
        let with_unit = || parse_size(text)?.try_into().ok();
        text.parse().ok().or_else(with_unit).filter(|bytes| *bytes <= 255)
    });

/// What is added to the length field's value.
pub const ADJUST: ValueKind<i64> =
    ValueKind::of_text("BYTES", "a whole number of bytes from -65536 to 65536", |text| {
        let with_unit = || {
            let (sign, size) = text.strip_prefix('-').map_or((1, text), |size| (-1, size));
            Some(sign * i64::from(parse_size(size)?))
        };
        text.parse().ok().or_else(with_unit).filter(|bytes| (-65_536..=65_536).contains(bytes))
    });

/// Why a framing without a length field excludes what is about the field.
pub const NO_LENGTH: &str = "only a length field has an offset or an adjustment";

/// The setting names a framing without a length field.
pub const fn without_length(framing: &'static dyn AnySetting) -> When {
    When::Is(framing, |text| matches!(text, "raw" | "line"), "raw or line")
}

/// The framing that three settings of a command say together: its name, the bytes in front of the length field, and what
/// is added to that field's value.
///
/// # Errors
///
/// 64, or 78 from the file, for an offset or an adjustment that the framing has no room for.
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
