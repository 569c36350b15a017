//! One client at a time, with blocking sockets.
//!
//! A thread that sleeps in `accept(2)` or `recv(2)` does not see that it is told to stop: those calls
//! are restarted after a signal (`signal(7)`). So every wait is a `poll(2)` on the socket and on a
//! descriptor that the [`crate::Handle`] makes readable; SO_RCVTIMEO and SO_SNDTIMEO remain as
//! a backstop. Bytes are moved by [`recv_exact`] and [`send_exact`], and the same core as in the event
//! loop decides what they mean. Once it is to stop, there is more than one client: the one that is being
//! served and those in the backlog, all of which may finish what they have begun. An event loop ends
//! them.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::net::SendFlags;
use socket2::SockRef;
use trust_wire::{CloseStep, Connection, During, Timestamp};

use crate::accept::{AcceptPolicy, Accepted};
use crate::client::Client;
use crate::desk;
use crate::event_loop;
use crate::exact::{ExactError, Stream, recv_exact, recv_some, send_exact};
use crate::observer::{ClientInfo, Event, Stats};
use crate::questions::PAUSE;
use crate::service::Service;
use crate::shared::Shared;
use crate::socket;
use crate::stop::Stop;
use crate::turn::receive_buffer_len;

/// What the server needs of the kernel, made before it starts: the descriptor that interrupts
/// waiting, the one that tells of acknowledgements, and the seat of the event loop that ends it.
pub(crate) struct Seat {
    wake_up: Arc<OwnedFd>,
    edges: OwnedFd,
    last: desk::Seat,
}

impl Seat {
    pub(crate) fn new() -> io::Result<Seat> {
        let wake_up = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let edges = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Seat { wake_up: Arc::new(wake_up), edges, last: desk::Seat::new()? })
    }

    pub(crate) fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let wake_up = Arc::clone(&self.wake_up);
        let wake_last = desk::waker(std::slice::from_ref(&self.last));
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
    seat: Seat,
    listener: TcpListener,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut server = Iterative {
        shared,
        wake_up: seat.wake_up,
        edges: seat.edges,
        listener,
        policy: AcceptPolicy::new(),
        doubt: Doubt::default(),
        stats_round: 0,
        next_beat: shared.pulse.next_beat(Timestamp::default()),
    };
    shared.announce();
    let mut unfinished = None;
    while unfinished.is_none()
        && let Some((stream, peer)) = server.next_client()?
    {
        unfinished = server.serve(stream, peer);
    }
    event_loop::drain(shared, seat.last, vec![server.listener], unfinished)
}

struct Iterative<'a, S: Service> {
    shared: &'a Shared<S>,
    wake_up: Arc<OwnedFd>,
    /// An epoll instance that reports a change of the connection that waits for its last
    /// acknowledgements.
    edges: OwnedFd,
    listener: TcpListener,
    policy: AcceptPolicy,
    doubt: Doubt,
    /// The last request for statistics that was answered.
    stats_round: u64,
    /// When the server has to show that it goes round.
    next_beat: Timestamp,
}

/// What to think of a poll that reports a socket as ready, after calls that said EAGAIN all the same. The second one
/// makes a pause: with the memory for TCP used up a socket is writable and takes nothing, and poll does not sleep.
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
type Unfinished<S> = (Client<<S as Service>::Session>, TcpStream);

