//! The servers that are compared.

mod floor;
mod threads;
mod tokio;

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::path::Path;

use crate::churn::CONCURRENT;

/// A server that is compared.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name in tables.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What runs it.
    pub program: Program,
    /// Connections that it is given at once, at most.
    pub connections_max: usize,
    /// Connections that are opened and closed at the same time where that is measured; none if it is not measured.
    pub churn: usize,
    /// It gets the load's core beside that of the servers.
    pub is_on_both_cores: bool,
}

/// What runs a peer.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// A function of this program, in a process of its own.
    Built(fn(TcpListener) -> io::Result<()>),
    /// `trustctl echo-server` with these flags.
    Trustctl(&'static [&'static str]),
    /// A program that may be installed, and its arguments, in which `{port}` stands for the port and `{trustctl}` for our
    /// server.
    Installed(&'static str, &'static [&'static str]),
}

/// What a server with a process or a thread a client is given at most.
const PROCESSES_MAX: usize = 50;

const MANY: usize = usize::MAX;

const QUIET: &str = "--log-level=warn";

const ONE_WORKER: &str = "--workers=1";

/// The name of our server as it is compared with others.
pub const OURS: &str = "trustctl";

/// Our server with its default log.
pub const OURS_WITH_LOG: &str = "trustctl default log";

/// Our server with `--busy-poll 50`.
pub const OURS_BUSY: &str = "trustctl busy-poll 50";

/// Our server with `--workers 2`.
pub const OURS_TWO_WORKERS: &str = "trustctl 2 workers";

/// Our server, a program of a super-server's.
pub const OURS_UNDER_TCPSERVER: &str = "trustctl inetd";

/// The limit.
pub const FLOOR: &str = "floor";

/// The limit with as much code for an echo as ours has.
pub const FLOOR_PADDED: &str = "floor padded";

/// tokio with `LengthDelimitedCodec`.
pub const CODEC: &str = "codec";

/// All of them; the order is that of the tables.
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
        what: "std, a thread a connection",
        program: Program::Built(|listener| threads::serve(&listener)),
        connections_max: MANY,
        churn: CONCURRENT,
        is_on_both_cores: false,
    },
    Peer {
        name: "socat",
        what: "socat, a process a connection, raw",
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
        what: "ncat, a cat a connection, raw",
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
    /// The peer of that name.
    pub fn named(name: &str) -> Option<&'static Peer> {
        PEERS.iter().find(|peer| peer.name == name)
    }

    /// Whether it is somebody else's, and not ours or a yardstick made for it.
    pub fn is_other(&self) -> bool {
        !matches!(self.program, Program::Trustctl(_))
            && ![FLOOR_PADDED, OURS_UNDER_TCPSERVER].contains(&self.name)
    }

    /// Program and arguments, to listen on `port` of 127.0.0.1; `None` if the program is not installed.
    pub fn command(&self, own: &Path, trustctl: &Path, port: u16) -> Option<Vec<OsString>> {
        let port = port.to_string();
        let words = match self.program {
            Program::Built(_) => {
                vec![own.into(), "serve".into(), self.name.into(), port.into()]
            }
            Program::Trustctl(flags) => {
                // Nobody is to be cut between two rounds; the deadlines are there and are kept.
                let fixed =
                    ["echo-server", "--host=127.0.0.1", "--max-clients=15000", "--timeout=60"];
                let mut words = vec![OsString::from(trustctl)];
                words.extend(fixed.map(OsString::from));
                words.push(format!("--port={port}").into());
                words.extend(flags.iter().map(OsString::from));
                words
            }
            Program::Installed(program, arguments) => {
                let directories = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&directories).find(|path| path.join(program).is_file())?;
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
