//! Two peers, their paths and a relay, joined by a clock. The relay takes its turns as the event
//! loop of the proxy has it do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use trust_wire::relay::{Relay, RelayIo, RelaySide, RelayStep, RelayTurn};
use trust_wire::turn::{Question, Refusal, Unread};
use trust_wire::{During, Readiness, Timestamp};

use super::endings;
use super::model::StreamModel;
use super::script::RelayScript;
use super::witness::{Outstanding, RelayWitness};
use crate::check::{Violation, require};
use crate::clock::Clock;
use crate::effort::Effort;
use crate::errno::{self, EAGAIN, EINTR};
use crate::link::{Edge, Link, LinkEvent};
use crate::network::{PathEvent, Side};
use crate::rng::Rng;
use crate::watched::at;

/// More events than this count as endless: far above what the longest script needs.
const EVENTS_MAX: u64 = 1_000_000;

/// Steps of a turn for each receive, and for each gate: far more than needed.
const STEPS_PER_RECEIVE: u32 = 6 + 2 * 16;
const STEPS_BESIDES: u32 = 30;

/// How long the simulation goes on after a close, for peers that still read: longer than the
/// longest outage and the longest wait before a retransmission.
const READ_ON: Duration = Duration::from_secs(1800);

/// When everything that can happen has happened: after the last step, and after the kernel has
/// given up.
const OVERDUE: Duration = Duration::from_secs(2 * 3600);

/// How long a question to the kernel waits if the one before did not help; the same as in the
/// proxy.
const QUESTION_PAUSE: Duration = Duration::from_millis(100);

/// Lines of a trace to keep.
const TRACE_MAX: usize = 20_000;

/// The outcome of a script.
#[derive(Debug)]
pub struct RelayOutcome {
    /// Time from the start to the close, or to the end of the simulation.
    pub simulated: Duration,
    /// Events that happened.
    pub events: u64,
    /// How the connection ended.
    pub ending: RelayEnding,
    /// Whether the ending was foretold from the script alone.
    pub is_foretold: bool,
    /// The first property that did not hold.
    pub violation: Option<Violation>,
    /// What happened, if a trace was asked for.
    pub trace: Vec<String>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnding {
    /// Both sides ended with FIN.
    Fin,
    /// A side failed.
    Failed,
    /// A rule ended it.
    Imposed,
    /// Delivery was given up, whatever the reason of the end.
    GivenUp,
    /// It is still open.
    Open,
}

impl RelayEnding {
    /// All of them.
    pub const ALL: [RelayEnding; 5] = [
        RelayEnding::Fin,
        RelayEnding::Failed,
        RelayEnding::Imposed,
        RelayEnding::GivenUp,
        RelayEnding::Open,
    ];
}

#[derive(Clone, Copy, Debug)]
enum RelayEvent {
    Link(RelaySide, LinkEvent),
    /// The relay notices what a socket is ready for.
    Wake(RelaySide),
    /// The deadline that was set for this time is noticed.
    Timer(Duration),
    /// A turn that was used up goes on.
    Turn,
    /// The pause before a question to the kernel is over.
    Ask(RelaySide),
}

/// The relay's two sockets during one turn.
struct LinkIo<'a> {
    links: &'a mut [Link; 2],
    witness: &'a mut RelayWitness,
    efforts: &'a mut [Effort; 2],
    is_refused: bool,
    now: Duration,
}

impl LinkIo<'_> {
    fn refused(&mut self, side: RelaySide, errno: i32, during: During) -> Refusal {
        let link = &self.links[side.index()];
        match errno {
            EAGAIN => {
                let is_ready = match during {
                    During::Receive => link.path.is_readable(Side::Server),
                    During::Send => link.path.is_writable(Side::Server),
                };
                let effort = &mut self.efforts[side.index()];
                if let Err(violation) = effort.note_refusal(during, is_ready, self.now) {
                    self.witness.violation.get_or_insert(violation);
                }
                Refusal::WouldBlock
            }
            EINTR => Refusal::Interrupted,
            errno => Refusal::Failed { errno, class: errno::classify(errno) },
        }
    }
}

