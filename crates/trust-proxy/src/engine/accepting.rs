//! Taking clients from the listening sockets.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{SockRef, Socket};
use trust_cli::wait::Limit;
use trust_cli::zone;
use trust_net::address::{Family, Peer};
use trust_net::listening::ListeningSocket;
use trust_net::loop_parts::{AcceptPolicy, Accepted, Questions, Registered};
use trust_net::{Address, errno, socket};
use trust_wire::turn::Asked;
use trust_wire::{Readiness, Timestamp};

use super::RelayLoop;
use crate::engine::client::{RelayStage, RelayedClient};
use crate::engine::dial::Dial;
use crate::engine::listener_state::{ListenerState, StateSchedule, ignore, refuse};
use crate::engine::pair::{ListeningPair, PairRecord, PairTraffic, RelayPair};
use crate::engine::{FIRST_LISTENER, INTEREST, token};

/// Clients accepted before connections get their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// Most clients of a backlog that are accepted when the proxy is told to stop: as many as the
/// kernel lets wait. Those beyond came later, and would hold the drain up.
const BACKLOG_MAX: usize = 4096;

/// The listening sockets, and the upstreams for their clients.
pub(super) struct Listeners {
    sockets: Vec<PairListener>,
    /// By their numbers, which are not used again.
    pub(super) pairs: BTreeMap<usize, RelayPair>,
    next_pair: usize,
    /// What pairs of a name have done that are over, and where the last one listens.
    pub(super) records: BTreeMap<String, PairRecord>,
    /// The next socket gets this one; clients have low tokens.
    next_token: usize,
    pub(super) policy: AcceptPolicy,
    /// The errno with which one of them failed.
    pub(super) failed: Option<i32>,
    state: ListenerState,
    schedule: StateSchedule,
    /// Connections of the proxy's own that keep others from being accepted.
    own: Vec<Socket>,
}

struct PairListener {
    socket: ListeningSocket,
    pair: usize,
    token: Token,
    /// Somebody may be waiting.
    is_ready: bool,
    asked: Asked,
}

impl Listeners {
    pub(super) fn new(
        pairs: Vec<ListeningPair>,
        schedule: StateSchedule,
        registry: &Registry,
    ) -> io::Result<Listeners> {
        let mut listeners = Listeners {
            sockets: vec![],
            pairs: BTreeMap::new(),
            next_pair: 0,
            records: BTreeMap::new(),
            next_token: FIRST_LISTENER,
            policy: AcceptPolicy::default(),
            failed: None,
            state: ListenerState::Open,
            schedule,
            own: vec![],
        };
        for pair in pairs {
            listeners.open(pair, registry)?;
        }
        Ok(listeners)
    }

    /// Accepts the clients of a pair too; its number.
    ///
    /// # Errors
    ///
    /// Out of descriptors or memory.
    pub(super) fn open(&mut self, pair: ListeningPair, registry: &Registry) -> io::Result<usize> {
        let ListeningPair { sockets, proxy, upstream } = pair;
        let number = self.next_pair;
        let mut opened = vec![];
        for socket in sockets {
            socket.set_nonblocking()?;
            let token = Token(self.next_token);
            let descriptor = socket.as_fd().as_raw_fd();
            registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
            self.next_token -= 1;
            let (asked, pair) = (Asked::default(), number);
            opened.push(PairListener { socket, pair, token, is_ready: true, asked });
        }
        let listen = opened.first().map(|it| zone::shown_address(it.socket.address()));
        let record = self.records.entry(proxy.clone()).or_default();
        record.listen = listen.unwrap_or_default();
        record.upstream.clone_from(&upstream.text);
        self.sockets.extend(opened);
        self.pairs.insert(number, RelayPair::new(proxy, upstream));
        self.next_pair += 1;
        let state = self.state;
        if state != ListenerState::Open {
            self.change_to(state)?;
        }
        Ok(number)
    }

    /// Accepts no more clients of a pair. It is forgotten once none of its clients is left.
    pub(super) fn close_pair(&mut self, number: usize, registry: &Registry) {
        for listener in self.sockets.extract_if(.., |listener| listener.pair == number) {
            // It is closed in a moment in any case.
            let _ = registry.deregister(&mut SourceFd(&listener.socket.as_fd().as_raw_fd()));
        }
        if let Some(pair) = self.pairs.get_mut(&number) {
            pair.is_closed = true;
        }
        self.forget(number);
    }

