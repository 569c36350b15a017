//! A server that runs a [`Service`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use socket2::{SockRef, Socket};

use crate::address::{Address, Family};
use crate::children::Children;
use crate::clock::Clock;
use crate::listening::{self, BindError, ListeningSocket};
use crate::loads::Loads;
use crate::observer::{ClientInfo, Event, Observer, Stats};
use crate::pulse::Pulse;
use crate::service::Service;
use crate::shared::{Backlog, BacklogAtStop, Counters, Shared};
use crate::socket::{self, AcceptedOptions};
use crate::stats::{ClosedCounters, StatsRequest};
use crate::stop::{Stop, StopFlag};
use crate::{event_loop, handoff, iterative};

pub use crate::config::{Model, ServerConfig};
pub use crate::shared::{Handle, Summary};

/// A server that is listening.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{Shutdown, TcpStream};
/// use std::sync::Arc;
/// use std::thread;
/// use trust_net::service::Echo;
/// use trust_net::{Server, ServerConfig};
///
/// // Port 0: a free one, which the server knows once it listens.
/// let addresses = vec![([127, 0, 0, 1], 0).into()];
/// let config = ServerConfig { addresses, ..ServerConfig::new(0) };
/// let server = Server::bind(config, Echo, Arc::new(()))?;
/// let address = server.local_addr().ip().expect("a TCP address");
/// let handle = server.handle();
/// let serving = thread::spawn(move || server.run());
///
/// let mut client = TcpStream::connect(address)?;
/// client.write_all(b"hello\n")?;
/// client.shutdown(Shutdown::Write)?;
/// let mut echo = String::new();
/// client.read_to_string(&mut echo)?;
/// assert_eq!(echo, "hello\n");
///
/// handle.drain();
/// let summary = serving.join().expect("the server does not panic")?;
/// assert_eq!((summary.connections, summary.totals.bytes_in, summary.cut), (1, 6, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server<S: Service> {
    shared: Arc<Shared<S>>,
    engine: Engine,
}

enum Engine {
    Event(Vec<handoff::WorkerResources>, Vec<ListeningSocket>),
    Iterative(iterative::IterativeResources, Vec<ListeningSocket>),
    /// Accepting, and the children that serve.
    Process(handoff::WorkerResources, Vec<ListeningSocket>, Children),
    /// One connection that somebody else accepted.
    One(handoff::WorkerResources, OwnedFd, ClientInfo),
}

impl Engine {
    /// What serves clients of these sockets.
    fn new(config: &ServerConfig, listeners: Vec<ListeningSocket>) -> io::Result<Engine> {
        Ok(match &config.model {
            Model::Event => Engine::Event(handoff::resources(config.workers.max(1))?, listeners),
            Model::Iterative => Engine::Iterative(iterative::IterativeResources::new()?, listeners),
            Model::Process(launcher) => {
                let children = Children::new(Arc::clone(launcher));
                Engine::Process(handoff::WorkerResources::new()?, listeners, children)
            }
        })
    }

    /// The smallest backlog of its sockets; `None` if it has none, or the kernel does not say.
    fn granted_backlog(&self) -> Option<u32> {
        let listeners = match self {
            Engine::Event(_, listeners)
            | Engine::Iterative(_, listeners)
            | Engine::Process(_, listeners, _) => listeners.as_slice(),
            Engine::One(..) => &[],
        };
        listeners.iter().filter_map(ListeningSocket::granted_backlog).min()
    }
}

fn addresses_of(listeners: &[ListeningSocket]) -> Vec<Address> {
    listeners.iter().map(|listener| listener.address().clone()).collect()
}

