use alloc::vec::Vec;
use proptest::prelude::*;

use super::*;
use crate::ProxyVersion;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 9900\r\n";

fn tcp(source: &str, destination: &str) -> ProxyHeader {
    let address = |text: &str| text.parse().expect("an address");
    ProxyHeader::Tcp { source: address(source), destination: address(destination) }
}

/// A header of version 2.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).expect("a length");
    [&SIGNATURE[..], &[command, family], &len.to_be_bytes(), block].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).expect("a length");
    [&[kind][..], &len.to_be_bytes(), value].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 0x26, 0xac];

/// What comes of a stream, whole and in pieces that end at every byte; it is one and the same.
#[track_caller]
fn decoded(stream: &[u8]) -> Result<Option<(ProxyHeader, usize)>, BadProxyHeader> {
    let whole = ProxyHeader::decode(stream);
    let first = (0..=stream.len())
        .map(|len| ProxyHeader::decode(&stream[..len]))
        .find(|outcome| !matches!(outcome, Ok(None)));
    assert_eq!(first.unwrap_or(Ok(None)), whole, "{}", stream.escape_ascii());
    whole
}

#[test]
fn a_line_says_who_has_connected_and_what_follows_is_the_stream() {
    let header = tcp("192.0.2.1:4711", "198.51.100.2:9900");
    assert_eq!(decoded(LINE), Ok(Some((header, LINE.len()))));
    assert_eq!(decoded(&[LINE, b"\0\0\0\x02hi\r\n"].concat()), Ok(Some((header, LINE.len()))));
    let cases: [(&[u8], ProxyHeader); 6] = [
        (b"TCP6 2001:db8::1 ::1 0 65535", tcp("[2001:db8::1]:0", "[::1]:65535")),
        (
            b"TCP6 2001:0DB8:0:0:0:0:0:0001 ::FFFF:192.0.2.1 1 2",
            tcp("[2001:db8::1]:1", "[::ffff:192.0.2.1]:2"),
        ),
        (b"TCP4 0.0.0.0 255.255.255.255 10 20", tcp("0.0.0.0:10", "255.255.255.255:20")),
        (b"UNKNOWN", ProxyHeader::Socket),
        (b"UNKNOWN ", ProxyHeader::Socket),
        (b"UNKNOWN \0 what\never\r it \xff is", ProxyHeader::Socket),
    ];
    for (fields, header) in cases {
        let line = [LINE_START, fields, b"\r\n"].concat();
        assert_eq!(decoded(&line), Ok(Some((header, line.len()))), "{}", line.escape_ascii());
    }
}

#[test]
fn a_line_that_is_not_right_to_the_letter_is_refused() {
    use BadProxyHeader as Bad;
    let cases: [(&[u8], Bad); 28] = [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 9900\n", Bad::LineByte),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 9900\r ", Bad::LineByte),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 9900 \r\n", Bad::LineFields),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 9900 1\r\n", Bad::LineFields),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n", Bad::LineFields),
        (b"PROXY TCP4\r\n", Bad::LineFields),
        (b"PROXY TCP4  192.0.2.1", Bad::LineAddress),
        (b"PROXY TCP4 192.0.2.01 ", Bad::LineAddress),
        (b"PROXY TCP4 192.0.2 ", Bad::LineAddress),
        (b"PROXY TCP4 localhost ", Bad::LineAddress),
        (b"PROXY TCP4 ::1 ", Bad::LineAddress),
        (b"PROXY TCP6 192.0.2.1 ", Bad::LineAddress),
        (b"PROXY TCP6 fe80::1%1 ", Bad::LineAddress),
        (b"PROXY TCP6 [::1] ", Bad::LineAddress),
        (b"PROXY TCP6 ::1 \xc3\xa9 ", Bad::LineByte),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 04711 ", Bad::LinePort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 ", Bad::LinePort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 ", Bad::LinePort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 ", Bad::LinePort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", Bad::LinePort),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 1\r1", Bad::LineByte),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 00\r\n", Bad::LinePort),
        (b"PROXY UDP4 ", Bad::LineProtocol),
        (b"PROXY tcp4 ", Bad::LineProtocol),
        (b"PROXY  TCP4", Bad::LineProtocol),
        (b"PROXY \r\n", Bad::LineProtocol),
        (b"PROXY TCP4\n", Bad::LineByte),
        (b"PROXY UNKNOWN\n", Bad::LineByte),
    ];
    for (line, problem) in cases {
        assert_eq!(decoded(line), Err(problem), "{}", line.escape_ascii());
    }
}

