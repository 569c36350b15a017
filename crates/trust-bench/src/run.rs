//! One run: every peer in every shape, side by side.
//!
//! All peers of a shape stand by with their connections open and take turns: one short measurement
//! each, again and again, with another one first in each round. So disturbances of the machine hit
//! all of them.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::churn::Churn;
use crate::clients::{self, Turn, Turns};
use crate::load::{Load, Shape};
use crate::outcome::{PeerOutcome, Rows};
use crate::peers::{FLOOR, PEERS, Peer, Program};
use crate::process::{Process, pin_to_core};
use crate::{kernel, rounds};

/// The eight shapes.
pub const SHAPES: [Shape; 8] = [
    Shape { connections: 1, payload_len: 64, in_flight: 1 },
    Shape { connections: 50, payload_len: 64, in_flight: 1 },
    Shape { connections: 1_000, payload_len: 64, in_flight: 1 },
    Shape { connections: 10_000, payload_len: 64, in_flight: 1 },
    Shape { connections: 50, payload_len: 64, in_flight: 16 },
    Shape { connections: 50, payload_len: 1024, in_flight: 16 },
    Shape { connections: 50, payload_len: 16 * 1024, in_flight: 1 },
    Shape { connections: 50, payload_len: 64 * 1024, in_flight: 1 },
];

/// Idle connections whose memory is measured.
const IDLE: Shape = Shape { connections: 10_000, payload_len: 64, in_flight: 1 };

/// Connections kept open at once, to all peers together: below the limit of 20,000 descriptors per
/// process on many machines.
const CONNECTIONS_KEPT: usize = 15_000;

/// How often to time a start.
const STARTS: usize = 20;

/// How long to watch a server without traffic.
const IDLE_WATCHED: Duration = Duration::from_secs(1);

/// Why a peer is left out of a section.
const NOT_ABOUT_IT: &str = "shows nothing about it";

const CHURN: &str = "connect-echo-close";
const IDLE_TITLE: &str = "idle";
const STARTS_TITLE: &str = "start";

/// The titles of all sections, in the order in which they run.
pub fn titles() -> Vec<String> {
    let others = [CHURN, IDLE_TITLE, STARTS_TITLE].map(str::to_owned);
    SHAPES
        .iter()
        .map(Shape::to_string)
        .chain(others)
        .chain(clients::SHAPES.map(load_title))
        .collect()
}

/// The title of the section that compares load testers in this shape.
pub fn load_title(shape: Shape) -> String {
    format!("load {shape}")
}

/// What to run.
pub struct BenchPlan {
    /// Measurements per peer and shape.
    pub rounds: usize,
    /// Length of one measurement.
    pub length: Duration,
    /// Only these peers; all if empty.
    pub peers: Vec<&'static Peer>,
    /// Only these load testers; all if empty.
    pub clients: Vec<&'static str>,
    /// Only sections whose title contains this.
    pub section: Option<String>,
    /// The program under test.
    pub trustctl: PathBuf,
    /// A directory for what the peers write.
    pub scratch: PathBuf,
    /// The servers' core and the load's.
    pub cores: [usize; 2],
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Messages or connections.
    pub count: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// CPU time of the server.
    pub cpu: Duration,
    /// The program's share of that; the rest is the kernel's.
    pub user_share: f64,
    /// CPU time of the load.
    pub load_cpu: Duration,
    /// In nanoseconds; `None` if it is not measured.
    pub latency: Option<Histogram<u64>>,
}

/// What a server costs while idle.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// The number of open connections.
    pub connections: usize,
    /// Bytes of its own memory per connection.
    pub resident: f64,
    /// Bytes of kernel memory per connection: half of what both ends took.
    pub kernel: f64,
    /// The share of a core that it uses.
    pub cpu: f64,
}

/// All results of a run.
#[derive(Debug, Default)]
pub struct Results {
    /// By shape.
    pub shapes: Vec<(Shape, Rows<Measurement>)>,
    /// Connect, echo, close.
    pub churn: Rows<Measurement>,
    /// Idle connections.
    pub idle: Rows<Idle>,
    /// Seconds from the start of the process until it listens.
    pub starts: Rows<f64>,
    /// Load testers against the same server, by shape.
    pub load: Vec<(Shape, Rows<Turn>)>,
}

impl BenchPlan {
    /// Runs everything; reports progress on stderr.
    ///
    /// # Errors
    ///
    /// If the load's side cannot go on. A failing peer is not an error but an outcome.
    pub fn run(&self) -> io::Result<Results> {
        pin_to_core(self.cores[1])?;
        let mut results = Results::default();
        for shape in SHAPES {
            if self.wants(&shape.to_string()) {
                results.shapes.push((shape, self.measure_shape(shape)?));
            }
        }
        if self.wants(CHURN) {
            results.churn = self.measure_churn()?;
        }
        if self.wants(IDLE_TITLE) {
            results.idle = self.measure_idle()?;
        }
        if self.wants(STARTS_TITLE) {
            results.starts = self.measure_starts()?;
        }
        for shape in clients::SHAPES {
            if self.wants(&load_title(shape)) {
                results.load.push((shape, self.measure_clients(shape)?));
            }
        }
        Ok(results)
    }

