//! How the servers of the matrix are started, and what ends them.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::foreign::Foreign;
use super::healthy::Healthy;
use super::mutant::Behaviour;
use super::relay::Relay;
use trust_net::{Address, UnixName};
use trust_testkit::STEP_DEADLINE;
use trust_testkit::leftovers::{OwnedChild, OwnedDir};
use trust_testkit::program::{Home, Running};

/// How to run a right server.
#[derive(Debug)]
pub(crate) enum Program {
    /// This executable, with one thread per client.
    Own(Behaviour),
    /// `trustctl echo-server` with these flags.
    EchoServer(&'static [&'static str]),
    /// `trust-bench serve codec`: tokio, and tokio-util's `LengthDelimitedCodec`.
    Codec,
    /// A server in another language.
    Foreign(Foreign),
    /// `trustctl echo-server` in framed mode behind a relay: socat, HAProxy or nginx, say.
    Relayed(Relay),
}

/// How many free ports to try for a server that cannot report its own.
const PORTS: u32 = 5;

/// How often to check whether a server listens.
const LOOK: Duration = Duration::from_millis(10);

/// A running server of the matrix, killed and reaped when dropped.
pub(crate) struct Started {
    pub(crate) address: Address,
    /// The process that listens.
    pub(crate) pid: u32,
    _process: Process,
    /// Where its unix socket is, if it has one.
    _directory: Option<OwnedDir>,
}

#[expect(dead_code, reason = "end the processes when dropped, the relay before its server")]
enum Process {
    Child(OwnedChild),
    Ours(Box<Ours>),
    Relayed(OwnedChild, Box<Ours>),
}

/// Our echo server, with its home.
struct Ours {
    running: Running,
    home: Home,
    address: SocketAddr,
}

impl Program {
    /// What this machine lacks to run it, if anything.
    pub(crate) fn missing(&self) -> Option<String> {
        match self {
            Program::Own(_) | Program::EchoServer(_) => None,
            Program::Codec if bench().exists() => None,
            Program::Codec => Some("trust-bench, which make conformance builds".to_owned()),
            Program::Foreign(foreign) => foreign.missing(),
            Program::Relayed(relay) => relay.missing(),
        }
    }

    /// Starts it; returns when it listens.
    pub(crate) fn start(&self, healthy: &Healthy) -> Started {
        match self {
            Program::Own(_) => start_own("healthy", healthy.name),
            Program::EchoServer(flags) => {
                let ours = Ours::start(healthy, flags);
                let (address, pid) = (ours.address.into(), ours.running.pid());
                let _process = Process::Ours(Box::new(ours));
                Started { address, pid, _process, _directory: None }
            }
            Program::Codec => {
                let (child, address) = listening(|port| {
                    let mut command = Command::new(bench());
                    command.args(["serve", "codec", &port.to_string()]);
                    command
                });
                started(child, address.into())
            }
            Program::Foreign(foreign) => {
                let directory = OwnedDir::create();
                let socket = directory.path().join("x.sock");
                let started = start_reporting(&mut foreign.command(healthy, &socket));
                Started { _directory: Some(directory), ..started }
            }
            Program::Relayed(relay) => {
                let ours = Ours::start(healthy, &["--mode=framed"]);
                let (server, home) = (ours.address, ours.home.path());
                let command = |port| relay.command(local(port), server, &home);
                let (child, address) = match relay {
                    Relay::SocatUnix => listening_at(command(0), home.join(Relay::SOCKET)),
                    _ => {
                        let (child, address) = listening(command);
                        (child, address.into())
                    }
                };
                let pid = pid_of(&child);
                let _process = Process::Relayed(child, Box::new(ours));
                Started { address, pid, _process, _directory: None }
            }
        }
    }
}

impl Ours {
    fn start(healthy: &Healthy, flags: &[&str]) -> Ours {
        let home = Home::new();
        let mut launch = home.trustctl(["echo-server", "--port=0"]).args(flags);
        launch = launch.args([format!("--max-frame={}", healthy.max_frame)]);
        if let Some(timeout) = healthy.timeout {
            launch = launch.args([format!("--timeout={}", timeout.as_secs_f64())]);
        }
        let running = launch.start();
        let event = running.wait_for_event("server_start", |_| true, STEP_DEADLINE);
        let port = u16::try_from(event.count("port")).expect("a port fits into 16 bits");
        Ours { running, home, address: local(port) }
    }
}

/// Starts this executable as one of its servers.
pub(crate) fn start_own(role: &str, name: &str) -> Started {
    let own = std::env::current_exe().expect("the path of this executable");
    start_reporting(Command::new(own).args([role, name]))
}

/// Starts a server that listens on a free port, or a unix socket of that path, and prints it.
fn start_reporting(command: &mut Command) -> Started {
    let child = OwnedChild::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let stdout = child.with(|child| child.stdout.take()).expect("stdout is a pipe");
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line).expect("read a pipe");
    let address = match line.trim().parse() {
        Ok(port) => local(port).into(),
        Err(_) if line.starts_with('/') => unix(line.trim().into()),
        Err(_) => panic!("{command:?} prints no port or path, but {line:?}"),
    };
    // Whatever else it prints must not hold it up. The end of the process ends the thread.
    thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
    started(child, address)
}

fn unix(path: PathBuf) -> Address {
    Address::Unix(UnixName::Path(path))
}

/// Starts a server that listens on a unix socket of that path, and waits until it does.
fn listening_at(mut command: Command, path: PathBuf) -> (OwnedChild, Address) {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = OwnedChild::spawn(quiet);
    let since = Instant::now();
    while since.elapsed() < STEP_DEADLINE && child.wait(LOOK).is_none() {
        if UnixStream::connect(&path).is_ok() {
            return (child, unix(path));
        }
    }
    panic!("{command:?} does not listen");
}

/// Starts a server on a given port, and waits until it listens.
fn listening(command: impl Fn(u16) -> Command) -> (OwnedChild, SocketAddr) {
    for _ in 0..PORTS {
        let free = TcpListener::bind(local(0)).and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let mut command = command(address.port());
        // Relays log every client that resets.
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = OwnedChild::spawn(quiet);
        let since = Instant::now();
        // It ends at once if another process has taken the port meanwhile.
        while since.elapsed() < STEP_DEADLINE && child.wait(LOOK).is_none() {
            if TcpStream::connect(address).is_ok() {
                return (child, address);
            }
        }
    }
    panic!("{:?} does not listen on any of {PORTS} ports", command(0));
}

fn started(child: OwnedChild, address: Address) -> Started {
    let pid = pid_of(&child);
    Started { address, pid, _process: Process::Child(child), _directory: None }
}

fn pid_of(child: &OwnedChild) -> u32 {
    child.pid().as_raw_pid().unsigned_abs()
}

/// Where `make conformance` builds trust-bench.
fn bench() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_trustctl")).with_file_name("trust-bench")
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