#[test]
fn a_line_has_107_bytes_at_most() {
    let line = |len: usize| [&b"PROXY UNKNOWN "[..], &[b'x'].repeat(len - 16), b"\r\n"].concat();
    assert_eq!(decoded(&line(107)), Ok(Some((ProxyHeader::Socket, 107))));
    assert_eq!(decoded(&line(108)), Err(BadProxyHeader::LineTooLong));
    let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    assert_eq!(decoded(&endless), Err(BadProxyHeader::LineTooLong));
}

#[test]
fn a_binary_header_says_who_has_connected_and_what_follows_is_the_stream() {
    let header = tcp("192.0.2.1:4711", "198.51.100.2:9900");
    let stream = [&binary(0x21, 0x11, &IPV4)[..], b"hello"].concat();
    assert_eq!(decoded(&stream), Ok(Some((header, 28))));
    let v6: [u8; 16] = "2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets();
    let block = [&v6[..], &[0; 15], &[1, 0x12, 0x67, 0x26, 0xac]].concat();
    let header = tcp("[2001:db8::1]:4711", "[::1]:9900");
    assert_eq!(decoded(&binary(0x21, 0x21, &block)), Ok(Some((header, 52))));
}

#[test]
fn what_is_not_about_tcp_leaves_the_socket_s_addresses() {
    let [udp6, unix] = [[7; 36].to_vec(), [7; 216].to_vec()];
    let cases = [
        binary(0x20, 0, &[]),
        binary(0x20, 0x11, &IPV4),
        // A local one's family and block are ignored.
        binary(0x20, 0xff, b"whatever"),
        binary(0x21, 0, &[]),
        binary(0x21, 0, b"whatever"),
        binary(0x21, 0x12, &IPV4),
        binary(0x21, 0x22, &udp6),
        binary(0x21, 0x31, &unix),
        binary(0x21, 0x32, &unix),
    ];
    for header in cases {
        let expected = Ok(Some((ProxyHeader::Socket, header.len())));
        assert_eq!(decoded(&header), expected, "{}", header.escape_ascii());
    }
}

#[test]
fn a_binary_header_that_is_not_right_is_refused_as_soon_as_that_is_there() {
    use BadProxyHeader as Bad;
    let whole = |command, family, block: &[u8]| binary(command, family, block);
    let cases = [
        (whole(0x11, 0x11, &IPV4), 13, Bad::Version(1)),
        (whole(0x31, 0x11, &IPV4), 13, Bad::Version(3)),
        (whole(0x22, 0x11, &IPV4), 13, Bad::Command(2)),
        (whole(0x2f, 0x11, &IPV4), 13, Bad::Command(15)),
        (whole(0x21, 0x10, &IPV4), 14, Bad::Family(0x10)),
        (whole(0x21, 0x01, &IPV4), 14, Bad::Family(0x01)),
        (whole(0x21, 0x41, &IPV4), 14, Bad::Family(0x41)),
        (whole(0x21, 0x13, &IPV4), 14, Bad::Family(0x13)),
        (whole(0x21, 0x11, &IPV4[1..]), 16, Bad::TooShort { declared: 11 }),
        (whole(0x21, 0x21, &IPV4), 16, Bad::TooShort { declared: 12 }),
        (whole(0x21, 0x31, &[0; 215]), 16, Bad::TooShort { declared: 215 }),
        (whole(0x20, 0x00, &[0; 4097]), 16, Bad::TooLong { declared: 4097 }),
        (whole(0x21, 0x11, &[&IPV4[..], &[4, 0]].concat()), 30, Bad::Tlv),
        (whole(0x21, 0x11, &[&IPV4[..], &[4, 0, 2, 9]].concat()), 32, Bad::Tlv),
    ];
    for (header, len, problem) in cases {
        assert_eq!(decoded(&header), Err(problem), "{}", header.escape_ascii());
        assert_eq!(decoded(&header[..len]), Err(problem), "{}", header.escape_ascii());
        assert_eq!(decoded(&header[..len - 1]), Ok(None), "{}", header.escape_ascii());
    }
    let longest = binary(0x20, 0x00, &[0; 4096]);
    assert_eq!(longest.len(), PROXY_HEADER_MAX);
    assert_eq!(decoded(&longest), Ok(Some((ProxyHeader::Socket, longest.len()))));
}

