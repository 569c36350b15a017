//! Guesses which protocol a stream speaks, if not the expected frames, from its first bytes.
//!
//! This is for hints only: nothing that is sent or answered depends on it. It is asked about bytes
//! that were refused, that ended unfinished, or that are echoed raw, and never about whole frames
//! that were answered.

use crate::format::LengthFormat;

/// Bytes kept of a stream's start, for display: a request line, a greeting, or the fixed part of a
/// header.
pub const OPENING_MAX: usize = 32;

/// The longest payload, in bytes, of a frame in another format. Larger lengths are too likely to be
/// something else.
const PAYLOAD_MAX: u64 = 1024 * 1024;

/// How many frames in another format are checked; that many do not match by accident.
const FRAMES_MAX: usize = 64;

/// How many bytes frames in another format must fill exactly, if their first byte could also begin
/// an expected frame.
const FILLED_MIN: usize = 8;

/// A protocol that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A request of HTTP/1 (RFC 9112), or the preface of HTTP/2 (RFC 9113, section 3.4).
    HttpRequest,
    /// A response of HTTP/1.
    HttpResponse,
    /// The first record of a TLS client (RFC 8446, section 4.1.2).
    TlsClientHello,
    /// Another TLS record (RFC 8446, section 5.1).
    TlsRecord,
    /// The identification of an SSH client or server (RFC 4253, section 4.2).
    Ssh,
    /// A PROXY protocol header of version 1, which is text.
    ProxyV1,
    /// A PROXY protocol header of version 2, which is binary.
    ProxyV2,
    /// A greeting with code 220, of SMTP (RFC 5321, section 4.2) or FTP (RFC 959, section 4.2).
    Greeting,
    /// A request or a response of Redis.
    Redis,
    /// TPKT (RFC 1006, section 6) with X.224 in it, as RDP begins.
    Tpkt,
    /// SMB over TCP.
    Smb,
    /// Frames with another length field.
    Frames(LengthFormat),
    /// Text of no known protocol.
    Text,
}

impl Protocol {
    /// The protocol of a stream that begins with `start`. Frames in the `expected` format do not
    /// count.
    ///
    /// `start` is all that is known of the stream. For frames, where it ends matters.
    ///
    /// ```
    /// use trust_wire::{LengthFormat, Protocol};
    ///
    /// let recognise = |start| Protocol::recognise(start, Some(LengthFormat::U32_BE));
    /// assert_eq!(recognise(b"SSH-2.0-OpenSSH_9.9\r\n"), Some(Protocol::Ssh));
    ///
    /// // A peer that writes its length in the wrong byte order.
    /// let little_endian = LengthFormat::parse("u32le").map(Protocol::Frames);
    /// assert_eq!(recognise(b"\x05\0\0\0hello"), little_endian);
    ///
    /// assert_eq!(recognise(b"\0\0\0\x05hello"), None);
    /// ```
    pub fn recognise(start: &[u8], expected: Option<LengthFormat>) -> Option<Protocol> {
        let named = [
            (is_http_request(start), Protocol::HttpRequest),
            (begins(start, b"HTTP/", 4), Protocol::HttpResponse),
            (is_tls(start) && start[0] == 22 && start.get(5) == Some(&1), Protocol::TlsClientHello),
            (is_tls(start), Protocol::TlsRecord),
            (begins(start, b"SSH-", 4), Protocol::Ssh),
            (begins(start, b"PROXY ", 4), Protocol::ProxyV1),
            // The first four bytes alone could be two empty lines.
            (begins(start, b"\r\n\r\n\0\r\nQUIT\n", 5), Protocol::ProxyV2),
            (start.starts_with(b"220 ") || start.starts_with(b"220-"), Protocol::Greeting),
            (is_redis(start), Protocol::Redis),
            (is_tpkt(start), Protocol::Tpkt),
            (is_smb(start), Protocol::Smb),
        ];
        named
            .iter()
            .find_map(|(is_it, protocol)| is_it.then_some(*protocol))
            .or_else(|| other_frames(start, expected).map(Protocol::Frames))
            .or_else(|| is_text(start).then_some(Protocol::Text))
    }
}

/// The start of a stream that does not consist of the expected frames, or whose first frame was
/// never completed.
///
/// ```
/// use trust_wire::{LengthFormat, Opening, Protocol};
///
/// // As a length this would be 1.2 GB, so a server of frames refuses it. Now it can say why.
/// let start = b"GET / HTTP/1.1\r\nHost: example.org\r\n";
/// let opening = Opening::new(start, Some(LengthFormat::U32_BE));
/// assert_eq!(opening.protocol(), Some(Protocol::HttpRequest));
/// assert_eq!(opening.bytes(), b"GET / HTTP/1.1\r\nHost: example.or");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    bytes: [u8; OPENING_MAX],
    len: u8,
    protocol: Option<Protocol>,
}