impl RelayIo for LinkIo<'_> {
    fn receive(&mut self, from: RelaySide, buffer: &mut [u8]) -> Result<usize, Refusal> {
        self.witness.note_receive(from, buffer.len());
        let received =
            self.links[from.index()].path.receive(Side::Server, buffer, &mut [], self.now);
        match received {
            Ok(0) => self.witness.note_end(from, &self.links[from.index()]),
            Ok(count) => self.witness.note_received(from, count),
            Err(errno) => {
                let refusal = self.refused(from, errno, During::Receive);
                if let Refusal::Failed { errno, class } = refusal {
                    self.witness.note_failed_receive(from, errno, class);
                }
                return Err(refusal);
            }
        }
        self.efforts[from.index()].note_success();
        received.map_err(|_| Refusal::WouldBlock)
    }

    fn send(&mut self, to: RelaySide, bytes: &[u8]) -> Result<usize, Refusal> {
        self.witness.note_send(to, bytes);
        match self.links[to.index()].path.send(Side::Server, bytes, self.now) {
            Ok(count) => {
                self.witness.note_sent(to, count);
                self.efforts[to.index()].note_success();
                Ok(count)
            }
            Err(errno) => {
                let refusal = self.refused(to, errno, During::Send);
                if let Refusal::Failed { errno, class } = refusal {
                    self.witness.note_failure(to, errno, class);
                }
                Err(refusal)
            }
        }
    }

    fn ask(&mut self, side: RelaySide, question: Question) {
        match question {
            Question::Now => self.links[side.index()].path.ask(self.now),
            // Seen in the readiness after the turn.
            Question::Later => {}
        }
    }

    fn unacknowledged(&mut self, side: RelaySide) -> u64 {
        outstanding(self.links, self.is_refused)[side.index()]
    }

    fn shutdown_send(&mut self, to: RelaySide) {
        self.witness.note_shutdown(to);
        self.links[to.index()].path.shutdown_send(Side::Server, self.now);
    }

    fn now(&mut self) -> Timestamp {
        at(self.now)
    }
}

/// What both sides have not acknowledged.
fn outstanding(links: &[Link; 2], is_refused: bool) -> Outstanding {
    let [client, upstream] = links;
    [client.path.outstanding(), if is_refused { 0 } else { upstream.path.outstanding() }]
}

// Many fields: two of each that a link needs, and the relay between them.
struct RelaySimulation<'a> {
    script: &'a RelayScript,
    clock: Clock<RelayEvent>,
    rng: Rng,
    links: [Link; 2],
    relay: Relay,
    readiness: [Readiness; 2],
    efforts: [Effort; 2],
    witness: RelayWitness,
    wakes: [bool; 2],
    is_queued: bool,
    /// The time for which the timer is set.
    armed: Option<Duration>,
    buffer: Vec<u8>,
    log: SimulationLog,
}

/// What is known of the course of a simulation.
#[derive(Default)]
struct SimulationLog {
    events: u64,
    trace: Option<Vec<String>>,
}

/// Plays `script` to its end, or to the first property that does not hold.
pub fn run_relay(script: &RelayScript, with_trace: bool) -> RelayOutcome {
    let mut simulation = RelaySimulation::new(script, with_trace);
    let outcome = catch_unwind(AssertUnwindSafe(|| simulation.play()));
    let (violation, is_foretold) = match outcome {
        Ok(Ok(is_foretold)) => (None, is_foretold),
        Ok(Err(violation)) => (Some(violation), false),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("");
            let detail = message.to_owned();
            (Some(Violation { property: "nothing panics", detail }), false)
        }
    };
    let RelaySimulation { witness, clock, log, .. } = simulation;
    let ending = match witness.closed() {
        None => RelayEnding::Open,
        Some(closed) if closed.is_given_up => RelayEnding::GivenUp,
        Some(_) if witness.is_imposed() => RelayEnding::Imposed,
        Some(_) if RelaySide::BOTH.into_iter().any(|side| witness.is_failing(side)) => {
            RelayEnding::Failed
        }
        Some(_) => RelayEnding::Fin,
    };
    RelayOutcome {
        simulated: witness.closed().map_or(clock.now(), |closed| closed.at),
        events: log.events,
        ending,
        is_foretold,
        violation,
        trace: log.trace.unwrap_or_default(),
    }
}

