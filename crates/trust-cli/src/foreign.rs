//! Words for unexpected bytes, and for the protocol that they look like.

use std::fmt::Write;

use trust_wire::foreign::{OPENING_MAX, Opening, Protocol};
use trust_wire::format::LengthFormat;

/// How a wrong answer began, as the end of a sentence:
/// `began with "SSH-2.0-x\r\n", which looks like SSH`.
pub fn answer_began(opening: &Opening) -> String {
    let began = format!("began with {}", quoted(opening.bytes()));
    match opening.protocol() {
        Some(protocol) => format!("{began}, which looks like {}", named(protocol)),
        None => began,
    }
}

/// The protocol as the end of a sentence: `an HTTP request`.
pub fn named(protocol: Protocol) -> String {
    let name = match protocol {
        Protocol::HttpRequest => "an HTTP request",
        Protocol::HttpResponse => "an HTTP response",
        Protocol::TlsClientHello => "a TLS ClientHello",
        Protocol::TlsRecord => "a TLS record",
        Protocol::Ssh => "SSH",
        Protocol::ProxyV1 => "a PROXY protocol header, version 1",
        Protocol::ProxyV2 => "a PROXY protocol header, version 2",
        Protocol::Greeting => "a greeting of SMTP or FTP",
        Protocol::Redis => "Redis",
        Protocol::Tpkt => "RDP (TPKT)",
        Protocol::Smb => "SMB",
        Protocol::Frames(format) => return framed(format),
        Protocol::Text => "text without frames",
    };
    name.to_owned()
}

fn framed(format: LengthFormat) -> String {
    let order = if format.is_big_endian() { "big-endian" } else { "little-endian" };
    format!("frames with a {order} length of {} bytes ({format})", format.width())
}

/// The first bytes, at most [`OPENING_MAX`]: unchanged if they are text, otherwise in hexadecimal.
pub fn shown(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(OPENING_MAX)];
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    if bytes.iter().all(is_text) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::new();
    for byte in bytes {
        let blank = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{blank}{byte:02x}");
    }
    text
}

/// The same for use in a sentence, which line ends would break: text is quoted.
pub fn quoted(bytes: &[u8]) -> String {
    let text = shown(bytes);
    let is_text = bytes.starts_with(text.as_bytes());
    if is_text { format!("{text:?}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_text_where_all_of_them_are() {
        assert_eq!(shown(b"HTTP/1.1 400\r\n"), "HTTP/1.1 400\r\n");
        assert_eq!(quoted(b"HTTP/1.1 400\r\n"), r#""HTTP/1.1 400\r\n""#);
        assert_eq!(shown(b"\x16\x03\x01a"), "16 03 01 61");
        assert_eq!(quoted(b"\x1b[2J"), "1b 5b 32 4a");
        assert_eq!(shown(&[b'a'; 100]).len(), OPENING_MAX);
    }

    #[test]
    fn frames_are_named_by_their_length() {
        let format = LengthFormat::parse("u16le").expect("a format");
        let name = "frames with a little-endian length of 2 bytes (u16le)";
        assert_eq!(named(Protocol::Frames(format)), name);
    }
}