impl<S: Service> Iterative<'_, S> {
    /// The next client; `None` when the server is to stop.
    fn next_client(&mut self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        // Somebody may be there without a wait.
        let mut is_ready = true;
        loop {
            self.contribute_stats(None);
            self.beat();
            if self.shared.stop() != Stop::No {
                return Ok(None);
            }
            let now = self.shared.now();
            let listener = &self.listener;
            let accepted = match is_ready {
                true => self.policy.accept(now, &*self.shared.observer, || listener.accept()),
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
            let until = until.min(self.next_beat);
            let waited = wait(listener.as_fd(), interest, &self.wake_up, until, self.shared);
            is_ready = is_paused
                || match waited {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {
                        self.shared.observer.observe(&Event::Interrupted { during: None });
                        false
                    }
                    // The kernel was short of something for a moment (poll(2)).
                    Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                    outcome => outcome?,
                };
        }
    }

    /// Serves one client to its end, or until the server is to stop.
    fn serve(&mut self, stream: TcpStream, peer: SocketAddr) -> Option<Unfinished<S>> {
        let shared = self.shared;
        let limits = &shared.limits;
        shared.prepare_accepted(SockRef::from(&stream));
        // The backstop; the deadlines proper are the core's, and the waits before the calls keep them.
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_read_timeout(limits.timeout);
        let _ = stream.set_write_timeout(limits.timeout);
        let info = ClientInfo {
            id: shared.counters.next_connection(),
            fd: stream.as_raw_fd(),
            peer: socket::canonical(peer),
        };
        let limits = Arc::clone(limits);
        let now = shared.now();
        let client = Client::accept(&shared.service, limits, info, &*shared.observer, now);
        let mut conversation = Conversation {
            server: self,
            client,
            stream,
            buffer: vec![0; receive_buffer_len(&shared.limits)],
            reply_buffer: Vec::new(),
            is_watched: false,
        };
        let end = conversation.run();
        let Conversation { client, stream, .. } = conversation;
        let Some(step) = end else { return Some((client, stream)) };
        if step == CloseStep::Reset {
            socket::reset_on_close(stream.as_fd());
        }
        client.close(stream.as_fd(), &*shared.observer, &shared.closed[0], shared.now());
        drop(stream);
        self.policy.handle_descriptor_free();
        self.doubt = Doubt::default();
        shared.loads.take_off(0);
        None
    }

    fn beat(&mut self) {
        let now = self.shared.now();
        if self.next_beat <= now {
            self.next_beat = self.shared.beat(0, now);
        }
    }

    fn contribute_stats(&mut self, current: Option<&Connection>) {
        let Some(round) = self.shared.stats.wanted(self.stats_round) else { return };
        self.stats_round = round;
        let mut stats = Stats::default();
        if let Some(connection) = current {
            stats.add_open(connection.phase(), connection.totals());
        }
        self.shared.contribute_stats(0, round, &stats);
    }
}

/// One client's turn.
struct Conversation<'a, 'b, S: Service> {
    server: &'a mut Iterative<'b, S>,
    client: Client<S::Session>,
    stream: TcpStream,
    buffer: Vec<u8>,
    reply_buffer: Vec<u8>,
    /// The server's `edges` report changes of the connection.
    is_watched: bool,
}

impl<S: Service> Conversation<'_, '_, S> {
    /// Serves until the connection is to be closed, and says how; `None` if the server is to stop.
    fn run(&mut self) -> Option<CloseStep> {
        let shared = self.server.shared;
        loop {
            self.server.contribute_stats(Some(&self.client.connection));
            self.server.beat();
            self.client.report_cause(&*shared.observer);
            let due = shared.now();
            let socket = self.stream.as_fd();
            match self.client.connection.poll_close(due, || socket::probe_sent(socket)) {
                Some(CloseStep::ShutdownSend) => {
                    socket::shutdown_send(socket, self.client.connection.kernel_patience());
                }
                Some(step) => return Some(step),
                None if shared.stop() != Stop::No => return None,
                None => self.exchange(),
            }
            // The core judges nothing over bytes that are still unread.
            let connection = &mut self.client.connection;
            if connection.poll_deadline() <= due {
                let mut probe = socket::probe(self.stream.as_fd());
                probe.asked_at = shared.now();
                connection.handle_deadline(due, probe);
            }
        }
    }

