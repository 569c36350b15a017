//! The first worker's other job: taking clients from the listening sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use trust_wire::Timestamp;
use trust_wire::turn::Asked;

use super::Worker;
use crate::accept::{AcceptPolicy, Accepted, MAX_REJECTED_LINGERING};
use crate::address::{Family, Peer};
use crate::channel::Order;
use crate::client::Client;
use crate::handoff::HandedOver;
use crate::listening::{BACKLOG, ListeningSocket};
use crate::observer::{ClientInfo, Event};
use crate::questions::{Questions, Registered};
use crate::service::Service;
use crate::socket;
use crate::stop::Stop;

/// Clients accepted before connections get their turn.
const ACCEPTS_PER_TURN: u32 = 64;

/// The token of the first listening socket; the others count down from it. No connection has one
/// that high, see `join_token`.
const FIRST_LISTENER: usize = usize::MAX - 16;

/// The listening sockets of a server, and those who came from them and are not served.
pub(super) struct Listeners {
    listeners: Vec<Listener>,
    pub(super) policy: AcceptPolicy,
    /// Who was accepted and could not be registered yet.
    put_off: Vec<HandedOver>,
    /// How many of those who were turned away have not left yet.
    rejected_lingering: usize,
}

struct Listener {
    socket: ListeningSocket,
    token: Token,
    /// Somebody may be waiting.
    ready: bool,
    /// It is unusable.
    failed: bool,
    asked: Asked,
}

impl Listener {
    const INTEREST: Interest = Interest::READABLE;
}

impl Listeners {
    /// None of them is used further if one `failed` before there was an event loop.
    pub(super) fn new(sockets: Vec<ListeningSocket>, failed: bool) -> io::Result<Listeners> {
        let listen = |(index, socket): (usize, ListeningSocket)| {
            socket.set_nonblocking()?;
            Ok(Listener {
                socket,
                token: Token(FIRST_LISTENER - index),
                ready: true,
                failed,
                asked: Asked::Nothing,
            })
        };
        let listeners = sockets.into_iter().enumerate().map(listen).collect::<io::Result<_>>()?;
        let (policy, put_off) = (AcceptPolicy::default(), Vec::new());
        Ok(Listeners { listeners, policy, put_off, rejected_lingering: 0 })
    }

    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        let register = |listener: &mut Listener| {
            let socket = listener.socket.as_fd().as_raw_fd();
            registry.register(&mut SourceFd(&socket), listener.token, Listener::INTEREST)
        };
        self.listeners.iter_mut().try_for_each(register)
    }

    /// Whether the event is for one of them, who is ready now.
    pub(super) fn note_readiness(&mut self, token: Token) -> bool {
        let listener = self.listeners.iter_mut().find(|listener| listener.token == token);
        listener.map(|listener| listener.ready = true).is_some()
    }

    /// Whether it is one of them that the token is for.
    pub(super) fn have(&self, token: Token) -> bool {
        self.listeners.iter().any(|listener| listener.token == token)
    }

    /// The pause before a question about one of them is over.
    pub(super) fn ask_again(&mut self, registry: &Registry, token: Token) {
        let listener = self.listeners.iter_mut().find(|listener| listener.token == token);
        if let Some(Listener { socket, asked, .. }) = listener {
            let (socket, interest) = (socket.as_fd(), Listener::INTEREST);
            Questions::ask_again(asked, Registered { socket, registry, token, interest });
        }
    }

    /// When to try to accept again without being woken.
    pub(super) fn next_wake_up(&self, now: Timestamp) -> Timestamp {
        match self.policy.paused_until(now) {
            Timestamp::NEVER if self.is_ready() || !self.put_off.is_empty() => now,
            paused_until => paused_until,
        }
    }

    fn is_ready(&self) -> bool {
        self.listeners.iter().any(|listener| listener.ready)
    }

    /// One of those who were turned away has left.
    pub(super) fn note_rejected_gone(&mut self) {
        self.rejected_lingering -= 1;
    }

    pub(super) fn handle_descriptor_free(&mut self) {
        self.policy.handle_descriptor_free();
    }

    fn close(&mut self, registry: &Registry) {
        for listener in self.listeners.drain(..) {
            // The close alone does not end it where other processes have the socket too (epoll(7)).
            // It fails if there has been no event loop yet.
            let _ = registry.deregister(&mut SourceFd(&listener.socket.as_fd().as_raw_fd()));
        }
    }

    /// No event has announced those who came since the last one, and a pause is over.
    fn expect_clients(&mut self) {
        self.listeners.iter_mut().for_each(|listener| listener.ready = !listener.failed);
        self.policy.resume();
    }
}

