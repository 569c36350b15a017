//! One client at a time.
//!
//! A thread that sleeps in `accept(2)` or `recv(2)` does not notice a request to stop: those calls
//! are restarted after a signal (`signal(7)`). So every wait is a `poll(2)` on the socket and on a
//! descriptor that the [`crate::Handle`] makes readable, and no other call waits. What a client
//! does when its socket is ready is what it does in the event loop. Once the server must stop,
//! there is more than one client: the one that is being served and those in the backlog, all of
//! which may finish what they have begun. An event loop ends them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::Errno;
use trust_wire::turn::{Question, Unread};
use trust_wire::{CloseStep, Connection, During, Readiness, Timestamp};

use crate::accept::{AcceptPolicy, Accepted};
use crate::address::{Family, Peer};
use crate::client::Client;
use crate::event_loop;
use crate::handoff;
use crate::listening::ListeningSocket;
use crate::observer::{ClientInfo, Event, Stats};
use crate::questions::PAUSE;
use crate::service::Service;
use crate::shared::{RoundReports, Shared};
use crate::socket;
use crate::stop::Stop;
use crate::turn::{Buffers, Endpoint, Next, SocketIo, take_turn};

/// What the server needs of the kernel, made before it starts: the descriptor that interrupts
/// waiting, those that tell of acknowledgements and of newcomers, and the resources of the event
/// loop that ends it.
pub(crate) struct IterativeResources {
    wake_up: Arc<OwnedFd>,
    edges: OwnedFd,
    arrivals: OwnedFd,
    last: handoff::WorkerResources,
}

impl IterativeResources {
    pub(crate) fn new() -> io::Result<IterativeResources> {
        let wake_up = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(IterativeResources {
            wake_up: Arc::new(wake_up),
            edges: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            arrivals: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            last: handoff::WorkerResources::new()?,
        })
    }

    pub(crate) fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let wake_up = Arc::clone(&self.wake_up);
        let wake_last = handoff::waker(std::slice::from_ref(&self.last));
        Arc::new(move || {
            // Fails only if it has been made readable 2^64 times and never read.
            let _ = rustix::io::write(&wake_up, &1u64.to_ne_bytes());
            wake_last();
        })
    }
}

/// Serves one client after the other until told to stop, and then those who are there, all at once.
pub(crate) fn run<S: Service>(
    shared: &Shared<S>,
    resources: IterativeResources,
    listeners: Vec<ListeningSocket>,
) -> io::Result<()> {
    for listener in &listeners {
        listener.set_nonblocking()?;
        let flags = epoll::EventFlags::IN;
        epoll::add(&resources.arrivals, listener, epoll::EventData::new_u64(0), flags)?;
    }
    let mut server = Iterative {
        shared,
        wake_up: resources.wake_up,
        edges: resources.edges,
        arrivals: resources.arrivals,
        buffers: Buffers::new(&shared.limits),
        listeners,
        policy: AcceptPolicy::default(),
        doubt: Doubt::default(),
        reports: RoundReports::new(0, &shared.pulse),
    };
    shared.announce();
    let mut unfinished = None;
    while unfinished.is_none()
        && let Some((stream, peer)) = server.next_client()?
    {
        unfinished = server.serve(stream, peer);
    }
    event_loop::drain(shared, resources.last, server.listeners, unfinished)
}

struct Iterative<'a, S: Service> {
    shared: &'a Shared<S>,
    wake_up: Arc<OwnedFd>,
    /// An epoll instance that reports a change of the connection that waits for its last
    /// acknowledgements.
    edges: OwnedFd,
    /// An epoll instance that is readable while somebody waits at one of the listening sockets.
    arrivals: OwnedFd,
    buffers: Buffers,
    listeners: Vec<ListeningSocket>,
    policy: AcceptPolicy,
    doubt: Doubt,
    reports: RoundReports,
}

