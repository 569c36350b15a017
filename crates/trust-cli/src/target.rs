//! The server as the user names it: `HOST PORT` or `HOST:PORT`, `-4` and `-6`.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::exit_code::{ExitCode, Failure};
use crate::settings::ValueKind;
use crate::values::{parse_port, quoted};

/// A server as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

/// Which addresses of a name are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// All of them, in the order in which the system lists them.
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = quoted(&self.host);
        // Without the quotes around it, which may have quotes of its own.
        let host = &host[1..host.len() - 1];
        match self.host.contains(':') {
            true => write!(f, "[{host}]:{}", self.port),
            false => write!(f, "{host}:{}", self.port),
        }
    }
}

impl Target {
    /// Takes `HOST PORT` or `HOST:PORT` off the front of the arguments; the target and the rest.
    ///
    /// # Errors
    ///
    /// 64, with the argument and what is allowed.
    pub fn parse(arguments: &[OsString]) -> Result<(Target, &[OsString]), Failure> {
        let Some((first, rest)) = arguments.split_first() else {
            return Err(usage("missing argument: HOST PORT or HOST:PORT"));
        };
        let Some(first) = first.to_str() else {
            return Err(usage(format!("bad host {}: not UTF-8", quoted(first))));
        };
        if let (host, Some(port)) = split_host(first)? {
            return Ok((Target::new(host, port)?, rest));
        }
        let (host, _) = split_host(first)?;
        let Some((port, rest)) = rest.split_first() else {
            let message = format!("missing argument: PORT (after host {})", quoted(first));
            return Err(usage(message));
        };
        Ok((Target::new(host, &port.to_string_lossy())?, rest))
    }

    /// The argument `server`, whose values [`Target::parse`] takes.
    pub fn arg() -> Arg {
        Arg::new("server")
            .value_name("HOST PORT|HOST:PORT")
            .help("The server; an IPv6 address as ::1 9900 or [::1]:9900")
            .value_parser(value_parser!(OsString))
    }

    fn new(host: &str, port: &str) -> Result<Target, Failure> {
        if host.is_empty() {
            return Err(usage("bad host '': it is empty"));
        }
        match parse_server_port(port) {
            Some(port) => Ok(Target { host: host.to_owned(), port }),
            None => {
                let port = quoted(port);
                Err(usage(format!("bad port {port}: allowed is {}", SERVER_PORT.allowed)))
            }
        }
    }
}

/// What names a host.
pub const HOST: ValueKind<String> = ValueKind::of_text(
    "HOST",
    "a name or an address, perhaps an IPv6 address in brackets",
    parse_host,
);

/// A name or an address, without the brackets that an IPv6 address may have.
pub fn parse_host(text: &str) -> Option<String> {
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|host| is_ipv6(host))?,
        None => text,
    };
    // A zone may have a bracket.
    let is_host = !host.is_empty() && (is_ipv6(host) || !host.contains(['[', ']']));
    is_host.then(|| host.to_owned())
}

/// A server's port.
pub const SERVER_PORT: ValueKind<u16> =
    ValueKind::of_text("PORT", "a port from 1 to 65535", parse_server_port);

/// A port that something can listen on.
pub fn parse_server_port(text: &str) -> Option<u16> {
    parse_port(text).filter(|port| *port > 0)
}

impl Family {
    /// The flags `-4` and `-6`.
    pub fn args() -> [Arg; 2] {
        let ipv4 = Arg::new("ipv4").short('4').long("ipv4").help("Use IPv4 addresses only");
        let ipv6 = Arg::new("ipv6").short('6').long("ipv6").help("Use IPv6 addresses only");
        [ipv4.conflicts_with("ipv6"), ipv6].map(|arg| arg.action(ArgAction::SetTrue))
    }

    /// What the flags of [`Family::args`] say.
    pub fn of(matches: &ArgMatches) -> Family {
        match (matches.get_flag("ipv4"), matches.get_flag("ipv6")) {
            (true, _) => Family::V4,
            (false, true) => Family::V6,
            (false, false) => Family::Any,
        }
    }

