//! Whether a peer is on this host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use trust_net::Address;

/// Whether the address is one of this host's, in its network namespace: nothing stands between but
/// what runs here. A packet to itself is the only one that the kernel gives that very address as
/// its source. A unix socket is always on this host.
pub fn is_on_this_host(address: &Address) -> bool {
    address.ip().is_none_or(is_own)
}

fn is_own(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || {
        // Nothing is sent: connecting only asks for the route (udp(7)).
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        socket.local_addr()
    };
    address.ip().to_canonical().is_loopback()
        || source().is_ok_and(|source| source.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use trust_net::UnixName;

    use super::*;

    #[test]
    fn loopback_is_here_and_an_address_for_documents_is_not() {
        for here in ["127.0.0.1:7", "127.9.9.9:7", "[::1]:7", "[::ffff:127.0.0.1]:7"] {
            assert!(is_own(here.parse().unwrap()), "{here}");
        }
        for elsewhere in ["192.0.2.77:7", "[2001:db8::77]:7"] {
            assert!(!is_own(elsewhere.parse().unwrap()), "{elsewhere}");
        }
        let socket = UnixName::Path(PathBuf::from("/run/x.sock"));
        assert!(is_on_this_host(&Address::Unix(socket)));
    }
}
