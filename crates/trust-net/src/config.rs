//! How a server is set up.

use std::sync::Arc;
use std::time::Duration;

use trust_wire::Limits;

use crate::address::Address;
use crate::children::Launcher;
use crate::socket;

/// How a server serves its clients.
#[derive(Clone, Debug, Default)]
pub enum Model {
    /// All of them at once, from event loops.
    #[default]
    Event,
    /// One after the other; the next one waits in the backlog.
    Iterative,
    /// All of them at once, each served by a process of its own that the launcher starts. The
    /// server learns that a child has ended from
    /// [`Handle::reap_children`](crate::Handle::reap_children). It has one worker.
    Process(Arc<dyn Launcher>),
}

/// How a server is set up.
///
/// ```
/// use std::time::Duration;
/// use trust_net::wire::{Limits, Mode};
/// use trust_net::{Address, ServerConfig, UnixName};
///
/// let config = ServerConfig {
///     addresses: vec![
///         ([127, 0, 0, 1], 9900).into(),
///         Address::Unix(UnixName::Abstract(b"example".to_vec())),
///     ],
///     limits: Limits { mode: Mode::Framed, ..Limits::default() },
///     workers: 2,
///     ..ServerConfig::new(9900)
/// };
/// assert_eq!(config.max_clients, 1000);
/// assert_eq!(config.drain_timeout, Duration::from_secs(8));
/// ```
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen: on all of these addresses, see [`listen`](crate::listening::listen).
    pub addresses: Vec<Address>,
    /// Permissions of the files of unix sockets (`chmod(2)`); `None`: what the umask leaves.
    pub socket_mode: Option<u32>,
    /// How clients are served.
    pub model: Model,
    /// What every connection is allowed.
    pub limits: Limits,
    /// Longest time for connections to finish after [`Handle::drain`](crate::Handle::drain); zero
    /// cuts them at once.
    pub drain_timeout: Duration,
    /// How many clients are served at once. Further ones are closed cleanly without being served
    /// ([`Reason::AtCapacity`](trust_wire::Reason::AtCapacity)).
    pub max_clients: usize,
    /// Threads that run event loops; at least one is used.
    pub workers: usize,
    /// How long an event loop polls without sleeping after the last event. A wake-up is most of the
    /// time that a single short message takes, but polling keeps the core busy. Zero: it always
    /// sleeps, as the iterative model does anyway.
    pub busy_poll: Duration,
    /// Longest time between two [`Event::Alive`](crate::observer::Event::Alive), which are reported
    /// only while every worker goes round. `None`: no one wants to know, and no worker wakes up for
    /// it.
    pub pulse: Option<Duration>,
}

/// Container runtimes kill ten seconds after SIGTERM. The rest of that is for the last connections
/// to be cut, and for a log to be written.
const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(8);

impl ServerConfig {
    /// A server on all addresses of this host, with one event loop and the default limits: 1000
    /// clients at once, eight seconds to drain. Port 0 is a free one, see
    /// [`Server::local_addr`](crate::Server::local_addr).
    pub fn new(port: u16) -> ServerConfig {
        ServerConfig {
            addresses: vec![socket::any_address(port).into()],
            socket_mode: None,
            model: Model::Event,
            limits: Limits::default(),
            drain_timeout: DRAIN_TIMEOUT_DEFAULT,
            max_clients: 1000,
            workers: 1,
            busy_poll: Duration::ZERO,
            pulse: None,
        }
    }
}
