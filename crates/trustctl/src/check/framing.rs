//! How the server under test tells messages apart.

use std::fmt;

use trust_wire::format::LengthFormat;

/// How the server under test tells messages apart.
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
    /// If the length field cannot hold the payload's length: cases ask for no more than
    /// [`crate::check::setup::Setup::payload_max`].
    pub fn encode(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![];
        if let Framing::Length(format) = self {
            let len = payload.len() as u64;
            format.encode(len, &mut bytes).expect("cases stay below the longest payload");
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

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Framing::Length(format) => format.fmt(f),
            Framing::Raw => f.write_str("raw"),
            Framing::Line => f.write_str("line"),
        }
    }
}
