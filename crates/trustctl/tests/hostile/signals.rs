//! Draining, cutting off, restarting.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::case::Case;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::program::Home;
use trust_testkit::scene::lasted;
use trust_testkit::server::{NO_FLAGS, Server};

pub(crate) const CASES: &[Case] = &[
    Case::new("signal while idle", signal_while_idle).alias(33),
    Case::new("SIGTERM under load", sigterm_under_load).alias(34).except(&[(
        Model::Inetd,
        "the backlog is the super-server's, and a program drains like a child of process",
    )]),
    Case::new("SIGTERM with a stuck peer", sigterm_with_a_stuck_peer).alias(35),
    Case::new("second signal", second_signal).alias(36),
    Case::new("fifty restarts under load", fifty_restarts)
        .alias(37)
        .except(&[(Model::Inetd, "the super-server listens, and it is not restarted")]),
];

fn signal_while_idle(model: Model) {
    let signals = [(Signal::TERM, "SIGTERM", 0), (Signal::INT, "SIGINT", 130)];
    for (signal, name, code) in signals {
        for is_ignored in [false, true] {
            let launch = move |home: &Home, arguments: &[OsString]| match is_ignored {
                false => home.trustctl(arguments),
                // As background jobs of scripts get them.
                true => home.trustctl_ignoring("INT TERM", arguments),
            };
            let server = Server::of_under(model, Home::new(), NO_FLAGS, launch);
            let mut idle = server.peer();
            let address = idle.address();
            idle.send_frame(b"before");
            idle.receives_frame(b"before");
            server.signal(signal);
            idle.receives_end();
            idle.leave();
            server.closes(address, "drain");
            let events = server.ends_with(code, &[]);
            let received = event::only(&events, "signal_received");
            assert_eq!(received.text("signal"), name);
            assert_eq!(received.text("action"), "shutdown");
            assert_eq!(event::only(&events, "drain_start").count("active"), 1);
            let done = event::only(&events, "drain_done");
            assert_eq!((done.count("drained"), done.count("cut")), (1, 0), "{done:?}");
            assert_eq!(event::only(&events, "cmd_finish").count("exit"), code as u64);
        }
    }
}

fn sigterm_under_load(model: Model) {
    const ROUNDS: usize = 4;
    /// Connected, with a frame sent, but certainly not accepted when the signal comes; more than an
    /// event loop accepts at once.
    const NEWCOMERS: usize = 100;
    let clients = if model.serves_several() { 12 } else { 4 };
    for _ in 0..ROUNDS {
        // Limits that do not expire while a busy machine starts as many processes as there may be.
        let server = Server::of(model, ["--timeout", "60", "--drain-timeout", "60"]);
        let load = Load::start(server.address(), clients);
        let answered = (frame(b"begun"), frame(b"before the signal"));
        let mut late = server.peer();
        late.send(&answered.0[..5]);
        late.is_received();
        load.promises_what_was_received();

        // A stopped server has accepted nothing, whatever its load.
        server.pause();
        let mut newcomers: Vec<Peer> = (0..NEWCOMERS).map(|_| server.peer()).collect();
        for newcomer in &mut newcomers {
            newcomer.send(&answered.1);
            newcomer.is_received();
        }
        load.ends_after_this();
        server.signal(Signal::TERM);
        server.resume();

        let start = server.wait_for_event("drain_start", |_| true, STEP_DEADLINE);
        late.send(&answered.0[5..]);
        let expected = (clients + 1 + NEWCOMERS) as u64;
        assert_eq!(start.count("active"), expected, "{start:?}");
        // The iterative model serves one after another, in this order; the load ends on its own.
        late.receives_to_end(&answered.0);
        late.leave();
        for mut newcomer in newcomers {
            newcomer.receives_to_end(&answered.1);
            newcomer.leave();
        }
        for (number, end) in load.join().into_iter().enumerate() {
            assert!(end.promised > 0, "client {number} sent nothing before the signal");
            assert!(end.is_orderly, "client {number} was reset, {end:?}");
        }
        let events = server.ends_with(0, &[]);
        let done = event::only(&events, "drain_done");
        assert_eq!((done.count("drained"), done.count("cut")), (expected, 0), "{done:?}");
        for close in event::named(&events, "client_close") {
            assert_eq!(close.text("reason"), "drain", "{close:?}");
            assert_eq!(close.count("frames_in"), close.count("frames_out"), "{close:?}");
        }
    }
}

/// How a peer can keep a server from ending.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stuck {
    InsideAFrame,
    WithoutReading,
    /// It was sent the end, and does not close.
    Lingering,
}

