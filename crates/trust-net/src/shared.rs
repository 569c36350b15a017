//! What all threads of a server share, whichever model serves its clients.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use socket2::SockRef;
use trust_wire::connection::Totals;
use trust_wire::{Limits, Timestamp};

use crate::address::{Address, Family};
use crate::children::Notices;
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::loads::Loads;
use crate::observer::{Event, Observer, Stats};
use crate::pulse::Pulse;
use crate::service::Service;
use crate::socket::{self, AcceptedOptions};
use crate::stats::{ClosedCounters, StatsRequest};
use crate::stop::{Stop, StopFlag};
use crate::sync::{AtomicU64, Ordering};

/// What a server did from start to stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Clients that were served.
    pub connections: u64,
    /// Clients that were turned away because all places were taken.
    pub rejected: u64,
    /// Bytes and frames of all connections.
    pub totals: Totals,
    /// Connections that ended with an orderly close, or by themselves, while the server was
    /// stopping.
    pub drained: u64,
    /// Connections that were cut while the server was stopping.
    pub cut: u64,
    /// The server was told a second time to stop before it was done.
    pub cut_short: bool,
    /// The errno with which the listening socket failed, if that is why the server stopped.
    pub listener_failed: Option<i32>,
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
    /// Stops accepting, finishes every frame whose first byte has been received by now, and ends
    /// all connections with an orderly close. What is left after
    /// [`ServerConfig::drain_timeout`](crate::ServerConfig::drain_timeout) is cut. A second call
    /// changes nothing.
    pub fn drain(&self) {
        self.stop.raise(Stop::Drain);
        (self.wake)();
    }

    /// Ends all connections at once, with RST where that cuts something off, whether or not the
    /// server is draining.
    pub fn cut(&self) {
        self.stop.raise(Stop::Cut);
        (self.wake)();
    }

    /// Has one [`Event::Stats`] reported soon. Requests that come before the last one is answered
    /// may share its answer.
    pub fn report_stats(&self) {
        self.stats.request();
        (self.wake)();
    }

    /// Reaps children that have ended: to be called for every SIGCHLD. Nothing else may wait for
    /// children of this process.
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

/// The clients that wait to be accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    /// As many as the kernel lets wait; `None` without a listening socket.
    pub(crate) granted: Option<u32>,
    pub(crate) at_stop: BacklogAtStop,
}

/// What becomes of the clients in the backlog when a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BacklogAtStop {
    /// They may finish what they have begun: no other process will accept them.
    Served,
    /// They are left to the other processes that have the listening socket.
    Left,
}

/// What all threads of a server share.
pub(crate) struct Shared<S: Service> {
    pub(crate) config: ServerConfig,
    /// Where the server listens, or its end of the one connection.
    pub(crate) addresses: Vec<Address>,
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
        let (addresses, backlog) = (&*self.addresses, self.backlog.granted);
        self.observer.observe(&Event::Started { addresses, backlog });
    }

    /// Whether clients are accepted at this moment. Those in the backlog of a server's own socket
    /// are, even while it stops.
    pub(crate) fn accepts(&self) -> bool {
        self.backlog.at_stop == BacklogAtStop::Served || self.stop() == Stop::No
    }

    /// Gives an accepted socket the options that it may not have inherited: clients that came
    /// before a listening socket was handed to this server waited in its backlog without them.
    pub(crate) fn prepare_accepted(&self, socket: BorrowedFd<'_>, family: Family) {
        if self.backlog.at_stop == BacklogAtStop::Left && family == Family::Ip {
            // Fails only for clients that are gone.
            let options = AcceptedOptions::new(&self.limits);
            let _ = socket::prepare(SockRef::from(&socket), options);
        }
    }
}

/// What a worker adds, each time that it goes round, to what only all of them can tell together.
pub(crate) struct RoundReports {
    worker: usize,
    /// The last request for statistics that the worker has contributed to.
    stats_round: u64,
    /// When the worker has to show that it goes round.
    next_beat: Timestamp,
}

impl RoundReports {
    pub(crate) fn new(worker: usize, pulse: &Pulse) -> RoundReports {
        RoundReports { worker, stats_round: 0, next_beat: pulse.next_beat(Timestamp::default()) }
    }

    pub(crate) fn next_beat(&self) -> Timestamp {
        self.next_beat
    }

    /// Shows that the worker goes round, if it is time to.
    pub(crate) fn beat<S: Service>(&mut self, shared: &Shared<S>, now: Timestamp) {
        if self.next_beat <= now {
            if shared.pulse.beat(self.worker) {
                shared.observer.observe(&Event::Alive);
            }
            self.next_beat = shared.pulse.next_beat(now);
        }
    }

    /// If statistics were asked for, adds the worker's open connections and those that it has
    /// closed, at the same moment; the last worker of a round reports the sum.
    pub(crate) fn contribute_stats<S: Service>(
        &mut self,
        shared: &Shared<S>,
        open: impl FnOnce() -> Stats,
    ) {
        if let Some(round) = shared.handle.stats.wanted(self.stats_round) {
            self.contribute(shared, round, open());
        }
    }

    /// The worker ends: nothing must wait for it from now on.
    pub(crate) fn end<S: Service>(&mut self, shared: &Shared<S>) {
        if shared.pulse.end(self.worker) {
            shared.observer.observe(&Event::Alive);
        }
        self.contribute(shared, u64::MAX, Stats::default());
    }

    fn contribute<S: Service>(&mut self, shared: &Shared<S>, round: u64, mut share: Stats) {
        self.stats_round = round;
        shared.closed[self.worker].add_to(&mut share);
        let sum = shared.handle.stats.contribute(self.worker, round, &share);
        let Some(mut stats) = sum else { return };
        stats.connections = stats.active() + stats.closed.iter().sum::<u64>();
        stats.rejected = shared.counters.rejected.load(Ordering::Relaxed);
        stats.uptime = shared.now().since(Timestamp::default());
        shared.observer.observe(&Event::Stats(&stats));
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
