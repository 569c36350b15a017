//! The event loop of the proxy: one thread, any number of clients.
//!
//! Readiness is edge-triggered, and each socket is registered once, for both directions. What a
//! connection may do and when it ends is decided by trust-wire's `relay`; the loop makes the calls.
//! One thread, because the order in which clients are accepted, and what happens to them, must be
//! the same in every run; and because one relays several gigabytes per second.

mod accepting;
mod client;
mod control;
mod dial;
mod dialling;
mod fault_record;
mod listener_state;
mod pair;
mod pipes;
mod sockets;
mod tasks;
mod toxic;
mod toxics;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use trust_cli::service::{handle_hangup, note_signal};
use trust_cli::signals::{Signal, SignalPipe, Signals};
use trust_net::address::Family;
use trust_net::loop_parts::{Alarm, Clock, Questions};
use trust_net::{Event, Observer, socket};
use trust_wire::relay::{RelayClose, RelayIo, RelaySide, RelayStep, RelayTurn};
use trust_wire::{During, Timestamp};

use crate::engine::accepting::Listeners;
use crate::engine::client::{RelayStage, Relayed, RelayedClient};
use crate::engine::fault_record::FaultRecord;
use crate::engine::listener_state::StateSchedule;
use crate::engine::pipes::PipePool;
use crate::engine::sockets::RelaySockets;
use crate::engine::tasks::Inbox;
use crate::events::{Got, ProxyEvents, RelayReason, RelayTotals, SideReport};
use crate::frames::FrameFormats;
use crate::options::ConnectFailure;
use crate::rules::{Direction, RuleAction, Rules};
use crate::trace::Trace;

pub(crate) use self::pair::{ListeningPair, PairUpstream};
pub(crate) use self::tasks::LoopHandle;

/// Bytes received at once. What the receiver does not take of them is all that is held for it.
const RECEIVE_LEN: usize = 64 * 1024;

/// Receives of one client before the others get their turn.
const RECEIVES_PER_TURN: u32 = 16;

/// Events taken from the kernel with one call.
const EVENTS_PER_POLL: usize = 1024;

/// Tokens that are not of clients; listening sockets count down from the first.
const ALARM: Token = Token(usize::MAX - 1);
const INBOX: Token = Token(usize::MAX - 2);
const SIGNALS: Token = Token(usize::MAX - 3);
const FIRST_LISTENER: usize = usize::MAX - 4;

/// Both directions, and urgent data, are registered as one.
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// How the proxy works.
#[derive(Clone, Debug)]
pub(crate) struct RelayConfig {
    /// Zero: no limit.
    pub(crate) connect_timeout: Duration,
    pub(crate) connect_failure: ConnectFailure,
    pub(crate) linger_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) max_clients: usize,
    /// How many bytes may be held for a side that are delayed.
    pub(crate) hold: usize,
    /// How frames are told apart; `None`: there are none.
    pub(crate) frames: Option<FrameFormats>,
}

/// The signals of a service.
pub(crate) struct ServiceSignals<'a> {
    pub(crate) signals: &'a Signals,
    pub(crate) stats: SignalPipe,
    pub(crate) log_file: Option<&'a Path>,
    /// SIGHUP asks for an end, as it does from a terminal.
    pub(crate) hangup_ends: bool,
    /// The first one that asked for an end.
    pub(crate) first: Option<Signal>,
    /// Some may have come that were not taken.
    pub(crate) have_come: bool,
}

/// How the proxy ended.
#[derive(Debug)]
pub(crate) struct RelayEnded {
    pub(crate) totals: RelayTotals,
    pub(crate) rules: Rules,
    pub(crate) trace: Option<Trace>,
    pub(crate) uptime: Duration,
    /// The first signal that asked for an end.
    pub(crate) signal: Option<Signal>,
    /// The errno with which a listening socket failed.
    pub(crate) listener_failed: Option<i32>,
}

/// What the loop waits with.
struct LoopWait {
    poll: Poll,
    alarm: Alarm,
    clock: Clock,
    questions: Questions,
}