impl Stuck {
    #[track_caller]
    fn begin(self, server: &Server) -> Peer {
        let mut peer = Peer::connect_tiny(server.address());
        match self {
            Stuck::InsideAFrame => peer.send(&frame(b"never whole")[..7]),
            Stuck::WithoutReading => peer.send_frame(&pattern(65_536)),
            Stuck::Lingering => (),
        }
        peer.is_received();
        peer
    }
}

fn sigterm_with_a_stuck_peer(model: Model) {
    const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
    let flags = ["--drain-timeout", "0.5", "--linger-timeout", "60"];
    for stuck in [Stuck::InsideAFrame, Stuck::WithoutReading, Stuck::Lingering] {
        for (signal, signal_code) in [(Signal::TERM, None), (Signal::INT, Some(130))] {
            let server = Server::of(model, flags);
            let mut peer = stuck.begin(&server);
            server.event_about(peer.address(), "client_connect");
            // In the iterative model this one gets its turn when the stuck one is cut off.
            let mut idle = server.peer();
            if model == Model::Inetd {
                // Any signal ends a program that has only just started.
                server.event_about(idle.address(), "client_connect");
            }
            let began = Instant::now();
            server.signal(signal);
            idle.receives_end();
            let idle_address = idle.address();
            idle.leave();
            let cut = if stuck == Stuck::Lingering {
                peer.receives_end();
                server.closes(peer.address(), "drain");
                0
            } else {
                let close = server.closes(peer.address(), "drain_timeout");
                let timeout = server.event_about(peer.address(), "drain_timeout");
                assert_eq!(timeout.number("drain_timeout_sec"), 0.5, "{timeout:?}");
                assert_eq!(timeout.text("level"), "warn", "{timeout:?}");
                peer.is_reset();
                assert!(close.count("bytes_in") > 0, "{close:?}");
                1
            };
            lasted(began, DRAIN_TIMEOUT);
            server.closes(idle_address, "drain");
            drop(peer);
            let code = signal_code.unwrap_or(cut as i32);
            let events = server.ends_with(code, &[]);
            assert_eq!(event::drained_and_cut(&events), (2 - cut, cut), "{stuck:?}");
        }
    }
}

fn second_signal(model: Model) {
    let signals = [
        (Signal::TERM, Signal::TERM, 1),
        (Signal::TERM, Signal::INT, 1),
        (Signal::INT, Signal::TERM, 130),
    ];
    let flags = ["--drain-timeout", "600", "--linger-timeout", "600"];
    let flags = [&flags[..], &["--timeout", "600", "--frame-timeout", "600"]].concat();
    for (first, second, code) in signals {
        let server = Server::of(model, &flags);
        // The iterative model serves one of them, and the others wait.
        let mut inside = Stuck::InsideAFrame.begin(&server);
        server.event_about(inside.address(), "client_connect");
        let mut unread = Stuck::WithoutReading.begin(&server);
        let mut lingering = Stuck::Lingering.begin(&server);
        if model.serves_several() {
            server.event_about(unread.address(), "client_connect");
            server.event_about(lingering.address(), "client_connect");
        }
        server.signal(first);
        for peer in [&inside, &unread, &lingering] {
            drains(&server, peer);
        }
        if model.serves_several() {
            lingering.receives_end();
        }
        server.signal(second);
        server.closes(inside.address(), "second_signal");
        inside.is_reset();
        server.closes(unread.address(), "second_signal");
        unread.is_reset();
        let close = server.event_about(lingering.address(), "client_close");
        if model.serves_several() {
            assert_eq!(close.text("reason"), "drain", "{close:?}");
        }
        lingering.receives_end();
        let events = server.ends_with(code, &[]);
        for run in event::runs(&events) {
            let received = event::named(&run, "signal_received").into_iter();
            let actions: Vec<&str> = received.map(|event| event.text("action")).collect();
            assert_eq!(actions, ["shutdown", "cut"]);
        }
        assert_eq!(event::drained_and_cut(&events).1, 2);
        assert_eq!(event::named(&events, "client_close").len(), 3);
    }

    // The drain was cut short, even if nothing is left to be cut off.
    let server = Server::of(model, &flags);
    let mut lingering = Stuck::Lingering.begin(&server);
    server.event_about(lingering.address(), "client_connect");
    server.signal(Signal::TERM);
    lingering.receives_end();
    server.signal(Signal::TERM);
    server.closes(lingering.address(), "drain");
    let events = server.ends_with(1, &[]);
    assert_eq!(event::drained_and_cut(&events), (1, 0));
}

