//! From the first bytes of a stream to a PROXY header.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str;

use super::{ProxyHeader, SIGNATURE};

/// The longest header that is taken, in bytes.
pub const PROXY_HEADER_MAX: usize = FIXED_LEN + PROXY_BLOCK_MAX;

/// Bytes of a line of version 1, CRLF included (section 2.1).
const LINE_MAX: usize = 107;

/// Bytes that may follow the fixed part of version 2: addresses and TLVs. Proxies send a few
/// hundred, and a few thousand with a client's certificate. The format allows 65,535.
pub const PROXY_BLOCK_MAX: usize = 4096;

const LINE_START: &[u8] = b"PROXY ";

/// Signature, version and command, family and transport, and length (section 2.2).
const FIXED_LEN: usize = 16;

/// Type and length of a TLV (section 2.2).
const TLV_HEADER_LEN: usize = 3;

/// The type of a checksum, PP2_TYPE_CRC32C (section 2.2.3).
const CHECKSUM: u8 = 0x03;

/// What is wrong with the header of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadProxyHeader {
    /// The stream begins with something else.
    Missing,
    /// The stream ended in the middle of the header.
    Unfinished,
    /// Version 1: no CRLF within 107 bytes.
    LineTooLong,
    /// Version 1: a byte that is not printable ASCII, such as an LF without its CR.
    LineByte,
    /// Version 1: neither TCP4 nor TCP6 nor UNKNOWN.
    LineProtocol,
    /// Version 1: not two addresses and two ports, each after one space.
    LineFields,
    /// Version 1: an address that is none of the protocol.
    LineAddress,
    /// Version 1: not a decimal number up to 65535 without leading zeros.
    LinePort,
    /// Binary, and of this version instead of 2.
    Version(u8),
    /// Version 2: neither LOCAL nor PROXY.
    Command(u8),
    /// Version 2: a family and a transport, in one byte, that the format does not know.
    Family(u8),
    /// Version 2: it declares more bytes than are taken.
    TooLong {
        /// The declared length, without the fixed part.
        declared: u16,
    },
    /// Version 2: it declares fewer bytes than its addresses have.
    TooShort {
        /// The declared length, without the fixed part.
        declared: u16,
    },
    /// Version 2: a TLV does not end with the header.
    Tlv,
    /// Version 2: its CRC32C is another one.
    Checksum,
}

impl ProxyHeader {
    /// The header at the start of `bytes`, which are the first ones of a stream, and its length;
    /// `None` if it is not whole yet.
    ///
    /// Both versions are taken. What is wrong is found as soon as it is there, so a stream that has
    /// no header is not waited for.
    ///
    /// ```
    /// use trust_wire::{BadProxyHeader, ProxyHeader};
    ///
    /// let stream = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\nhello";
    /// let (header, len) = ProxyHeader::decode(stream)?.expect("the header is whole");
    /// let ProxyHeader::Tcp { source, destination } = header else { panic!("a TCP connection") };
    /// assert_eq!(source.to_string(), "203.0.113.7:4711");
    /// assert_eq!(destination.to_string(), "192.0.2.1:443");
    /// assert_eq!(&stream[len..], b"hello");
    ///
    /// assert_eq!(ProxyHeader::decode(b"PROXY TCP4 203.0"), Ok(None));
    /// assert_eq!(ProxyHeader::decode(b"GET / HTTP/1.1"), Err(BadProxyHeader::Missing));
    /// # Ok::<(), BadProxyHeader>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What is wrong with it. Close the connection then: the protocol has no answer for it, and the
    /// bytes must not be taken for the client's (section 2).
    pub fn decode(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, BadProxyHeader> {
        let begins =
            |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
        if begins(SIGNATURE) {
            decode_binary(bytes)
        } else if begins(LINE_START) {
            decode_line(bytes)
        } else {
            Err(BadProxyHeader::Missing)
        }
    }
}

fn decode_line(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, BadProxyHeader> {
    let bytes = &bytes[..bytes.len().min(LINE_MAX)];
    let end = bytes.windows(2).position(|pair| pair == b"\r\n");
    let line = &bytes[..end.unwrap_or(bytes.len())];
    let rest = line.strip_prefix(LINE_START).map(|rest| rest.split(|byte| *byte == b' '));
    let Some(mut fields) = rest.map(Iterator::peekable) else { return Ok(None) };
    // Only what comes before a space or the end of the line is known to be a whole field.
    let mut next = || {
        let field = fields.next().ok_or(BadProxyHeader::LineFields)?;
        let is_whole = fields.peek().is_some() || end.is_some();
        let text = if is_whole { field } else { field.strip_suffix(b"\r").unwrap_or(field) };
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err(BadProxyHeader::LineByte);
        }
        Ok(is_whole.then_some(field))
    };
    let header = match parse_fields(&mut next)? {
        Some(ProxyHeader::Tcp { .. }) if fields.next().is_some() => {
            return Err(BadProxyHeader::LineFields);
        }
        header => header,
    };
    match (header, end) {
        (Some(header), Some(end)) => Ok(Some((header, end + b"\r\n".len()))),
        (_, None) if bytes.len() == LINE_MAX => Err(BadProxyHeader::LineTooLong),
        _ => Ok(None),
    }
}

/// Reads the fields after `PROXY`, each of which `next` gives if it is whole.
fn parse_fields<'a>(
    mut next: impl FnMut() -> Result<Option<&'a [u8]>, BadProxyHeader>,
) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let Some(protocol) = next()? else { return Ok(None) };
    let parse_address = match protocol {
        b"TCP4" => |field| parse::<Ipv4Addr>(field).map(IpAddr::V4),
        b"TCP6" => |field| parse::<Ipv6Addr>(field).map(IpAddr::V6),
        // Whatever follows is to be ignored.
        b"UNKNOWN" => return Ok(Some(ProxyHeader::Socket)),
        _ => return Err(BadProxyHeader::LineProtocol),
    };
    let mut addresses = [IpAddr::V4(Ipv4Addr::UNSPECIFIED); 2];
    for address in &mut addresses {
        let Some(field) = next()? else { return Ok(None) };
        *address = parse_address(field).ok_or(BadProxyHeader::LineAddress)?;
    }
    let mut ports = [0; 2];
    for port in &mut ports {
        let Some(field) = next()? else { return Ok(None) };
        *port = parse_port(field).ok_or(BadProxyHeader::LinePort)?;
    }
    Ok(Some(ProxyHeader::Tcp {
        source: SocketAddr::new(addresses[0], ports[0]),
        destination: SocketAddr::new(addresses[1], ports[1]),
    }))
}