    /// Sends what is owed, else receives, or waits until there is something else to do.
    fn exchange(&mut self) {
        let connection = &self.client.connection;
        if connection.awaits_acknowledgement() {
            return self.await_acknowledgement();
        }
        let paused_until = self.server.doubt.paused_until(self.server.shared.now());
        if paused_until != Timestamp::NEVER {
            let until = paused_until.min(connection.poll_deadline());
            let socket = self.server.interruptible(&self.stream, until);
            if socket.wait(PollFlags::empty()).is_ok() {
                // It has failed meanwhile, and the next call says so.
                self.server.doubt = Doubt::default();
            }
            return;
        }
        match (connection.wants_send(), connection.wants_receive()) {
            (true, false) => self.send(connection.poll_deadline()),
            (false, _) => self.receive(),
            // Owes its last bytes, and discards what comes meanwhile.
            (true, true) => {
                let either = PollFlags::IN | PollFlags::OUT;
                let socket = self.server.interruptible(&self.stream, connection.poll_deadline());
                if socket.wait(either).is_ok() {
                    if is_ready(&self.stream, PollFlags::IN) {
                        self.receive();
                    }
                    self.send(Timestamp::default());
                }
            }
        }
    }

    /// Waits until the state of the connection changes, as it does when FIN is acknowledged, and
    /// discards what has come. A socket that is shut down is always ready, so the wait is for an
    /// edge (`epoll(7)`).
    fn await_acknowledgement(&mut self) {
        let shared = self.server.shared;
        let until = self.client.connection.poll_deadline().min(self.server.next_beat);
        let edges = self.server.edges.as_fd();
        if !std::mem::replace(&mut self.is_watched, true)
            && let Err(error) = watch_edges(edges, self.stream.as_fd())
        {
            return self.client.handle_io_error(&error, During::Send);
        }
        match wait(edges, PollFlags::IN, &self.server.wake_up, until, shared) {
            Ok(true) => take_edges(edges),
            // It is time to look at deadlines and at the stop flag.
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                shared.observer.observe(&Event::Interrupted { during: None });
            }
            // The kernel was short of something for a moment (poll(2)).
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return self.client.handle_io_error(&error, During::Send),
        }
        if self.client.connection.wants_receive() {
            self.discard();
        }
    }

    /// Receives what is there, and nothing of it counts any more.
    fn discard(&mut self) {
        match socket::receive(self.stream.as_fd(), &mut self.buffer) {
            Ok(0) => self.client.connection.handle_end_of_stream(),
            Ok(count) => {
                let now = self.server.shared.now();
                self.client.connection.handle_received(0, &self.buffer[..count], now);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => self.client.handle_io_error(&error, During::Receive),
        }
    }

    /// Receives what is there, or the exact rest of a frame that has begun.
    fn receive(&mut self) {
        let shared = self.server.shared;
        let connection = &self.client.connection;
        let mut socket = self.server.interruptible(&self.stream, connection.poll_deadline());
        let (count, outcome) = match connection.wanted() {
            Some(wanted) => {
                let wanted = wanted.min(self.buffer.len());
                let outcome = recv_exact(&mut socket, &mut self.buffer[..wanted]);
                (outcome.as_ref().map_or_else(ExactError::transferred, |()| wanted), outcome)
            }
            None => match recv_some(&mut socket, &mut self.buffer) {
                Ok(count) => (count, Ok(())),
                Err(error) => (0, Err(error)),
            },
        };
        let (arrived_at, would_block) = (socket.last_progress, socket.would_block);
        self.server.note_outcome(count, would_block);
        if count > 0 {
            let bytes = &self.buffer[..count];
            let received = self.client.connection.handle_received(0, bytes, arrived_at);
            // Everything is owed first and then sent by `send`.
            let keep = |_: &[IoSlice<'_>]| Ok(0);
            let observer = &*shared.observer;
            let clock = || shared.now();
            self.client.answer(&received, &mut self.reply_buffer, observer, clock, keep);
        }
        match outcome {
            Err(ExactError::Disconnected { .. }) => self.client.connection.handle_end_of_stream(),
            Err(error) => self.handle_error(error, During::Receive),
            Ok(()) => {}
        }
    }

    /// Sends what is owed, and waits for room until `until`.
    fn send(&mut self, until: Timestamp) {
        let mut socket = self.server.interruptible(&self.stream, until);
        let owed = self.client.connection.owed();
        let outcome = send_exact(&mut socket, owed);
        let sent = outcome.as_ref().map_or_else(ExactError::transferred, |()| owed.len());
        let (sent_at, would_block) = (socket.last_progress, socket.would_block);
        self.server.note_outcome(sent, would_block);
        if sent > 0 {
            self.client.handle_sent(sent, sent_at);
        }
        if let Err(error) = outcome {
            self.handle_error(error, During::Send);
        }
    }

    fn handle_error(&mut self, error: ExactError, during: During) {
        let source = match error {
            // It is time to look at deadlines and at the stop flag.
            ExactError::TimedOut { .. } => return,
            ExactError::Failed { source, .. } => source,
            ExactError::Reset { .. } => rustix::io::Errno::CONNRESET.into(),
            ExactError::Disconnected { .. } => rustix::io::Errno::PIPE.into(),
        };
        self.client.handle_io_error(&source, during);
    }
}

impl<S: Service> Iterative<'_, S> {
    /// The stream, with waits that end at `until` and when there is a stop to be seen.
    fn interruptible<'s>(
        &'s self,
        stream: &'s TcpStream,
        until: Timestamp,
    ) -> Interruptible<'s, S> {
        let until = until.min(self.next_beat);
        let last_progress = self.shared.now();
        Interruptible { stream, server: self, until, last_progress, would_block: false }
    }

    /// What came of receiving or sending.
    fn note_outcome(&mut self, transferred: usize, would_block: bool) {
        if transferred > 0 {
            self.doubt.handle_success();
        }
        if would_block {
            self.doubt.handle_would_block(self.shared.now());
        }
    }
}

