//! Servers in which no case may find a bug: ours, one with tokio-util's codec, and one with a thread a client.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trustctl::framing::Framing;

use super::mutant::{Behaviour, HEALTHY, Server, TIMEOUT};
use super::mutants::MAX_FRAME;
use super::support::leftovers::OwnedChild;
use super::support::program::{Home, Running};
use super::support::{STEP_DEADLINE, runner};

/// A server that is right.
#[derive(Debug)]
pub(crate) struct Healthy {
    pub(crate) name: &'static str,
    /// The framing that it speaks, as `--framing` takes it, with `--offset` and `--adjust`.
    framing: &'static str,
    offset: u16,
    adjust: i64,
    pub(crate) max_frame: u64,
    /// Its timeout, if it has one.
    pub(crate) timeout: Option<Duration>,
    pub(crate) program: Program,
}

/// What runs it.
#[derive(Debug)]
pub(crate) enum Program {
    /// This executable, with a thread a client.
    Own(Behaviour),
    /// `trustctl echo-server` with these flags.
    EchoServer(&'static [&'static str]),
    /// `trust-bench serve codec`: tokio, and tokio-util's `LengthDelimitedCodec`.
    Codec,
}

const STD: Healthy = Healthy {
    name: "std",
    framing: "u32be",
    offset: 0,
    adjust: 0,
    max_frame: MAX_FRAME,
    timeout: Some(TIMEOUT),
    program: Program::Own(HEALTHY),
};

const OURS: Healthy = Healthy { program: Program::EchoServer(&[]), ..STD };

/// All of them.
pub(crate) const ALL: &[Healthy] = &[
    STD,
    Healthy {
        name: "std-exact",
        program: Program::Own(Behaviour { exact: true, ..HEALTHY }),
        ..STD
    },
    Healthy {
        name: "std-without-timeout",
        timeout: None,
        program: Program::Own(Behaviour { no_timeout: true, ..HEALTHY }),
        ..STD
    },
    Healthy { name: "std-u16le", framing: "u16le", max_frame: 60_000, ..STD },
    Healthy { name: "std-u24be+incl", framing: "u24be+incl", max_frame: 1_000, ..STD },
    Healthy { name: "std-u8", framing: "u8", max_frame: 255, ..STD },
    Healthy { name: "std-one-byte", max_frame: 1, ..STD },
    Healthy { name: "std-nothing", framing: "u8", adjust: -255, ..STD },
    Healthy { name: "std-u16be-offset", framing: "u16be", offset: 3, adjust: -2, ..STD },
    Healthy { name: "std-u64le", framing: "u64le", offset: 1, ..STD },
    Healthy { name: "std-line", framing: "line", ..STD },
    Healthy {
        name: "ours-event",
        program: Program::EchoServer(&["--mode=framed", "--model=event"]),
        ..OURS
    },
    Healthy {
        name: "ours-iterative",
        program: Program::EchoServer(&["--mode=framed", "--model=iterative"]),
        ..OURS
    },
    Healthy {
        name: "ours-process",
        program: Program::EchoServer(&["--mode=framed", "--model=process"]),
        ..OURS
    },
    Healthy {
        name: "ours-raw",
        framing: "raw",
        program: Program::EchoServer(&["--mode=raw"]),
        ..OURS
    },
    Healthy { name: "ours-auto", program: Program::EchoServer(&["--mode=auto"]), ..OURS },
    Healthy {
        name: "codec",
        max_frame: 16 * 1024 * 1024,
        timeout: None,
        program: Program::Codec,
        ..STD
    },
];

/// How often another free port is tried for a server that cannot report its own.
const PORTS: u32 = 5;

/// How often it is looked whether a server listens.
const LOOK: Duration = Duration::from_millis(10);

/// A server of the matrix that runs, killed and reaped when dropped.
pub(crate) struct Started {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    _process: Process,
}

enum Process {
    Child(#[expect(dead_code, reason = "ends it when dropped")] OwnedChild),
    Ours(#[expect(dead_code, reason = "end it when dropped")] Box<(Running, Home)>),
}

impl Healthy {
    /// The framing that it speaks.
    pub(crate) fn framing(&self) -> Framing {
        let framing = Framing::parse(self.framing).expect("the framing has a name");
        let Framing::Length(format) = framing else { return framing };
        let moved = format.with_offset(self.offset).and_then(|it| it.with_adjust(self.adjust));
        Framing::Length(moved.expect("the offset and the adjustment are small"))
    }

    /// Starts it; it listens.
    pub(crate) fn start(&self) -> Started {
        match &self.program {
            Program::Own(_) => start_own("healthy", self.name),
            Program::EchoServer(flags) => self.start_ours(flags),
            Program::Codec => start_codec(),
        }
    }

    fn start_ours(&self, flags: &[&str]) -> Started {
        let home = Home::new();
        let mut launch = home.trustctl(["echo-server", "--port=0"]).args(flags);
        launch = launch.args([format!("--max-frame={}", self.max_frame)]);
        if let Some(timeout) = self.timeout {
            launch = launch.args([format!("--timeout={}", timeout.as_secs_f64())]);
        }
        let running = launch.start();
        let event = running.wait_for_event("server_start", |_| true, STEP_DEADLINE);
        let port = u16::try_from(event.count("port")).expect("a port fits into 16 bits");
        let pid = running.pid();
        let process = Process::Ours(Box::new((running, home)));
        Started { address: local(port), pid, _process: process }
    }
}

/// The server of this executable that has this name.
pub(crate) fn own(name: &str) -> Option<Server> {
    let healthy = ALL.iter().find(|healthy| healthy.name == name)?;
    let Program::Own(behaviour) = healthy.program else { return None };
    Some(Server { framing: healthy.framing(), max_frame: healthy.max_frame, behaviour })
}

/// Starts this executable as one of its servers.
pub(crate) fn start_own(role: &str, name: &str) -> Started {
    let own = std::env::current_exe().expect("the path of this executable");
    let mut command = Command::new(own);
    command.args([role, name]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = OwnedChild::spawn(&mut command);
    let stdout = child.with(|child| child.stdout.take()).expect("stdout is a pipe");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("read a pipe");
    let port = line.trim().parse();
    let port = port.unwrap_or_else(|_| panic!("{role} {name} does not say its port"));
    started(child, port)
}

fn start_codec() -> Started {
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_trustctl")).with_file_name("trust-bench");
    if !built.exists() {
        runner::skip("trust-bench, which make conformance builds");
    }
    for _ in 0..PORTS {
        let free = TcpListener::bind(local(0)).and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let mut command = Command::new(&built);
        command.args(["serve", "codec", &port.to_string()]).stdin(Stdio::null());
        let child = OwnedChild::spawn(command.stdout(Stdio::null()));
        let since = Instant::now();
        // It ends at once if somebody else has taken the port meanwhile.
        while since.elapsed() < STEP_DEADLINE && child.wait(LOOK).is_none() {
            if TcpStream::connect(local(port)).is_ok() {
                return started(child, port);
            }
        }
    }
    panic!("trust-bench serve codec does not listen on any of {PORTS} ports");
}

fn started(child: OwnedChild, port: u16) -> Started {
    let pid = child.pid().as_raw_pid().unsigned_abs();
    Started { address: local(port), pid, _process: Process::Child(child) }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
