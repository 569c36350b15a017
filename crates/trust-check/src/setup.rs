//! What all cases of a run have in common.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use trust_cli::framing::Framing;
use trust_net::Address;
use trust_net::preface::ProxyPreface;

use crate::exchange::learned::Learned;
use crate::request::Request;
use crate::transcript::Transcript;
use crate::verdict::Verdict;

/// The longest payload of cases for which only "large" matters: more than kernels buffer by
/// default, and small enough for a slow path.
pub const LARGE_MAX: u64 = 4 * 1024 * 1024;

/// The limit of a server that takes any length.
pub const NO_LIMIT: u64 = u64::MAX;

// Many fields: one for each thing that cases go by.
/// What all cases of a run have in common.
#[derive(Debug)]
pub struct Setup {
    /// Where the server is; the first address that answered.
    pub address: Address,
    /// What each connection begins with, if with a PROXY header.
    pub preface: Option<ProxyPreface>,
    /// How it tells messages apart.
    pub framing: Framing,
    /// Whether little time is to be taken.
    pub is_quick: bool,
    /// Cases that are not tried.
    pub left_out: Vec<LeftOut>,
    /// What it is asked and answers; `None`: it sends every message back.
    pub exchanges: Option<Learned>,
    /// What of it could not be learned.
    pub unlearned: Option<Unlearned>,
    /// The longest payload that it takes, in bytes; [`NO_LIMIT`] if it takes any.
    pub max_frame: u64,
    /// Its timeout for silent clients, if the user said so: cases about time judge only then.
    pub timeout: Option<Duration>,
    /// How long an answer is waited for without any progress.
    pub patience: Duration,
    /// How long a server is left alone with a piece that the kernel of the first hop has
    /// acknowledged, or that was read from a unix socket.
    pub settle: Duration,
    /// What a RST means where a FIN would do.
    pub reset: OnReset,
    /// Growth of a server's resident memory that is no leak, in bytes.
    pub memory_allowance: u64,
    /// Decides all payloads.
    pub seed: u64,
    /// How many clients it serves at the same time, if the user said so; more are turned away.
    pub max_clients: Option<u64>,
    /// Whether it serves one client at a time, as the runner found.
    pub one_at_a_time: bool,
    /// Keeps new connections apart.
    pub rate: ConnectionPacer,
    /// Readable once the run is to end.
    pub stop: OwnedFd,
}

/// Exchanges that are not answered as they should be when they are sent in one piece.
#[derive(Debug)]
pub struct Unlearned {
    /// What is wrong with them.
    pub why: Verdict,
    /// What went over the wires to find out.
    pub transcript: Transcript,
    /// Whether no exchange is left to try cases with.
    pub is_all: bool,
}

/// Cases that are not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Patterns of their ids.
    pub patterns: &'static [&'static str],
    /// Why not.
    pub why: &'static str,
}

/// What a RST means where a FIN would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReset {
    /// It is as good.
    Pass,
    /// Allowed, but unwise: what was under way may be lost.
    Warn,
    /// A bug.
    Fail,
}

impl OnReset {
    /// The meaning of that name.
    pub fn parse(text: &str) -> Option<OnReset> {
        match text {
            "pass" => Some(OnReset::Pass),
            "warn" => Some(OnReset::Warn),
            "fail" => Some(OnReset::Fail),
            _ => None,
        }
    }
}

impl Setup {
    /// Whether the server is reached over TCP, and not over a unix socket.
    pub fn is_tcp(&self) -> bool {
        self.address.ip().is_some()
    }

    /// Whether it is known which messages are too long for the server. An echo server is said to
    /// have no limit, or a limit.
    pub fn has_limit(&self) -> bool {
        self.exchanges.as_ref().is_none_or(|learned| learned.protocol.max.is_some())
    }

    /// The longest payload that a frame of this server can declare and that it takes.
    pub fn payload_max(&self) -> u64 {
        match &self.framing {
            Framing::Length(format) => self.max_frame.min(format.max_payload()),
            Framing::Raw | Framing::Line => self.max_frame,
        }
    }

    /// The shortest payload.
    pub fn payload_min(&self) -> u64 {
        match &self.framing {
            Framing::Length(format) => format.min_payload(),
            Framing::Raw => 1,
            Framing::Line => 0,
        }
    }

    /// How long to wait for an end that is due at once: less than the server's timeout, if that is
    /// known, so that an end that only the timeout causes is told apart.
    pub fn prompt(&self) -> Duration {
        self.timeout.map_or(self.patience, |timeout| self.patience.min(timeout / 2))
    }

    /// As many clients as are wanted, or as the server serves at the same time.
    pub fn together(&self, wanted: usize) -> usize {
        self.max_clients.map_or(wanted, |most| wanted.min(most as usize))
    }

    /// The same, with room for one more.
    pub fn crowd(&self, wanted: usize) -> usize {
        self.together(wanted + 1).saturating_sub(1)
    }

    /// A short message.
    pub fn hello(&self) -> Request {
        match self.exchanges.as_ref().and_then(|it| Some((it, it.exchanges.first()?))) {
            Some((learned, first)) => Request::copy_of(first, learned),
            None => Request::echo(&self.framing, &vec![b'-'; self.payload_len(1)]),
        }
    }

    /// A payload length near the wanted one that the server takes.
    pub fn payload_len(&self, wanted: u64) -> usize {
        wanted.clamp(self.payload_min(), self.payload_max().min(LARGE_MAX)) as usize
    }
}

