//! Listen addresses as Go's `net` package reads them, with its words for what is wrong.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address that a text stands for, with `look_up` for names. All ways to say "every interface"
/// are `[::]`, which stands for IPv4 too.
///
/// # Errors
///
/// What Go says.
pub(crate) fn resolve(
    text: &str,
    look_up: impl FnOnce(&str) -> Option<IpAddr>,
) -> Result<SocketAddr, String> {
    let (host, port) = match text {
        "" => ("", ""),
        text => split(text).map_err(|fault| format!("address {text}: {fault}"))?,
    };
    let port = parse_port(port)?;
    let address = match host.parse() {
        _ if host.is_empty() => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Ok(address) => address,
        Err(_) => look_up(host).ok_or_else(|| format!("lookup {host}: no such host"))?,
    };
    let is_everywhere = address.is_unspecified();
    Ok(SocketAddr::new(if is_everywhere { Ipv6Addr::UNSPECIFIED.into() } else { address }, port))
}

/// Whether an address is the place of a proxy at `present`. Toxiproxy takes every interface, and
/// port 0, for a new place each time, and cuts connections for that.
pub(crate) fn is_same(address: SocketAddr, present: SocketAddr) -> bool {
    address.ip() == present.ip() && (address.port() == 0 || address.port() == present.port())
}

/// The host and the port.
fn split(text: &str) -> Result<(&str, &str), &'static str> {
    let Some((host, port)) = text.rsplit_once(':') else { return Err("missing port in address") };
    let host = match host.strip_prefix('[') {
        Some(_) if !text.contains(']') => return Err("missing ']' in address"),
        Some(_) if text.ends_with(']') => return Err("missing port in address"),
        Some(host) => host.strip_suffix(']').ok_or("too many colons in address")?,
        None if host.contains(':') => return Err("too many colons in address"),
        None => host,
    };
    match (host.contains(['[', ']']), port.contains(['[', ']'])) {
        (false, false) => Ok((host, port)),
        _ => Err("unexpected bracket in address"),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text {
        "" => Ok(0),
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map_err(|_| format!("address {text}: invalid port"))
        }
        text => Err(format!("lookup tcp/{text}: unknown port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<SocketAddr, String> {
        super::resolve(text, |host| (host == "localhost").then_some([127, 0, 0, 1].into()))
    }

    #[test]
    fn texts_stand_for_the_addresses_that_go_says() {
        let cases = [
            ("localhost:3310", "127.0.0.1:3310"),
            ("127.0.0.1:3310", "127.0.0.1:3310"),
            ("0.0.0.0:8666", "[::]:8666"),
            (":8666", "[::]:8666"),
            ("[::]:8666", "[::]:8666"),
            ("", "[::]:0"),
            ("127.0.0.1:", "127.0.0.1:0"),
            ("[::1]:80", "[::1]:80"),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text).map(|address| address.to_string()), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_go() {
        let cases = [
            ("local373", "address local373: missing port in address"),
            ("a:b:1", "address a:b:1: too many colons in address"),
            ("[::1]", "address [::1]: missing port in address"),
            ("[::1:1", "address [::1:1: missing ']' in address"),
            ("[::1]x:1", "address [::1]x:1: too many colons in address"),
            ("a]:1", "address a]:1: unexpected bracket in address"),
            ("127.0.0.1:70000", "address 70000: invalid port"),
            ("127.0.0.1:x", "lookup tcp/x: unknown port"),
            ("no such name:1", "lookup no such name: no such host"),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text), Err(expected.to_owned()));
        }
    }

    #[test]
    fn the_same_place_can_be_said_in_several_ways() {
        let is_same = |text, present| is_same(resolve(text).unwrap(), resolve(present).unwrap());
        for text in ["0.0.0.0:8666", ":8666", "[::]:8666", "", ":0"] {
            assert!(is_same(text, "[::]:8666") && is_same(text, "0.0.0.0:8666"), "{text}");
        }
        assert!(is_same("localhost:1", "127.0.0.1:1") && is_same("localhost:0", "127.0.0.1:1"));
        assert!(!is_same("127.0.0.1:2", "127.0.0.1:1") && !is_same("127.0.0.1:1", "[::]:1"));
    }
}