impl Opening {
    /// The opening of a stream that begins with `start` and should consist of frames in the
    /// `expected` format.
    pub fn new(start: &[u8], expected: Option<LengthFormat>) -> Opening {
        let len = start.len().min(OPENING_MAX);
        let mut bytes = [0; OPENING_MAX];
        bytes[..len].copy_from_slice(&start[..len]);
        Opening { bytes, len: len as u8, protocol: Protocol::recognise(start, expected) }
    }

    /// Its first bytes, at most [`OPENING_MAX`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The protocol, if recognised.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }
}

/// Whether `start` begins with `word`, or ends inside it after at least `min` of its bytes.
fn begins(start: &[u8], word: &[u8], min: usize) -> bool {
    let common = start.len().min(word.len());
    common >= min && start[..common] == word[..common]
}

fn is_http_request(start: &[u8]) -> bool {
    // The target of CONNECT is an authority, which may begin with anything.
    if begins(start, b"CONNECT ", 4) || begins(start, b"PRI * HTTP/2", 5) {
        return true;
    }
    let methods: [&[u8]; 8] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"TRACE ", b"PATCH "];
    let is_target = |byte: Option<&u8>| matches!(byte, None | Some(b'/' | b'*' | b'h'));
    methods.iter().any(|method| begins(start, method, 4) && is_target(start.get(method.len())))
}

/// Checks the type, version and length of a record.
fn is_tls(start: &[u8]) -> bool {
    matches!(start, [20..=23, 3, 0..=4, 0..=0x41, ..])
}

fn is_redis(start: &[u8]) -> bool {
    let replies: [&[u8]; 4] = [b"-ERR ", b"-NOAUTH ", b"+PONG\r\n", b"+OK\r\n"];
    let is_reply = replies.iter().any(|reply| start.starts_with(reply));
    let rest = start.strip_prefix(b"*").unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    is_reply || (digits > 0 && begins(&rest[digits..], b"\r\n$", 2))
}

/// Checks the packet's version and length, and the kind of its X.224 unit: a connection request or
/// confirm, or data.
fn is_tpkt(start: &[u8]) -> bool {
    matches!(start, [3, 0, high, low, _, 0xd0 | 0xe0 | 0xf0, ..]
        if u16::from_be_bytes([*high, *low]) >= 7)
}

fn is_smb(start: &[u8]) -> bool {
    matches!(start, [0, _, _, _, 0xfd..=0xff, b'S', b'M', b'B', ..])
}

fn is_text(start: &[u8]) -> bool {
    start.len() >= 4 && start.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'))
}

/// The format of the frames that `start` consists of, if it is not the expected one.
fn other_frames(start: &[u8], expected: Option<LengthFormat>) -> Option<LengthFormat> {
    // The wider a length field is, the less likely it matches by accident.
    ["u64le", "u64be", "u32le", "u32be", "u24le", "u24be", "u16le", "u16be"]
        .into_iter()
        .filter_map(LengthFormat::parse)
        .filter(|format| Some(*format) != expected)
        .find(|format| is_filled(format, start) || is_begun(format, start))
}

/// Whether `start` consists of whole frames. If its first byte could also begin an expected frame,
/// more evidence is required.
fn is_filled(format: &LengthFormat, start: &[u8]) -> bool {
    let mut rest = start;
    for _ in 0..FRAMES_MAX {
        let Some((header, body)) = rest.split_at_checked(format.header_len()) else {
            return false;
        };
        match format.decode(header) {
            Ok(len @ 1..=PAYLOAD_MAX) if len <= body.len() as u64 => {
                rest = &body[len as usize..];
            }
            _ => return false,
        }
        if rest.is_empty() {
            break;
        }
    }
    start[0] != 0 || start.len() >= FILLED_MIN
}