    /// Whether there is a section to run.
    pub fn has_sections(&self) -> bool {
        titles().iter().any(|title| self.is_wanted(title))
    }

    fn is_wanted(&self, title: &str) -> bool {
        self.section.as_ref().is_none_or(|part| title.contains(part.as_str()))
    }

    fn wants(&self, title: &str) -> bool {
        let is_wanted = self.is_wanted(title);
        if is_wanted {
            progress(title);
        }
        is_wanted
    }

    fn measure_shape(&self, shape: Shape) -> io::Result<Rows<Measurement>> {
        let stays = shape.connections * self.peers().count() <= CONNECTIONS_KEPT;
        let mut standing = vec![];
        for peer in self.peers() {
            standing.push(match self.stand_by(peer, shape.connections) {
                Ready::Not(outcome) => Standing::out(peer, outcome),
                Ready::Listening(process) if !stays => {
                    Standing::ready(peer, process, Driver::Visits(shape))
                }
                Ready::Listening(process) => match Load::connect(process.address, shape) {
                    Ok(load) => Standing::ready(peer, process, Driver::Messages(load)),
                    Err(error) => Standing::out(peer, PeerOutcome::Failed(error.to_string())),
                },
            });
        }
        Ok(self.take_turns(standing))
    }

    fn measure_churn(&self) -> io::Result<Rows<Measurement>> {
        let mut standing = vec![];
        for peer in self.peers() {
            if peer.churn == 0 {
                standing.push(Standing::out(peer, PeerOutcome::Skipped(NOT_ABOUT_IT.to_owned())));
                continue;
            }
            standing.push(match self.start(peer) {
                Ready::Not(outcome) => Standing::out(peer, outcome),
                Ready::Listening(process) => {
                    let churn = Churn::new(process.address, peer.churn)?;
                    Standing::ready(peer, process, Driver::Connections(churn))
                }
            });
        }
        Ok(self.take_turns(standing))
    }

    /// Runs one round that does not count and then all others.
    fn take_turns(&self, mut standing: Vec<Standing>) -> Rows<Measurement> {
        for round in 0..=self.rounds {
            for index in rounds::order(round, standing.len()) {
                let one = &mut standing[index];
                let Some((process, driver)) = &mut one.running else { continue };
                match (driver.measure(process, self.length), &mut one.outcome) {
                    (Ok(sample), PeerOutcome::Measured(samples)) if round > 0 => {
                        samples.push(sample)
                    }
                    (Ok(_), _) => {}
                    (Err(error), outcome) => {
                        *outcome = PeerOutcome::Failed(error.to_string());
                        one.running = None;
                    }
                }
            }
        }
        standing.into_iter().map(|one| (one.peer.name, one.outcome)).collect()
    }

    fn measure_idle(&self) -> io::Result<Rows<Idle>> {
        let mut rows = vec![];
        for peer in self.peers() {
            let connections = IDLE.connections.min(peer.connections_max);
            let outcome = match self.start(peer) {
                _ if connections == 1 => PeerOutcome::Skipped(NOT_ABOUT_IT.to_owned()),
                Ready::Not(outcome) => outcome,
                Ready::Listening(process) => match watch_idle(&process, connections) {
                    Ok(idle) => PeerOutcome::Measured(vec![idle]),
                    Err(error) => PeerOutcome::Failed(error.to_string()),
                },
            };
            rows.push((peer.name, outcome));
        }
        Ok(rows)
    }

    fn measure_starts(&self) -> io::Result<Rows<f64>> {
        let mut rows = vec![];
        for peer in self.peers().filter(|peer| !matches!(peer.program, Program::Built(_))) {
            let mut outcome = PeerOutcome::Measured(vec![]);
            for _ in 0..STARTS {
                match (self.start(peer), &mut outcome) {
                    (Ready::Listening(process), PeerOutcome::Measured(seconds)) => {
                        seconds.push(process.started_in.as_secs_f64());
                    }
                    (Ready::Not(why), _) => outcome = why,
                    (Ready::Listening(_), _) => {}
                }
            }
            rows.push((peer.name, outcome));
        }
        Ok(rows)
    }

    fn measure_clients(&self, shape: Shape) -> io::Result<Rows<Turn>> {
        let floor = Peer::named(FLOOR).expect("it is one of the peers");
        let server = Process::start(floor, &self.trustctl, &self.cores[..1], &self.scratch)?;
        let server = server.expect("it is part of this program");
        let turns = Turns {
            rounds: self.rounds,
            length: self.length,
            clients: &self.clients,
            trustctl: &self.trustctl,
            scratch: &self.scratch,
        };
        Ok(turns.take(&server, shape))
    }