/// Waits until the server drains, or with several programs the one that serves that peer.
#[track_caller]
fn drains(server: &Server, peer: &Peer) {
    let connect = server.event_about(peer.address(), "client_connect");
    let is_its_own = |drain: &Event| drain.request_id() == connect.request_id();
    server.wait_for_event("drain_start", is_its_own, STEP_DEADLINE);
}

fn fifty_restarts(model: Model) {
    const RESTARTS: usize = 50;
    const CLIENTS: usize = 4;
    let port = port_that_nobody_is_given();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut server = server_on(port, model);
    let load = Load::start(address, CLIENTS);
    for restart in 0..=RESTARTS {
        load.promises_what_was_received();
        if restart == RESTARTS {
            load.ends_after_this();
        }
        let events = server.stop();
        assert_eq!(event::only(&events, "drain_done").count("cut"), 0);
        for close in event::named(&events, "client_close") {
            assert_eq!(close.text("reason"), "drain", "{close:?}");
        }
        if restart == RESTARTS {
            break;
        }
        // Clients that connect from now on reach the next server.
        load.forgets_who_was_served();
        server = server_on(port, model);
    }
    load.join();
    assert!(TcpStream::connect(address).is_err(), "there is a listener after the end");
}

#[track_caller]
fn server_on(port: u16, model: Model) -> Server {
    let home = Home::new();
    let launch =
        home.trustctl(["echo-server", "--port", &port.to_string(), "--model", model.name()]);
    Server::start_as(model, home, launch)
}

/// A free port below the range that the kernel assigns to outgoing connections: while the server's
/// port has no listener, no client may be assigned it.
#[track_caller]
fn port_that_nobody_is_given() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("a range");
    let lowest: u16 =
        range.split_whitespace().next().expect("two numbers").parse().expect("a port");
    let first = 1024 + (std::process::id() % u32::from(lowest - 1024)) as u16;
    (first..lowest)
        .chain(1024..first)
        .find(|port| TcpListener::bind(("::", *port)).is_ok())
        .expect("a free port")
}

/// Clients that send without pause, one conversation after another, and check what they get.
struct Load {
    ends: Arc<AtomicBool>,
    seats: Vec<Arc<Mutex<Option<Arc<Promise>>>>>,
    clients: Vec<thread::JoinHandle<ConversationEnd>>,
}

/// What is known about one conversation; both fields count bytes that its client sent.
#[derive(Default)]
struct Promise {
    /// How much the server's kernel had acknowledged at the last look.
    received: AtomicU64,
    /// How much it had acknowledged before the signal was sent. Every frame that begins within that
    /// must be answered.
    promised: AtomicU64,
}

#[derive(Debug)]
struct ConversationEnd {
    promised: u64,
    is_orderly: bool,
}

impl Load {
    fn start(server: SocketAddr, count: usize) -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let seats: Vec<_> = (0..count).map(|_| Arc::new(Mutex::new(None))).collect();
        let clients = seats
            .iter()
            .enumerate()
            .map(|(number, seat)| {
                let (ends, seat) = (Arc::clone(&ends), Arc::clone(seat));
                thread::spawn(move || converse_until(&ends, &seat, server, number))
            })
            .collect();
        Load { ends, seats, clients }
    }

    /// Waits until the server has received something from every client, and holds the server to
    /// everything received by now.
    #[track_caller]
    fn promises_what_was_received(&self) {
        for (number, seat) in self.seats.iter().enumerate() {
            let current = || seat.lock().unwrap_or_else(PoisonError::into_inner).clone();
            kernel::wait_until("something of every client being received", || {
                assert!(!self.clients[number].is_finished(), "client {number} failed");
                current().is_some_and(|promise| promise.received.load(Ordering::SeqCst) > 0)
            });
        }
        for seat in &self.seats {
            let seat = seat.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(promise) = &*seat {
                let received = promise.received.load(Ordering::SeqCst);
                promise.promised.store(received, Ordering::SeqCst);
            }
        }
    }

    /// Conversations that began before now no longer count: their server has ended.
    fn forgets_who_was_served(&self) {
        for seat in &self.seats {
            *seat.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// No client reconnects when the current conversations have ended.
    fn ends_after_this(&self) {
        self.ends.store(true, Ordering::SeqCst);
    }

    #[track_caller]
    fn join(mut self) -> Vec<ConversationEnd> {
        let results = std::mem::take(&mut self.clients).into_iter().map(thread::JoinHandle::join);
        let ends: Result<Vec<_>, _> = results.collect();
        let Ok(ends) = ends else {
            panic!("a client of the load did not get what it was promised")
        };
        ends
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends_after_this();
    }
}

/// Returns the end of the last conversation.
fn converse_until(
    ends: &AtomicBool,
    seat: &Mutex<Option<Arc<Promise>>>,
    server: SocketAddr,
    number: usize,
) -> ConversationEnd {
    let mut last = ConversationEnd { promised: 0, is_orderly: true };
    loop {
        match TcpStream::connect_timeout(&server, STEP_DEADLINE) {
            Ok(stream) => {
                let promise = Arc::new(Promise::default());
                *seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&promise));
                last = Conversation::begin(stream, promise, number).run();
            }
            // There is no listener, or no longer one.
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset),
                "{error}"
            ),
        }
        if ends.load(Ordering::SeqCst) {
            return last;
        }
    }
}