fn parse<T: str::FromStr>(field: &[u8]) -> Option<T> {
    str::from_utf8(field).ok()?.parse().ok()
}

fn parse_port(field: &[u8]) -> Option<u16> {
    let is_canonical = field == b"0" || !field.starts_with(b"0");
    let is_number = is_canonical && field.iter().all(u8::is_ascii_digit);
    if is_number { parse(field) } else { None }
}

fn decode_binary(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, BadProxyHeader> {
    let Some(&version_and_command) = bytes.get(SIGNATURE.len()) else { return Ok(None) };
    let is_local = match (version_and_command >> 4, version_and_command & 0xf) {
        (2, 0) => true,
        (2, 1) => false,
        (2, command) => return Err(BadProxyHeader::Command(command)),
        (version, _) => return Err(BadProxyHeader::Version(version)),
    };
    let Some(&family) = bytes.get(SIGNATURE.len() + 1) else { return Ok(None) };
    let addresses_len = match family {
        // What a local one says of addresses is to be ignored.
        _ if is_local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(BadProxyHeader::Family(family)),
    };
    let Some(&[high, low]) = bytes.get(FIXED_LEN - 2..FIXED_LEN) else { return Ok(None) };
    let declared = u16::from_be_bytes([high, low]);
    let len = FIXED_LEN + usize::from(declared);
    if len > PROXY_HEADER_MAX {
        return Err(BadProxyHeader::TooLong { declared });
    }
    let tlvs = FIXED_LEN + addresses_len;
    if len < tlvs {
        return Err(BadProxyHeader::TooShort { declared });
    }
    let Some(whole) = bytes.get(..len) else { return Ok(None) };
    // Of addresses of no known family the end is not known either.
    if !is_local && family != 0 {
        check_tlvs(whole, tlvs)?;
    }
    let header = match family {
        0x11 if !is_local => addresses::<4>(&whole[FIXED_LEN..]),
        0x21 if !is_local => addresses::<16>(&whole[FIXED_LEN..]),
        _ => None,
    };
    Ok(Some((header.unwrap_or(ProxyHeader::Socket), len)))
}

/// Two addresses of that many bytes and two ports, if they are there.
fn addresses<const LEN: usize>(block: &[u8]) -> Option<ProxyHeader>
where
    IpAddr: From<[u8; LEN]>,
{
    let (source, block) = block.split_first_chunk::<LEN>()?;
    let (destination, block) = block.split_first_chunk::<LEN>()?;
    let (source_port, block) = block.split_first_chunk()?;
    let (destination_port, _) = block.split_first_chunk()?;
    let socket =
        |address: [u8; LEN], port| SocketAddr::new(address.into(), u16::from_be_bytes(port));
    Some(ProxyHeader::Tcp {
        source: socket(*source, *source_port),
        destination: socket(*destination, *destination_port),
    })
}

/// Checks that the TLVs from byte `at` of the header on end with it, and its checksum if one of
/// them is that.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), BadProxyHeader> {
    while let Some(tlv) = header.get(at..).filter(|rest| !rest.is_empty()) {
        let &[kind, high, low, ref rest @ ..] = tlv else { return Err(BadProxyHeader::Tlv) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(..len).ok_or(BadProxyHeader::Tlv)?;
        let (start, end) = (at + TLV_HEADER_LEN, at + TLV_HEADER_LEN + len);
        if kind == CHECKSUM {
            // It is that of a header in which it is zero.
            let zeros = [0; 4];
            let parts = [&header[..start], &zeros, &header[end..]];
            if value != crc32c(parts.into_iter().flatten()).to_be_bytes() {
                return Err(BadProxyHeader::Checksum);
            }
        }
        at = end;
    }
    Ok(())
}

/// The CRC32C of these bytes (RFC 4960, appendix B).
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let shift = |crc: u32, _| crc >> 1 ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

#[cfg(test)]
mod tests;
