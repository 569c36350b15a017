//! Hosts that vanish, come back, reboot or are unreachable.
//!
//! Client, router and server each have their own network. A host's faults are rules for its packets
//! in the router.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::case::Case;
use trust_testkit::event::{self, Event};
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::net::{Detour, Hosts, connection, unreachables_received};
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::server::Server;
use trust_testkit::witness::Witness;

pub(crate) const CASES: &[Case] = &[
    Case::new("host vanishes, idle or owed bytes", host_vanishes).alias(38),
    Case::new("path gone for three seconds", path_gone_for_three_seconds).alias(39),
    Case::new("host reboots, owed bytes", host_reboots).alias(40),
    Case::new("host unreachable, owed bytes", host_unreachable).alias(41),
];

/// EHOSTUNREACH, ECONNRESET and EAGAIN on Linux.
const EHOSTUNREACH: u64 = 113;
const ECONNRESET: u64 = 104;
const EAGAIN: u64 = 11;

/// A limit that a test can wait for. A witness is never silent for that long.
const TIMEOUT: Duration = Duration::from_millis(1500);
const SHORT_TIMEOUTS: [&str; 4] = ["--timeout", "1.5", "--linger-timeout", "0.3"];

/// A limit that does not matter: longer than any test here takes.
pub(super) const LONG_TIMEOUTS: [&str; 2] = ["--timeout", "60"];

/// An answer owed to a peer whose host has a problem.
const ANSWER: &[u8] = b"an answer that does not arrive";

fn host_vanishes(model: Model) {
    let site = Site::start(model, SHORT_TIMEOUTS);
    let began = Instant::now();
    let mut idle = site.peer();
    site.hosts.cut();
    let close = site.server.closes(idle.address(), "recv_timeout");
    assert_ended_in_time(&close, began);
    let timeout = site.server.event_about(idle.address(), "recv_timeout");
    assert_eq!(timeout.count("errno"), EAGAIN, "{timeout:?}");
    // The end was orderly: if the host comes back after all, it finds a FIN.
    assert_nothing_came(&idle);
    site.hosts.heal();
    idle.receives_end();
    idle.leave();
    site.is_well();

    let (began, owed) = site.peer_owed_an_answer(Detour::Silence);
    site.hosts.cut();
    let close = site.server.closes(owed.address(), "send_timeout");
    assert_ended_in_time(&close, began);
    let sent = close.count("bytes_out");
    assert_eq!(sent, 2 * frame(ANSWER).len() as u64, "{close:?}");
    let timeout = site.server.event_about(owed.address(), "send_timeout");
    assert_eq!(timeout.count("errno"), EAGAIN, "{timeout:?}");
    assert_nothing_came(&owed);
    site.hosts.turn_back_to(Hosts::CLIENT, Detour::Silence);
    site.hosts.heal();
    receives_reset(&owed);
    site.ends();
}

fn path_gone_for_three_seconds(model: Model) {
    const OUTAGE: Duration = Duration::from_secs(3);
    const FRAMES: usize = 40;
    let site = Site::start(model, LONG_TIMEOUTS);
    // When the path fails, an answer is in flight; and while it is down, frames are sent.
    let (_, mut peer) = site.peer_owed_an_answer(Detour::Silence);
    site.hosts.cut();
    site.hosts.turn_back_to(Hosts::CLIENT, Detour::Silence);
    let gone_since = Instant::now();
    let mut sending = peer.stream().try_clone().expect("a second descriptor");
    let sender = thread::spawn(move || {
        for number in 0..FRAMES {
            let bytes = frame(&pattern(20_000 + number));
            std::io::Write::write_all(&mut sending, &bytes).expect("send a frame");
        }
    });
    while let Some(left) = OUTAGE.checked_sub(gone_since.elapsed()) {
        thread::park_timeout(left);
    }
    assert_nothing_came(&peer);
    site.hosts.heal();

    peer.receives_frame(ANSWER);
    for number in 0..FRAMES {
        peer.receives_frame(&pattern(20_000 + number));
    }
    sender.join().expect("everything could be sent");
    peer.half_close();
    peer.receives_end();
    let close = site.server.closes(peer.address(), "peer_fin");
    assert_eq!(close.count("frames_out"), 2 + FRAMES as u64, "{close:?}");
    let expected = ["cmd_start", "server_start", "client_connect", "client_disconnect"];
    let of_children = ["child_start", "child_exit"];
    let expected_last = ["client_close", "signal_received", "drain_start", "drain_done"];
    let expected =
        [&expected[..], &expected_last, &of_children, &["server_stop", "cmd_finish"]].concat();
    for event in site.ends() {
        assert!(expected.contains(&event.name()), "the outage was logged, {event:?}");
    }
}

fn host_reboots(model: Model) {
    let site = Site::start(model, LONG_TIMEOUTS);
    let (_, peer) = site.peer_owed_an_answer(Detour::Silence);
    // The RST from destroying the connection is lost, as a crashed host never sends one.
    site.hosts.cut();
    site.hosts.client.forget_connections_to(site.address());
    let error = read(&peer).expect_err("the connection was destroyed");
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    site.hosts.turn_back_to(Hosts::CLIENT, Detour::Silence);
    site.hosts.heal();
    // The answer is retransmitted, to a host that does not know the connection.
    let reset = site.server.event_about(peer.address(), "client_reset");
    assert_eq!(reset.count("errno"), ECONNRESET, "{reset:?}");
    assert_eq!(reset.text("level"), "warn", "{reset:?}");
    site.server.closes(peer.address(), "client_reset");
    site.ends();
}