/// What to make of a poll that reports a listening socket as ready, after calls that said EAGAIN
/// all the same. The second one makes a pause, because poll does not sleep.
#[derive(Debug, Default)]
struct Doubt {
    /// When a call last said so, since one succeeded.
    last: Option<Timestamp>,
    paused_until: Timestamp,
}

impl Doubt {
    fn handle_success(&mut self) {
        self.last = None;
    }

    fn handle_would_block(&mut self, now: Timestamp) {
        // One that is longer ago is another matter: somebody else was faster to accept, say.
        if self.last.is_some_and(|last| now < last + 2 * PAUSE) {
            self.paused_until = now + PAUSE;
        }
        self.last = Some(now);
    }

    /// [`Timestamp::NEVER`] if there is no pause.
    fn paused_until(&self, now: Timestamp) -> Timestamp {
        if now < self.paused_until { self.paused_until } else { Timestamp::NEVER }
    }
}

/// A client that was being served when the server was told to stop.
type Unfinished<S> = (Client<<S as Service>::Session>, OwnedFd);

impl<S: Service> Iterative<'_, S> {
    /// The next client; `None` when the server is to stop.
    fn next_client(&mut self) -> io::Result<Option<(OwnedFd, Peer)>> {
        // Somebody may be there without a wait.
        let mut is_ready = true;
        loop {
            self.report(None);
            if self.shared.stop() != Stop::No {
                return Ok(None);
            }
            let now = self.shared.now();
            let listeners = &mut self.listeners;
            let accepted = match is_ready {
                true => self.policy.accept(now, &*self.shared.observer, || accept_any(listeners)),
                false => Accepted::Drained,
            };
            let is_paused = matches!(accepted, Accepted::Paused);
            let (interest, until) = match accepted {
                Accepted::Client(client) => {
                    self.doubt.handle_success();
                    self.shared.loads.add(0);
                    return Ok(Some(client));
                }
                Accepted::Drained => {
                    if is_ready {
                        self.doubt.handle_would_block(now);
                    }
                    match self.doubt.paused_until(now) {
                        Timestamp::NEVER => (PollFlags::IN, Timestamp::NEVER),
                        until => (PollFlags::empty(), until),
                    }
                }
                Accepted::Interrupted => continue,
                // The listener is readable meanwhile, which is not to wake us.
                Accepted::Paused => (PollFlags::empty(), self.policy.paused_until(now)),
                Accepted::Failed(errno) => {
                    self.shared.counters.note_listener_failed(errno);
                    self.shared.handle.drain();
                    continue;
                }
            };
            let until = until.min(self.reports.next_beat());
            let waited = wait(self.arrivals.as_fd(), interest, &self.wake_up, until, self.shared)?;
            is_ready = is_paused || !waited.is_empty();
        }
    }

    /// Serves one client to its end, or until the server is to stop.
    fn serve(&mut self, stream: OwnedFd, peer: Peer) -> Option<Unfinished<S>> {
        let shared = self.shared;
        let limits = &shared.limits;
        shared.prepare_accepted(stream.as_fd(), peer.family());
        let id = shared.counters.next_connection();
        let info = ClientInfo::new(id, stream.as_raw_fd(), peer);
        let limits = Arc::clone(limits);
        let now = shared.now();
        let client = Client::accept(&shared.service, limits, info, &*shared.observer, now);
        let mut conversation = Conversation {
            server: self,
            client,
            stream,
            readiness: Readiness::default(),
            paused_until: Timestamp::default(),
            is_watched: false,
        };
        let end = conversation.run();
        let Conversation { client, stream, .. } = conversation;
        let Some(step) = end else { return Some((client, stream)) };
        if step == CloseStep::Reset && client.family() == Family::Ip {
            socket::reset_on_close(stream.as_fd());
        }
        client.close(stream.as_fd(), &*shared.observer, &shared.closed[0], shared.now());
        drop(stream);
        self.policy.handle_descriptor_free();
        shared.loads.take_off(0);
        None
    }

    /// Tells what there is to tell in each round, about the client that is being served too.
    fn report(&mut self, current: Option<&Connection>) {
        self.reports.contribute_stats(self.shared, || {
            let mut stats = Stats::default();
            if let Some(connection) = current {
                stats.add_open(connection.phase(), connection.totals());
            }
            stats
        });
        self.reports.beat(self.shared, self.shared.now());
    }
}