impl<S: Service> Server<S> {
    /// Listens. Clients wait in the backlog until [`Server::run`].
    ///
    /// # Errors
    ///
    /// What `socket(2)`, `bind(2)` and `listen(2)` report for one of the addresses, see
    /// [`listening::listen`]; out of descriptors for the event loops.
    ///
    /// # Panics
    ///
    /// If there is no address.
    pub fn bind(
        config: ServerConfig,
        service: S,
        observer: Arc<dyn Observer>,
    ) -> Result<Server<S>, BindError> {
        let options = AcceptedOptions::new(&config.limits);
        let configure = |socket: &Socket| service.configure_listener(socket);
        let listeners =
            listening::listen(&config.addresses, options, config.socket_mode, configure)?;
        let addresses = addresses_of(&listeners);
        let engine = Engine::new(&config, listeners)?;
        Ok(Server::new(config, service, observer, engine, addresses, BacklogAtStop::Served))
    }

    /// A server of sockets that are listening already, and that other processes may listen on too,
    /// now or later: when it is told to stop, it leaves the clients in their backlogs to those. The
    /// addresses in `config` are ignored.
    ///
    /// The sockets get the options that accepted ones inherit. They also become non-blocking, for
    /// every process that has them: `accept(2)` has no other way not to wait for a client that
    /// another process has accepted.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use std::sync::Arc;
    /// use trust_net::service::Echo;
    /// use trust_net::{Server, ServerConfig};
    ///
    /// // As a service manager hands it over.
    /// let listener = TcpListener::bind(("127.0.0.1", 0))?;
    /// let address = listener.local_addr()?;
    ///
    /// let config = ServerConfig::new(0);
    /// let server = Server::of_listeners(config, Echo, Arc::new(()), vec![listener.into()])?;
    /// assert_eq!(server.local_addr().ip(), Some(address));
    ///
    /// // Told to stop before it runs, it stops at once.
    /// server.handle().drain();
    /// assert_eq!(server.run()?.connections, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Out of descriptors for the event loops; what `getsockname(2)` and `setsockopt(2)` report of
    /// a socket that is neither one of TCP nor a unix socket.
    ///
    /// # Panics
    ///
    /// If there is no socket.
    pub fn of_listeners(
        config: ServerConfig,
        service: S,
        observer: Arc<dyn Observer>,
        listeners: Vec<OwnedFd>,
    ) -> io::Result<Server<S>> {
        assert!(!listeners.is_empty(), "at least one socket");
        let listeners = listeners.into_iter().map(ListeningSocket::inherited);
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        for listener in &listeners {
            if listener.address().family() == Family::Ip {
                socket::prepare(SockRef::from(listener), AcceptedOptions::new(&config.limits))?;
            }
            service.configure_listener(&SockRef::from(listener))?;
        }
        let addresses = addresses_of(&listeners);
        let engine = Engine::new(&config, listeners)?;
        Ok(Server::new(config, service, observer, engine, addresses, BacklogAtStop::Left))
    }

    /// A server of one connection that was accepted elsewhere: [`Server::run`] returns when it has
    /// ended. The addresses, the model and the number of clients in `config` are ignored. `info` is
    /// what the observer is told.
    ///
    /// The socket need not be non-blocking, and is not made so: others may use it too.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::{Shutdown, TcpListener, TcpStream};
    /// use std::os::fd::AsRawFd;
    /// use std::sync::Arc;
    /// use trust_net::observer::ClientInfo;
    /// use trust_net::service::Echo;
    /// use trust_net::{Server, ServerConfig};
    ///
    /// let listener = TcpListener::bind(("127.0.0.1", 0))?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// client.write_all(b"hello\n")?;
    /// client.shutdown(Shutdown::Write)?;
    ///
    /// let (stream, peer) = listener.accept()?;
    /// let info = ClientInfo::new(1, stream.as_raw_fd(), peer.into());
    /// let config = ServerConfig::new(0);
    /// let server = Server::of_connection(config, Echo, Arc::new(()), stream.into(), info)?;
    /// assert_eq!(server.run()?.totals.bytes_out, 6);
    ///
    /// let mut echo = String::new();
    /// client.read_to_string(&mut echo)?;
    /// assert_eq!(echo, "hello\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Out of descriptors for the event loop; what `getsockname(2)` reports of a socket that is
    /// neither one of TCP nor a unix socket.
    pub fn of_connection(
        config: ServerConfig,
        service: S,
        observer: Arc<dyn Observer>,
        stream: OwnedFd,
        info: ClientInfo,
    ) -> io::Result<Server<S>> {
        let config = ServerConfig { workers: 1, max_clients: 1, ..config };
        let addresses = vec![socket::local_address(stream.as_fd())?];
        match info.peer.family() {
            Family::Ip => {
                let options = AcceptedOptions::new(&config.limits);
                socket::prepare(SockRef::from(&stream), options)?;
            }
            Family::Unix => SockRef::from(&stream).set_out_of_band_inline(true)?,
        }
        let engine = Engine::One(handoff::WorkerResources::new()?, stream, info);
        Ok(Server::new(config, service, observer, engine, addresses, BacklogAtStop::Served))
    }

