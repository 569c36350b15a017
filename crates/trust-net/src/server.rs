//! A server that runs a [`Service`].

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use trust_wire::connection::Totals;
use trust_wire::{Limits, Timestamp};

use crate::children::{Children, Launcher, Notices};
use crate::clock::Clock;
use crate::loads::Loads;
use crate::observer::{ClientInfo, Event, Observer, Stats};
use crate::pulse::Pulse;
use crate::service::Service;
use crate::socket::{self, AcceptedOptions};
use crate::stats::{ClosedCounters, StatsRequest};
use crate::stop::{Stop, StopFlag};
use crate::sync::{AtomicU64, Ordering};
use crate::{desk, event_loop, iterative};

/// How a server serves its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Model {
    /// All of them at once, from event loops.
    #[default]
    Event,
    /// One after the other; the next one waits in the backlog.
    Iterative,
    /// All of them at once, each from a process of its own that [`ServerConfig::launcher`] starts. The server is told of
    /// the end of its children by [`Handle::reap_children`]. It has one worker.
    Process,
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen: the first of these addresses that can be had.
    pub addresses: Vec<SocketAddr>,
    /// How clients are served.
    pub model: Model,
    /// What every connection is allowed.
    pub limits: Limits,
    /// Longest time for connections to finish after [`Handle::drain`]; zero cuts them at once.
    pub drain_timeout: Duration,
    /// How many clients are served at once.
    pub max_clients: usize,
    /// Threads that run event loops; at least one is used.
    pub workers: usize,
    /// How long an event loop asks for events without sleeping after the last one. A wake-up is most of the
    /// time that a single short message takes, but the core is busy meanwhile. Zero: it always sleeps. The
    /// iterative model always does.
    pub busy_poll: Duration,
    /// Starts the processes of [`Model::Process`]; the other models have no use for it.
    pub launcher: Option<Arc<dyn Launcher>>,
    /// Longest time between two [`Event::Alive`], which are only told while every worker goes round. `None`: nobody
    /// wants to know, and nobody wakes up for it.
    pub pulse: Option<Duration>,
}

impl ServerConfig {
    /// A server on all addresses of this host, with one event loop and the default limits.
    pub fn new(port: u16) -> ServerConfig {
        ServerConfig {
            addresses: socket::any_address(port),
            model: Model::Event,
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(10),
            max_clients: 1000,
            workers: 1,
            busy_poll: Duration::ZERO,
            launcher: None,
            pulse: None,
        }
    }
}

/// What a server did from start to stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Clients that were served.
    pub connections: u64,
    /// Clients that were turned away because all places were taken.
    pub rejected: u64,
    /// Bytes and frames of all connections.
    pub totals: Totals,
    /// Connections that ended in the orderly way, or by themselves, while the server was stopping.
    pub drained: u64,
    /// Connections that were cut while the server was stopping.
    pub cut: u64,
    /// The server was told a second time to stop before it was done.
    pub cut_short: bool,
    /// The errno with which the listening socket failed, if that is why the server stopped.
    pub listener_failed: Option<i32>,
}

/// A server that is listening.
pub struct Server<S: Service> {
    shared: Arc<Shared<S>>,
    engine: Engine,
}

enum Engine {
    Event(Vec<desk::Seat>, Vec<TcpListener>),
    Iterative(iterative::Seat, TcpListener),
    /// Accepting, and the children that serve.
    Process(desk::Seat, Vec<TcpListener>, Children),
    /// One connection that somebody else accepted.
    One(desk::Seat, TcpStream, ClientInfo),
}

