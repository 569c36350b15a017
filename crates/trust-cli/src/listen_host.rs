//! Where a server listens, as the user names it: a host, whose port is another setting, or a unix
//! socket.

use trust_net::UnixName;

use crate::settings::ValueKind;
use crate::target::{SCHEME, check_zone, parse_unix, split, unnamed_socket};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenHost {
    /// On a name's addresses, or an address without brackets.
    Named(String),
    /// On a unix socket.
    Unix(UnixName),
}

/// A name or an address to listen on, or a unix socket.
pub const LISTEN_HOST: ValueKind<ListenHost> = ValueKind::of_parts(
    "HOST",
    "a name or an address, perhaps an IPv6 address in brackets, or a unix socket: \
     unix:PATH or unix:@NAME",
    ListenHost::parse,
);

impl ListenHost {
    /// Reads the text, or says what is wrong with it.
    ///
    /// # Errors
    ///
    /// A few words without the text itself.
    pub fn parse(text: &str) -> Result<ListenHost, String> {
        if let Some(name) = text.strip_prefix(SCHEME) {
            return parse_unix(name).map(ListenHost::Unix);
        }
        if let Some(fault) = unnamed_socket(text) {
            return Err(fault);
        }
        match split(text) {
            Some((Some(host), None)) => {
                check_zone(host).map(|()| ListenHost::Named(host.to_owned()))
            }
            Some((_, Some(_))) => Err("expected a host alone, as --port names the port".to_owned()),
            _ => Err(format!("expected {}", LISTEN_HOST.allowed)),
        }
    }

    /// Whether it is a unix socket that the text names.
    pub fn is_unix(text: &str) -> bool {
        text.starts_with(SCHEME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(name: &str) -> Result<ListenHost, String> {
        Ok(ListenHost::Unix(UnixName::parse(name.as_ref()).unwrap()))
    }

    #[test]
    fn hosts_to_listen_on_are_named_without_brackets_or_port() {
        for (text, host) in [
            ("localhost", "localhost"),
            ("0.0.0.0", "0.0.0.0"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
        ] {
            assert_eq!(ListenHost::parse(text), Ok(ListenHost::Named(host.to_owned())), "{text}");
        }
        for text in ["", "[]", "[[[::1", "[::1", "::1]", "[[::1]]", "[localhost]", "[127.0.0.1]"] {
            assert!(ListenHost::parse(text).is_err(), "{text}");
        }
        let refused = |text| ListenHost::parse(text).unwrap_err();
        assert_eq!(refused("localhost:1"), "expected a host alone, as --port names the port");
        assert_eq!(
            refused("fe80::1"),
            "a link-local address needs its interface, as in fe80::1%eth0"
        );
    }

    #[test]
    fn a_unix_socket_is_named_by_its_path_or_its_abstract_name() {
        for (text, name) in
            [("unix:/run/x.sock", "/run/x.sock"), ("unix:x", "x"), ("unix:@name", "@name")]
        {
            assert_eq!(ListenHost::parse(text), unix(name));
        }
        let refused = |text: &str| ListenHost::parse(text).unwrap_err();
        assert_eq!(refused("unix:"), "expected a path after unix:");
        assert_eq!(refused("unix:@"), "expected a name after unix:@");
        assert_eq!(refused("unix:a\0b"), "the path of a unix socket has no byte 0");
        for (at, kind) in [("", "path"), ("@", "name")] {
            let why = format!("the {kind} of a unix socket has at most 107 bytes, this has 108");
            assert_eq!(refused(&format!("unix:{at}{}", "x".repeat(108))), why);
        }
        assert_eq!(refused("unix:/\u{fffd}"), "not UTF-8");
        for text in ["/run/x.sock", "./x", "run/x", "@name"] {
            assert_eq!(refused(text), format!("expected unix:{text} for a unix socket"));
        }
    }
}