/// A blocking socket that is waited for together with the descriptor that says "stop". A wait that
/// ends without readiness is a timeout.
struct Interruptible<'a, S: Service> {
    stream: &'a TcpStream,
    server: &'a Iterative<'a, S>,
    until: Timestamp,
    /// When a call last moved bytes.
    last_progress: Timestamp,
    /// A call said EAGAIN where poll had reported the socket as ready.
    would_block: bool,
}

impl<S: Service> Interruptible<'_, S> {
    fn wait(&self, interest: PollFlags) -> io::Result<()> {
        let shared = self.server.shared;
        match wait(self.stream.as_fd(), interest, &self.server.wake_up, self.until, shared)? {
            true => Ok(()),
            false => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn note_would_block(&mut self, outcome: io::Result<usize>) -> io::Result<usize> {
        outcome.inspect_err(|error| self.would_block |= error.kind() == ErrorKind::WouldBlock)
    }
}

impl<S: Service> Stream for Interruptible<'_, S> {
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        let mut stream = self.stream;
        let received = self.note_would_block(stream.read(buffer))?;
        self.last_progress = self.server.shared.now();
        Ok(received)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT)?;
        // A blocking send would sleep until all of it fits, deaf to the stop flag.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = rustix::net::send(self.stream, bytes, flags).map_err(io::Error::from);
        let sent = self.note_would_block(sent)?;
        self.last_progress = self.server.shared.now();
        Ok(sent)
    }

    fn handle_interrupt(&mut self) -> io::Result<()> {
        self.server.shared.observer.observe(&Event::Interrupted { during: None });
        Ok(())
    }
}

/// Whether the stream is ready for one of `interest`.
fn is_ready(stream: &TcpStream, interest: PollFlags) -> bool {
    let mut descriptors = [PollFd::new(stream, interest)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut descriptors, Some(&at_once)), Ok(1))
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

/// Waits until `socket` is ready (true), or until `until` or a wake-up (false).
fn wait<S: Service>(
    socket: BorrowedFd<'_>,
    interest: PollFlags,
    wake_up: &OwnedFd,
    until: Timestamp,
    shared: &Shared<S>,
) -> io::Result<bool> {
    let timeout = match until {
        Timestamp::NEVER => None,
        until => Some(Timespec::try_from(until.since(shared.now())).map_err(io::Error::other)?),
    };
    let mut descriptors =
        [PollFd::from_borrowed_fd(socket, interest), PollFd::new(wake_up, PollFlags::IN)];
    poll(&mut descriptors, timeout.as_ref())?;
    let [socket, woken] = descriptors.map(|descriptor| !descriptor.revents().is_empty());
    if woken {
        // Only clears it; what it says is in the stop flag.
        let _ = rustix::io::read(wake_up, &mut [0; 8]);
        return Ok(false);
    }
    Ok(socket)
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
