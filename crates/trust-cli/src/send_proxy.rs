//! `--send-proxy`: the PROXY protocol header that a client command sends first on each connection.

use std::net::{IpAddr, SocketAddr};

use trust_net::preface::{PrefaceSource, ProxyPreface};
use trust_net::wire::ProxyVersion;

use crate::settings::ValueKind;
use crate::values::quoted;
use crate::zone;

/// What `--send-proxy` can be set to.
pub const SEND_PROXY: ValueKind<ProxyPreface> = ValueKind::of_parts(
    "VERSION",
    "v1 or v2, perhaps with =ADDRESS or =ADDRESS:PORT, or v1=unknown or v2=local",
    parse,
);

fn parse(text: &str) -> Result<ProxyPreface, String> {
    let (version, source) = match text.split_once('=') {
        Some((version, source)) => (version, Some(source)),
        None => (text, None),
    };
    let version = match version {
        "v1" => ProxyVersion::V1,
        "v2" => ProxyVersion::V2,
        _ => return Err(format!("expected {}", SEND_PROXY.allowed)),
    };
    let source = match (version, source) {
        (_, None) => PrefaceSource::Own,
        (ProxyVersion::V1, Some("unknown")) | (ProxyVersion::V2, Some("local")) => {
            PrefaceSource::Unknown
        }
        (ProxyVersion::V1, Some("local")) => {
            return Err("v1 has no LOCAL: expected v1=unknown or v2=local".to_owned());
        }
        (ProxyVersion::V2, Some("unknown")) => {
            return Err("v2 has no UNKNOWN: expected v2=local or v1=unknown".to_owned());
        }
        (_, Some(source)) => address(source)?,
    };
    Ok(ProxyPreface { version, source })
}

/// `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1` or `[2001:db8::1]:4711`.
fn address(text: &str) -> Result<PrefaceSource, String> {
    if text.contains('%') {
        return Err(format!("source {} has a zone, which a header cannot say", quoted(text)));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let ip = match bare {
        Some(bare) => bare.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok(),
    };
    if let Some(ip) = ip {
        return Ok(PrefaceSource::Address { ip, port: None });
    }
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(PrefaceSource::Address { ip: address.ip(), port: Some(address.port()) }),
        Err(_) => Err(format!(
            "source {}: expected an address, perhaps with a port, as 203.0.113.7:4711 or \
             [2001:db8::1]:4711",
            quoted(text)
        )),
    }
}

/// The header in words, for reports: `v2, from 203.0.113.7:4711`. On unix sockets connections have
/// neither addresses nor ports.
pub fn described(preface: &ProxyPreface, is_unix: bool) -> String {
    let version = version(preface);
    let source = match preface.source {
        PrefaceSource::Own if is_unix => PrefaceSource::Unknown,
        PrefaceSource::Address { ip, port: None } if is_unix => {
            PrefaceSource::Address { ip, port: Some(0) }
        }
        source => source,
    };
    match (source, preface.version) {
        (PrefaceSource::Own, _) => format!("{version}, from the address of each connection"),
        (PrefaceSource::Unknown, ProxyVersion::V1) => format!("{version}, UNKNOWN"),
        (PrefaceSource::Unknown, ProxyVersion::V2) => format!("{version}, LOCAL"),
        (PrefaceSource::Address { ip, port: None }, _) => {
            format!("{version}, from {ip} with the port of each connection")
        }
        (PrefaceSource::Address { ip, port: Some(port) }, _) => {
            format!("{version}, from {}", zone::shown(&SocketAddr::new(ip, port)))
        }
    }
}

/// What to think of where no answer comes: a hint, or a part of a sentence.
pub fn hint(preface: &ProxyPreface) -> String {
    let version = version(preface);
    format!("a PROXY header ({version}) was sent first, and perhaps the server does not expect one")
}

fn version(preface: &ProxyPreface) -> &'static str {
    match preface.version {
        ProxyVersion::V1 => "v1",
        ProxyVersion::V2 => "v2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_words(text: &str) -> String {
        described(&parse(text).expect("a header"), false)
    }

    #[test]
    fn a_version_alone_or_with_a_source_is_taken() {
        let taken = [
            ("v1", "v1, from the address of each connection"),
            ("v2", "v2, from the address of each connection"),
            ("v1=unknown", "v1, UNKNOWN"),
            ("v2=local", "v2, LOCAL"),
            ("v2=203.0.113.7:4711", "v2, from 203.0.113.7:4711"),
            ("v2=203.0.113.7", "v2, from 203.0.113.7 with the port of each connection"),
            ("v1=[2001:db8::1]:99", "v1, from [2001:db8::1]:99"),
            ("v1=[2001:db8::1]", "v1, from 2001:db8::1 with the port of each connection"),
            ("v1=2001:db8::1", "v1, from 2001:db8::1 with the port of each connection"),
            ("v1=0.0.0.0:0", "v1, from 0.0.0.0:0"),
        ];
        for (text, words) in taken {
            assert_eq!(in_words(text), words, "{text}");
        }
    }

    #[test]
    fn on_a_unix_socket_a_header_has_no_address_of_the_connection() {
        let in_words = |text| described(&parse(text).expect("a header"), true);
        let words = [
            ("v1", "v1, UNKNOWN"),
            ("v2", "v2, LOCAL"),
            ("v2=203.0.113.7", "v2, from 203.0.113.7:0"),
            ("v2=203.0.113.7:4711", "v2, from 203.0.113.7:4711"),
        ];
        words.into_iter().for_each(|(text, words)| assert_eq!(in_words(text), words));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_wrong() {
        let allowed = format!("expected {}", SEND_PROXY.allowed);
        for text in ["", "v3", "1", "V1", "v1 ", "true", "=203.0.113.7", "203.0.113.7"] {
            assert_eq!(parse(text), Err(allowed.clone()), "{text}");
        }
        let expected = "expected an address, perhaps with a port";
        for text in [
            "",
            "a.example:1",
            "203.0.113.7:",
            "203.0.113.7:70000",
            "[203.0.113.7]:1",
            "[::1",
            "::1]",
            ":1",
        ] {
            let error = parse(&format!("v2={text}")).expect_err("no address");
            assert!(error.starts_with(&format!("source '{text}': {expected}")), "{error}");
        }
        let zone = "source '[fe80::1%2]:7' has a zone, which a header cannot say";
        assert_eq!(parse("v1=[fe80::1%2]:7"), Err(zone.to_owned()));
        for (text, error) in [
            ("v1=local", "v1 has no LOCAL: expected v1=unknown or v2=local"),
            ("v2=unknown", "v2 has no UNKNOWN: expected v2=local or v1=unknown"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()));
        }
    }
}