impl Engine {
    /// What serves clients of these sockets.
    fn new(config: &ServerConfig, mut listeners: Vec<TcpListener>) -> io::Result<Engine> {
        Ok(match config.model {
            Model::Event => Engine::Event(desk::seats(config.workers.max(1))?, listeners),
            Model::Iterative => {
                assert_eq!(listeners.len(), 1, "one client at a time comes from one socket");
                Engine::Iterative(iterative::Seat::new()?, listeners.remove(0))
            }
            Model::Process => {
                let launcher = config.launcher.clone().ok_or(io::ErrorKind::InvalidInput)?;
                Engine::Process(desk::Seat::new()?, listeners, Children::new(launcher))
            }
        })
    }
}

/// Tells a running server to stop, from any thread.
#[derive(Clone)]
pub struct Handle {
    pub(crate) stop: Arc<StopFlag>,
    pub(crate) stats: Arc<StatsRequest>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) wake: Arc<dyn Fn() + Send + Sync>,
}

impl Handle {
    /// Stops accepting, finishes every frame whose first byte has been received by now, and ends all
    /// connections in the orderly way.
    pub fn drain(&self) {
        self.stop.raise(Stop::Drain);
        (self.wake)();
    }

    /// Cuts what is left.
    pub fn cut(&self) {
        self.stop.raise(Stop::Cut);
        (self.wake)();
    }

    /// Has the observer told of one [`Event::Stats`], soon. Requests that come before the last one is
    /// answered may share its answer.
    pub fn report_stats(&self) {
        self.stats.request();
        (self.wake)();
    }

    /// Has children reaped that have ended: to be called for every SIGCHLD. Nobody else may wait for children of this
    /// process.
    pub fn reap_children(&self) {
        self.notices.note_exit();
        (self.wake)();
    }

    /// Has children told that the log file is another one now.
    pub fn have_children_reopen_logs(&self) {
        self.notices.note_log_moved();
        (self.wake)();
    }
}

