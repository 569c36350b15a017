//! The server as the user names it: in one or two words, with `--host` and `--port`, `-4` and `-6`.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use trust_net::UnixName;
use trust_net::address::UNIX_NAME_MAX;

use crate::exit_code::{ExitCode, Failure};
use crate::layers::{Layers, Source};
use crate::settings::{AnySetting, Setting, ValueKind};
use crate::values::{bare, parse_port, quoted};
use crate::zone;

/// A server that can be connected to. Only resolving looks into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(TargetPlace);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPlace {
    /// At a port of a host.
    Host {
        /// A name, or an address without brackets.
        host: String,
        /// Never 0.
        port: u16,
    },
    /// At a unix socket of this host.
    Unix(UnixName),
}

/// One word about a server: `HOST`, `HOST:PORT`, `[IPV6]:PORT`, `:PORT`, `PORT`, `unix:PATH` or
/// `unix:@NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerWord {
    /// A host, a port, or both.
    Host {
        /// A name, or an address without brackets; `None`: this host.
        host: Option<String>,
        /// Never 0.
        port: Option<u16>,
    },
    /// A unix socket, which is all of the server.
    Unix(UnixName),
}

/// The settings that name the server of a client command.
pub struct ServerSettings {
    /// `--host`
    pub host: &'static Setting<ServerWord>,
    /// `--port`
    pub port: &'static Setting<u16>,
}

/// What the arguments of a client command are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// The server.
    Server,
    /// The server, then messages. With `--host` or `--port` all of them are messages.
    ServerThenMessages,
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

/// What a host may be for [`ServerSettings::host`].
pub const HOST: ValueKind<ServerWord> =
    ValueKind::of_parts("HOST", "a name or an address, HOST:PORT or unix:PATH", ServerWord::parse);

/// A server's port.
pub const SERVER_PORT: ValueKind<u16> = ValueKind::of_text("PORT", PORTS, parse_server_port);

/// A port that something can listen on.
pub fn parse_server_port(text: &str) -> Option<u16> {
    parse_port(text).filter(|port| *port > 0)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            TargetPlace::Host { host, port } if host.contains(':') => {
                write!(f, "[{}]:{port}", bare(host))
            }
            // With a colon it would be a unix socket.
            TargetPlace::Host { host, port } if SCHEME.strip_suffix(':') == Some(host) => {
                write!(f, "{host} {port}")
            }
            TargetPlace::Host { host, port } => write!(f, "{}:{port}", bare(host)),
            TargetPlace::Unix(name) => f.write_str(&bare(name.to_string())),
        }
    }
}

impl Target {
    /// A host without brackets, and its port.
    pub fn new(host: impl Into<String>, port: u16) -> Target {
        Target(TargetPlace::Host { host: host.into(), port })
    }

    /// A unix socket.
    pub fn unix(name: UnixName) -> Target {
        Target(TargetPlace::Unix(name))
    }

    /// Where it is.
    pub fn place(&self) -> &TargetPlace {
        &self.0
    }

    /// Whether it is a unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.0, TargetPlace::Unix(_))
    }

    /// Takes the server off the front of the arguments; the server and the rest.
    ///
    /// # Errors
    ///
    /// 64, with the argument and what is expected.
    pub fn parse(arguments: &[OsString]) -> Result<(Target, &[OsString]), Failure> {
        let Some((first, rest)) = arguments.split_first() else {
            return Err(usage(format!("missing server: expected {FORMS}")));
        };
        let named = quoted(first);
        let text =
            first.to_str().ok_or_else(|| usage(format!("invalid server {named}: not UTF-8")))?;
        let word = ServerWord::parse(text)
            .map_err(|fault| usage(format!("invalid server {named}: {fault}")))?;
        let (host, port) = match word {
            ServerWord::Unix(name) => return Ok((Target::unix(name), rest)),
            ServerWord::Host { host, port } => (host.unwrap_or_else(this_host), port),
        };
        if let Some(port) = port {
            return Ok((Target::new(host, port), rest));
        }
        let Some((port, rest)) = rest.split_first() else {
            return Err(usage(format!("server {named} has no port: expected {FORMS}")));
        };
        match parse_server_port(&port.to_string_lossy()) {
            Some(port) => Ok((Target::new(host, port), rest)),
            None => {
                let bad = quoted(port);
                Err(usage(format!("invalid server {named}: invalid port {bad}: expected {PORTS}")))
            }
        }
    }

    /// The server that one word names.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a few words without the text itself.
    pub fn of_word(text: &str) -> Result<Target, String> {
        match ServerWord::parse(text)? {
            ServerWord::Unix(name) => Ok(Target::unix(name)),
            ServerWord::Host { host, port: Some(port) } => {
                Ok(Target::new(host.unwrap_or_else(this_host), port))
            }
            ServerWord::Host { port: None, .. } => Err("it has no port".to_owned()),
        }
    }

    /// The argument `server`, whose values [`Target::parse`] takes.
    pub fn arg() -> Arg {
        Arg::new("server")
            .value_name("HOST:PORT")
            .help(
                "The server: HOST:PORT, HOST PORT, [IPV6]:PORT, :PORT or PORT on this host, \
                 unix:PATH or unix:@NAME",
            )
            .value_parser(value_parser!(OsString))
    }
}