    /// Forgets a pair that is closed and has no clients.
    fn forget(&mut self, number: usize) {
        if self.pairs.get(&number).is_some_and(|pair| pair.is_closed && pair.traffic.open == 0)
            && let Some(pair) = self.pairs.remove(&number)
            && let Some(record) = self.records.get_mut(&pair.proxy)
        {
            record.traffic.add(&pair.traffic);
        }
    }

    /// The pair of a client.
    ///
    /// # Panics
    ///
    /// If there is none: a pair outlives its clients.
    pub(super) fn pair(&self, number: usize) -> &RelayPair {
        &self.pairs[&number]
    }

    /// The same, to be changed.
    pub(super) fn pair_mut(&mut self, number: usize) -> &mut RelayPair {
        self.pairs.get_mut(&number).expect("a pair outlives its clients")
    }

    /// Records that a client of a pair is over, with the bytes that came from each side and went to
    /// it.
    pub(super) fn note_over(&mut self, number: usize, received: [u64; 2], sent: [u64; 2]) {
        let traffic = &mut self.pair_mut(number).traffic;
        traffic.open -= 1;
        traffic.add(&PairTraffic { received, sent, ..PairTraffic::default() });
        self.forget(number);
    }

    /// Whether clients are accepted.
    pub(super) fn are_open(&self) -> bool {
        self.state == ListenerState::Open
    }