#[test]
fn tlvs_are_skipped_and_a_checksum_must_be_right() {
    assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283, "the check value of CRC32C");
    let (name, padding) = (tlv(0x02, b"echo.example.org"), tlv(0x04, &[0; 300]));
    let with = |checksum: &[u8]| {
        let block = [&IPV4[..], &name, &tlv(0x03, checksum), &padding].concat();
        binary(0x21, 0x11, &block)
    };
    let right = crc32c(with(&[0; 4]).iter());
    let outcome = |header: Vec<u8>| ProxyHeader::decode(&header).map(|found| found.is_some());
    assert_eq!(outcome(with(&right.to_be_bytes())), Ok(true));
    assert_eq!(outcome(binary(0x21, 0x11, &[&IPV4[..], &name, &padding].concat())), Ok(true));
    for wrong in [&(right ^ 1).to_be_bytes()[..], &right.to_le_bytes(), &[0; 3], &[], &[0; 5]] {
        assert_eq!(outcome(with(wrong)), Err(BadProxyHeader::Checksum), "{wrong:?}");
    }
    let header = with(&right.to_be_bytes());
    for bit in 8 * FIXED_LEN..8 * header.len() {
        let mut flipped = header.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // A type or length that has changed may hide the checksum.
        let is_told =
            matches!(outcome(flipped), Err(BadProxyHeader::Checksum | BadProxyHeader::Tlv));
        let is_hidden = [29, 30, 47].contains(&(bit / 8));
        assert!(is_told || is_hidden, "bit {bit}");
    }
}

#[test]
fn a_stream_without_a_header_is_refused_at_its_first_wrong_byte() {
    for (stream, len) in [
        (&b"\0\0\0\x05hello"[..], 1),
        (b"hello", 1),
        (b"PRIV", 3),
        (b"PROXYTCP4", 6),
        (b"\r\n\r\n\r", 5),
    ] {
        assert_eq!(decoded(&stream[..len - 1]), Ok(None), "{}", stream.escape_ascii());
        assert_eq!(decoded(&stream[..len]), Err(BadProxyHeader::Missing));
        assert_eq!(decoded(stream), Err(BadProxyHeader::Missing));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn addresses_are_read_as_they_are_written(
        v4 in any::<[Ipv4Addr; 2]>(),
        v6 in any::<[Ipv6Addr; 2]>(),
        ports in any::<[u16; 2]>(),
    ) {
        let pairs = [("TCP4", v4.map(IpAddr::V4)), ("TCP6", v6.map(IpAddr::V6))];
        for (word, ips) in pairs {
            let [source, destination] = [0, 1].map(|end| SocketAddr::new(ips[end], ports[end]));
            let header = ProxyHeader::Tcp { source, destination };
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let written = header.encode(version);
                prop_assert_eq!(decoded(&written), Ok(Some((header, written.len()))));
            }
            // As others write it.
            let line =
                alloc::format!("PROXY {word} {} {} {} {}\r\n", ips[0], ips[1], ports[0], ports[1]);
            prop_assert_eq!(decoded(line.as_bytes()), Ok(Some((header, line.len()))));
        }
    }

    #[test]
    fn any_bytes_come_to_the_same_however_they_are_cut(
        start in prop::sample::select(
            [
                &b""[..],
                b"PROXY ",
                b"PROXY TCP4 ",
                b"PROXY UNKNOWN ",
                &SIGNATURE[..],
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
            ]
            .to_vec()
        ),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decoded(&[start, &rest].concat());
    }
}