/// The clients, and when to look at them although nothing happens.
#[derive(Default)]
struct Clients {
    table: Slab<RelayedClient>,
    timers: BTreeSet<(Timestamp, usize)>,
    /// Those that have used up their turn.
    unfinished: Vec<usize>,
}

enum RelayLifecycle {
    Open,
    /// No more clients are accepted; what is left is cut at that time.
    Draining {
        cut_at: Timestamp,
    },
}

/// The event loop.
pub(crate) struct RelayLoop<'a> {
    waiting: LoopWait,
    listeners: Listeners,
    clients: Clients,
    inbox: Inbox,
    config: RelayConfig,
    events: &'a ProxyEvents,
    signals: ServiceSignals<'a>,
    lifecycle: RelayLifecycle,
    totals: RelayTotals,
    faults: FaultRecord<'a>,
    passage: Passage,
    now: Timestamp,
}

/// What bytes go through from one socket to the other.
struct Passage {
    buffer: Box<[u8]>,
    pipes: PipePool,
}

impl Clients {
    /// Has a client looked at when that time comes.
    fn arm(&mut self, key: usize, time: Timestamp) {
        let armed = &mut self.table[key].armed;
        if *armed == time {
            return;
        }
        self.timers.remove(&(*armed, key));
        *armed = time;
        if time != Timestamp::NEVER {
            self.timers.insert((time, key));
        }
    }

    /// Gives a client a turn in this round.
    fn queue(&mut self, key: usize) {
        if !std::mem::replace(&mut self.table[key].is_queued, true) {
            self.unfinished.push(key);
        }
    }

    fn next_timer(&self) -> Timestamp {
        self.timers.first().map_or(Timestamp::NEVER, |(time, _)| *time)
    }

    fn take_due(&mut self, now: Timestamp) -> Vec<usize> {
        let mut due = vec![];
        while let Some((time, key)) = self.timers.first().copied().filter(|(time, _)| *time <= now)
        {
            self.timers.remove(&(time, key));
            self.table[key].armed = Timestamp::NEVER;
            due.push(key);
        }
        due
    }
}

/// The token of a client's socket, or of its upstream's.
fn token(key: usize, side: RelaySide) -> Token {
    Token(key << 2 | side.index())
}

/// The token of all attempts to reach a client's upstream. The one that wins gets another, so that
/// no event of a loser is taken for one of the connection.
fn attempt_token(key: usize) -> Token {
    Token(key << 2 | 2)
}

/// Whose token it is; no side: that of an attempt.
fn split_token(token: Token) -> (usize, Option<RelaySide>) {
    (token.0 >> 2, RelaySide::BOTH.get(token.0 & 3).copied())
}

