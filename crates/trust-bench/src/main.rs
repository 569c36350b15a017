//! `trust-bench`: measures echo servers and load testers side by side.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to the terminal")]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use trust_bench::clients::{self, CLIENTS};
use trust_bench::peers::{Peer, Program};
use trust_bench::run::BenchPlan;
use trust_bench::{goals, kernel, peers, report, run};

const USAGE: &str = "\
usage: trust-bench [--rounds N] [--seconds S] [--section TEXT] [--peers NAME,NAME] [--clients NAME,NAME]
                   [--report PATH]

  --rounds N      measurements of each peer in each section, at least 1 [default: 11]
  --seconds S     length of a measurement [default: 0.5]
  --section TEXT  only sections whose title contains TEXT: '50 × 64 B × 1', connect-echo-close, idle, start,
                  load (load testers in place of servers, in shapes of their own)
  --peers NAMES   only these peers, with commas between them; floor should be among them
  --clients NAMES only these load testers in the sections named load; bare should be among them
  --report PATH   where the JSON document goes [default: target/bench/report.json]";

/// Connections that wait to be accepted: as our server's.
const BACKLOG: i32 = 4096;

/// What the arguments ask for.
struct Args {
    rounds: usize,
    seconds: f64,
    section: Option<String>,
    peers: Vec<&'static Peer>,
    clients: Vec<&'static str>,
    report: PathBuf,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| matches!(first.as_str(), "--help" | "-h")) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if arguments.peek().is_some_and(|first| first == "serve") {
        return serve(&mut arguments.skip(1));
    }
    if arguments.peek().is_some_and(|first| first == clients::BARE_WORD) {
        return be_bare(&arguments.skip(1).collect::<Vec<_>>());
    }
    let args = match parse(arguments) {
        Ok(args) => args,
        Err(wrong) => {
            eprintln!("error: {wrong}\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    match bench(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        rounds: 11,
        seconds: 0.5,
        section: None,
        peers: vec![],
        clients: vec![],
        report: "target/bench/report.json".into(),
    };
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let wrong = || format!("{flag} cannot be {value}");
        match flag.as_str() {
            "--rounds" => args.rounds = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?,
            "--seconds" => {
                let seconds = value.parse().ok().filter(|s| (0.01..=60.0).contains(s));
                args.seconds = seconds.ok_or_else(wrong)?;
            }
            "--section" => args.section = Some(value),
            "--peers" => {
                let named = |name| Peer::named(name).ok_or_else(|| no_peer(name));
                args.peers =
                    value.split(',').map(str::trim).map(named).collect::<Result<_, _>>()?;
            }
            "--clients" => {
                let known = |name: &str| CLIENTS.iter().find(|(known, _)| *known == name.trim());
                let named =
                    |name| known(name).map(|(known, _)| *known).ok_or_else(|| no_client(name));
                args.clients = value.split(',').map(named).collect::<Result<_, _>>()?;
            }
            "--report" => args.report = value.into(),
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    Ok(args)
}

fn no_peer(name: &str) -> String {
    let names: Vec<&str> = peers::PEERS.iter().map(|peer| peer.name).collect();
    format!("no peer {name:?}; there are: {}", names.join("; "))
}

fn no_client(name: &str) -> String {
    format!("no load tester {name:?}; there are: {}", CLIENTS.map(|(known, _)| known).join("; "))
}

/// Runs the load tester that is part of this program, and prints what it tells of itself.
fn be_bare(arguments: &[String]) -> ExitCode {
    match clients::run_bare(arguments) {
        Some(Ok(turn)) => {
            println!("{}", turn.document());
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("error: a bare client needs other arguments");
            ExitCode::from(64)
        }
    }
}

/// Runs a peer that is part of this program: `serve NAME PORT`.
fn serve(arguments: &mut impl Iterator<Item = String>) -> ExitCode {
    let peer = arguments.next().and_then(|name| Peer::named(&name));
    let port = arguments.next().and_then(|port| port.parse().ok());
    let (Some(Peer { program: Program::Built(run), .. }), Some(port)) = (peer, port) else {
        eprintln!("error: no such peer");
        return ExitCode::from(64);
    };
    let outcome = listen(port).and_then(run);
    if let Err(error) = outcome {
        eprintln!("error: {error}");
    }
    ExitCode::FAILURE
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a call a connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Returns whether every peer did its work.
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
        rounds: args.rounds,
        length: Duration::from_secs_f64(args.seconds),
        peers: args.peers.clone(),
        clients: args.clients.clone(),
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

/// As far as it is allowed to; a shape that needs more says so.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    // Refused only if the hard limit has been lowered meanwhile.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
}