    /// The flag that says it; `None`: none does.
    pub const fn flag(self) -> Option<&'static str> {
        match self {
            Family::Any => None,
            Family::V4 => Some("-4"),
            Family::V6 => Some("-6"),
        }
    }

    /// Whether the address is one of them.
    pub fn has(self, address: &SocketAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

/// The host, and the port if the text has one.
fn split_host(text: &str) -> Result<(&str, Option<&str>), Failure> {
    let bad = || {
        usage(format!("bad host {}: allowed is HOST PORT, HOST:PORT or [IPV6]:PORT", quoted(text)))
    };
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or_else(bad)?;
        return match (is_ipv6(host), after.strip_prefix(':')) {
            (true, Some(port)) => Ok((host, Some(port))),
            (true, None) if after.is_empty() => Ok((host, None)),
            _ => Err(bad()),
        };
    }
    if is_ipv6(text) {
        return Ok((text, None));
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(bad()),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// Whether it is an IPv6 address, perhaps with a zone (`fe80::1%eth0`).
fn is_ipv6(text: &str) -> bool {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(ExitCode::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<(String, u16, usize), String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        match Target::parse(&arguments) {
            Ok((target, rest)) => Ok((target.host, target.port, rest.len())),
            Err(failure) => {
                assert_eq!(failure.exit, ExitCode::Usage);
                Err(failure.message)
            }
        }
    }

    #[test]
    fn a_target_is_one_argument_or_two() {
        let cases: [(&[&str], &str, u16, usize); 10] = [
            (&["localhost", "9900"], "localhost", 9900, 0),
            (&["localhost:9900"], "localhost", 9900, 0),
            (&["localhost:9900", "9901"], "localhost", 9900, 1),
            (&["localhost", "9900", "a", "b"], "localhost", 9900, 2),
            (&["192.0.2.1:1", "hi"], "192.0.2.1", 1, 1),
            (&["::1", "65535"], "::1", 65535, 0),
            (&["[::1]:9900", "x"], "::1", 9900, 1),
            (&["[::1]", "9900", "x"], "::1", 9900, 1),
            (&["fe80::1%eth0", "9900"], "fe80::1%eth0", 9900, 0),
            (&["[fe80::1%eth0]:9900"], "fe80::1%eth0", 9900, 0),
        ];
        for (arguments, host, port, rest) in cases {
            assert_eq!(parse(arguments), Ok((host.into(), port, rest)), "{arguments:?}");
        }
    }

    #[test]
    fn what_is_no_target_is_named() {
        let cases: [(&[&str], &str); 12] = [
            (&[], "missing argument: HOST PORT or HOST:PORT"),
            (&["localhost"], "missing argument: PORT (after host 'localhost')"),
            (&["::1:9900x", "1"], "bad host '::1:9900x': allowed is"),
            (&["a:b:c"], "bad host 'a:b:c': allowed is"),
            (&["[::1]9900"], "bad host '[::1]9900': allowed is"),
            (&["[localhost]:9900"], "bad host '[localhost]:9900': allowed is"),
            (&["[::1", "1"], "bad host '[::1': allowed is"),
            (&[":9900"], "bad host ''"),
            (&["localhost:"], "bad port '': allowed is a port from 1 to 65535"),
            (&["localhost", "0"], "bad port '0'"),
            (&["localhost", "65536"], "bad port '65536'"),
            (&["localhost:+80"], "bad port '+80'"),
        ];
        for (arguments, expected) in cases {
            let message = parse(arguments).unwrap_err();
            assert!(message.starts_with(expected), "{arguments:?}: {message}");
        }
    }

    #[test]
    fn a_host_has_both_brackets_around_an_ipv6_address_or_none() {
        for (text, host) in [
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
        ] {
            assert_eq!(parse_host(text).as_deref(), Some(host), "{text}");
        }
        for text in ["", "[]", "[[[::1", "[::1", "::1]", "[[::1]]", "[localhost]", "[127.0.0.1]"] {
            assert_eq!(parse_host(text), None, "{text}");
        }
    }

    #[test]
    fn a_target_is_shown_in_one_line_with_brackets_where_needed() {
        let shown = |host: &str| Target { host: host.into(), port: 7 }.to_string();
        assert_eq!(shown("localhost"), "localhost:7");
        assert_eq!(shown("::1"), "[::1]:7");
        assert_eq!(shown("a\nb"), "a\\nb:7");
        assert_eq!(shown("'a'"), "'a':7");
    }
}
