//! A server under attack, and what must survive unharmed: another client, the descriptors, and the
//! service for later clients.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::event::Event;
use super::kernel::{self, Socket};
use super::model::Model;
use super::peer::Peer;
use super::server::Server;
use super::witness::Witness;

/// How many looks in a row must find the server waiting before it counts as stuck.
const LOOKS_AT_A_STUCK_SERVER: u32 = 5;

/// How many sends an overfilling peer tries before it looks whether the server is stuck.
const SENDS_BETWEEN_LOOKS: u32 = 64;

/// A server of one model; if it serves several clients at once, with a [`Witness`] beside the
/// attacker.
pub struct Scene {
    server: Server,
    witness: Option<Witness>,
    descriptors: usize,
}

impl Scene {
    #[track_caller]
    pub fn start(model: Model, flags: &[&str]) -> Scene {
        Scene::beside_a_witness(model, Server::of(model, flags))
    }

    /// Takes a server of this model that has had no client yet.
    #[track_caller]
    pub fn beside_a_witness(model: Model, server: Server) -> Scene {
        // The iterative server has time for only one client: the misbehaving one.
        let witness = model.serves_several().then(|| server.witness());
        let descriptors = server.descriptor_count();
        Scene { server, witness, descriptors }
    }

    /// For a server that also ends the connections of well-behaved clients, so there is no witness.
    #[track_caller]
    pub fn of_mortals(model: Model, flags: &[&str]) -> Scene {
        let server = Server::of(model, flags);
        let descriptors = server.descriptor_count();
        Scene { server, witness: None, descriptors }
    }

    /// Checks that the witness, if there is one, is served well.
    #[track_caller]
    pub fn others_are_well(&self) {
        if let Some(witness) = &self.witness {
            witness.is_well();
        }
    }

    /// The address of the witness, if there is one.
    pub fn witness_address(&self) -> Option<SocketAddr> {
        self.witness.as_ref().map(Witness::address)
    }

    /// What the kernel knows about the server's end of the connection to that peer.
    #[track_caller]
    pub fn socket_of(&self, peer: SocketAddr) -> Socket {
        let (SocketAddr::V4(server), SocketAddr::V4(peer)) = (self.address(), peer) else {
            panic!("peers come from 127.0.0.1, not from {peer}");
        };
        let socket = Socket::find(server, peer);
        socket.unwrap_or_else(|| panic!("the server has no connection to {peer}"))
    }

    /// Waits until the server has read everything that has arrived from the peer: over the loopback
    /// device, everything sent.
    #[track_caller]
    pub fn takes_all_of(&self, peer: &Peer) {
        kernel::wait_until("all bytes being read", || self.socket_of(peer.address()).unread == 0);
    }

    /// Waits until the server sleeps although that peer's bytes are waiting to be read: it owes
    /// answers that the kernel does not take.
    #[track_caller]
    pub fn is_stuck_with(&self, peer: SocketAddr) {
        self.is_stuck_unless(peer, || false);
    }

    /// Like [`Scene::is_stuck_with`], but also ends when `is_over` says that it can no longer
    /// happen.
    #[track_caller]
    pub fn is_stuck_unless(&self, peer: SocketAddr, is_over: impl Fn() -> bool) {
        let mut watch = StuckWatch::default();
        kernel::wait_until("the server being stuck", || is_over() || watch.is_stuck(self, peer));
    }

    /// Sends these bytes over and over, without reading, until the server is stuck. Returns the
    /// number of bytes sent.
    #[track_caller]
    pub fn overfills(&self, peer: &Peer, bytes: &[u8]) -> usize {
        let (mut watch, mut sent) = (StuckWatch::default(), 0);
        kernel::wait_until("the server being stuck", || {
            for _ in 0..SENDS_BETWEEN_LOOKS {
                sent += peer.sends_what_fits(&bytes[sent % bytes.len()..]);
            }
            watch.is_stuck(self, peer.address())
        });
        sent
    }

    /// Checks that the connection of that peer is closed for one of these reasons.
    #[track_caller]
    pub fn closes_with_any(&self, peer: SocketAddr, reasons: &[&str]) -> Event {
        let close = self.is_closed(peer);
        let reason = close.text("reason");
        assert!(reasons.contains(&reason), "closed for another reason, {close:?}");
        close
    }

    /// Ends the peer's connection with an orderly close, and checks that the server logs it as
    /// such.
    #[track_caller]
    pub fn sees_off(&self, mut peer: Peer) -> Event {
        peer.half_close();
        peer.receives_end();
        self.closes(peer.address(), "peer_fin")
    }

    /// Ends the server without checking what it did.
    pub fn gives_up(self) {
        let Scene { server, witness, .. } = self;
        // The witness must leave before the server is killed, or it would fail.
        if let Some(witness) = witness {
            witness.leaves();
        }
        drop(server);
    }

    /// Checks that nothing is left of the attack and that the server serves as before, and stops
    /// it. Returns everything that it logged.
    #[track_caller]
    pub fn ends(self) -> Vec<Event> {
        let Scene { server, witness, descriptors } = self;
        server.comes_back_to_descriptors(descriptors);
        if let Some(witness) = witness {
            witness.is_well();
            let address = witness.address();
            witness.leaves();
            server.closes(address, "peer_fin");
        }
        server.serves_the_next();
        server.stop()
    }
}

impl Deref for Scene {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

#[derive(Default)]
struct StuckWatch {
    last: Option<Socket>,
    looks: u32,
}

impl StuckWatch {
    /// A thread that had been woken to read would not be asleep, however busy the machine is.
    fn is_stuck(&mut self, scene: &Scene, peer: SocketAddr) -> bool {
        let socket = scene.socket_of(peer);
        let waits = socket.unread > 0 && scene.all_threads_are('S');
        let is_same = self.last.replace(socket) == Some(socket);
        self.looks = if waits && is_same { self.looks + 1 } else { 0 };
        self.looks >= LOOKS_AT_A_STUCK_SERVER
    }
}

/// Checks that a limit which began after `began` was not cut short.
#[track_caller]
pub fn lasted(began: Instant, limit: Duration) {
    let lasted = began.elapsed();
    assert!(lasted >= limit, "ended after {lasted:?}, before the limit of {limit:?}");
}

/// Bytes received and sent, frames received and sent, of a `client_close`.
#[track_caller]
pub fn totals(close: &Event) -> [u64; 4] {
    ["bytes_in", "bytes_out", "frames_in", "frames_out"].map(|key| close.count(key))
}