impl<S: Service> Worker<'_, S> {
    pub(super) fn accept_clients(&mut self) {
        if !self.shared.accepts() {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.accept_one() {
                return;
            }
        }
    }

    /// Returns whether there may be more.
    fn accept_one(&mut self) -> bool {
        if !self.serve_who_waits() {
            return false;
        }
        let Listeners { listeners, policy, .. } = &mut self.listeners;
        let Some(index) = listeners.iter().position(|listener| listener.ready) else {
            return false;
        };
        let listener = &mut listeners[index];
        let observer = &*self.shared.observer;
        match policy.accept(self.now, observer, || listener.socket.accept()) {
            Accepted::Client((stream, peer)) => {
                listener.asked.handle_success();
                // It is another one's turn.
                listeners.rotate_left(index + 1);
                self.shared.prepare_accepted(stream.as_fd(), peer.family());
                self.place(stream, peer);
                true
            }
            Accepted::Drained => {
                listener.ready = false;
                let Listener { socket, token, asked, .. } = listener;
                let (token, interest) = (*token, Listener::INTEREST);
                let registry = self.poller.registry();
                let registered = Registered { socket: socket.as_fd(), registry, token, interest };
                self.questions.handle_would_block(asked, registered, self.now);
                self.listeners.is_ready()
            }
            Accepted::Interrupted => true,
            Accepted::Paused => false,
            Accepted::Failed(errno) => {
                listener.ready = false;
                listener.failed = true;
                self.shared.counters.note_listener_failed(errno);
                self.shared.handle.drain();
                false
            }
        }
    }

    /// Gives a client to the worker that has the fewest, or to a child, or turns it away.
    fn place(&mut self, stream: OwnedFd, peer: Peer) {
        // Starting children takes time, in which others end.
        self.tend_children();
        let Some(index) = self.shared.loads.place(self.shared.config.max_clients) else {
            return self.reject(stream, peer);
        };
        let id = self.shared.counters.next_connection();
        if let Some(parent) = self.role.parent() {
            let info = ClientInfo::new(id, stream.as_raw_fd(), peer);
            self.now = self.shared.now();
            let policy = &mut self.listeners.policy;
            return parent.serve(stream, info, self.shared, policy, self.now);
        }
        let client = HandedOver { stream, peer, id };
        if index == self.index {
            return self.welcome_one(client);
        }
        self.handoffs.hand_over(index, client);
    }

    /// Keeps a client that cannot be registered, as the backlog would, and pauses accepting.
    pub(super) fn put_off(&mut self, client: HandedOver, errno: i32) {
        if self.index == 0 {
            self.listeners.put_off.push(client);
            self.listeners.policy.handle_exhausted(self.now, errno, &*self.shared.observer);
        } else {
            // Accepting is the first worker's, and so is waiting with it.
            self.shared.loads.take_off(self.index);
            self.shared.loads.add(0);
            self.handoffs.hand_over(0, client);
        }
    }

    pub(super) fn tend_children(&mut self) {
        if let Some(parent) = self.role.parent() {
            parent.tend(self.shared, &mut self.listeners.policy, self.now);
        }
    }

    /// Once the pause is over, tries again to serve clients that were accepted and could not be
    /// served; returns whether none is left waiting.
    fn serve_who_waits(&mut self) -> bool {
        if let Some(parent) = self.role.parent() {
            return parent.start_waiting(self.shared, &mut self.listeners.policy, self.now);
        }
        if self.listeners.put_off.is_empty() {
            return true;
        }
        if self.listeners.policy.is_paused(self.now) {
            return false;
        }
        let put_off = std::mem::take(&mut self.listeners.put_off);
        self.welcome_all(put_off);
        if !self.listeners.put_off.is_empty() {
            return false;
        }
        self.listeners.policy.handle_success(&*self.shared.observer);
        true
    }

    fn reject(&mut self, stream: OwnedFd, peer: Peer) {
        self.shared.counters.note_rejected();
        self.listeners.policy.note_reject(self.now, peer, &*self.shared.observer);
        if self.listeners.rejected_lingering >= MAX_REJECTED_LINGERING {
            if peer.family() == Family::Ip {
                socket::reset_on_close(stream.as_fd());
            }
            return;
        }
        self.listeners.rejected_lingering += 1;
        self.now = self.shared.now();
        let client = Client::reject(Arc::clone(&self.shared.limits), peer, self.now);
        let registered = self.register(stream.as_fd());
        self.enter(stream, client, registered);
    }

    /// Begins the drain of all workers: takes all clients that are already connected, and no
    /// others; none at all from sockets that other processes go on with.
    pub(super) fn end_accepting(&mut self) {
        if let Some(parent) = self.role.parent() {
            // Before there are more of them: one is started for each client in the backlog, which
            // takes its time.
            parent.children.give_order(Order::Drain, self.now);
        }
        self.listeners.expect_clients();
        // Now or never.
        self.serve_who_waits();
        if self.shared.accepts() {
            self.accept_the_backlog();
        }
        self.listeners.close(self.poller.registry());
        let ended = self.shared.counters.ended_while_stopping();
        let active = self.shared.loads.total() as u64 + ended;
        self.shared.observer.observe(&Event::DrainStarted { active });
        self.handoffs.close();
    }

    fn accept_the_backlog(&mut self) {
        // More than the backlogs hold came later, and would hold the drain up.
        for _ in 0..self.listeners.listeners.len() * BACKLOG as usize {
            // A child may be started for each, which takes its time.
            if !self.accept_one() || self.shared.stop() == Stop::Cut {
                break;
            }
            self.reports.beat(self.shared, self.now);
        }
    }
}
