//! How a server tells messages apart.

use std::fmt;

use trust_wire::format::LengthFormat;

use crate::exclusions::When;
use crate::exit_code::Failure;
use crate::layers::Layers;
use crate::settings::{AnySetting, Setting};

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
    /// What `--framing` takes, without offset and adjustment.
    pub const ALLOWED: &str =
        "u8, u16, u24, u32 or u64 with be or le, perhaps with +incl; raw; or line";

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

/// The setting `framing` of that command.
pub const fn setting(command: &'static str) -> Setting<Framing> {
    Setting::of(
        command,
        "framing",
        "FRAMING",
        Some("u32be"),
        "How the server tells messages apart: the length field's width and order, +incl if the length counts its own header; raw; line",
        Framing::ALLOWED,
        Framing::parse,
    )
}

/// The setting `offset` of that command: bytes in front of the length field.
pub const fn offset_setting(command: &'static str) -> Setting<u16> {
    Setting::of(
        command,
        "offset",
        "BYTES",
        Some("0"),
        "Bytes in front of the length field; zeros are sent there",
        "a whole number of bytes from 0 to 255",
        |text| text.parse().ok().filter(|bytes| *bytes <= 255),
    )
}

/// The setting `adjust` of that command: what is added to the length field's value.
pub const fn adjust_setting(command: &'static str) -> Setting<i64> {
    Setting::of(
        command,
        "adjust",
        "BYTES",
        Some("0"),
        "Added to the length field's value, for lengths that count more or less than what follows",
        "a whole number of bytes from -65536 to 65536",
        |text| text.parse().ok().filter(|bytes: &i64| bytes.abs() <= 65_536),
    )
}

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
    framing: &Setting<Framing>,
    offset: &Setting<u16>,
    adjust: &Setting<i64>,
) -> Result<Framing, Failure> {
    let named = layers.require(framing)?;
    let Framing::Length(format) = named else { return Ok(named) };
    let (bytes_before, added) = (layers.require(offset)?, layers.require(adjust)?);
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