/// One client's time with the server.
struct Conversation<'a, 'b, S: Service> {
    server: &'a mut Iterative<'b, S>,
    client: Client<S::Session>,
    stream: OwnedFd,
    readiness: Readiness,
    /// Until when nothing is tried with a socket that is ready and takes nothing.
    paused_until: Timestamp,
    /// The server's `edges` report changes of the connection.
    is_watched: bool,
}

impl<S: Service> Conversation<'_, '_, S> {
    /// Serves until the connection is to be closed, and says how; `None` if the server is to stop.
    fn run(&mut self) -> Option<CloseStep> {
        let shared = self.server.shared;
        let mut next = Next::Wait;
        loop {
            self.server.report(Some(&self.client.connection));
            let due = shared.now();
            if next == Next::Wait {
                self.await_readiness();
            }
            next = self.take_turn();
            // The core judges nothing over bytes that are still unread.
            let family = self.client.family();
            let connection = &mut self.client.connection;
            if connection.poll_deadline() <= due {
                let mut probe = socket::probe_of(self.stream.as_fd(), family);
                probe.asked_at = shared.now();
                self.readiness.note_probe(&probe);
                connection.handle_deadline(due, probe);
                next = self.take_turn();
            }
            self.client.report_cause(&*shared.observer);
            match next {
                Next::Close(step) => return Some(step),
                _ if shared.stop() != Stop::No => return None,
                Next::Wait | Next::Turn => {}
            }
        }
    }

    fn take_turn(&mut self) -> Next {
        let Conversation { server, client, stream, readiness, paused_until, .. } = self;
        let endpoint = Waited { stream, paused_until };
        let (shared, family) = (server.shared, client.family());
        let mut io = SocketIo { shared, endpoint, family, now: shared.now() };
        take_turn(client, readiness, &mut io, &mut server.buffers)
    }

    /// Waits until the socket is ready for what the connection wants, or until there is something
    /// else to do.
    fn await_readiness(&mut self) {
        let connection = &self.client.connection;
        let mut until = connection.poll_deadline().min(self.server.reports.next_beat());
        if connection.awaits_acknowledgement() {
            return self.await_acknowledgement(until);
        }
        let mut interest = PollFlags::empty();
        if self.readiness.is_to_be_asked() && self.server.shared.now() < self.paused_until {
            until = until.min(self.paused_until);
        } else {
            if self.readiness.is_to_be_asked() {
                self.readiness.ask_again();
            }
            interest.set(PollFlags::IN, connection.wants_receive());
            interest.set(PollFlags::OUT, connection.wants_send());
        }
        let (socket, wake_up) = (self.stream.as_fd(), &self.server.wake_up);
        match wait(socket, interest, wake_up, until, self.server.shared) {
            Ok(ready) if ready.intersects(PollFlags::ERR | PollFlags::HUP) => {
                self.readiness.note(Unread::ToTheEnd, true);
            }
            Ok(ready) => {
                let is_readable = ready.contains(PollFlags::IN);
                let unread = if is_readable { Unread::Bytes } else { Unread::Nothing };
                self.readiness.note(unread, ready.contains(PollFlags::OUT));
            }
            Err(error) => self.client.handle_io_error(&error, During::Receive),
        }
    }

