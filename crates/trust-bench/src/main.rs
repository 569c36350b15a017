//! `trust-bench`: measures echo servers, load testers and relays side by side.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to the terminal")]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use trust_bench::clients::{self, CLIENTS};
use trust_bench::load::Shape;
use trust_bench::peers::{Peer, Program};
use trust_bench::relays::RelayPeer;
use trust_bench::run::BenchPlan;
use trust_bench::{goals, kernel, peers, relays, report, run};

/// Length of the accept queue, the same as our server's.
const BACKLOG: i32 = 4096;

/// Measures echo servers, load testers and relays side by side
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Measurements of each peer in each section, at least 1
    #[arg(long, value_name = "N", default_value = "11")]
    rounds: NonZeroUsize,
    /// Length of a measurement, from 0.01 to 60
    #[arg(long, default_value = "0.5", value_parser = length)]
    seconds: f64,
    /// Only sections whose title contains TEXT: '50 × 64 B × 1', connect-echo-close, idle, start,
    /// load (load testers in place of servers, in shapes of their own), proxy (relays)
    #[arg(long, value_name = "TEXT")]
    section: Option<String>,
    /// Only these peers, with commas between them; floor should be among them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = peer)]
    peers: Vec<&'static Peer>,
    /// Only these load testers in the sections named load; bare should be among them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = client)]
    clients: Vec<&'static str>,
    /// Only these relays in the sections named proxy; direct, bare and bare splice should be among
    /// them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = relay)]
    relays: Vec<&'static RelayPeer>,
    /// Where the JSON document goes
    #[arg(long, value_name = "PATH", default_value = "target/bench/report.json")]
    report: PathBuf,
}

/// Parts of this program that run as processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// Runs a peer that is part of this program
    Serve {
        #[arg(value_parser = peer)]
        peer: &'static Peer,
        port: u16,
    },
    /// Runs a relay that is part of this program, from a port to a port of this host
    #[command(name = relays::RELAY_WORD)]
    Relay {
        #[arg(value_parser = relay)]
        relay: &'static RelayPeer,
        port: u16,
        server: u16,
    },
    /// Runs the load tester that is part of this program, and prints its result as JSON
    #[command(name = clients::BARE_WORD)]
    Bare {
        port: u16,
        connections: usize,
        payload_len: usize,
        in_flight: usize,
        #[arg(value_parser = duration)]
        warm_up: Duration,
        #[arg(value_parser = duration)]
        length: Duration,
    },
}

fn length(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=60.0).contains(seconds));
    seconds.ok_or_else(|| "expected 0.01 to 60".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected seconds".to_owned())
}

fn peer(name: &str) -> Result<&'static Peer, String> {
    let names = || peers::PEERS.iter().map(|peer| peer.name).collect::<Vec<_>>().join("; ");
    Peer::named(name.trim()).ok_or_else(|| format!("there are: {}", names()))
}

fn relay(name: &str) -> Result<&'static RelayPeer, String> {
    let names = || relays::RELAYS.iter().map(|relay| relay.name).collect::<Vec<_>>().join("; ");
    RelayPeer::named(name.trim()).ok_or_else(|| format!("there are: {}", names()))
}

fn client(name: &str) -> Result<&'static str, String> {
    let names = CLIENTS.map(|(known, _)| known);
    let known = names.into_iter().find(|known| *known == name.trim());
    known.ok_or_else(|| format!("there are: {}", names.join("; ")))
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let outcome = match &args.part {
        None => bench(&args),
        Some(Part::Serve { peer, port }) => serve(peer, *port),
        Some(Part::Relay { relay, port, server }) => {
            listen(*port).and_then(|listener| relay.run(&listener, *server)).map(|()| false)
        }
        Some(Part::Bare { port, connections, payload_len, in_flight, warm_up, length }) => {
            let [connections, payload_len, in_flight] = [*connections, *payload_len, *in_flight];
            let shape = Shape { connections, payload_len, in_flight };
            clients::run_bare(*port, shape, *warm_up, *length).map(|turn| {
                println!("{}", turn.document());
                true
            })
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a peer that is part of this program, until an error or a signal ends it.
fn serve(peer: &Peer, port: u16) -> io::Result<bool> {
    match peer.program {
        Program::Built(run) => listen(port).and_then(run).map(|_| false),
        _ => Err(io::Error::other(format!("{} is a program of its own", peer.name))),
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves one call per connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Returns whether no peer failed.
fn bench(args: &Args) -> io::Result<bool> {
    let own = std::env::current_exe()?;
    let trustctl = own.with_file_name("trustctl");
    let binary = fs::metadata(&trustctl).map_err(|error| {
        io::Error::other(format!("no {}: {error}; build it first", trustctl.display()))
    })?;
    let cores = rustix::thread::sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..1024).filter(|core| cores.is_set(*core)).collect();
    let [server, .., load] = cores[..] else {
        return Err(io::Error::other("this needs two cores: one for the server, one for the load"));
    };
    raise_descriptor_limit();
    let scratch = args.report.parent().unwrap_or(Path::new(".")).join("scratch");
    fs::create_dir_all(&scratch)?;
    let plan = BenchPlan {
        rounds: args.rounds.get(),
        length: Duration::from_secs_f64(args.seconds),
        peers: args.peers.clone(),
        clients: args.clients.clone(),
        relays: args.relays.clone(),
        section: args.section.clone(),
        trustctl,
        scratch: scratch.canonicalize()?,
        cores: [server, load],
    };
    if !plan.has_sections() {
        let titles = run::titles().join(", ");
        return Err(io::Error::other(format!(
            "no section has that in its title; there are: {titles}"
        )));
    }
    let mut header = kernel::machine();
    let started = Instant::now();
    let results = plan.run()?;
    header.push(("rounds", format!("{} of {} s, interleaved", args.rounds, args.seconds)));
    header.push(("version", version(&plan.trustctl)));
    header.push(("took", format!("{:.0} s", started.elapsed().as_secs_f64())));
    let goals = goals::goals(&results, goals::Binary { bytes: binary.len() });
    print!("{}", report::text(&results, &goals, &header));
    let document = report::document(&results, &goals, &header);
    fs::write(&args.report, format!("{document:#}\n"))?;
    println!("\nwritten to {}", args.report.display());
    Ok(!report::has_failures(&results))
}

fn version(trustctl: &Path) -> String {
    let output = std::process::Command::new(trustctl).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|error| format!("unknown: {error}"))
}

/// Raises it as far as allowed; a shape that needs more says so.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    // Fails only if the hard limit has been lowered meanwhile.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
}