/// Whether a little-endian frame with a length of four bytes or more has begun: the upper half of
/// the length is zero, and its lowest byte, the first, is not.
fn is_begun(format: &LengthFormat, start: &[u8]) -> bool {
    let Some(header) = start.get(..format.header_len()) else { return false };
    format.width() >= 4
        && !format.is_big_endian()
        && header[0] != 0
        && matches!(format.decode(header), Ok(1..=0xffff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode_header;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn recognised(start: &[u8]) -> Option<Protocol> {
        Protocol::recognise(start, Some(LengthFormat::U32_BE))
    }

    fn frames(name: &str) -> Option<Protocol> {
        LengthFormat::parse(name).map(Protocol::Frames)
    }

    #[test]
    fn protocols_are_recognised_by_how_they_begin() {
        let cases: [(&[u8], Protocol); 23] = [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Protocol::HttpRequest),
            (b"GET ", Protocol::HttpRequest),
            (b"OPTIONS * HTTP/1.1\r\n", Protocol::HttpRequest),
            (b"CONNECT example.org:443 HTTP/1.1\r\n", Protocol::HttpRequest),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::HttpRequest),
            (b"HTTP/1.1 400 Bad Request\r\n", Protocol::HttpResponse),
            (b"HTTP", Protocol::HttpResponse),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", Protocol::TlsClientHello),
            (b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03", Protocol::TlsRecord),
            (b"\x15\x03\x01\0\x02\x02\x46", Protocol::TlsRecord),
            (b"SSH-2.0-OpenSSH_9.9\r\n", Protocol::Ssh),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n", Protocol::ProxyV1),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", Protocol::ProxyV2),
            (b"220 mail.example.org ESMTP\r\n", Protocol::Greeting),
            (b"220-ftp.example.org\r\n", Protocol::Greeting),
            (b"*1\r\n$4\r\nPING\r\n", Protocol::Redis),
            (b"*1\r\n", Protocol::Redis),
            (b"-ERR unknown command\r\n", Protocol::Redis),
            (b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0", Protocol::Tpkt),
            (b"\0\0\0\x54\xffSMBr", Protocol::Smb),
            (b"\0\0\0\xc4\xfeSMB@\0", Protocol::Smb),
            (b"hello\n", Protocol::Text),
            (b"GET well soon", Protocol::Text),
        ];
        for (start, protocol) in cases {
            assert_eq!(recognised(start), Some(protocol), "{}", start.escape_ascii());
        }
    }

    #[test]
    fn frames_with_another_length_are_recognised_by_where_they_end() {
        let cases: [(&[u8], &str); 10] = [
            (b"\x05\0\0\0", "u32le"),
            (b"\x05\0\0\0hello", "u32le"),
            (b"\x05\0\0\0hel", "u32le"),
            (b"\x01\0\0\0a\x02\0\0\0bc", "u32le"),
            (b"\x05\0\0hello", "u24le"),
            (b"\0\0\x05hello", "u24be"),
            (b"\x05\0hello", "u16le"),
            (b"\0\x05hello\0\x05world", "u16be"),
            (b"\x05\0\0\0\0\0\0\0hello", "u64le"),
            (b"\0\0\0\0\0\0\0\x05hello", "u64be"),
        ];
        for (start, name) in cases {
            assert_eq!(recognised(start), frames(name), "{}", start.escape_ascii());
        }
        for len in [5u32, 255, 256, 300, 512] {
            let mut stream = len.to_le_bytes().to_vec();
            stream.resize(4 + len as usize, b'x');
            assert_eq!(recognised(&stream), frames("u32le"), "{len}");
        }
        assert_eq!(Protocol::recognise(b"\0\0\0\x05hello", None), frames("u32be"));
    }

    #[test]
    fn what_could_be_anything_is_not_recognised() {
        let cases: [&[u8]; 9] = [
            b"",
            b"a",
            b"\0\0",
            b"\0\x01\0\0",
            b"\0\0\x01\x2c",
            b"\0\0\x03\xe8ab",
            b"\r\n\r\n\x01",
            b"\xff\xff\xff\xff\xff",
            b"\x07\0\x80\x81\x82",
        ];
        for start in cases {
            assert_eq!(recognised(start), None, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn an_opening_keeps_the_first_bytes_and_judges_all() {
        let mut stream = 100u32.to_le_bytes().to_vec();
        stream.resize(104, 7);
        let opening = Opening::new(&stream, Some(LengthFormat::U32_BE));
        assert_eq!(opening.bytes(), &stream[..OPENING_MAX]);
        assert_eq!(opening.protocol(), frames("u32le"));
        assert_eq!(Opening::new(b"ab", None).bytes(), b"ab");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn expected_frames_of_short_binary_messages_are_not_accused(
            payloads in prop::collection::vec(prop::collection::vec(0x80u8.., 1..200), 1..5),
        ) {
            let frame = |payload: &Vec<u8>| {
                [&encode_header(payload.len() as u32)[..], payload].concat()
            };
            let stream: Vec<u8> = payloads.iter().flat_map(frame).collect();
            prop_assert_eq!(recognised(&stream), None);
        }
    }
}