impl ServerWord {
    /// Reads the word, or says what is wrong with it.
    ///
    /// # Errors
    ///
    /// A few words without the text itself.
    pub fn parse(text: &str) -> Result<ServerWord, String> {
        if let Some(name) = text.strip_prefix(SCHEME) {
            if parse_server_port(name).is_some() {
                let host = SCHEME.trim_end_matches(':');
                return Err(format!(
                    "expected {SCHEME}./{name} for a unix socket, or {host} {name} for a port of \
                     the host {host}"
                ));
            }
            return parse_unix(name).map(ServerWord::Unix);
        }
        if let Some(fault) = unnamed_socket(text) {
            return Err(fault);
        }
        let (host, port) = split(text).ok_or_else(|| format!("expected {FORMS}"))?;
        let port = port.map(|port| {
            let bad = || format!("invalid port {}: expected {PORTS}", quoted(port));
            parse_server_port(port).ok_or_else(bad)
        });
        let host = host.map(|host| check_zone(host).map(|()| host.to_owned()));
        Ok(ServerWord::Host { host: host.transpose()?, port: port.transpose()? })
    }
}

impl ServerSettings {
    /// The server that arguments, or else settings, name, and the arguments left over. Arguments
    /// beat variables and the file, as flags do. `None`: nothing names a server.
    ///
    /// # Errors
    ///
    /// 64, or 78 for what the configuration file alone says: the server is named twice, or only in
    /// part, or not as it can be, or is a unix socket although a family is asked for.
    pub fn target<'a>(
        &self,
        layers: &Layers,
        arguments: &'a [OsString],
        kind: Arguments,
        family: Family,
    ) -> Result<Option<(Target, &'a [OsString])>, Failure> {
        let named = self.named(layers, arguments, kind)?;
        match (&named, family.flag()) {
            (Some((target, _)), Some(flag)) if target.is_unix() => {
                Err(usage(format!("{flag} cannot be used with {target}: {NO_IP}")))
            }
            _ => Ok(named),
        }
    }

    fn named<'a>(
        &self,
        layers: &Layers,
        arguments: &'a [OsString],
        kind: Arguments,
    ) -> Result<Option<(Target, &'a [OsString])>, Failure> {
        let settings: [&dyn AnySetting; 2] = [self.host, self.port];
        let flag = settings.into_iter().find(|it| layers.source(*it) == Source::Flag);
        let Some(first) = arguments.first() else {
            return Ok(self.of_settings(layers)?.map(|target| (target, arguments)));
        };
        if let Some(flag) = flag {
            if kind == Arguments::Server || is_whole(first) {
                let (flag, first) = (flag.flag(), quoted(first));
                let message = format!("{flag} cannot be used with {first}: name the server once");
                return Err(usage(message));
            }
            return Ok(self.of_settings(layers)?.map(|target| (target, arguments)));
        }
        let (target, rest) = Target::parse(arguments)?;
        match rest.first() {
            Some(extra) if kind == Arguments::Server => {
                let why = if target.is_unix() { format!(": {NO_PORT}") } else { String::new() };
                Err(usage(format!("unexpected argument {}{why}", quoted(extra))))
            }
            _ => Ok(Some((target, rest))),
        }
    }

    /// It is named nowhere.
    pub fn missing(or: &str) -> Failure {
        usage(format!("missing server: expected {FORMS}, or {or}"))
    }

    fn of_settings(&self, layers: &Layers) -> Result<Option<Target>, Failure> {
        let (of_host, of_port) = (layers.source(self.host), layers.source(self.port));
        let said = |setting: &dyn AnySetting| {
            let text = layers.text(setting).0.unwrap_or_default();
            format!("{} {}", layers.place(setting), quoted(text))
        };
        let (host, own) = match layers.get(self.host) {
            None => (None, None),
            Some(ServerWord::Host { host, port }) => (host, port),
            Some(ServerWord::Unix(name))
                if layers.get(self.port).is_none() || of_host > of_port =>
            {
                return Ok(Some(Target::unix(name)));
            }
            Some(ServerWord::Unix(_)) => {
                let (host, port) = (said(self.host), said(self.port));
                let message = format!("{port} cannot be used with {host}: {NO_PORT}");
                return Err(Failure::new(layers.blame(&[self.host, self.port]), message));
            }
        };
        let port = match (own, layers.get(self.port)) {
            (Some(_), Some(_)) if of_host == of_port => {
                let (host, port) = (said(self.host), said(self.port));
                let message = format!("{host} has a port already: it cannot be used with {port}");
                return Err(Failure::new(layers.blame(&[self.host, self.port]), message));
            }
            (Some(own), Some(_)) if of_host > of_port => Some(own),
            (own, port) => port.or(own),
        };
        match port {
            Some(port) => Ok(Some(Target::new(host.unwrap_or_else(this_host), port))),
            None if of_host > Source::Default => {
                let (host, port) = (said(self.host), self.port.flag());
                let message = format!("{host} has no port: add it as HOST:PORT or with {port}");
                Err(Failure::new(layers.blame(&[self.host]), message))
            }
            None => Ok(None),
        }
    }
}