    fn peers(&self) -> impl Iterator<Item = &'static Peer> {
        let is_wanted = |peer: &&Peer| {
            self.peers.is_empty() || self.peers.iter().any(|wanted| wanted.name == peer.name)
        };
        PEERS.iter().filter(is_wanted)
    }

    fn stand_by<T>(&self, peer: &Peer, connections: usize) -> Ready<T> {
        if connections > peer.connections_max {
            let most = peer.connections_max;
            let clients = if most == 1 { "client" } else { "clients" };
            return Ready::Not(PeerOutcome::Skipped(format!("made for {most} {clients}")));
        }
        self.start(peer)
    }

    fn start<T>(&self, peer: &Peer) -> Ready<T> {
        let two = [self.cores[0], self.cores[1]];
        let cores = if peer.is_on_both_cores { &two[..] } else { &two[..1] };
        match Process::start(peer, &self.trustctl, cores, &self.scratch) {
            Ok(Some(process)) => Ready::Listening(process),
            Ok(None) => Ready::Not(PeerOutcome::Skipped("not installed".to_owned())),
            Err(error) => Ready::Not(PeerOutcome::Failed(error.to_string())),
        }
    }
}

enum Ready<T> {
    Listening(Process),
    Not(PeerOutcome<T>),
}

/// A peer that takes turns, or is out.
struct Standing {
    peer: &'static Peer,
    running: Option<(Process, Driver)>,
    outcome: PeerOutcome<Measurement>,
}

impl Standing {
    fn ready(peer: &'static Peer, process: Process, driver: Driver) -> Standing {
        Standing { peer, running: Some((process, driver)), outcome: PeerOutcome::Measured(vec![]) }
    }

    fn out(peer: &'static Peer, outcome: PeerOutcome<Measurement>) -> Standing {
        Standing { peer, running: None, outcome }
    }
}

enum Driver {
    /// Connections that stay open for all rounds.
    Messages(Load),
    /// Connections that are opened anew in each round, because there are too few descriptors for
    /// all peers at once.
    Visits(Shape),
    Connections(Churn),
}

impl Driver {
    fn measure(&mut self, process: &Process, length: Duration) -> io::Result<Measurement> {
        match self {
            Driver::Messages(load) => measure_messages(process, load, length),
            Driver::Visits(shape) => {
                let mut load = Load::connect(process.address, *shape)?;
                load.run(Duration::ZERO)?;
                let sample = measure_messages(process, &mut load, length);
                drop(load);
                // Otherwise closing its connections would take the next one's time.
                process.wait_until_idle()?;
                sample
            }
            Driver::Connections(churn) => measure(process, || {
                let churned = churn.run(length)?;
                Ok((churned.connections, churned.elapsed, None))
            }),
        }
    }
}

fn measure_messages(
    process: &Process,
    load: &mut Load,
    length: Duration,
) -> io::Result<Measurement> {
    measure(process, || {
        let seen = load.run(length)?;
        Ok((seen.messages, seen.elapsed, Some(seen.latency)))
    })
}

type Seen = (u64, Duration, Option<Histogram<u64>>);

fn measure(process: &Process, run: impl FnOnce() -> io::Result<Seen>) -> io::Result<Measurement> {
    let (server_before, load_before) = (process.cpu_time()?, kernel::own_cpu_time());
    let (count, elapsed, latency) = run()?;
    let (server, load) = (process.cpu_time()?, kernel::own_cpu_time());
    Ok(Measurement {
        count,
        elapsed,
        cpu: server.total.saturating_sub(server_before.total),
        user_share: server.user_share_since(&server_before),
        load_cpu: load - load_before,
        latency,
    })
}

/// Measures connections that have had one frame echoed and are idle from then on.
fn watch_idle(process: &Process, connections: usize) -> io::Result<Idle> {
    // Memory that a server allocates once, for its first client, is not a cost per client.
    let shape = |connections| Shape { connections, ..IDLE };
    Load::connect(process.address, shape(1))?.run(Duration::ZERO)?;
    process.wait_until_idle()?;
    let (resident_before, kernel_before) = (process.resident_bytes()?, kernel::socket_memory()?);
    let mut load = Load::connect(process.address, shape(connections))?;
    load.run(Duration::ZERO)?;
    let (cpu_before, watched_from) = (process.cpu_time()?.total, Instant::now());
    std::thread::sleep(IDLE_WATCHED);
    let cpu = process.cpu_time()?.total.saturating_sub(cpu_before);
    let watched = watched_from.elapsed();
    let resident = process.resident_bytes()?.saturating_sub(resident_before);
    let kernel = kernel::socket_memory()?.saturating_sub(kernel_before);
    let count = connections as f64;
    Ok(Idle {
        connections,
        resident: resident as f64 / count,
        kernel: kernel as f64 / count / 2.0,
        cpu: cpu.as_secs_f64() / watched.as_secs_f64(),
    })
}

#[expect(clippy::print_stderr, reason = "a run of many minutes says where it is")]
fn progress(title: &str) {
    eprintln!("measuring {title}");
}
