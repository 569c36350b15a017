//! What one client did and saw, and when.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use trust_sim::script::ClientScript;

use super::watch::Span;

/// A receive buffer, in bytes, that never makes the kernel stingy. With a smaller one, windows
/// close and open at times that only the two kernels know.
const ROOMY: usize = 4_096;

/// What passes even the smallest buffers without a stop, in bytes.
const SMALL_UPLOAD: usize = 500;

/// How many lines to keep of what a client did.
const LINES_MAX: usize = 300;

/// How the client saw its connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    OfStream,
    Error,
}

/// A call, and the total number of bytes after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) span: Span,
    pub(crate) total: usize,
}

/// A temporary failure of its path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) begun: Span,
    /// The end according to the script, until it has really ended.
    pub(crate) over: Span,
    /// A router reports it to the server.
    pub(crate) unreachable: bool,
}

impl Outage {
    /// The longest time that it can have lasted.
    pub(crate) fn length(&self) -> Duration {
        self.over.to.saturating_sub(self.begun.from)
    }
}

/// What one client did and saw.
pub(crate) struct History {
    pub(crate) upload: Vec<u8>,
    pub(crate) address: SocketAddr,
    pub(crate) connected: Option<Span>,
    pub(crate) sent: Vec<Progress>,
    /// Receives; each span starts when nothing was there for the last time.
    pub(crate) read: Vec<Progress>,
    pub(crate) last_dry: Duration,
    /// When it closed its sending side, or both.
    pub(crate) fin: Option<Span>,
    /// It did so and went on reading.
    pub(crate) half_closed: bool,
    /// When it closed with RST.
    pub(crate) reset: Option<Span>,
    /// The time from which its kernel may answer with RST.
    pub(crate) may_reset: Option<Span>,
    /// When its path or its host first failed.
    pub(crate) disturbed: Option<Span>,
    pub(crate) outage: Option<Outage>,
    pub(crate) vanished: bool,
    /// It did something that can lose it answers.
    pub(crate) is_careless: bool,
    /// It reads everything immediately, apart from `not_reading`.
    pub(crate) reads_freely: bool,
    /// When it stopped reading, and when it resumed, if it did.
    pub(crate) not_reading: Vec<(Duration, Option<Duration>)>,
    /// It has not stopped reading for good.
    pub(crate) reads_on: bool,
    /// When it did anything that a server can notice.
    pub(crate) active: Vec<Duration>,
    pub(crate) is_failed: bool,
    pub(crate) end: Option<(End, Duration)>,
    /// Bytes that the server's kernel had just before the server was told to stop.
    pub(crate) acknowledged_at_signal: usize,
    /// Echoed bytes that differ from those sent.
    pub(crate) wrong_echo: Option<String>,
    pub(crate) lines: Vec<String>,
}

impl History {
    pub(crate) fn new(upload: Vec<u8>, script: &ClientScript) -> History {
        let is_roomy = script.path.client_receive_buffer >= ROOMY || upload.len() <= SMALL_UPLOAD;
        History {
            reads_freely: is_roomy && script.read_gap.is_zero(),
            upload,
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            connected: None,
            sent: vec![],
            read: vec![],
            last_dry: Duration::ZERO,
            fin: None,
            half_closed: false,
            reset: None,
            may_reset: None,
            disturbed: None,
            outage: None,
            vanished: false,
            is_careless: false,
            not_reading: vec![],
            reads_on: true,
            active: vec![],
            is_failed: false,
            end: None,
            acknowledged_at_signal: 0,
            wrong_echo: None,
            lines: vec![],
        }
    }

    pub(crate) fn sent_total(&self) -> usize {
        self.sent.last().map_or(0, |progress| progress.total)
    }

    pub(crate) fn read_total(&self) -> usize {
        self.read.last().map_or(0, |progress| progress.total)
    }

    /// Bytes that it had certainly passed to its kernel by then, with all calls returned.
    pub(crate) fn sent_by(&self, at: Duration) -> usize {
        self.sent.iter().rev().find(|sent| sent.span.to <= at).map_or(0, |sent| sent.total)
    }

    /// Bytes that it may have passed to its kernel by then.
    pub(crate) fn maybe_sent_by(&self, at: Duration) -> usize {
        self.sent.iter().rev().find(|sent| sent.span.from <= at).map_or(0, |sent| sent.total)
    }

    /// Bytes that it had read by then.
    pub(crate) fn read_by(&self, at: Duration) -> usize {
        self.read.iter().rev().find(|read| read.span.to <= at).map_or(0, |read| read.total)
    }

    /// Whether its path and its host had no fault until then.
    pub(crate) fn is_healthy_until(&self, at: Duration) -> bool {
        self.disturbed.is_none_or(|span| span.from > at)
    }

    /// Whether it read everything immediately throughout.
    pub(crate) fn reads_freely_during(&self, from: Duration, to: Duration) -> bool {
        let is_in_it = |(stopped, began): &(Duration, Option<Duration>)| {
            *stopped <= to && began.is_none_or(|began| began >= from)
        };
        let has_closed = self.may_reset.is_some_and(|span| span.from <= to);
        let has_stopped = self.not_reading.iter().any(is_in_it);
        self.reads_freely && !has_stopped && (!has_closed || self.end.is_some())
    }

    /// The same, from its beginning.
    pub(crate) fn reads_freely_until(&self, at: Duration) -> bool {
        self.reads_freely_during(Duration::ZERO, at)
    }

    /// The last time before `at` that it did anything that a server can notice.
    pub(crate) fn active_before(&self, at: Duration) -> Duration {
        let calls = self.sent.iter().chain(&self.read).map(|progress| progress.span.to);
        let connected = self.connected.map(|span| span.to);
        let others = self.active.iter().copied().chain(connected);
        calls.chain(others).filter(|active| *active <= at).max().unwrap_or_default()
    }

    pub(crate) fn take_echo(&mut self, echo: &[u8], span: Span) {
        let start = self.read_total();
        let total = start + echo.len();
        if self.upload.get(start..total) != Some(echo) && self.wrong_echo.is_none() {
            let count = echo.len();
            self.wrong_echo = Some(format!("{count} bytes from byte {start} on are not its own"));
        }
        let span = Span { from: self.last_dry, to: span.to };
        self.read.push(Progress { span, total });
        self.note(span.to, &format!("has read {total} bytes"));
    }

    pub(crate) fn stop_reading(&mut self, now: Duration) {
        if self.reads_on {
            self.not_reading.push((now, None));
        }
        self.reads_on = false;
    }

    pub(crate) fn start_reading(&mut self, now: Duration) {
        if let Some((_, began @ None)) = self.not_reading.last_mut() {
            *began = Some(now);
        }
        self.reads_on = true;
        self.active.push(now);
    }

    pub(crate) fn note_disturbance(&mut self, span: Span) {
        self.disturbed.get_or_insert(span);
    }

    pub(crate) fn note(&mut self, now: Duration, what: &str) {
        if self.lines.len() < LINES_MAX {
            self.lines.push(format!("{:>9.4} {what}", now.as_secs_f64()));
        }
    }
}
