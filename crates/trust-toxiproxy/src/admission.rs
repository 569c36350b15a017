//! Which browsers are let in. A page of another site can send requests to an address that its
//! visitor can reach, and have its own name lead there (DNS rebinding); it can neither choose the
//! headers `Host` and `Origin` nor leave `Origin` out of a request that changes something.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a request is refused; `None`: it is not. `host` is the header of that name, and `allowed`
/// are names besides `localhost` that it may have.
pub(crate) fn refusal(
    host: Option<&str>,
    origin: Option<&[u8]>,
    allowed: &[String],
) -> Option<&'static str> {
    let is_known = |host| {
        let name = name_of(host);
        is_address(name)
            || name.eq_ignore_ascii_case("localhost")
            || allowed.iter().any(|allowed| name.eq_ignore_ascii_case(allowed))
    };
    let Some(host) = host.filter(|host| is_known(host)) else {
        return Some(
            "Host not allowed: expected an IP address, localhost or a name given by \
             --api-allow-host",
        );
    };
    let is_own = origin.is_none_or(|origin| {
        let schemes = [&b"http://"[..], b"https://"];
        let mut hosts = schemes.iter().filter_map(|scheme| origin.strip_prefix(*scheme));
        hosts.any(|origin| origin.eq_ignore_ascii_case(host.as_bytes()))
    });
    (!is_own).then_some("Origin not allowed: expected the page of this server")
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_address(name: &str) -> bool {
    let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match inside {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_let_in() {
        let allowed = ["proxy.test".to_owned()];
        let is_admitted = |host| refusal(Some(host), None, &allowed).is_none();
        for host in [
            "127.0.0.1",
            "127.0.0.1:8474",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:8474",
            "localhost",
            "LocalHost:8474",
            "proxy.test:8474",
            "PROXY.test",
        ] {
            assert!(is_admitted(host), "{host}");
        }
        for host in [
            "",
            ":8474",
            "evil.test",
            "localhost.evil.test:8474",
            "proxy.test.evil:1",
            "127.0.0.1.evil.test",
            "127.1:8474",
            "[::1",
            "::1",
            "[localhost]",
            "localhost:8474@evil.test",
        ] {
            assert!(!is_admitted(host), "{host}");
        }
        assert!(refusal(None, None, &allowed).is_some());
    }

    #[test]
    fn an_origin_must_be_that_of_the_host() {
        let is_admitted =
            |origin: &str| refusal(Some("localhost:8474"), Some(origin.as_bytes()), &[]).is_none();
        for origin in ["http://localhost:8474", "http://LOCALHOST:8474", "https://localhost:8474"] {
            assert!(is_admitted(origin), "{origin}");
        }
        for origin in
            ["", "null", "http://localhost", "http://127.0.0.1:8474", "http://localhost:84740"]
        {
            assert!(!is_admitted(origin), "{origin}");
        }
    }
}
