//! The servers under comparison.

mod floor;
mod threads;
mod tokio;

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::path::Path;

use crate::churn::CONCURRENT;

/// A server under comparison.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name in tables.
    pub name: &'static str,
    /// Its description.
    pub what: &'static str,
    /// How to run it.
    pub program: Program,
    /// The most connections that it gets at once.
    pub connections_max: usize,
    /// Concurrent connections in the connect-echo-close section; 0 leaves it out.
    pub churn: usize,
    /// It may use the load's core as well as the servers'.
    pub is_on_both_cores: bool,
}

/// How to run a peer.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// A function of this program, in its own process.
    Built(fn(TcpListener) -> io::Result<()>),
    /// `trustctl echo-server` with these flags.
    Trustctl(&'static [&'static str]),
    /// A program that may be installed, and its arguments, in which `{port}` stands for the port
    /// and `{trustctl}` for our server.
    Installed(&'static str, &'static [&'static str]),
}

/// The most connections that a server with one process or thread per client gets.
const PROCESSES_MAX: usize = 50;

const MANY: usize = usize::MAX;

const QUIET: &str = "--log-level=warn";

const ONE_WORKER: &str = "--workers=1";

/// The configuration of our server that is compared with others.
pub const OURS: &str = "trustctl";

/// Our server with its default log.
pub const OURS_WITH_LOG: &str = "trustctl default log";

/// Our server with `--busy-poll 50`.
pub const OURS_BUSY: &str = "trustctl busy-poll 50";

/// Our server with `--workers 2`.
pub const OURS_TWO_WORKERS: &str = "trustctl 2 workers";

/// Our server, run under a super-server.
pub const OURS_UNDER_TCPSERVER: &str = "trustctl inetd";

/// The lower bound on cost.
pub const FLOOR: &str = "floor";

/// The lower bound, executing as much code per echo as our server.
pub const FLOOR_PADDED: &str = "floor padded";

/// tokio with `LengthDelimitedCodec`.
pub const CODEC: &str = "codec";

/// All of them, in the order of the tables.
pub const PEERS: &[Peer] = &[
    Peer {
        name: FLOOR,
        what: "a bare readiness loop: no framing, log, limits or deadlines",
        program: Program::Built(|listener| floor::serve(&listener)),
        connections_max: MANY,
        churn: CONCURRENT,
        is_on_both_cores: false,
    },
    Peer {
        name: FLOOR_PADDED,
        what: "the same with as many instructions for an echo as trustctl has, doing nothing",
        program: Program::Built(|listener| floor::serve_padded(&listener)),
        connections_max: MANY,
        churn: CONCURRENT,
        is_on_both_cores: false,
    },
    Peer {
        name: OURS,
        what: "trustctl echo-server, one worker, log level warn",
        program: Program::Trustctl(&[ONE_WORKER, QUIET]),
        connections_max: MANY,
        churn: CONCURRENT,
        is_on_both_cores: false,
    },
    Peer {
        name: OURS_WITH_LOG,
        what: "the same with its default log, to a file and to stdout",
        program: Program::Trustctl(&[ONE_WORKER]),
        connections_max: MANY,
        churn: CONCURRENT,
        is_on_both_cores: false,
    },
    Peer {
        name: OURS_BUSY,
        what: "the same at log level warn with --busy-poll 50",
        program: Program::Trustctl(&[ONE_WORKER, QUIET, "--busy-poll=50"]),
        connections_max: 1,
        churn: 0,
        is_on_both_cores: false,
    },
    Peer {
        name: "trustctl iterative",
        what: "the same with --model iterative",
        program: Program::Trustctl(&[QUIET, "--model=iterative"]),
        connections_max: 1,
        churn: CONCURRENT,
        is_on_both_cores: false,
    },
    Peer {
        name: "trustctl process",
        what: "the same with --model process",
        program: Program::Trustctl(&[QUIET, "--model=process"]),
        connections_max: PROCESSES_MAX,
        churn: PROCESSES_MAX,
        is_on_both_cores: false,
    },
    Peer {
        name: OURS_UNDER_TCPSERVER,
        what: "the same with --inetd, started by tcpserver for each client",
        program: Program::Installed(
            "tcpserver",
            &[
                "-H",
                "-R",
                "-l",
                "0",
                "-c",
                "400",
                "-b",
                "4096",
                "127.0.0.1",
                "{port}",
                "{trustctl}",
                "echo-server",
                "--inetd",
                QUIET,
                "--timeout=60",
            ],
        ),
        connections_max: PROCESSES_MAX,
        churn: PROCESSES_MAX,
        is_on_both_cores: false,
    },
    Peer {
        name: OURS_TWO_WORKERS,
        what: "the same with --workers 2, on both cores",
        program: Program::Trustctl(&[QUIET, "--workers=2"]),
        connections_max: MANY,
        churn: CONCURRENT,
        is_on_both_cores: true,
    },
    Peer {
        name: CODEC,
        what: "tokio, tokio-util's LengthDelimitedCodec, one thread",
        program: Program::Built(tokio::serve_frames),
        connections_max: MANY,
        churn: CONCURRENT,
        is_on_both_cores: false,
    },
    Peer {
        name: "tokio",
        what: "tokio, read and write_all, one thread",
        program: Program::Built(tokio::serve_bytes),
        connections_max: MANY,
        churn: CONCURRENT,
        is_on_both_cores: false,
    },
    Peer {
        name: "threads",
        what: "std, one thread per connection",
        program: Program::Built(|listener| threads::serve(&listener)),
        connections_max: MANY,
        churn: CONCURRENT,
        is_on_both_cores: false,
    },
    Peer {
        name: "socat",
        what: "socat, one process per connection, raw",
        program: Program::Installed(
            "socat",
            &["TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,nodelay,backlog=4096", "PIPE"],
        ),
        connections_max: PROCESSES_MAX,
        churn: PROCESSES_MAX,
        is_on_both_cores: false,
    },
    Peer {
        name: "ncat",
        what: "ncat, one cat per connection, raw",
        program: Program::Installed(
            "ncat",
            &["--listen", "--keep-open", "--exec=/bin/cat", "127.0.0.1", "{port}"],
        ),
        connections_max: PROCESSES_MAX,
        churn: PROCESSES_MAX,
        is_on_both_cores: false,
    },
];

impl Peer {
    /// The peer with this name.
    pub fn named(name: &str) -> Option<&'static Peer> {
        PEERS.iter().find(|peer| peer.name == name)
    }

    /// Whether it is another project's server, rather than ours or a yardstick made for ours.
    pub fn is_other(&self) -> bool {
        !matches!(self.program, Program::Trustctl(_))
            && ![FLOOR_PADDED, OURS_UNDER_TCPSERVER].contains(&self.name)
    }

    /// Program and arguments, to listen on `port` of 127.0.0.1; `None` if it is not installed.
    pub fn command(&self, own: &Path, trustctl: &Path, port: u16) -> Option<Vec<OsString>> {
        let port = port.to_string();
        let words = match self.program {
            Program::Built(_) => {
                vec![own.into(), "serve".into(), self.name.into(), port.into()]
            }
            Program::Trustctl(flags) => {
                // No client may be cut off between two rounds, yet the deadlines exist and are
                // kept.
                let fixed =
                    ["echo-server", "--host=127.0.0.1", "--max-clients=15000", "--timeout=60"];
                let mut words = vec![OsString::from(trustctl)];
                words.extend(fixed.map(OsString::from));
                words.push(format!("--port={port}").into());
                words.extend(flags.iter().map(OsString::from));
                words
            }
            Program::Installed(program, arguments) => {
                if !is_installed(program) {
                    return None;
                }
                let own = trustctl.to_string_lossy();
                let filled =
                    |word: &&str| word.replace("{port}", &port).replace("{trustctl}", &own);
                let arguments = arguments.iter().map(|word| filled(word).into());
                std::iter::once(program.into()).chain(arguments).collect()
            }
        };
        Some(words)
    }
}

/// Whether a program of this name can be run.
pub fn is_installed(program: &str) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories).any(|path| path.join(program).is_file())
}