impl<'a> RelaySimulation<'a> {
    fn new(script: &'a RelayScript, with_trace: bool) -> RelaySimulation<'a> {
        let mut clock = Clock::default();
        let mut links = [0, 1].map(|peer: usize| Link::new(&script.peers[peer], clock.now()));
        let mut relay = match script.is_refused {
            true => Relay::refusal(script.linger_timeout),
            false => Relay::new(script.linger_timeout),
        };
        let models = RelaySide::BOTH.map(|to| {
            let faults = &script.faults[to.index()];
            relay.arm(to, faults.clone(), script.format.clone());
            let upload = links[to.other().index()].peer.upload();
            StreamModel::of(upload, faults, script.format.as_ref())
        });
        for (link, model) in links.iter_mut().zip(&models) {
            link.peer.owed.clone_from(&model.output);
        }
        for side in RelaySide::BOTH {
            clock.schedule(Duration::ZERO, RelayEvent::Wake(side));
        }
        RelaySimulation {
            script,
            clock,
            rng: Rng::new(script.peers[0].seed),
            links,
            relay,
            readiness: [Readiness::default(); 2],
            efforts: [Effort::default(), Effort::default()],
            witness: RelayWitness::new(script, models),
            wakes: [true; 2],
            is_queued: false,
            armed: None,
            buffer: vec![0xa5; script.receive_len],
            log: SimulationLog { events: 0, trace: with_trace.then(Vec::new) },
        }
    }

    fn play(&mut self) -> Result<bool, Violation> {
        if !self.relay.needs_time() {
            self.witness.check(&mut self.relay)?;
        }
        self.collect();
        while let Some(event) = self.clock.advance() {
            self.log.events += 1;
            let is_endless = self.log.events >= EVENTS_MAX;
            require(!is_endless, "every simulation ends", || format!("{event:?}"))?;
            let closed_at = self.witness.closed().map(|closed| closed.at);
            if self.clock.now() > closed_at.map_or(OVERDUE, |at| at + READ_ON) {
                break;
            }
            self.handle(event)?;
            self.collect();
        }
        endings::check(self.script, &self.witness, &self.links)
    }

    fn handle(&mut self, event: RelayEvent) -> Result<(), Violation> {
        let now = self.clock.now();
        match event {
            RelayEvent::Link(side, LinkEvent::Path(event)) => self.handle_path(side, event),
            RelayEvent::Link(side, LinkEvent::Peer(event)) => {
                let Link { path, peer, .. } = &mut self.links[side.index()];
                let said = peer.handle(event, path, now).map_err(|detail| Violation {
                    property: "what a peer reads is a prefix of what it is due",
                    detail,
                })?;
                if !said.is_empty() {
                    self.note(|| format!("{side:?} {said}"));
                }
            }
            RelayEvent::Wake(side) => {
                self.wakes[side.index()] = false;
                if self.witness.closed().is_none() {
                    self.note_readiness(side);
                    self.turn()?;
                }
            }
            RelayEvent::Timer(time) if self.armed == Some(time) => {
                self.armed = None;
                self.turn()?;
            }
            RelayEvent::Timer(_) => {}
            RelayEvent::Turn => {
                self.is_queued = false;
                self.turn()?;
            }
            RelayEvent::Ask(side) => {
                self.links[side.index()].question = false;
                if self.witness.closed().is_none() {
                    self.readiness[side.index()].ask_again();
                    self.links[side.index()].path.ask(now);
                }
            }
        }
        Ok(())
    }

    fn handle_path(&mut self, side: RelaySide, event: PathEvent) {
        let now = self.clock.now();
        let link = &mut self.links[side.index()];
        let before = link.path.outstanding();
        let edge = link.handle_path(event, now);
        if link.path.outstanding() < before {
            self.witness.progress_at[side.index()] = now;
        }
        if let PathEvent::Arrive(end, packet) = event {
            self.note(|| format!("{side:?}: at {end:?} {packet:?}"));
        }
        let Some(edge) = edge else { return };
        if edge == Edge::Ready {
            self.efforts[side.index()].note_edge();
        }
        if !std::mem::replace(&mut self.wakes[side.index()], true) {
            let delay = self.rng.time_up_to(self.script.wake_delay);
            self.clock.schedule(now + delay, RelayEvent::Wake(side));
        }
    }

    /// Has the relay know what a socket is ready for, as an event says it.
    fn note_readiness(&mut self, side: RelaySide) {
        let link = &mut self.links[side.index()];
        let readiness = &mut self.readiness[side.index()];
        if std::mem::take(&mut link.edge) {
            let unread = if link.path.stops_receives() {
                Unread::ToTheEnd
            } else if link.path.is_readable(Side::Server) {
                Unread::Bytes
            } else {
                Unread::Nothing
            };
            readiness.note(unread, link.path.poll_writable());
        }
        if self.rng.one_in(self.script.spurious_one_in) {
            readiness.note(Unread::Bytes, true);
            self.efforts[side.index()].note_edge();
        }
        let is_to_be_taken = link.path.has_error() && {
            let is_known = self.witness.note_announced(side);
            let is_to_be_taken = self.relay.handle_failing(side);
            self.witness.judge_announced(side, is_to_be_taken == is_known);
            is_to_be_taken
        };
        if is_to_be_taken && let Some(errno) = link.path.take_error() {
            let class = errno::classify(errno);
            self.witness.note_failure(side, errno, class);
            self.relay.handle_send_error(side, errno, class);
        }
    }

    /// Lets the relay do what it is ready for.
    fn turn(&mut self) -> Result<(), Violation> {
        if self.witness.closed().is_some() {
            return Ok(());
        }
        let now = self.clock.now();
        let receives = self.script.receives_per_turn;
        let gates: usize =
            RelaySide::BOTH.map(|to| self.witness.model(to).gates().count()).iter().sum();
        let steps_max = receives * STEPS_PER_RECEIVE + STEPS_BESIDES + gates as u32;
        let mut steps = 0;
        let mut turn = RelayTurn::new(&mut self.readiness, receives);
        let step = loop {
            self.witness.look(now);
            let mut io = LinkIo {
                links: &mut self.links,
                witness: &mut self.witness,
                efforts: &mut self.efforts,
                is_refused: self.script.is_refused,
                now,
            };
            let step = turn.step(&mut self.relay, &mut io, &mut self.buffer);
            steps += 1;
            require(steps <= steps_max, "a turn has an end", || format!("{steps} steps"))?;
            if let Some(trace) = &mut self.log.trace
                && trace.len() < TRACE_MAX
            {
                trace.push(format!("{:>14.6} relay: {step:?}", now.as_secs_f64()));
            }
            if let RelayStep::EndOfStream(from) | RelayStep::Failed(from, During::Receive) = step {
                // What happens at the end of a stream is known now.
                let to = from.other();
                self.links[to.index()].peer.owed.clone_from(&self.witness.model(to).output);
            }
            self.witness.check(&mut self.relay)?;
            if matches!(step, RelayStep::Closed(_) | RelayStep::Over | RelayStep::Unfinished) {
                break step;
            }
        };
        let outstanding = outstanding(&self.links, self.script.is_refused);
        if let RelayStep::Closed(closes) = step {
            self.witness.check_close(closes, outstanding, now)?;
            for (link, close) in self.links.iter_mut().zip(closes) {
                link.path.close(Side::Server, close == trust_wire::relay::RelayClose::Reset, now);
            }
            return Ok(());
        }
        self.witness.note_ending(now);
        if step == RelayStep::Unfinished && !std::mem::replace(&mut self.is_queued, true) {
            self.clock.schedule(now, RelayEvent::Turn);
        }
        self.ask_later();
        self.arm();
        if step == RelayStep::Over { self.check_rest(outstanding) } else { Ok(()) }
    }

    fn ask_later(&mut self) {
        let at = self.clock.now() + QUESTION_PAUSE;
        for side in RelaySide::BOTH {
            let is_to_be_asked = self.readiness[side.index()].is_to_be_asked();
            let question = &mut self.links[side.index()].question;
            if is_to_be_asked && !std::mem::replace(question, true) {
                self.clock.schedule(at, RelayEvent::Ask(side));
            }
        }
    }

    /// Sets the timer for the deadline.
    fn arm(&mut self) {
        let deadline = self.relay.poll_deadline();
        let time = (deadline != Timestamp::NEVER).then(|| deadline.since(Timestamp::default()));
        if time == self.armed {
            return;
        }
        self.armed = time;
        if let Some(time) = time {
            let delay = self.rng.time_up_to(self.script.timer_delay);
            self.clock.schedule(time + delay, RelayEvent::Timer(time));
        }
    }

    fn check_rest(&self, outstanding: Outstanding) -> Result<(), Violation> {
        let is_known = |side: RelaySide| {
            let link = &self.links[side.index()];
            let is_refused = self.script.is_refused && side == RelaySide::Upstream;
            let is_at_rest = link.edges_coming == 0 && link.path.events.is_empty();
            is_at_rest && !link.question && !link.edge && !is_refused
        };
        let links = RelaySide::BOTH.map(|side| is_known(side).then(|| &self.links[side.index()]));
        let now = self.clock.now();
        self.witness.check_rest(self.relay.poll_deadline(), links, outstanding, now)
    }

    /// Schedules the events of both links.
    fn collect(&mut self) {
        for side in RelaySide::BOTH {
            if self.script.is_refused && side == RelaySide::Upstream {
                continue;
            }
            let link = &mut self.links[side.index()];
            link.collect(|at, event| self.clock.schedule(at, RelayEvent::Link(side, event)));
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.log.trace
            && trace.len() < TRACE_MAX
        {
            trace.push(format!("{:>14.6} {}", self.clock.now().as_secs_f64(), line()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough for every ending to occur, and few enough for a build without optimisation.
    const SEEDS: u64 = 1_000;

    /// Seeds that only a long search found: a side that fails hides that the other one has
    /// acknowledged more; an acknowledgement that comes together with a RST.
    const RARE: [u64; 2] = [11_927, 147_596];

    #[test]
    fn every_property_of_a_relay_holds_whatever_the_adversary_does() {
        let (mut endings, mut foretold) = (vec![], 0);
        for seed in (0..SEEDS).chain(RARE) {
            let outcome = run_relay(&RelayScript::of(seed), false);
            assert_eq!(
                outcome.violation, None,
                "replay: cargo run --release -p trust-sim -- --relay --seed {seed}"
            );
            endings.push(outcome.ending);
            foretold += u64::from(outcome.is_foretold);
        }
        for ending in RelayEnding::ALL {
            assert!(endings.contains(&ending), "{ending:?} in {SEEDS} seeds");
        }
        assert!(foretold > SEEDS / 8, "only {foretold} of {SEEDS} were foretold");
    }

    #[test]
    fn a_seed_of_a_relay_replays_to_the_last_event() {
        let run = || run_relay(&RelayScript::of(7), true).trace;
        assert_eq!(run(), run());
    }
}
