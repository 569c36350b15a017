//! Where a service listens, as the user names it in one word.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use trust_net::listening::BindError;
use trust_net::{Address, UnixName};

use crate::exit_code::Failure;
use crate::listen_host::ListenHost;
use crate::listening::{addresses, cannot_listen};
use crate::settings::ValueKind;
use crate::target::{SCHEME, check_zone, parse_unix, split, unnamed_socket};
use crate::values::{PORT, bare, parse_port, quoted};

/// Where to listen, as one word: `PORT`, `:PORT`, `HOST:PORT`, `*:PORT`, `unix:PATH` or
/// `unix:@NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenPlace {
    /// A port of 127.0.0.1 and ::1.
    Loopback(u16),
    /// A port of all interfaces.
    Everywhere(u16),
    /// A port of a name's addresses, or of an address without brackets.
    Named(String, u16),
    /// A unix socket.
    Unix(UnixName),
}

/// Where to listen, in one word.
pub const LISTEN_PLACE: ValueKind<ListenPlace> = ValueKind::of_parts(
    "LISTEN",
    "PORT or :PORT on this host alone, HOST:PORT, *:PORT for all interfaces, unix:PATH or \
     unix:@NAME",
    ListenPlace::parse,
);

impl ListenPlace {
    /// Reads the word, or says what is wrong with it. Port 0 stands for a free one.
    ///
    /// # Errors
    ///
    /// A few words without the text itself.
    pub fn parse(text: &str) -> Result<ListenPlace, String> {
        if let Some(name) = text.strip_prefix(SCHEME) {
            return parse_unix(name).map(ListenPlace::Unix);
        }
        if let Some(fault) = unnamed_socket(text) {
            return Err(fault);
        }
        let Some((host, Some(port))) = split(text) else {
            return Err(format!("expected {}", LISTEN_PLACE.allowed));
        };
        let port = parse_port(port)
            .ok_or_else(|| format!("invalid port {}: expected {}", quoted(port), PORT.allowed))?;
        match host {
            None => Ok(ListenPlace::Loopback(port)),
            Some("*") => Ok(ListenPlace::Everywhere(port)),
            Some(host) => check_zone(host).map(|()| ListenPlace::Named(host.to_owned(), port)),
        }
    }

    /// The addresses to listen on.
    ///
    /// # Errors
    ///
    /// As [`addresses`].
    pub fn addresses(&self) -> Result<Vec<Address>, Failure> {
        match self {
            ListenPlace::Loopback(port) => {
                Ok(vec![(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()])
            }
            ListenPlace::Everywhere(port) => addresses(None, *port),
            ListenPlace::Named(host, port) => {
                addresses(Some(&ListenHost::Named(host.clone())), *port)
            }
            ListenPlace::Unix(name) => Ok(vec![Address::Unix(name.clone())]),
        }
    }

    /// Why it cannot be listened on.
    pub fn cannot_listen(&self, error: &BindError) -> Failure {
        match self {
            ListenPlace::Loopback(port) | ListenPlace::Everywhere(port) => {
                cannot_listen(error, None, Some(*port))
            }
            ListenPlace::Named(host, port) => {
                cannot_listen(error, Some(&ListenHost::Named(host.clone())), Some(*port))
            }
            ListenPlace::Unix(_) => cannot_listen(error, None, None),
        }
    }
}

impl fmt::Display for ListenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenPlace::Loopback(port) => write!(f, ":{port}"),
            ListenPlace::Everywhere(port) => write!(f, "*:{port}"),
            ListenPlace::Named(host, port) if host.contains(':') => {
                write!(f, "[{}]:{port}", bare(host))
            }
            ListenPlace::Named(host, port) => write!(f, "{}:{port}", bare(host)),
            ListenPlace::Unix(name) => f.write_str(&bare(name.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_host() {
        let named = |host: &str, port| Ok(ListenPlace::Named(host.to_owned(), port));
        for text in ["9900", ":9900"] {
            assert_eq!(ListenPlace::parse(text), Ok(ListenPlace::Loopback(9900)));
        }
        assert_eq!(ListenPlace::parse("*:0"), Ok(ListenPlace::Everywhere(0)));
        assert_eq!(ListenPlace::parse("0.0.0.0:80"), named("0.0.0.0", 80));
        assert_eq!(ListenPlace::parse("[::1]:80"), named("::1", 80));
        let on_loopback = ListenPlace::Loopback(7).addresses().unwrap();
        let shown: Vec<String> = on_loopback.iter().map(Address::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:7", "[::1]:7"]);
    }

    #[test]
    fn a_place_is_shown_as_it_is_typed() {
        for text in [":9900", "*:80", "localhost:80", "[::1]:80", "unix:/run/x.sock", "unix:@x"] {
            assert_eq!(
                ListenPlace::parse(text).map(|place| place.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in
            ["", "localhost", "::1", "localhost:", "localhost:70000", "a:b:c", "/run/x", "-1"]
        {
            assert!(ListenPlace::parse(text).is_err(), "{text}");
        }
        let refused = ListenPlace::parse("localhost:70000").unwrap_err();
        assert_eq!(refused, "invalid port '70000': expected a port from 0 to 65535");
    }
}
