//! Relays side by side: what it costs to stand between a client and a server.
//!
//! Client and server are both the load, in one thread that never sleeps, so nothing but the relay
//! is on the other core.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::{Load, Shape};
use crate::measurement::{Measurement, measure_messages};
use crate::outcome::{PeerOutcome, Rows};
use crate::peers::is_installed;
use crate::process::{Process, file_name};
use crate::relays::{
    BARE, BARE_SPLICE, OURS, OURS_ARMED, OURS_FRAMING, RELAYS, RelayPeer, RelayProgram,
};
use crate::rounds::{self, Contender};

/// One message at a time: what a relay adds to a round trip.
pub const LATENCY: &str = "proxy latency";

/// Small messages on many connections.
pub const ROUND_TRIPS: &str = "proxy round trips";

/// Many bytes.
pub const BULK: &str = "proxy bulk";

/// Idle connections.
pub const MEMORY: &str = "proxy memory";

/// Instructions and system calls.
pub const CALLS: &str = "proxy calls";

/// The titles of all sections.
pub const TITLES: [&str; 5] = [LATENCY, ROUND_TRIPS, BULK, MEMORY, CALLS];

/// The sections with messages: title, shape, and the relay that all others are compared with.
pub const SHAPES: [(&str, Shape, &str); 3] = [
    (LATENCY, Shape { connections: 1, payload_len: 64, in_flight: 1 }, BARE),
    (ROUND_TRIPS, Shape { connections: 50, payload_len: 64, in_flight: 1 }, BARE),
    (BULK, Shape { connections: 10, payload_len: 64 * 1024, in_flight: 16 }, BARE_SPLICE),
];

/// Idle connections: with both ends in the load, below the limit of 20,000 descriptors per process
/// on many machines.
const IDLE: Shape = Shape { connections: 5_000, payload_len: 64, in_flight: 1 };

/// How long to watch a relay without traffic.
const IDLE_WATCHED: Duration = Duration::from_secs(1);

/// A relay that is counted: what it does for one round trip is the difference of two runs.
const COUNTED: Shape = Shape { connections: 1, payload_len: 64, in_flight: 1 };
const COUNTED_TRIPS: [u32; 2] = [1_000, 5_000];
const COUNTED_RELAYS: [&str; 5] = [BARE, BARE_SPLICE, OURS, OURS_ARMED, OURS_FRAMING];

/// What relays cost, by section.
#[derive(Debug, Default)]
pub struct ProxyResults {
    /// The sections with messages, by title.
    pub shapes: Vec<(&'static str, Rows<Measurement>)>,
    /// Idle connections.
    pub idle: Rows<IdleRelay>,
    /// What is executed for a round trip.
    pub calls: Rows<TripCost>,
}

/// What a relay costs while idle.
#[derive(Clone, Copy, Debug)]
pub struct IdleRelay {
    /// The number of relayed connections.
    pub connections: usize,
    /// Bytes of its own memory per connection.
    pub resident: f64,
    /// Its descriptors per connection.
    pub descriptors: f64,
    /// Those of them that are ends of pipes.
    pub pipe_ends: f64,
    /// The share of a core that it uses.
    pub cpu: f64,
}

/// What a relay executes for a round trip of 64 B.
#[derive(Clone, Copy, Debug)]
pub struct TripCost {
    /// Instructions of its own, counted by callgrind.
    pub instructions: f64,
    /// System calls, counted by strace.
    pub calls: f64,
}

/// How to run the relays.
#[derive(Debug)]
pub struct RelayBench<'a> {
    /// Number of turns of each relay that count.
    pub rounds: usize,
    /// Length of one measurement.
    pub length: Duration,
    /// Only these relays; all if empty.
    pub relays: &'a [&'static RelayPeer],
    /// The program under test.
    pub trustctl: &'a Path,
    /// A directory for what the relays write.
    pub scratch: &'a Path,
    /// The relays' core.
    pub core: usize,
}

/// A relay that runs, and where it connects to; `None`: no relay.
struct Relaying {
    process: Option<Process>,
    far: TcpListener,
}

impl Relaying {
    fn connect(&self, shape: Shape) -> io::Result<Load> {
        let address = match &self.process {
            Some(process) => process.address,
            None => self.far.local_addr()?,
        };
        Load::connect_through(address, &self.far, shape)
    }
}