    fn new(
        config: ServerConfig,
        service: S,
        observer: Arc<dyn Observer>,
        engine: Engine,
        addresses: Vec<Address>,
        at_stop: BacklogAtStop,
    ) -> Server<S> {
        let (wake, workers) = match &engine {
            Engine::Event(resources, _) => (handoff::waker(resources), resources.len()),
            Engine::Iterative(resources, _) => (resources.waker(), 1),
            Engine::Process(resources, ..) | Engine::One(resources, ..) => {
                (handoff::waker(std::slice::from_ref(resources)), 1)
            }
        };
        let stop = Arc::new(StopFlag::default());
        let stats = Arc::new(StatsRequest::new(workers));
        let counters = Counters::default();
        if let Engine::One(..) = &engine {
            counters.next_connection();
        }
        let shared = Arc::new(Shared {
            limits: Arc::new(config.limits.clone()),
            loads: Loads::new(workers),
            pulse: Pulse::new(workers, config.pulse),
            backlog: Backlog { granted: engine.granted_backlog(), at_stop },
            config,
            addresses,
            service,
            observer,
            clock: Clock::start(),
            handle: Handle { stop, stats, notices: Arc::default(), wake },
            counters,
            closed: (0..workers).map(|_| ClosedCounters::default()).collect(),
        });
        Server { shared, engine }
    }

    /// What it takes to drive the event loops of a server by hand.
    ///
    /// # Panics
    ///
    /// If it is a server of another model.
    pub(crate) fn into_event_loops(
        self,
    ) -> (Arc<Shared<S>>, Vec<handoff::WorkerResources>, Vec<ListeningSocket>) {
        match self.engine {
            Engine::Event(resources, listeners) => (self.shared, resources, listeners),
            _ => panic!("a server of another model"),
        }
    }

    /// The first address that the server listens on, or its end of the one connection.
    pub fn local_addr(&self) -> &Address {
        &self.shared.addresses[0]
    }

    /// What stops this server, also before it runs.
    pub fn handle(&self) -> Handle {
        self.shared.handle.clone()
    }

    /// Serves until it is told to stop and every connection has ended.
    ///
    /// # Errors
    ///
    /// Errors of the event loop itself, and threads that cannot be started; then there was no
    /// [`Event::Started`]. Errors of connections are events.
    pub fn run(self) -> io::Result<Summary> {
        let shared = self.shared;
        match self.engine {
            Engine::Event(resources, listeners) => event_loop::run(&shared, resources, listeners)?,
            Engine::Iterative(resources, listeners) => {
                iterative::run(&shared, resources, listeners)?;
            }
            Engine::Process(resources, listeners, children) => {
                event_loop::run_with_children(&shared, resources, listeners, children)?;
            }
            Engine::One(resources, stream, info) => {
                event_loop::serve_one(&shared, resources, stream, info)?
            }
        }
        let mut closed = Stats::default();
        shared.closed.iter().for_each(|counters| counters.add_to(&mut closed));
        let summary = shared.counters.summary(closed.totals, shared.stop() == Stop::Cut);
        let (drained, cut) = (summary.drained, summary.cut);
        // A server of one connection ends with it, told or not.
        if shared.stop() != Stop::No {
            shared.observer.observe(&Event::DrainDone { drained, cut });
        }
        Ok(summary)
    }
}
