//! From what a header says to its bytes.

use core::fmt::{self, Write};
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::ops::Deref;

use super::{ProxyHeader, ProxyVersion, SIGNATURE};

/// The longest header that is written: the longest line of version 1 (section 2.1). Version 2 has
/// at most 52 bytes here (section 2.2).
const ENCODED_MAX: usize = 107;

/// The bytes of a header, which it derefs to. See [`ProxyHeader::encode`].
#[derive(Clone, Copy)]
pub struct EncodedProxyHeader {
    bytes: [u8; ENCODED_MAX],
    len: u8,
}

/// The two addresses of a header, which are of one family. An IPv4 address beside one of IPv6 is
/// written as `::ffff:…` (RFC 4291, section 2.5.5.2).
enum Pair {
    V4([[u8; 4]; 2]),
    V6([[u8; 16]; 2]),
}

impl ProxyHeader {
    /// The header as it goes over the wire. A zone of an IPv6 address has no place in it. If only
    /// one of the addresses is IPv4, both are written as IPv6 (RFC 4291, section 2.5.5.2).
    ///
    /// ```
    /// use trust_wire::{ProxyHeader, ProxyVersion};
    ///
    /// let header = ProxyHeader::Tcp {
    ///     source: ([203, 0, 113, 7], 4711).into(),
    ///     destination: ([192, 0, 2, 1], 443).into(),
    /// };
    /// let line = header.encode(ProxyVersion::V1);
    /// assert_eq!(&line[..], b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n");
    ///
    /// let binary = header.encode(ProxyVersion::V2);
    /// assert_eq!(ProxyHeader::decode(&binary), Ok(Some((header, binary.len()))));
    /// ```
    pub fn encode(&self, version: ProxyVersion) -> EncodedProxyHeader {
        let mut encoded = EncodedProxyHeader { bytes: [0; ENCODED_MAX], len: 0 };
        match version {
            ProxyVersion::V1 => self.write_line(&mut encoded).expect("the longest line fits"),
            ProxyVersion::V2 => self.push_binary(&mut encoded),
        }
        encoded
    }

    fn write_line(&self, line: &mut EncodedProxyHeader) -> fmt::Result {
        let ProxyHeader::Tcp { source, destination } = self else {
            return line.write_str("PROXY UNKNOWN\r\n");
        };
        match Pair::of(source, destination) {
            Pair::V4(_) => write!(line, "PROXY TCP4 {} {}", source.ip(), destination.ip())?,
            Pair::V6([source, destination]) => {
                line.write_str("PROXY TCP6 ")?;
                write_ipv6(line, source.into())?;
                line.write_str(" ")?;
                write_ipv6(line, destination.into())?;
            }
        }
        write!(line, " {} {}\r\n", source.port(), destination.port())
    }

    fn push_binary(&self, header: &mut EncodedProxyHeader) {
        header.push(SIGNATURE);
        let ProxyHeader::Tcp { source, destination } = self else {
            // LOCAL, of no family, with no addresses.
            return header.push(&[0x20, 0x00, 0, 0]);
        };
        // PROXY, TCP over IPv4 or IPv6, and how many bytes follow.
        match Pair::of(source, destination) {
            Pair::V4(addresses) => {
                header.push(&[0x21, 0x11, 0, 12]);
                addresses.iter().for_each(|address| header.push(address));
            }
            Pair::V6(addresses) => {
                header.push(&[0x21, 0x21, 0, 36]);
                addresses.iter().for_each(|address| header.push(address));
            }
        }
        header.push(&source.port().to_be_bytes());
        header.push(&destination.port().to_be_bytes());
    }
}

impl Pair {
    fn of(source: &SocketAddr, destination: &SocketAddr) -> Pair {
        let ipv6 = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Pair::V4([source.octets(), destination.octets()])
            }
            (source, destination) => Pair::V6([ipv6(source), ipv6(destination)]),
        }
    }
}

/// Writes hexadecimal groups alone: section 2.1 has no place for the dots of `::ffff:192.0.2.1`.
fn write_ipv6(line: &mut EncodedProxyHeader, ip: Ipv6Addr) -> fmt::Result {
    match ip.to_ipv4_mapped() {
        Some(_) => write!(line, "::ffff:{:x}:{:x}", ip.segments()[6], ip.segments()[7]),
        None => write!(line, "{ip}"),
    }
}

impl EncodedProxyHeader {
    fn push(&mut self, bytes: &[u8]) {
        let begin = usize::from(self.len);
        self.bytes[begin..begin + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

impl Deref for EncodedProxyHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Write for EncodedProxyHeader {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match text.len() <= ENCODED_MAX - usize::from(self.len) {
            true => self.push(text.as_bytes()),
            false => return Err(fmt::Error),
        }
        Ok(())
    }
}

impl fmt::Debug for EncodedProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn tcp(source: &str, destination: &str) -> ProxyHeader {
        let [source, destination] = [source, destination].map(|it| it.parse().unwrap());
        ProxyHeader::Tcp { source, destination }
    }

    fn line(source: &str, destination: &str) -> Vec<u8> {
        tcp(source, destination).encode(ProxyVersion::V1).to_vec()
    }

    #[test]
    fn the_example_of_the_specification_is_written_as_it_stands_there() {
        assert_eq!(
            line("192.168.0.1:56324", "192.168.0.11:443"),
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
        );
    }

    #[test]
    fn the_longest_lines_are_as_long_as_the_specification_counts() {
        let longest = line("255.255.255.255:65535", "255.255.255.255:65535");
        assert_eq!(longest, b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n");
        assert_eq!(longest.len(), 56);
        let most = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        assert_eq!(line(most, most).len(), 104);
        let unknown = ProxyHeader::Socket.encode(ProxyVersion::V1);
        assert_eq!((&*unknown, unknown.len()), (&b"PROXY UNKNOWN\r\n"[..], 15));
    }

    #[test]
    fn an_ipv6_address_is_written_in_hexadecimal_groups_and_without_its_zone() {
        assert_eq!(
            line("[2001:db8::1]:99", "[fe80::2%7]:7"),
            b"PROXY TCP6 2001:db8::1 fe80::2 99 7\r\n"
        );
        assert_eq!(line("203.0.113.7:0", "[::1]:7"), b"PROXY TCP6 ::ffff:cb00:7107 ::1 0 7\r\n");
        assert_eq!(line("[::1]:1", "127.0.0.1:7"), b"PROXY TCP6 ::1 ::ffff:7f00:1 1 7\r\n");
    }

    #[test]
    fn version_2_is_the_signature_the_command_the_family_the_length_and_the_addresses() {
        let expected = |command: &[u8], rest: &[u8]| {
            [b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A", command, rest].concat()
        };
        let v2 = |header: ProxyHeader| header.encode(ProxyVersion::V2).to_vec();
        assert_eq!(
            v2(tcp("203.0.113.7:4711", "127.0.0.1:443")),
            expected(b"\x21\x11\x00\x0c", b"\xcb\x00\x71\x07\x7f\x00\x00\x01\x12\x67\x01\xbb")
        );
        let ipv6 = v2(tcp("[2001:db8::1]:1", "127.0.0.1:2"));
        let source = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
        let destination = b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01";
        let addresses = [&source[..], destination, b"\0\x01\0\x02"].concat();
        assert_eq!(ipv6, expected(b"\x21\x21\x00\x24", &addresses));
        assert_eq!(ipv6.len(), 52);
        assert_eq!(v2(ProxyHeader::Socket), expected(b"\x20\x00\x00\x00", b""));
    }
}