impl RelayBench<'_> {
    /// Runs the wanted sections.
    ///
    /// # Errors
    ///
    /// If the load's side cannot go on. A failing relay is not an error but an outcome.
    pub fn run(&self, wants: impl Fn(&str) -> bool) -> io::Result<ProxyResults> {
        let mut results = ProxyResults::default();
        for (title, shape, _) in SHAPES.into_iter().filter(|(title, ..)| wants(title)) {
            results.shapes.push((title, self.measure_shape(shape)));
        }
        if wants(MEMORY) {
            results.idle = self.relays().map(|relay| (relay.name, self.watch(relay))).collect();
        }
        if wants(CALLS) {
            let is_counted = |relay: &&RelayPeer| COUNTED_RELAYS.contains(&relay.name);
            let relays = self.relays().filter(is_counted);
            results.calls = relays.map(|relay| (relay.name, self.count(relay))).collect();
        }
        Ok(results)
    }

    fn relays(&self) -> impl Iterator<Item = &'static RelayPeer> {
        let is_wanted = |relay: &&RelayPeer| {
            self.relays.is_empty() || self.relays.iter().any(|wanted| wanted.name == relay.name)
        };
        RELAYS.iter().filter(is_wanted)
    }

    fn measure_shape(&self, shape: Shape) -> Rows<Measurement> {
        let contender = |relay: &RelayPeer| match self.stand_by(relay, shape) {
            Ok(Some((relaying, mut load))) => Contender::ready(relay.name, move || {
                measure_messages(relaying.process.as_ref(), &mut load, self.length)
            }),
            Ok(None) => Contender::out(relay.name, not_installed()),
            Err(error) => Contender::out(relay.name, PeerOutcome::Failed(error.to_string())),
        };
        rounds::take_turns(self.rounds, self.relays().map(contender).collect())
    }

    fn stand_by(&self, relay: &RelayPeer, shape: Shape) -> io::Result<Option<(Relaying, Load)>> {
        let Some(relaying) = self.start(relay, &[])? else { return Ok(None) };
        let load = relaying.connect(shape)?;
        Ok(Some((relaying, load)))
    }

    /// Starts a relay, by a command line that begins with these words; `None` if it is not
    /// installed.
    fn start(&self, relay: &RelayPeer, wrapper: &[OsString]) -> io::Result<Option<Relaying>> {
        let far = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        if matches!(relay.program, RelayProgram::Direct) {
            return Ok(Some(Relaying { process: None, far }));
        }
        let server = far.local_addr()?.port();
        let directory = self.scratch.join(file_name(relay.name));
        let command = |own: &Path, port| {
            let words = relay.command(own, self.trustctl, &directory, [port, server])?;
            Ok(words.map(|words| [wrapper, &words].concat()))
        };
        let process = Process::start(relay.name, command, &[self.core], self.scratch)?;
        Ok(process.map(|process| Relaying { process: Some(process), far }))
    }

    fn watch(&self, relay: &RelayPeer) -> PeerOutcome<IdleRelay> {
        let connections = IDLE.connections.min(relay.connections_max);
        match self.start(relay, &[]) {
            Ok(Some(Relaying { process: None, .. })) => {
                PeerOutcome::Skipped("there is no relay".to_owned())
            }
            Ok(None) => not_installed(),
            Ok(Some(relaying)) => outcome(watch_idle(&relaying, connections)),
            Err(error) => outcome(Err(error)),
        }
    }

    /// Counts what it executes for a round trip.
    fn count(&self, relay: &RelayPeer) -> PeerOutcome<TripCost> {
        let missing = ["valgrind", "strace"].into_iter().find(|tool| !is_installed(tool));
        if let Some(tool) = missing {
            return PeerOutcome::Skipped(format!("{tool} is not installed"));
        }
        let figures = self.difference(relay, Counter::Instructions).and_then(|instructions| {
            let calls = self.difference(relay, Counter::Calls)?;
            Ok(TripCost { instructions, calls })
        });
        outcome(figures)
    }

    /// What one more round trip adds to a whole run.
    fn difference(&self, relay: &RelayPeer, counter: Counter) -> io::Result<f64> {
        let [few, many] = COUNTED_TRIPS;
        let before = self.count_trips(relay, counter, few)?;
        let after = self.count_trips(relay, counter, many)?;
        Ok((after as f64 - before as f64) / f64::from(many - few))
    }

    fn count_trips(&self, relay: &RelayPeer, counter: Counter, trips: u32) -> io::Result<u64> {
        let counts = self.scratch.join("counts.txt");
        let started = self.start(relay, &counter.words(&counts))?;
        let relaying = started.ok_or_else(|| io::Error::other("it is not installed"))?;
        let mut load = relaying.connect(COUNTED)?;
        for _ in 0..trips {
            load.run(Duration::ZERO)?;
        }
        let process = relaying.process.ok_or_else(|| io::Error::other("there is no relay"))?;
        process.end()?;
        counter.read(&fs::read_to_string(counts)?)
    }
}

