//! The command line of `toxiproxy-server`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::go_flags::{self, GoFlag, SyntaxFault};
use crate::server::DEFAULT_PORT;

/// What `toxiproxy-server` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFlags {
    /// Where the API listens: a name or an address, without brackets.
    pub host: String,
    /// The port of the API; 0: a free one.
    pub port: u16,
    /// A file with proxies in JSON, made at the start as by `/populate`.
    pub config: Option<PathBuf>,
    /// What the toxics' chances are drawn from; `None`: another seed in every run.
    pub seed: Option<u64>,
    /// Whether `/metrics` counts bytes.
    pub proxy_metrics: bool,
    /// Whether `/metrics` has numbers of the process.
    pub runtime_metrics: bool,
    /// Whether the end of one direction closes the whole connection, as in Toxiproxy.
    pub close_on_eof: bool,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCall {
    /// How the command is used.
    Help,
    /// Which version it is.
    Version,
    /// The server.
    Serve(ServerFlags),
}

/// Where the API listens by default. It stands for both loopback addresses.
const DEFAULT_HOST: &str = "localhost";

/// All flags.
const FLAGS: &[GoFlag] = &[
    GoFlag::text(&["host"]),
    GoFlag::text(&["port"]),
    GoFlag::text(&["config"]),
    GoFlag::text(&["seed"]),
    GoFlag::switch(&["proxy-metrics"]),
    GoFlag::switch(&["runtime-metrics"]),
    GoFlag::switch(&["close-on-eof"]),
    GoFlag::switch(&["version"]),
    GoFlag::switch(&["help", "h"]),
];

impl Default for ServerFlags {
    fn default() -> ServerFlags {
        ServerFlags {
            host: DEFAULT_HOST.to_owned(),
            port: DEFAULT_PORT,
            config: None,
            seed: None,
            proxy_metrics: false,
            runtime_metrics: false,
            close_on_eof: false,
        }
    }
}

impl ServerCall {
    /// Reads the words after the command's name.
    ///
    /// # Errors
    ///
    /// The first flag that is wrong. Toxiproxy ignores words after the flags; here they are wrong,
    /// because flags after them would be ignored too.
    pub fn parse(words: &[OsString]) -> Result<ServerCall, SyntaxFault> {
        let words = go_flags::texts(words)?;
        let given = go_flags::read(FLAGS, &words)?;
        if given.is_on("help") {
            return Ok(ServerCall::Help);
        }
        if let Some(word) = given.rest.first() {
            let fault = SyntaxFault::new(format!("unexpected argument: {}", word.escape_debug()));
            let is_switch = matches!(word.as_str(), "true" | "false");
            let hint = "a flag without a value is turned on or off as in -proxy-metrics=false";
            return Err(if is_switch { fault.with_hint(hint) } else { fault });
        }
        if given.is_on("version") {
            return Ok(ServerCall::Version);
        }
        let ServerFlags { host, port, .. } = ServerFlags::default();
        // An empty text is as good as none.
        let text = |name| given.text(name).filter(|text| !text.is_empty());
        Ok(ServerCall::Serve(ServerFlags {
            host: text("host").map_or(host, |host| without_brackets(host).to_owned()),
            port: given.text("port").map_or(Ok(port), parse_port)?,
            config: text("config").map(PathBuf::from),
            seed: given.text("seed").map(parse_seed).transpose()?,
            proxy_metrics: given.is_on("proxy-metrics"),
            runtime_metrics: given.is_on("runtime-metrics"),
            close_on_eof: given.is_on("close-on-eof"),
        }))
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn parse_port(text: &str) -> Result<u16, SyntaxFault> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| is_number);
    port.ok_or_else(|| SyntaxFault::value("-port", text, "a port from 0 to 65535"))
}

/// A number of 64 bits with its sign, decimal or as `0x…`, as Go has seeds.
fn parse_seed(text: &str) -> Result<u64, SyntaxFault> {
    let seed = match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let expected = "an integer of 64 bits, as 42 or 0x2a";
    seed.map(i64::cast_unsigned).map_err(|_| SyntaxFault::value("-seed", text, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<ServerCall, SyntaxFault> {
        ServerCall::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn flags(line: &str) -> ServerFlags {
        match parse(line) {
            Ok(ServerCall::Serve(flags)) => flags,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn without_flags_it_is_toxiproxy_s_place() {
        let ServerFlags { host, port, config, seed, .. } = flags("");
        assert_eq!((host.as_str(), port, config, seed), ("localhost", 8474, None, None));
        assert_eq!(flags("-config= -host="), ServerFlags::default());
    }

    #[test]
    fn every_flag_is_read() {
        let all = "-host=0.0.0.0 --port 1 -config a.json --seed=-1 -proxy-metrics \
                   -runtime-metrics=true --close-on-eof";
        let expected = ServerFlags {
            host: "0.0.0.0".to_owned(),
            port: 1,
            config: Some("a.json".into()),
            seed: Some(u64::MAX),
            proxy_metrics: true,
            runtime_metrics: true,
            close_on_eof: true,
        };
        assert_eq!(flags(all), expected);
        let off = "-proxy-metrics=false -runtime-metrics=false -close-on-eof=false -version=false";
        assert_eq!(flags(off), ServerFlags::default());
        assert_eq!(flags("-host [::1]").host, "::1");
        assert_eq!(flags("-seed 0x2a").seed, Some(42));
    }

    #[test]
    fn help_and_version_come_before_the_server() {
        for line in ["-h", "-help", "--help", "-port 1 -h", "-version -h", "-h what"] {
            assert_eq!(parse(line), Ok(ServerCall::Help), "{line}");
        }
        assert_eq!(parse("-version"), Ok(ServerCall::Version));
        assert_eq!(parse("-port 1 --version"), Ok(ServerCall::Version));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let port = "expected a port from 0 to 65535";
        let seed = "expected an integer of 64 bits, as 42 or 0x2a";
        let cases = [
            ("-prot 1", "unknown flag: -prot".to_owned()),
            ("-port", "missing value for -port".to_owned()),
            ("-port 65536", format!("invalid value '65536' for -port: {port}")),
            ("-port=", format!("invalid value '' for -port: {port}")),
            ("-port +1", format!("invalid value '+1' for -port: {port}")),
            ("-port http", format!("invalid value 'http' for -port: {port}")),
            ("-seed 1.5", format!("invalid value '1.5' for -seed: {seed}")),
            ("-seed 9223372036854775808", {
                format!("invalid value '9223372036854775808' for -seed: {seed}")
            }),
            ("-port 1 what", "unexpected argument: what".to_owned()),
            ("-proxy-metrics false -port 1", "unexpected argument: false".to_owned()),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line).unwrap_err().message, expected);
        }
        assert!(parse("-proxy-metrics false").unwrap_err().hint.is_some());
    }
}