    /// Changes what happens to those who connect. Those who have connected must have been accepted.
    fn change_to(&mut self, state: ListenerState) -> io::Result<()> {
        self.state = state;
        if state != ListenerState::Open {
            // The kernel has ended those that were not accepted.
            self.own.clear();
        }
        for listener in &mut self.sockets {
            let descriptor = listener.socket.as_fd();
            // Ends whatever was before.
            SockRef::from(&descriptor).listen(BACKLOG_MAX as i32)?;
            listener.is_ready = true;
            match (state, listener.socket.address()) {
                (ListenerState::Refusing, Address::Ip(_)) => refuse(descriptor)?,
                (ListenerState::Ignoring, Address::Ip(address)) => {
                    self.own.push(ignore(descriptor, *address)?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a client is the proxy's own connection, which is over then.
    fn take_own(&mut self, peer: Peer) -> bool {
        let Peer::Ip(peer) = peer else { return false };
        let is_it = |own: &Socket| {
            let local = own.local_addr().ok().and_then(|local| local.as_socket());
            local == Some(peer)
        };
        let found = self.own.iter().position(is_it);
        found.map(|index| self.own.swap_remove(index)).is_some()
    }

    /// Whether the event is for one of them, who is ready now.
    pub(super) fn note_readiness(&mut self, token: Token) -> bool {
        self.find(token).map(|listener| listener.is_ready = true).is_some()
    }

    /// Whether somebody may be waiting.
    pub(super) fn is_any_ready(&self) -> bool {
        self.sockets.iter().any(|listener| listener.is_ready)
    }

    pub(super) fn have(&self, token: Token) -> bool {
        self.sockets.iter().any(|listener| listener.token == token)
    }

    fn find(&mut self, token: Token) -> Option<&mut PairListener> {
        // Clients have low tokens.
        let is_low = token.0 <= self.next_token;
        if is_low { None } else { self.sockets.iter_mut().find(|it| it.token == token) }
    }

    pub(super) fn ask_again(&mut self, registry: &Registry, token: Token) {
        if let Some(PairListener { socket, asked, .. }) = self.find(token) {
            let (socket, interest) = (socket.as_fd(), Interest::READABLE);
            Questions::ask_again(asked, Registered { socket, registry, token, interest });
        }
    }

    /// When to try to accept again, or to change the state, without being woken.
    pub(super) fn next_wake_up(&self, now: Timestamp) -> Timestamp {
        let accepts = match self.policy.paused_until(now) {
            _ if !self.are_open() => Timestamp::NEVER,
            Timestamp::NEVER if self.is_any_ready() => now,
            paused_until => paused_until,
        };
        accepts.min(self.schedule.next(now))
    }

    pub(super) fn close(&mut self, registry: &Registry) {
        for listener in self.sockets.drain(..) {
            // It is closed in a moment in any case.
            let _ = registry.deregister(&mut SourceFd(&listener.socket.as_fd().as_raw_fd()));
        }
    }
}

impl RelayLoop<'_> {
    /// Has clients refused, left waiting or accepted, as rules say for this time.
    pub(super) fn follow_listener_rules(&mut self) {
        while let Some(number) = self.listeners.schedule.take_begun(self.now) {
            self.faults.note_listener(number, self.now.since(Timestamp::default()));
        }
        let state = self.listeners.schedule.at(self.now);
        if state == self.listeners.state {
            return;
        }
        if self.listeners.are_open() {
            self.accept_the_backlog();
        }
        if let Err(error) = self.listeners.change_to(state) {
            self.listeners.failed = Some(errno::of(&error));
        }
    }

    pub(super) fn accept_clients(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.accept_one() {
                return;
            }
        }
    }

    pub(super) fn accept_the_backlog(&mut self) {
        if !self.listeners.are_open() {
            return;
        }
        // No event has announced those who came since the last one, and a pause is over.
        self.listeners.sockets.iter_mut().for_each(|listener| listener.is_ready = true);
        self.listeners.policy.resume();
        for _ in 0..self.listeners.sockets.len() * BACKLOG_MAX {
            if !self.accept_one() {
                return;
            }
        }
    }

    /// Returns whether there may be more.
    fn accept_one(&mut self) -> bool {
        if !self.listeners.are_open() {
            return false;
        }
        let Listeners { sockets, policy, failed, .. } = &mut self.listeners;
        let Some(index) = sockets.iter().position(|listener| listener.is_ready) else {
            return false;
        };
        let listener = &mut sockets[index];
        match policy.accept(self.now, self.events, || listener.socket.accept()) {
            Accepted::Client((stream, peer)) => {
                listener.asked.handle_success();
                let pair = listener.pair;
                // It is another one's turn.
                sockets.rotate_left(index + 1);
                if !self.listeners.take_own(peer) {
                    self.welcome(stream, peer, pair);
                }
                true
            }
            Accepted::Drained => {
                listener.is_ready = false;
                let PairListener { socket, token, asked, .. } = listener;
                let (socket, token, interest) = (socket.as_fd(), *token, Interest::READABLE);
                let registry = self.waiting.poll.registry();
                let registered = Registered { socket, registry, token, interest };
                self.waiting.questions.handle_would_block(asked, registered, self.now);
                sockets.iter().any(|listener| listener.is_ready)
            }
            Accepted::Interrupted => true,
            Accepted::Paused => false,
            Accepted::Failed(errno) => {
                *failed = Some(errno);
                false
            }
        }
    }

    fn welcome(&mut self, stream: OwnedFd, peer: Peer, pair: usize) {
        if self.clients.table.len() >= self.config.max_clients {
            return self.reject(stream, peer, pair);
        }
        let entry = self.clients.table.vacant_entry();
        let key = entry.key();
        let descriptor = stream.as_raw_fd();
        let registry = self.waiting.poll.registry();
        let token = token(key, trust_wire::relay::RelaySide::Client);
        if let Err(error) = registry.register(&mut SourceFd(&descriptor), token, INTEREST) {
            let errno = errno::of(&error);
            self.listeners.policy.handle_exhausted(self.now, errno, self.events);
            return self.reject(stream, peer, pair);
        }
        self.totals.connections += 1;
        let traffic = &mut self.listeners.pair_mut(pair).traffic;
        (traffic.connections, traffic.open) = (traffic.connections + 1, traffic.open + 1);
        let number = traffic.connections;
        let limit = Limit::start(self.config.connect_timeout);
        entry.insert(RelayedClient {
            id: self.totals.connections,
            pair,
            number,
            peer,
            stream,
            began: self.waiting.clock.now(),
            stage: RelayStage::Dialling(Box::new(Dial::new(limit))),
            readiness: [Readiness::default(); 2],
            is_queued: false,
            armed: Timestamp::NEVER,
        });
        self.follow_connect_rules(key, 0);
    }

    /// Turns a client away.
    fn reject(&mut self, stream: OwnedFd, peer: Peer, pair: usize) {
        self.totals.rejected += 1;
        self.listeners.pair_mut(pair).traffic.rejected += 1;
        self.listeners.policy.note_reject(self.now, peer, self.events);
        if peer.family() == Family::Ip {
            socket::reset_on_close(stream.as_fd());
        }
    }
}