fn host_unreachable(model: Model) {
    let site = Site::start(model, SHORT_TIMEOUTS);
    let (began, peer) = site.peer_owed_an_answer(Detour::Unreachable);
    let close = site.server.closes(peer.address(), "client_unreachable");
    assert_ended_in_time(&close, began);
    let unreachable = site.server.event_about(peer.address(), "client_unreachable");
    assert_eq!(unreachable.count("errno"), EHOSTUNREACH, "{unreachable:?}");
    assert_eq!(unreachable.text("level"), "warn", "{unreachable:?}");
    assert_nothing_came(&peer);
    site.hosts.turn_back_to(Hosts::CLIENT, Detour::Unreachable);
    receives_reset(&peer);

    site.ends();

    // Owed answers survive an "unreachable" that passes before the deadline.
    let site = Site::start(model, LONG_TIMEOUTS);
    let before = site.hosts.server.inside(unreachables_received);
    let (_, mut peer) = site.peer_owed_an_answer(Detour::Unreachable);
    kernel::wait_until("the server's host being told", || {
        site.hosts.server.inside(unreachables_received) > before
    });
    site.hosts.turn_back_to(Hosts::CLIENT, Detour::Unreachable);
    peer.receives_frame(ANSWER);
    peer.half_close();
    peer.receives_end();
    site.server.closes(peer.address(), "peer_fin");
    site.ends();
}

/// Three hosts, with the server on one of them; and in models with several clients a well-behaved
/// client, on a host whose path never fails.
pub(super) struct Site {
    pub(super) hosts: Hosts,
    pub(super) server: Server,
    pub(super) witness: Option<Witness>,
    descriptors: usize,
}

impl Site {
    #[track_caller]
    pub(super) fn start<const N: usize>(model: Model, timeouts: [&str; N]) -> Site {
        let hosts = Hosts::create();
        let server = hosts.server.inside(|| Server::of(model, timeouts));
        let address = SocketAddr::from((Hosts::SERVER_FROM_ROUTER, server.port()));
        // The iterative model serves no one else meanwhile.
        let witness =
            model.serves_several().then(|| hosts.router.inside(|| Witness::connect(address)));
        if let Some(witness) = &witness {
            server.settles(witness.address());
        }
        let descriptors = server.descriptor_count();
        Site { hosts, server, witness, descriptors }
    }

    /// The server's address for other hosts.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from((Hosts::SERVER, self.server.port()))
    }

    /// A peer on the client's host that has had one frame echoed.
    #[track_caller]
    fn peer(&self) -> Peer {
        let mut peer = self.hosts.client.inside(|| Peer::connect(self.address()));
        peer.send_frame(ANSWER);
        peer.receives_frame(ANSWER);
        peer
    }

    /// A peer whose answer the server has sent and keeps retransmitting, because the way back is
    /// down; and a moment before that.
    #[track_caller]
    fn peer_owed_an_answer(&self, detour: Detour) -> (Instant, Peer) {
        let mut peer = self.peer();
        self.hosts.turn_away_from(Hosts::CLIENT, detour);
        let began = Instant::now();
        peer.send_frame(ANSWER);
        let (own_port, peer_port) = (self.server.port(), peer.address().port());
        self.hosts.server.inside(|| {
            kernel::wait_until("the server owing the answer", || {
                connection(own_port, peer_port).is_some_and(|end| end.unacknowledged > 0)
            });
        });
        (began, peer)
    }

    /// Checks that the server is in the same state as before, and serves.
    #[track_caller]
    pub(super) fn is_well(&self) {
        self.server.comes_back_to_descriptors(self.descriptors);
        match &self.witness {
            Some(witness) => witness.is_well(),
            None => self.hosts.server.inside(|| self.server.serves_the_next()),
        }
    }

    /// Checks that the server is well, and stops it; returns its log.
    #[track_caller]
    pub(super) fn ends(self) -> Vec<Event> {
        self.is_well();
        if let Some(witness) = self.witness {
            let address = witness.address();
            witness.leaves();
            self.server.closes(address, "peer_fin");
        }
        let events = self.server.stop();
        let reasons = event::named(&events, "client_close").len();
        assert_eq!(reasons, event::named(&events, "client_connect").len());
        events
    }
}

/// Checks that the connection did not end before its limit. That it ended is clear from the event.
#[track_caller]
fn assert_ended_in_time(close: &Event, began: Instant) {
    let waited = began.elapsed();
    assert!(waited >= TIMEOUT, "ended after {waited:?}, before the limit, {close:?}");
    assert!(close.number("duration_ms") >= TIMEOUT.as_secs_f64() * 1e3, "{close:?}");
}

/// Checks that neither a byte nor an end has reached the peer.
#[track_caller]
fn assert_nothing_came(peer: &Peer) {
    peer.stream().set_nonblocking(true).expect("set O_NONBLOCK");
    let outcome = peer.stream().peek(&mut [0]);
    peer.stream().set_nonblocking(false).expect("clear O_NONBLOCK");
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => (),
        came => panic!("something came through a path that is gone: {came:?}"),
    }
}

/// Checks that nothing comes but an RST.
#[track_caller]
fn receives_reset(peer: &Peer) {
    match read(peer) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (),
        other => panic!("RST expected, got {other:?}"),
    }
}

fn read(peer: &Peer) -> std::io::Result<usize> {
    let mut stream = peer.stream();
    stream.read(&mut [0; 1])
}