impl Family {
    /// The flags `-4` and `-6`.
    pub fn args() -> [Arg; 2] {
        let ipv4 = Arg::new("ipv4").short('4').long("ipv4").help("Use IPv4 addresses only");
        let ipv6 = Arg::new("ipv6").short('6').long("ipv6").help("Use IPv6 addresses only");
        [ipv4.conflicts_with("ipv6"), ipv6]
            .map(|arg| arg.action(ArgAction::SetTrue).help_heading("Server"))
    }

    /// What the flags of [`Family::args`] say.
    pub fn of(matches: &ArgMatches) -> Family {
        match (matches.get_flag("ipv4"), matches.get_flag("ipv6")) {
            (true, _) => Family::V4,
            (false, true) => Family::V6,
            (false, false) => Family::Any,
        }
    }

    /// The one that the address is of.
    pub fn of_address(address: &SocketAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
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

const PORTS: &str = "a port from 1 to 65535";

/// How a server is named on the command line.
const FORMS: &str = "HOST:PORT, HOST PORT, [IPV6]:PORT, :PORT, PORT, unix:PATH or unix:@NAME";

/// What stands in front of the name of a unix socket.
pub(crate) const SCHEME: &str = "unix:";

const NO_PORT: &str = "a unix socket has no port";
const NO_IP: &str = "a unix socket is neither IPv4 nor IPv6";

/// Bytes of the longest name of an interface (IFNAMSIZ, less the byte that ends it).
const INTERFACE_BYTES_MAX: usize = 15;

fn this_host() -> String {
    "localhost".to_owned()
}

/// Whether the argument is a host and its port, as few messages are.
fn is_whole(argument: &OsString) -> bool {
    let word = argument.to_str().map(ServerWord::parse);
    matches!(
        word,
        Some(Ok(ServerWord::Host { host: Some(_), port: Some(_) } | ServerWord::Unix(_)))
    )
}

/// The unix socket that follows `unix:`, or a few words about what is wrong.
pub(crate) fn parse_unix(text: &str) -> Result<UnixName, String> {
    let (kind, name) = match text.strip_prefix('@') {
        Some(name) => ("name", name),
        None => ("path", text),
    };
    // What bytes that are no text were made into on their way here.
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err("not UTF-8".to_owned());
    }
    UnixName::parse(text.as_ref()).ok_or_else(|| match name.len() {
        0 => format!("expected a {kind} after {SCHEME}{text}"),
        len if len > UNIX_NAME_MAX => {
            format!("the {kind} of a unix socket has at most {UNIX_NAME_MAX} bytes, this has {len}")
        }
        _ => format!("the {kind} of a unix socket has no byte 0"),
    })
}

/// What to say of a text that looks like a unix socket and does not begin with `unix:`.
pub(crate) fn unnamed_socket(text: &str) -> Option<String> {
    let is_one = text.starts_with(['/', '.', '@']) || text.contains('/') && !text.contains(':');
    is_one.then(|| format!("expected {SCHEME}{} for a unix socket", bare(text)))
}

/// The host and the port as far as the text has them; `None`: it is neither.
pub(crate) fn split(text: &str) -> Option<(Option<&str>, Option<&str>)> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']')?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
        return is_ipv6(host).then_some((Some(host), port));
    }
    if is_ipv6(text) {
        return Some((Some(text), None));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some((None, Some(text)));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if port.is_some_and(|port| port.contains(':')) || host.contains(['[', ']']) {
        return None;
    }
    if host.is_empty() {
        return port.map(|port| (None, Some(port)));
    }
    Some((Some(host), port))
}

/// Refuses an address that is nothing without its interface (RFC 4007, section 6).
pub(crate) fn check_zone(host: &str) -> Result<(), String> {
    match host.parse() {
        Ok(ip) => zone::check_is_complete(&SocketAddr::new(ip, 0)),
        Err(_) => Ok(()),
    }
}

/// Whether it is an IPv6 address, perhaps with a zone (`fe80::1%eth0`).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    // What the kernel takes as the name of an interface.
    let is_zone = |zone: &str| {
        let is_odd = |character: char| character.is_whitespace() || "/:".contains(character);
        (1..=INTERFACE_BYTES_MAX).contains(&zone.len()) && !zone.contains(is_odd)
    };
    address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(is_zone)
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(ExitCode::Usage, message)
}

#[cfg(test)]
mod tests;