impl<'a> RelayLoop<'a> {
    /// A proxy that is about to run.
    ///
    /// # Errors
    ///
    /// Out of descriptors or memory.
    pub(crate) fn new(
        config: RelayConfig,
        pairs: Vec<ListeningPair>,
        rules: Rules,
        trace: Option<Trace>,
        events: &'a ProxyEvents,
        signals: ServiceSignals<'a>,
    ) -> io::Result<RelayLoop<'a>> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let alarm = Alarm::new(registry, ALARM)?;
        let inbox = Inbox::new(Waker::new(registry, INBOX)?);
        let [terminate, interrupt, hangup] = signals.signals.descriptors();
        for descriptor in [terminate, interrupt, hangup, signals.stats.as_fd()] {
            let descriptor = descriptor.as_raw_fd();
            registry.register(&mut SourceFd(&descriptor), SIGNALS, Interest::READABLE)?;
        }
        let listeners = Listeners::new(pairs, StateSchedule::of(&rules), registry)?;
        let clock = Clock::start();
        Ok(RelayLoop {
            waiting: LoopWait { poll, alarm, clock, questions: Questions::default() },
            listeners,
            clients: Clients::default(),
            inbox,
            config,
            events,
            signals,
            lifecycle: RelayLifecycle::Open,
            totals: RelayTotals::default(),
            faults: FaultRecord { rules, trace, events, lateness: None },
            passage: Passage { buffer: vec![0; RECEIVE_LEN].into(), pipes: PipePool::new() },
            now: clock.now(),
        })
    }

    /// Relays until a signal ends it.
    ///
    /// # Errors
    ///
    /// Errors of waiting itself.
    pub(crate) fn run(mut self) -> io::Result<RelayEnded> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        self.follow_listener_rules();
        self.follow_deadline();
        while !self.is_done() {
            self.wait(&mut events)?;
            self.handle_events(&events);
            for key in std::mem::take(&mut self.clients.unfinished) {
                if let Some(client) = self.clients.table.get_mut(key) {
                    client.is_queued = false;
                    self.give_turn(key);
                }
                self.do_tasks();
            }
            for key in self.clients.take_due(self.now) {
                self.look_at(key);
            }
            self.ask_again();
            self.do_tasks();
            if matches!(self.lifecycle, RelayLifecycle::Open) {
                self.follow_listener_rules();
            }
            // Last, so that no event of this round is taken for one of a client that has come to
            // the place of another.
            if self.listeners.is_any_ready() {
                self.accept_clients();
            }
            if std::mem::take(&mut self.signals.have_come) {
                self.handle_signals();
            }
            self.follow_deadline();
        }
        let RelayTotals { drained, cut, .. } = self.totals;
        self.events.observe(&Event::DrainDone { drained, cut });
        let uptime = self.uptime();
        let (signal, listener_failed) = (self.signals.first, self.listeners.failed);
        let RelayLoop { totals, faults: FaultRecord { rules, trace, .. }, .. } = self;
        Ok(RelayEnded { totals, rules, trace, uptime, signal, listener_failed })
    }

    fn uptime(&self) -> Duration {
        self.waiting.clock.now().since(Timestamp::default())
    }

    fn is_draining(&self) -> bool {
        matches!(self.lifecycle, RelayLifecycle::Draining { .. })
    }

    fn is_done(&self) -> bool {
        self.is_draining() && self.clients.table.is_empty()
    }

    fn next_wake_up(&self) -> Timestamp {
        if !self.clients.unfinished.is_empty() {
            return self.now;
        }
        let cut_at = match self.lifecycle {
            RelayLifecycle::Draining { cut_at } => cut_at,
            RelayLifecycle::Open => Timestamp::NEVER,
        };
        let timers = self.clients.next_timer().min(self.waiting.questions.next()).min(cut_at);
        let listeners = self.listeners.next_wake_up(self.now);
        timers.min(listeners)
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let until = self.next_wake_up();
        let LoopWait { poll, alarm, clock, .. } = &mut self.waiting;
        let is_due = until <= self.now;
        if !is_due && until != Timestamp::NEVER {
            alarm.set_no_later_than(until, *clock)?;
        }
        match poll.poll(events, is_due.then_some(Duration::ZERO)) {
            Ok(()) => {}
            // EINTR is a signal, which has made its descriptor readable; the kernel may be short of
            // something for a moment (poll(2)). No readiness is lost by either.
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) =>
            {
                events.clear();
            }
            Err(error) => return Err(error),
        }
        self.now = self.waiting.clock.now();
        Ok(())
    }

    fn handle_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                ALARM => self.waiting.alarm.note_went_off(),
                INBOX => self.take_resolved(),
                SIGNALS => self.signals.have_come = true,
                token if self.listeners.note_readiness(token) => {}
                token => {
                    let (key, side) = split_token(token);
                    // It may have ended in this round.
                    let Some(client) = self.clients.table.get_mut(key) else { continue };
                    if let Some(side) = side {
                        client.note_readiness(side, event);
                    }
                    self.look_at(key);
                }
            }
            self.do_tasks();
        }
    }

    /// Lets a client do what it is ready for, whatever it is at.
    fn look_at(&mut self, key: usize) {
        match self.clients.table[key].stage {
            RelayStage::Dialling(_) => self.go_on_dialling(key),
            RelayStage::Relaying(_) => self.give_turn(key),
        }
    }

    fn give_turn(&mut self, key: usize) {
        let client = &mut self.clients.table[key];
        let RelayStage::Relaying(relayed) = &mut client.stage else { return };
        let mut sockets = RelaySockets {
            streams: [Some(client.stream.as_fd()), relayed.upstream.as_ref().map(AsFd::as_fd)],
            families: [client.peer.family(), relayed.family],
            pipes: &mut relayed.pipes,
            pool: &mut self.passage.pipes,
            key,
            waiting: &mut self.waiting,
            observer: self.events,
            now: self.now,
        };
        let mut turn = RelayTurn::new(&mut client.readiness, RECEIVES_PER_TURN);
        let mut is_unfinished = false;
        let closed = loop {
            match turn.step(&mut relayed.relay, &mut sockets, &mut self.passage.buffer) {
                RelayStep::Sent(to, _) if self.faults.records_lateness() => {
                    if let Some(due) = relayed.relay.take_due(to) {
                        let late = sockets.now().since(due);
                        let sent = relayed.relay.delivery(to).sent;
                        self.faults.note_late(client.id, to, sent, late);
                    }
                }
                RelayStep::Refused(to, During::Send) => {
                    // From here on it is the receiver that is late.
                    relayed.relay.take_due(to);
                }
                RelayStep::Over => break None,
                RelayStep::Unfinished => {
                    is_unfinished = true;
                    break None;
                }
                RelayStep::Closed(close) => break Some(close),
                _ => {}
            }
        };
        for side in RelaySide::BOTH {
            // If it failed, nothing of what is in its pipe is sent.
            if relayed.pipes[side.index()].is_some() && relayed.relay.piped(side) == 0 {
                self.passage.pipes.discard(relayed.pipes[side.index()].take());
            }
        }
        let deadline = relayed.relay.poll_deadline();
        if relayed.is_watched && relayed.relay.take_news() {
            self.report_faults(key);
        }
        if is_unfinished {
            self.clients.queue(key);
        }
        let RelayStage::Relaying(relayed) = &self.clients.table[key].stage else { return };
        match closed {
            None => self.clients.arm(key, deadline),
            Some(close) => {
                let reason = match relayed.relay.failed_first() {
                    _ if relayed.is_ended => RelayReason::Api,
                    Some(RelaySide::Client) => RelayReason::ClientFailed,
                    Some(RelaySide::Upstream) => RelayReason::UpstreamFailed,
                    None if relayed.relay.is_imposed() && relayed.is_watched => RelayReason::Fault,
                    None if relayed.upstream.is_none() => RelayReason::ConnectFailed,
                    None => RelayReason::Fin,
                };
                self.close(key, close, reason);
            }
        }
    }

    /// Reports what rules have done to a client since the last turn.
    fn report_faults(&mut self, key: usize) {
        for receiver in RelaySide::BOTH {
            let client = &mut self.clients.table[key];
            let RelayStage::Relaying(Relayed { relay, .. }) = &mut client.stage else { return };
            let (fired, lost) = (relay.take_fired(receiver), relay.take_lost(receiver));
            let is_full = relay.take_full(receiver);
            let most_at_once = relay.receive_limit(receiver.other()) as u64;
            let client = &self.clients.table[key];
            let (name, direction) = (client.name(), Direction::towards(receiver));
            let elapsed = self.now.since(client.began);
            for fired in fired {
                if let RuleAction::Window(_) = self.faults.rules.rule(fired.rule).action {
                    client.bound_receive_buffer(receiver.other(), most_at_once);
                }
                self.faults.note(fired.rule, client, Some((direction, fired)), elapsed);
            }
            if let Some(lost) = lost {
                self.events.write_framing_lost(&name, direction, lost);
            }
            if is_full {
                self.events.write_hold_full(&name, direction, self.config.hold);
            }
        }
    }

    /// Ends a client in this way, and reports it.
    fn close(&mut self, key: usize, close: [RelayClose; 2], reason: RelayReason) {
        self.clients.arm(key, Timestamp::NEVER);
        let mut client = self.clients.table.remove(key);
        let reports = client.reports(close);
        let lifetime = self.waiting.clock.now().since(client.began);
        self.faults.trace_close(&client, reason, lifetime);
        let upstream = &self.listeners.pair(client.pair).upstream.text;
        self.events.write_close(&client.name(), upstream, reason, &reports, lifetime);
        let sent = RelaySide::BOTH.map(|side| client.sent_to(side));
        self.listeners.note_over(client.pair, reports.map(|report| report.bytes), sent);
        for (total, SideReport { bytes, .. }) in self.totals.bytes.iter_mut().zip(&reports) {
            *total += bytes;
        }
        *self.totals.by_reason.entry(reason).or_default() += 1;
        if self.is_draining() {
            let is_cut = matches!(reason, RelayReason::DrainTimeout | RelayReason::SecondSignal);
            *if is_cut { &mut self.totals.cut } else { &mut self.totals.drained } += 1;
        }
        if let RelayStage::Relaying(relayed) = &mut client.stage {
            self.passage.pipes.discard(relayed.pipes.iter_mut().filter_map(Option::take));
        }
        client.end(reports.map(|report| report.got));
        self.listeners.policy.handle_descriptor_free();
    }

    /// Asks the kernel about sockets that were ready and took nothing, once their pause is over.
    fn ask_again(&mut self) {
        let LoopWait { questions, poll, .. } = &mut self.waiting;
        let (table, listeners) = (&self.clients.table, &self.listeners);
        let is_there = |token: Token| listeners.have(token) || table.contains(split_token(token).0);
        for token in questions.take_due(self.now, is_there) {
            if self.listeners.have(token) {
                self.listeners.ask_again(poll.registry(), token);
                continue;
            }
            let (key, Some(side)) = split_token(token) else { continue };
            self.clients.table[key].ask_again(side, poll.registry(), token);
        }
    }

    fn handle_signals(&mut self) {
        while self.signals.stats.take() {
            self.report_stats();
        }
        while let Some(signal) = self.signals.signals.take() {
            if signal == Signal::Hangup && !self.signals.hangup_ends {
                handle_hangup(&self.events.log, self.signals.log_file);
                continue;
            }
            let is_first = self.signals.first.is_none();
            note_signal(&self.events.log, signal, if is_first { "shutdown" } else { "cut" });
            self.signals.first = self.signals.first.or(Some(signal));
            self.drain();
            if !is_first {
                self.cut(RelayReason::SecondSignal);
            }
        }
    }

    /// Accepts those who are already connected, and no others.
    fn drain(&mut self) {
        if self.is_draining() {
            return;
        }
        self.accept_the_backlog();
        self.listeners.close(self.waiting.poll.registry());
        self.now = self.waiting.clock.now();
        let cut_at = self.now + self.config.drain_timeout;
        self.lifecycle = RelayLifecycle::Draining { cut_at };
        let active = self.clients.table.len() as u64;
        self.events.observe(&Event::DrainStarted { active });
    }

    fn follow_deadline(&mut self) {
        if self.listeners.failed.is_some() {
            self.drain();
        }
        if matches!(self.lifecycle, RelayLifecycle::Draining { cut_at } if cut_at <= self.now) {
            self.cut(RelayReason::DrainTimeout);
        }
    }

    fn cut(&mut self, reason: RelayReason) {
        let keys: Vec<usize> = self.clients.table.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.close(key, [RelayClose::Reset; 2], reason);
        }
    }

    fn report_stats(&self) {
        let mut open = BTreeMap::from([("connecting", 0), ("open", 0), ("closing", 0)]);
        let mut bytes = self.totals.bytes;
        for (_, client) in &self.clients.table {
            *open.entry(client.state()).or_default() += 1;
            for (total, side) in bytes.iter_mut().zip(RelaySide::BOTH) {
                *total += client.received_from(side);
            }
        }
        self.events.write_stats(&self.totals, &open, bytes, self.uptime());
    }
}

/// What a side gets that is closed in this way, if anything can reach it.
fn got(close: RelayClose, family: Family) -> Got {
    match (close, family) {
        (RelayClose::Close, _) => Got::Fin,
        (RelayClose::Reset, Family::Ip) => Got::Rst,
        (RelayClose::Reset, Family::Unix) => Got::Close,
    }
}

/// Ends a connection's socket in that way.
fn end_socket(socket: BorrowedFd<'_>, got: Got) {
    if got == Got::Rst {
        socket::reset_on_close(socket);
    }
}
