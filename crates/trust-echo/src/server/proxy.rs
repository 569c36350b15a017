//! Words for what is wrong with a PROXY header.

use trust_net::wire::BadProxyHeader;
use trust_net::wire::proxy_header::PROXY_BLOCK_MAX;

/// In a few words.
pub(crate) fn problem(bad: BadProxyHeader) -> String {
    let words = match bad {
        BadProxyHeader::Missing => "the connection does not begin with a PROXY header",
        BadProxyHeader::Unfinished => "the connection ended inside the PROXY header",
        BadProxyHeader::LineTooLong => "version 1: no CRLF within 107 bytes",
        BadProxyHeader::LineByte => "version 1: not printable, or LF without CR",
        BadProxyHeader::LineProtocol => "version 1: the protocol is not TCP4, TCP6 or UNKNOWN",
        BadProxyHeader::LineFields => {
            "version 1: not two addresses and two ports, each after one space"
        }
        BadProxyHeader::LineAddress => "version 1: invalid address",
        BadProxyHeader::LinePort => "version 1: invalid port",
        BadProxyHeader::Version(version) => {
            return format!("unknown version {version} of the binary header");
        }
        BadProxyHeader::Command(command) => {
            return format!("version 2: unknown command {command}");
        }
        BadProxyHeader::Family(family) => {
            return format!("version 2: unknown address family and protocol 0x{family:02x}");
        }
        BadProxyHeader::TooLong { declared } => {
            return format!(
                "version 2: {declared} bytes after the first 16, the limit is {PROXY_BLOCK_MAX}"
            );
        }
        BadProxyHeader::TooShort { declared } => {
            return format!("version 2: {declared} bytes are too few for its addresses");
        }
        BadProxyHeader::Tlv => "version 2: a TLV goes beyond the end of the header",
        BadProxyHeader::Checksum => "version 2: wrong checksum (CRC32C)",
    };
    words.to_owned()
}
