//! One run: every peer in every shape, side by side.
//!
//! All peers of a shape stand by with their connections open and take turns: one short measurement
//! each, again and again, with another one first in each round. So disturbances of the machine hit
//! all of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::churn::Churn;
use crate::clients::{self, Turn, Turns};
use crate::kernel;
use crate::load::{Load, Shape};
use crate::measurement::{Measurement, measure, measure_messages};
use crate::outcome::{PeerOutcome, Rows};
use crate::peers::{FLOOR, PEERS, Peer, Program};
use crate::process::{Process, pin_to_core};
use crate::proxy::{self, ProxyResults, RelayBench};
use crate::relays::RelayPeer;
use crate::rounds::{self, Contender};

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
        .chain(proxy::TITLES.map(str::to_owned))
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
    /// Only these relays; all if empty.
    pub relays: Vec<&'static RelayPeer>,
    /// Only sections whose title contains this.
    pub section: Option<String>,
    /// The program under test.
    pub trustctl: PathBuf,
    /// A directory for what the peers write.
    pub scratch: PathBuf,
    /// The servers' core and the load's.
    pub cores: [usize; 2],
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
    /// Relays between the load and a server of its own.
    pub proxy: ProxyResults,
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
                results.shapes.push((shape, self.measure_shape(shape)));
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
        results.proxy = self.measure_relays()?;
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

    fn measure_shape(&self, shape: Shape) -> Rows<Measurement> {
        let stays = shape.connections * self.peers().count() <= CONNECTIONS_KEPT;
        let mut contenders = vec![];
        for peer in self.peers() {
            contenders.push(match self.stand_by(peer, shape.connections) {
                Ready::Not(outcome) => Contender::out(peer.name, outcome),
                Ready::Listening(process) if !stays => {
                    self.contender(peer, process, Driver::Visits(shape))
                }
                Ready::Listening(process) => match Load::connect(process.address, shape) {
                    Ok(load) => self.contender(peer, process, Driver::Messages(load)),
                    Err(error) => Contender::out(peer.name, PeerOutcome::Failed(error.to_string())),
                },
            });
        }
        rounds::take_turns(self.rounds, contenders)
    }

    fn measure_churn(&self) -> io::Result<Rows<Measurement>> {
        let mut contenders = vec![];
        for peer in self.peers() {
            if peer.churn == 0 {
                let outcome = PeerOutcome::Skipped(NOT_ABOUT_IT.to_owned());
                contenders.push(Contender::out(peer.name, outcome));
                continue;
            }
            contenders.push(match self.start(peer) {
                Ready::Not(outcome) => Contender::out(peer.name, outcome),
                Ready::Listening(process) => {
                    let churn = Churn::new(process.address, peer.churn)?;
                    self.contender(peer, process, Driver::Connections(churn))
                }
            });
        }
        Ok(rounds::take_turns(self.rounds, contenders))
    }

    /// A peer that is measured in each of its turns.
    fn contender(
        &self,
        peer: &Peer,
        process: Process,
        mut driver: Driver,
    ) -> Contender<'static, Measurement> {
        let length = self.length;
        Contender::ready(peer.name, move || driver.measure(&process, length))
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
        let server = self.process(floor, &self.cores[..1])?.expect("it is part of this program");
        let turns = Turns {
            rounds: self.rounds,
            length: self.length,
            clients: &self.clients,
            trustctl: &self.trustctl,
            scratch: &self.scratch,
        };
        Ok(turns.take(&server, shape))
    }

    fn measure_relays(&self) -> io::Result<ProxyResults> {
        let bench = RelayBench {
            rounds: self.rounds,
            length: self.length,
            relays: &self.relays,
            trustctl: &self.trustctl,
            scratch: &self.scratch,
            core: self.cores[0],
        };
        bench.run(|title| self.wants(title))
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

    fn process(&self, peer: &Peer, cores: &[usize]) -> io::Result<Option<Process>> {
        let command = |own: &Path, port| Ok(peer.command(own, &self.trustctl, port));
        Process::start(peer.name, command, cores, &self.scratch)
    }

    fn start<T>(&self, peer: &Peer) -> Ready<T> {
        let two = [self.cores[0], self.cores[1]];
        let cores = if peer.is_on_both_cores { &two[..] } else { &two[..1] };
        match self.process(peer, cores) {
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
            Driver::Messages(load) => measure_messages(Some(process), load, length),
            Driver::Visits(shape) => {
                let mut load = Load::connect(process.address, *shape)?;
                load.run(Duration::ZERO)?;
                let sample = measure_messages(Some(process), &mut load, length);
                drop(load);
                // Otherwise closing its connections would take the next one's time.
                process.wait_until_idle()?;
                sample
            }
            Driver::Connections(churn) => measure(Some(process), || {
                let churned = churn.run(length)?;
                Ok((churned.connections, churned.elapsed, None))
            }),
        }
    }
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