/// Keeps new connections apart, so that a server far away is not flooded, and counts them.
#[derive(Debug)]
pub struct ConnectionPacer {
    interval: Duration,
    next: Mutex<Option<Instant>>,
    connections: AtomicU64,
    open: AtomicU64,
    /// When clients left, of the last minute.
    left: Mutex<VecDeque<Instant>>,
    peak: AtomicU64,
    leaving_ms: AtomicU64,
    held_by_server: AtomicU64,
    /// The fewest clients that it was found to serve while others had to wait.
    served_at_once: AtomicU64,
    slow_connects: AtomicU64,
    refused: AtomicU64,
}

/// A connect that took this long met a full accept queue (listen(2)). Either its SYN was answered
/// only when it was sent again, after a second (RFC 6298, 2.1; later after 3 and 7), or the last
/// segment of the handshake was dropped along with what followed, until a kernel sent it again.
/// Paths that are this slow themselves are not meant to be checked.
pub const CONNECT_SLOW: Duration = Duration::from_millis(950);

/// How long a server has to notice that a client has left.
pub const ROOM_PAUSE: Duration = Duration::from_millis(250);

/// How long it is kept when a client left: longer than any answer is waited for.
const LEFT_MAX: Duration = Duration::from_secs(60);

/// How long to wait for the server's FIN when a client leaves, in milliseconds. Each time it does
/// not come, the next wait is half as long.
const LEAVING_MS: u64 = 512;

impl ConnectionPacer {
    /// At most this many new connections per second; `None`: no limit.
    pub fn new(per_second: Option<u64>) -> ConnectionPacer {
        let interval =
            per_second.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1) as u32);
        let next = Mutex::new(None);
        let [connections, open, peak, refused] = [(); 4].map(|()| AtomicU64::new(0));
        let leaving_ms = AtomicU64::new(LEAVING_MS);
        let held_by_server = AtomicU64::new(u64::MAX);
        let slow_connects = AtomicU64::new(0);
        ConnectionPacer {
            interval,
            next,
            connections,
            open,
            left: Mutex::default(),
            peak,
            leaving_ms,
            held_by_server,
            served_at_once: AtomicU64::new(u64::MAX),
            slow_connects,
            refused,
        }
    }

    /// Number of connects that found nothing that listens (`connect(2)`, ECONNREFUSED).
    pub fn refused_connects(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts one of them.
    pub fn count_refused_connect(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of connects that took as long as with a full accept queue.
    pub fn slow_connects(&self) -> u64 {
        self.slow_connects.load(Ordering::Relaxed)
    }

    /// Counts a connection that was made and how long that took; how many others are open.
    pub fn count_opened(&self, took: Duration) -> u64 {
        if took >= CONNECT_SLOW {
            self.count_slow_connect();
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let others = self.open.fetch_add(1, Ordering::Relaxed);
        self.peak.fetch_max(others + 1, Ordering::Relaxed);
        others
    }

    /// Counts a connect that was slow.
    pub fn count_slow_connect(&self) {
        self.slow_connects.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of one that was counted.
    pub fn count_closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let (now, mut left) = (Instant::now(), lock(&self.left));
        while left.front().is_some_and(|at| now - *at > LEFT_MAX) {
            left.pop_front();
        }
        left.push_back(now);
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The most that were open at the same time.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Those that are open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Those that are open now, and those of which the server may not have known at that time that
    /// they have left.
    pub fn open_or_left_by(&self, at: Instant) -> u64 {
        let counts = |left: &&Instant| **left + ROOM_PAUSE >= at;
        self.open() + lock(&self.left).iter().rev().take_while(counts).count() as u64
    }

    /// Notes that the server serves that number of clients at a time, and lets others wait.
    pub fn note_served_at_once(&self, count: u64) {
        self.served_at_once.fetch_min(count, Ordering::Relaxed);
    }

    /// How many clients the server serves at a time, if it lets others wait.
    pub fn served_at_once(&self) -> Option<u64> {
        Some(self.served_at_once.load(Ordering::Relaxed)).filter(|count| *count < u64::MAX)
    }

    /// Notes that a client was turned away beside this many others of ours, and served alone.
    pub fn note_turned_away(&self, beside: u64) {
        self.held_by_server.fetch_min(beside, Ordering::Relaxed);
    }

    /// The fewest clients of ours beside whom another was turned away, if one was.
    pub fn turned_away_beside(&self) -> Option<u64> {
        Some(self.held_by_server.load(Ordering::Relaxed)).filter(|held| *held < u64::MAX)
    }

    /// How long the server's FIN is waited for when a client leaves.
    pub fn patience_to_leave(&self) -> Duration {
        Duration::from_millis(self.leaving_ms.load(Ordering::Relaxed))
    }

    /// Notes whether the server's FIN came when a client left.
    pub fn note_leaving(&self, came: bool) {
        let now = self.leaving_ms.load(Ordering::Relaxed);
        self.leaving_ms.store(if came { LEAVING_MS } else { (now / 2).max(1) }, Ordering::Relaxed);
    }

    /// How long to wait before the next connection; counts it.
    pub fn take_turn(&self) -> Duration {
        let now = Instant::now();
        let mut next = lock(&self.next);
        let at = next.map_or(now, |next| next.max(now));
        *next = Some(at + self.interval);
        at - now
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