/// One connection of the load, with one frame after another until the server ends it.
///
/// Invariant: `unanswered` holds the bytes sent but not yet echoed, from byte `answered` of the
/// stream.
struct Conversation {
    stream: TcpStream,
    promise: Arc<Promise>,
    /// The number of the next frame.
    next: usize,
    /// The rest of the frame being sent.
    unsent: Vec<u8>,
    unanswered: VecDeque<u8>,
    answered: u64,
    sent: u64,
    /// First and last byte of each frame that is not yet answered.
    frames: VecDeque<(u64, u64)>,
}

impl Conversation {
    /// Bytes sent ahead of the answers.
    const WINDOW: usize = 48 * 1024;

    fn begin(stream: TcpStream, promise: Arc<Promise>, number: usize) -> Conversation {
        stream.set_nonblocking(true).expect("set O_NONBLOCK");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        Conversation {
            stream,
            promise,
            next: number,
            unsent: Vec::new(),
            unanswered: VecDeque::new(),
            answered: 0,
            sent: 0,
            frames: VecDeque::new(),
        }
    }

    fn run(mut self) -> ConversationEnd {
        let mut buffer = vec![0; 65_536];
        let is_orderly = loop {
            if self.unanswered.len() < Conversation::WINDOW && !self.send() {
                break false;
            }
            self.wait();
            match self.stream.read(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => self.compare(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                Err(_) => break false,
            }
        };
        let promised = self.promise.promised.load(Ordering::SeqCst);
        let is_whole = self.frames.front().is_none_or(|(first, _)| *first == self.answered);
        assert!(is_whole || !is_orderly, "ended inside an answer, after {}", self.answered);
        if let Some((first, _)) = self.frames.front() {
            assert!(
                *first >= promised,
                "not answered: the frame at byte {first}, of which the first byte had been \
                 received before the signal, as had {promised} bytes; orderly: {is_orderly}"
            );
        }
        ConversationEnd { promised, is_orderly }
    }

    /// Sends a piece that ends anywhere in a frame; returns false if the server is gone.
    fn send(&mut self) -> bool {
        if self.unsent.is_empty() {
            self.unsent = frame(&pattern(self.next * 7_919 % 5_000));
            self.next += 1;
            let first = self.sent;
            self.frames.push_back((first, first + self.unsent.len() as u64 - 1));
        }
        let piece = self.unsent.len().min(1 + self.next * 31 % 2_500);
        match self.stream.write(&self.unsent[..piece]) {
            Ok(count) => {
                self.unanswered.extend(self.unsent.drain(..count));
                self.sent += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(_) => return false,
        }
        let probe = trust_net::socket::probe(self.stream.as_fd());
        self.promise.received.store(self.sent - probe.unacknowledged, Ordering::SeqCst);
        // Reading the error clears it, so no later call would report it.
        probe.error.is_none()
    }

    /// Waits until there is something to do.
    fn wait(&self) {
        let can_send = self.unanswered.len() < Conversation::WINDOW;
        let interest = if can_send { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut waiting = [PollFd::new(&self.stream, interest)];
        let timeout = Timespec::try_from(2 * STEP_DEADLINE).expect("a deadline of seconds");
        let ready = poll(&mut waiting, Some(&timeout)).expect("poll a socket");
        assert!(ready > 0, "neither an answer nor an end after {} bytes", self.answered);
    }

    fn compare(&mut self, received: &[u8]) {
        let expected: Vec<u8> =
            self.unanswered.drain(..received.len().min(self.unanswered.len())).collect();
        assert!(expected == received, "a wrong echo after {} bytes", self.answered);
        self.answered += received.len() as u64;
        while self.frames.front().is_some_and(|(_, last)| *last < self.answered) {
            self.frames.pop_front();
        }
    }
}