    /// Waits until the state of the connection changes, as it does when FIN is acknowledged, and
    /// discards what has arrived. A socket that is shut down is always ready, so the wait is for an
    /// edge (`epoll(7)`).
    fn await_acknowledgement(&mut self, until: Timestamp) {
        let edges = self.server.edges.as_fd();
        if !std::mem::replace(&mut self.is_watched, true)
            && let Err(error) = watch_edges(edges, self.stream.as_fd())
        {
            return self.client.handle_io_error(&error, During::Send);
        }
        match wait(edges, PollFlags::IN, &self.server.wake_up, until, self.server.shared) {
            Ok(ready) if ready.is_empty() => {}
            Ok(_) => take_edges(edges),
            Err(error) => self.client.handle_io_error(&error, During::Send),
        }
        self.readiness.note(Unread::Bytes, false);
    }
}

/// A stream that is waited for with `poll(2)`, which reports what is ready each time it is asked.
struct Waited<'a> {
    stream: &'a OwnedFd,
    paused_until: &'a mut Timestamp,
}

impl AsFd for Waited<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Endpoint for Waited<'_> {
    fn ask(&mut self, question: Question, now: Timestamp) {
        match question {
            // The next wait does.
            Question::Now => {}
            Question::Later => *self.paused_until = now + PAUSE,
        }
    }
}

/// A client of one of the sockets, whose turn it is last next time.
fn accept_any(listeners: &mut [ListeningSocket]) -> io::Result<(OwnedFd, Peer)> {
    for _ in 0..listeners.len() {
        listeners.rotate_left(1);
        match listeners[listeners.len() - 1].accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
    Err(Errno::AGAIN.into())
}

/// Makes `edges` readable whenever the socket's readiness changes, also if it was ready before.
fn watch_edges(edges: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
    let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    Ok(epoll::add(edges, socket, epoll::EventData::new_u64(0), flags)?)
}

fn take_edges(edges: BorrowedFd<'_>) {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut event = [MaybeUninit::uninit()];
    // What happened is for the connection to ask.
    let _ = epoll::wait(edges, &mut event, Some(&at_once));
}

/// Waits until `socket` is ready, and returns for what: nothing at `until`, after a wake-up and
/// after a signal.
fn wait<S: Service>(
    socket: BorrowedFd<'_>,
    interest: PollFlags,
    wake_up: &OwnedFd,
    until: Timestamp,
    shared: &Shared<S>,
) -> io::Result<PollFlags> {
    let timeout = match until {
        Timestamp::NEVER => None,
        until => Some(Timespec::try_from(until.since(shared.now())).map_err(io::Error::other)?),
    };
    let mut descriptors =
        [PollFd::from_borrowed_fd(socket, interest), PollFd::new(wake_up, PollFlags::IN)];
    match poll(&mut descriptors, timeout.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => {
            shared.observer.observe(&Event::Interrupted { during: None });
            return Ok(PollFlags::empty());
        }
        // The kernel was short of something for a moment (poll(2)).
        Err(Errno::AGAIN) => return Ok(PollFlags::empty()),
        Err(error) => return Err(error.into()),
    }
    let [ready, woken] = descriptors.map(|descriptor| descriptor.revents());
    if !woken.is_empty() {
        // Only clears it; what it says is in the stop flag.
        let _ = rustix::io::read(wake_up, &mut [0; 8]);
        return Ok(PollFlags::empty());
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Calls in a second of which each says EAGAIN, while poll reports readiness every millisecond.
    fn calls_in_a_second(mut after_each: impl FnMut(&mut Doubt, u64)) -> usize {
        let (mut doubt, mut calls) = (Doubt::default(), 0);
        for ms in 0..1000 {
            let now = Timestamp::from_start(Duration::from_millis(ms));
            if doubt.paused_until(now) == Timestamp::NEVER {
                calls += 1;
                doubt.handle_would_block(now);
                after_each(&mut doubt, ms);
            }
        }
        calls
    }

    #[test]
    fn a_socket_that_is_ready_and_takes_nothing_is_tried_ten_times_a_second() {
        assert_eq!(calls_in_a_second(|_, _| {}), 11);
    }

    #[test]
    fn one_refusal_between_successes_makes_no_pause() {
        assert_eq!(calls_in_a_second(|doubt, _| doubt.handle_success()), 1000);
    }
}
