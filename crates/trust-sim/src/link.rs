//! A path with a peer at its far end, and what a program at the near end is told of it.

use std::time::Duration;

use crate::network::{Path, PathEvent, Side};
use crate::peer::{PeerEvent, SimulatedPeer};
use crate::script::ClientScript;

/// Something that happens to a link.
#[derive(Clone, Copy, Debug)]
pub enum LinkEvent {
    /// In the network, or in one of the kernels.
    Path(PathEvent),
    /// The peer acts.
    Peer(PeerEvent),
}

/// An edge of readiness that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// There is news.
    Ready,
    /// The socket was registered again.
    Asked,
}

/// A path and the peer at its far end.
#[derive(Debug)]
pub struct Link {
    /// The path.
    pub path: Path,
    /// The peer.
    pub peer: SimulatedPeer,
    /// The poll of the program has an edge of readiness to report.
    pub edge: bool,
    /// How many more are on their way to it.
    pub edges_coming: u32,
    /// A pause is running; after it the kernel is asked whether the socket is ready after all.
    pub question: bool,
}

impl Link {
    /// A connection that has just been established. Registering a socket reports what it is ready
    /// for, so it begins with an edge.
    pub fn new(script: &ClientScript, now: Duration) -> Link {
        let (path, peer) =
            (Path::new(script.path, script.seed, now), SimulatedPeer::new(script, now));
        Link { path, peer, edge: true, edges_coming: 0, question: false }
    }

    /// Handles an event of the path; returns the edge of readiness that it is to the program.
    pub fn handle_path(&mut self, event: PathEvent, now: Duration) -> Option<Edge> {
        self.path.handle(event, now);
        let edge = match event {
            PathEvent::Ready(Side::Client) => {
                self.peer.handle_ready(&self.path, now);
                return None;
            }
            PathEvent::Ready(Side::Server) => Edge::Ready,
            PathEvent::Asked => Edge::Asked,
            _ => return None,
        };
        self.edge = true;
        self.edges_coming -= 1;
        Some(edge)
    }

    /// Takes the events to be scheduled.
    pub fn collect(&mut self, mut schedule: impl FnMut(Duration, LinkEvent)) {
        for (at, event) in self.path.events.drain(..) {
            let is_edge = matches!(event, PathEvent::Ready(Side::Server) | PathEvent::Asked);
            self.edges_coming += u32::from(is_edge);
            schedule(at, LinkEvent::Path(event));
        }
        for (at, event) in self.peer.events.drain(..) {
            schedule(at, LinkEvent::Peer(event));
        }
    }
}
