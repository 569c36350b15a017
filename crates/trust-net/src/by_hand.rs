//! A server whose only worker goes round when its caller says so: for tests, and for counting
//! instructions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::Events;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use trust_wire::Timestamp;

use crate::event_loop::{EVENTS_PER_POLL, Worker};
use crate::handoff::Handoffs;
use crate::observer::Observer;
use crate::server::{Model, Server, ServerConfig};
use crate::service::Service;

/// A server on a port of its own, and its only worker.
pub struct ByHand<'a, S: Service> {
    pub(crate) worker: Worker<'a, S>,
    events: Events,
    address: SocketAddr,
}

/// Lets `drive` run the worker of a server with these settings. Its addresses and model are
/// ignored.
///
/// # Errors
///
/// Out of descriptors or ports.
pub fn by_hand<S: Service>(
    config: ServerConfig,
    service: S,
    observer: Arc<dyn Observer>,
    drive: impl FnOnce(&mut ByHand<'_, S>),
) -> io::Result<()> {
    let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
    let config = ServerConfig { addresses, workers: 1, model: Model::Event, ..config };
    let server = Server::bind(config, service, observer)?;
    let address = server.local_addr().ip().expect("it is one of TCP");
    let (shared, mut workers, listeners) = server.into_event_loops();
    let resources = workers.remove(0);
    let handoffs = Handoffs::new(vec![Arc::clone(&resources.handoff)]);
    let worker = Worker::alone(resources, listeners, &shared, &handoffs)?;
    drive(&mut ByHand { worker, events: Events::with_capacity(EVENTS_PER_POLL), address });
    Ok(())
}

impl<S: Service> ByHand<'_, S> {
    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Goes round once, without sleeping; returns whether anything was ready.
    ///
    /// # Errors
    ///
    /// Errors of the event loop itself.
    pub fn go_round(&mut self) -> io::Result<bool> {
        self.worker.go_round(&mut self.events, Timestamp::default())?;
        Ok(!self.events.is_empty())
    }

    /// Sleeps until the next round has something to do, at most for `longest`; returns whether it
    /// has.
    ///
    /// # Errors
    ///
    /// As `poll(2)`.
    pub fn wait_until_ready(&self, longest: Duration) -> io::Result<bool> {
        let longest = Timespec::try_from(longest).map_err(io::Error::other)?;
        let mut queue = [PollFd::new(self.worker.registry(), PollFlags::IN)];
        Ok(poll(&mut queue, Some(&longest))? > 0)
    }
}
