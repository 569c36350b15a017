//! What a client sends before its own stream to look like a proxy: a PROXY protocol header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use trust_wire::{ProxyHeader, ProxyVersion};

/// A PROXY protocol header that a client sends first, as a proxy does. To send it use
/// [`ClientStream::send_preface`](crate::ClientStream::send_preface).
///
/// ```
/// use trust_net::wire::ProxyVersion;
/// use trust_net::{PrefaceSource, ProxyPreface};
///
/// let source = PrefaceSource::Address { ip: [203, 0, 113, 7].into(), port: Some(4711) };
/// let preface = ProxyPreface { version: ProxyVersion::V1, source };
///
/// let own = ([192, 0, 2, 2], 50_000).into();
/// let peer = ([192, 0, 2, 1], 443).into();
/// let header = preface.header(Some(own), Some(peer)).encode(preface.version);
/// assert_eq!(&header[..], b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyPreface {
    /// Its form.
    pub version: ProxyVersion,
    /// For whom it claims to have connected.
    pub source: PrefaceSource,
}

/// For whom a client claims to have connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefaceSource {
    /// For itself: the socket's own address.
    Own,
    /// For no client, as in a balancer's health check: UNKNOWN or LOCAL.
    Unknown,
    /// For this address.
    Address {
        /// Without a zone, which means nothing elsewhere.
        ip: IpAddr,
        /// `None`: the port of the socket's own address.
        port: Option<u16>,
    },
}

impl ProxyPreface {
    /// The header of a connection with these ends. If one of them has no TCP address, as unix
    /// sockets have none, it is for no client; with a source that is named, that end is 0.0.0.0 or
    /// ::, port 0.
    pub fn header(&self, own: Option<SocketAddr>, peer: Option<SocketAddr>) -> ProxyHeader {
        let ends = match self.source {
            PrefaceSource::Own => own.zip(peer),
            PrefaceSource::Unknown => None,
            PrefaceSource::Address { ip, port } => {
                let any = match ip {
                    IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let port = port.or(own.map(|own| own.port())).unwrap_or(0);
                Some((SocketAddr::new(ip, port), peer.unwrap_or(SocketAddr::new(any, 0))))
            }
        };
        match ends {
            Some((source, destination)) => ProxyHeader::Tcp { source, destination },
            None => ProxyHeader::Socket,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: (&str, &str) = ("127.0.0.1:1000", "127.0.0.1:7");

    /// What the header says about a connection with these ends, which may be none of TCP.
    fn said(source: PrefaceSource, ends: Option<(&str, &str)>) -> Option<[String; 2]> {
        let preface = ProxyPreface { version: ProxyVersion::V1, source };
        let parse = |text: &str| text.parse().expect("an address");
        let (own, peer) = ends.map(|(own, peer)| (parse(own), parse(peer))).unzip();
        match preface.header(own, peer) {
            ProxyHeader::Tcp { source, destination } => {
                Some([source, destination].map(|it| it.to_string()))
            }
            ProxyHeader::Socket => None,
        }
    }

    fn named(ip: &str, port: Option<u16>) -> PrefaceSource {
        PrefaceSource::Address { ip: ip.parse().expect("an address"), port }
    }

    #[test]
    fn the_source_is_the_own_address_unless_another_is_named() {
        let to = |source: &str| Some([source, V4.1].map(str::to_owned));
        assert_eq!(said(PrefaceSource::Own, Some(V4)), to(V4.0));
        assert_eq!(said(PrefaceSource::Unknown, Some(V4)), None);
        assert_eq!(said(named("203.0.113.7", Some(4711)), Some(V4)), to("203.0.113.7:4711"));
        assert_eq!(said(named("203.0.113.7", None), Some(V4)), to("203.0.113.7:1000"));
        assert_eq!(said(named("2001:db8::1", Some(0)), Some(V4)), to("[2001:db8::1]:0"));
    }

    #[test]
    fn a_socket_without_tcp_addresses_has_a_source_only_if_one_is_named() {
        assert_eq!(said(PrefaceSource::Own, None), None);
        assert_eq!(said(PrefaceSource::Unknown, None), None);
        let v4 = ["203.0.113.7:0", "0.0.0.0:0"].map(str::to_owned);
        assert_eq!(said(named("203.0.113.7", None), None), Some(v4));
        let v6 = ["[2001:db8::1]:99", "[::]:0"].map(str::to_owned);
        assert_eq!(said(named("2001:db8::1", Some(99)), None), Some(v6));
    }
}
