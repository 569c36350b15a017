//! The header with which a proxy says for whom it has connected: the PROXY protocol
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).

mod decode;
mod encode;

use core::net::SocketAddr;

pub use self::decode::{BadProxyHeader, PROXY_BLOCK_MAX, PROXY_HEADER_MAX};
pub use self::encode::EncodedProxyHeader;

/// What a header of version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text (section 2.1).
    V1,
    /// Binary (section 2.2).
    V2,
}

/// What a whole header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The proxy relays this connection over TCP.
    Tcp {
        /// The client that has connected to the proxy.
        source: SocketAddr,
        /// Where it has connected to.
        destination: SocketAddr,
    },
    /// Nothing: the addresses of the socket count. Version 1 writes `UNKNOWN`; version 2 LOCAL, as
    /// in checks of the proxy's own, or PROXY with a family that this is not about.
    Socket,
}