fn outcome<T>(measured: io::Result<T>) -> PeerOutcome<T> {
    match measured {
        Ok(measured) => PeerOutcome::Measured(vec![measured]),
        Err(error) => PeerOutcome::Failed(error.to_string()),
    }
}

fn not_installed<T>() -> PeerOutcome<T> {
    PeerOutcome::Skipped("not installed".to_owned())
}

/// What counts what a process does.
#[derive(Clone, Copy)]
enum Counter {
    Instructions,
    Calls,
}

impl Counter {
    /// The words before a command line with which its process is counted; the counts go to a file.
    fn words(self, counts: &Path) -> Vec<OsString> {
        let path = counts.to_string_lossy();
        let words: &[&str] = match self {
            Counter::Instructions => &[
                "valgrind",
                "--tool=callgrind",
                "--callgrind-out-file=/dev/null",
                &format!("--log-file={path}"),
            ],
            Counter::Calls => &["strace", "-f", "-c", "-o", &path],
        };
        words.iter().map(OsString::from).collect()
    }

    /// The total in what was written.
    fn read(self, counts: &str) -> io::Result<u64> {
        let mut lines = counts.lines();
        let number = match self {
            Counter::Instructions => {
                lines.find_map(|line| Some(line.split_once("Collected :")?.1.trim()))
            }
            // % time, seconds, usecs/call, calls, and errors if there were any.
            Counter::Calls => lines
                .find(|line| line.trim_end().ends_with(" total"))
                .and_then(|line| line.split_whitespace().nth(3)),
        };
        let number = number.and_then(|number| number.parse().ok());
        number.ok_or_else(|| io::Error::other(format!("no total in {counts:?}")))
    }
}

/// Measures connections that have had one message relayed there and back, and are idle from then
/// on.
fn watch_idle(relaying: &Relaying, connections: usize) -> io::Result<IdleRelay> {
    let process = relaying.process.as_ref().ok_or_else(|| io::Error::other("there is no relay"))?;
    // Memory that a relay allocates once, for its first client, is not a cost per client.
    let shape = |connections| Shape { connections, ..IDLE };
    let mut first = relaying.connect(shape(1))?;
    first.run(Duration::ZERO)?;
    process.wait_until_idle()?;
    let (resident_before, before) = (process.resident_bytes()?, process.descriptors()?);
    let mut load = relaying.connect(shape(connections))?;
    load.run(Duration::ZERO)?;
    let (cpu_before, watched_from) = (process.cpu_time()?.total, Instant::now());
    std::thread::sleep(IDLE_WATCHED);
    let cpu = process.cpu_time()?.total.saturating_sub(cpu_before);
    let watched = watched_from.elapsed();
    let resident = process.resident_bytes()?.saturating_sub(resident_before);
    let after = process.descriptors()?;
    let count = connections as f64;
    let [descriptors, pipe_ends] = [0, 1].map(|at| after[at].saturating_sub(before[at]) as f64);
    Ok(IdleRelay {
        connections,
        resident: resident as f64 / count,
        descriptors: descriptors / count,
        pipe_ends: pipe_ends / count,
        cpu: cpu.as_secs_f64() / watched.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_what_the_tools_write() {
        let callgrind = "==7== Events    : Ir\n==7== Collected : 1234567\n==7==\n";
        assert_eq!(Counter::Instructions.read(callgrind).expect("a total"), 1_234_567);
        let strace = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.001000           1      1000           recvfrom
 40.00    0.000500           1       500        12 sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.001500           1      1500        12 total
";
        assert_eq!(Counter::Calls.read(strace).expect("a total"), 1_500);
        assert!(Counter::Calls.read(callgrind).is_err() && Counter::Instructions.read("").is_err());
    }

    #[test]
    fn every_section_has_a_title_of_its_own_and_no_other_section_is_part_of_it() {
        for title in TITLES {
            assert!(title.starts_with("proxy "), "--section proxy takes {title}");
            let own = TITLES.iter().filter(|other| other.contains(title));
            assert_eq!(own.count(), 1, "{title}");
        }
    }
}