impl<S: Service> Server<S> {
    /// Listens. Clients wait in the backlog until [`Server::run`].
    ///
    /// # Errors
    ///
    /// What `socket(2)`, `bind(2)` and `listen(2)` report for the last of the addresses; out of
    /// descriptors for the event loops. `InvalidInput` for [`Model::Process`] without a launcher.
    ///
    /// # Panics
    ///
    /// If there is no address.
    pub fn bind(
        config: ServerConfig,
        service: S,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Server<S>> {
        let options = AcceptedOptions::new(&config.limits);
        let listener = socket::listen(&config.addresses, options, |socket| {
            service.configure_listener(socket)
        })?;
        let address = listener.local_addr()?;
        let engine = Engine::new(&config, vec![listener])?;
        Ok(Server::new(config, service, observer, engine, address, Backlog::Served))
    }

    /// A server of sockets that are listening already, and that others may listen on too, now or later: when it is
    /// told to stop, whoever waits in their backlogs is left to those. The addresses in `config` do not matter to it.
    ///
    /// The sockets get the options that accepted ones inherit, and become non-blocking, for everybody who has them:
    /// `accept(2)` knows no other way not to wait for a client whom somebody else has accepted.
    ///
    /// # Errors
    ///
    /// Out of descriptors for the event loops; what `setsockopt(2)` reports of a socket that is not one of TCP;
    /// `InvalidInput` for [`Model::Process`] without a launcher.
    ///
    /// # Panics
    ///
    /// If there is no socket, or more than one for [`Model::Iterative`].
    pub fn of_listeners(
        config: ServerConfig,
        service: S,
        observer: Arc<dyn Observer>,
        listeners: Vec<TcpListener>,
    ) -> io::Result<Server<S>> {
        let address = listeners.first().expect("at least one socket").local_addr()?;
        for listener in &listeners {
            let socket = SockRef::from(listener);
            socket::prepare(SockRef::from(listener), AcceptedOptions::new(&config.limits))?;
            service.configure_listener(&socket)?;
        }
        let engine = Engine::new(&config, listeners)?;
        Ok(Server::new(config, service, observer, engine, address, Backlog::Left))
    }

    /// A server of the one connection that somebody else accepted: [`Server::run`] ends when it has ended.
    /// The addresses, the model and the number of clients in `config` do not matter to it. `info` is what the
    /// observer is told.
    ///
    /// The socket need not be non-blocking, and is not made so: others may use it too.
    ///
    /// # Errors
    ///
    /// Out of descriptors for the event loop; what `getsockname(2)` reports of a socket that is not one of TCP.
    pub fn of_connection(
        config: ServerConfig,
        service: S,
        observer: Arc<dyn Observer>,
        stream: TcpStream,
        info: ClientInfo,
    ) -> io::Result<Server<S>> {
        let config = ServerConfig { workers: 1, max_clients: 1, ..config };
        let address = stream.local_addr()?;
        socket::prepare(SockRef::from(&stream), AcceptedOptions::new(&config.limits))?;
        let engine = Engine::One(desk::Seat::new()?, stream, info);
        Ok(Server::new(config, service, observer, engine, address, Backlog::Served))
    }

    fn new(
        config: ServerConfig,
        service: S,
        observer: Arc<dyn Observer>,
        engine: Engine,
        address: SocketAddr,
        backlog: Backlog,
    ) -> Server<S> {
        let wake = match &engine {
            Engine::Event(seats, _) => desk::waker(seats),
            Engine::Iterative(seat, _) => seat.waker(),
            Engine::Process(seat, ..) | Engine::One(seat, ..) => {
                desk::waker(std::slice::from_ref(seat))
            }
        };
        let workers = match &engine {
            Engine::Event(seats, _) => seats.len(),
            Engine::Iterative(..) | Engine::Process(..) | Engine::One(..) => 1,
        };
        let (stop, stats) = (Arc::new(StopFlag::default()), Arc::new(StatsRequest::new(workers)));
        let counters = Counters::default();
        if let Engine::One(..) = &engine {
            counters.next_connection();
        }
        let shared = Arc::new(Shared {
            limits: Arc::new(config.limits.clone()),
            loads: Loads::new(workers),
            pulse: Pulse::new(workers, config.pulse),
            backlog,
            config,
            address,
            service,
            observer,
            clock: Clock::start(),
            handle: Handle { stop, stats: Arc::clone(&stats), notices: Arc::default(), wake },
            stats,
            counters,
            closed: (0..workers).map(|_| ClosedCounters::default()).collect(),
        });
        Server { shared, engine }
    }

    /// What a test needs to drive the event loops of a server by hand.
    #[cfg(test)]
    pub(crate) fn into_event_loops(self) -> (Arc<Shared<S>>, Vec<desk::Seat>, Vec<TcpListener>) {
        match self.engine {
            Engine::Event(seats, listeners) => (self.shared, seats, listeners),
            _ => panic!("a server of another model"),
        }
    }

    /// Where the server listens, or its end of the one connection.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// What stops this server.
    pub fn handle(&self) -> Handle {
        self.shared.handle.clone()
    }

    /// Serves until it is told to stop and every connection has ended.
    ///
    /// # Errors
    ///
    /// Errors of the event loop itself, and threads that cannot be started; then there was no [`Event::Started`]. Those
    /// of connections are events.
    pub fn run(self) -> io::Result<Summary> {
        let shared = self.shared;
        match self.engine {
            Engine::Event(seats, listeners) => event_loop::run(&shared, seats, listeners)?,
            Engine::Iterative(seat, listener) => iterative::run(&shared, seat, listener)?,
            Engine::Process(seat, listeners, children) => {
                event_loop::run_with_children(&shared, seat, listeners, children)?;
            }
            Engine::One(seat, stream, info) => event_loop::serve_one(&shared, seat, stream, info)?,
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

/// What becomes of the clients in the backlog when a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backlog {
    /// They may finish what they have begun: nobody else will accept them.
    Served,
    /// They are left to whoever else has the listening socket.
    Left,
}

/// What all threads of a server share.
pub(crate) struct Shared<S: Service> {
    pub(crate) config: ServerConfig,
    pub(crate) address: SocketAddr,
    pub(crate) limits: Arc<Limits>,
    pub(crate) service: S,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) handle: Handle,
    pub(crate) loads: Loads,
    pub(crate) pulse: Pulse,
    pub(crate) backlog: Backlog,
    pub(crate) counters: Counters,
    /// What each worker has closed.
    pub(crate) closed: Vec<ClosedCounters>,
    pub(crate) stats: Arc<StatsRequest>,
    pub(crate) clock: Clock,
}

impl<S: Service> Shared<S> {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn stop(&self) -> Stop {
        self.handle.stop.load()
    }

    /// Tells that the server serves from now on, once nothing is left that could keep it from that.
    pub(crate) fn announce(&self) {
        self.observer.observe(&Event::Started { address: self.address });
    }

    /// Whether clients are accepted at this moment. Those in the backlog of a socket of its own are, also by a
    /// server that stops.
    pub(crate) fn accepts(&self) -> bool {
        self.backlog == Backlog::Served || self.stop() == Stop::No
    }

    /// Gives an accepted socket the options that it may not have inherited: those who came before a listening
    /// socket was handed to this server waited in its backlog without them.
    pub(crate) fn prepare_accepted(&self, socket: SockRef<'_>) {
        if self.backlog == Backlog::Left {
            // Fails for nobody who is still there.
            let _ = socket::prepare(socket, AcceptedOptions::new(&self.limits));
        }
    }

    /// A worker has gone round; says when it has to do so again.
    pub(crate) fn beat(&self, worker: usize, now: Timestamp) -> Timestamp {
        if self.pulse.beat(worker) {
            self.observer.observe(&Event::Alive);
        }
        self.pulse.next_beat(now)
    }

    /// A worker has ended.
    pub(crate) fn end_beating(&self, worker: usize) {
        if self.pulse.end(worker) {
            self.observer.observe(&Event::Alive);
        }
    }

    /// Puts in a worker's open connections, with those that it has closed, at the same moment; the last one
    /// of a round reports the sum.
    pub(crate) fn contribute_stats(&self, worker: usize, round: u64, open: &Stats) {
        let mut share = *open;
        self.closed[worker].add_to(&mut share);
        let Some(mut stats) = self.stats.contribute(worker, round, &share) else { return };
        stats.connections = stats.active() + stats.closed.iter().sum::<u64>();
        stats.rejected = self.counters.rejected.load(Ordering::Relaxed);
        stats.uptime = self.now().since(Timestamp::default());
        self.observer.observe(&Event::Stats(&stats));
    }
}

/// Counts that the threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    rejected: AtomicU64,
    drained: AtomicU64,
    cut: AtomicU64,
    /// 0: it did not fail.
    listener_failed: AtomicU64,
}

impl Counters {
    /// Counts a client and returns its number.
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn note_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_listener_failed(&self, errno: i32) {
        self.listener_failed.store(errno as u64, Ordering::Relaxed);
    }

    pub(crate) fn listener_failed(&self) -> bool {
        self.listener_failed.load(Ordering::Relaxed) != 0
    }

    /// A connection ended while the server was stopping.
    pub(crate) fn note_drained(&self, cut: bool) {
        let counter = if cut { &self.cut } else { &self.drained };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that have ended since the server was told to stop.
    pub(crate) fn ended_while_stopping(&self) -> u64 {
        self.drained.load(Ordering::Relaxed) + self.cut.load(Ordering::Relaxed)
    }

    pub(crate) fn summary(&self, totals: Totals, cut_short: bool) -> Summary {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Summary {
            connections: load(&self.connections),
            rejected: load(&self.rejected),
            totals,
            drained: load(&self.drained),
            cut: load(&self.cut),
            cut_short,
            listener_failed: match load(&self.listener_failed) {
                0 => None,
                errno => i32::try_from(errno).ok(),
            },
        }
    }
}
