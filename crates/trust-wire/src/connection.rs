//! One connection of a server: its states, what it owes, its deadlines and its end.
//!
//! The caller does the I/O and reports it with the `handle_*` methods; the `poll_*` methods say
//! what to do next. A connection that owes bytes is not read from. That is the only back-pressure:
//! what it owes never exceeds the answer to one receive.

mod ending;
mod introduction;
mod opening;
mod terms;
mod unsettled;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use crate::decoder::{DecodeEnd, Decoded, decode_in_place};
use crate::disconnect::{Disconnect, During, ErrnoClass, Reason};
use crate::frame::U32Be;
use crate::limits::{Limits, Mode};
use crate::time::Timestamp;

pub use self::terms::{CloseStep, Phase, Probe, Totals};
use self::unsettled::{State, Unsettled};

/// How many times per limit the caller is asked for a [`Probe`] while bytes are unacknowledged. A
/// stall is noticed after at least one limit and at most one limit and a fourth.
pub const PROBES_PER_LIMIT: u32 = 4;

/// The whole frames, or raw bytes, that one receive brought in.
#[derive(Debug)]
pub enum Received<'a> {
    /// Nothing to answer.
    Nothing,
    /// Whole frames.
    Frames(Decoded<'a>),
    /// Raw bytes.
    Raw(&'a [u8]),
}

/// One connection of a server.
///
/// Invariants: while `owed` is not empty, nothing is decoded; `outstanding <= totals.bytes_out`,
/// unless it is memory; the cause of the end is set exactly once before the connection is closed,
/// except that an orderly cause is replaced by a failure while owed bytes are still being sent, or
/// by a limit that passes before everything is acknowledged. While the peer may still acknowledge
/// something, only a RST closes the connection.
///
/// A [`Turn`](crate::Turn) makes these calls for a socket. By hand, an echo and its end are:
///
/// ```
/// use std::sync::Arc;
/// use trust_wire::{CloseStep, Connection, Limits, Probe, Reason, Received, Timestamp};
///
/// let now = Timestamp::default();
/// let mut connection = Connection::new(Arc::new(Limits::default()), now);
///
/// let Received::Frames(decoded) = connection.handle_received(0, b"\0\0\0\x02hi", now) else {
///     panic!("one whole frame came");
/// };
/// let frames = decoded.frames();
/// // The kernel takes four of the six bytes; until the rest is sent, nothing is received.
/// connection.handle_answered(&frames.parts(), frames.count(), 4, now);
/// assert_eq!(connection.owed(), b"hi");
/// assert!(!connection.wants_receive());
/// connection.handle_sent(2, now);
///
/// // The client half-closes. Once everything is acknowledged, as the probe says, nothing is left
/// // to wait for, and the close itself sends the FIN.
/// connection.handle_end_of_stream();
/// assert_eq!(connection.poll_cause().map(|cause| cause.reason), Some(Reason::PeerFin));
/// let all_acknowledged = Probe::default();
/// assert_eq!(connection.poll_close(now, || all_acknowledged), Some(CloseStep::Close));
/// ```
#[derive(Debug)]
pub struct Connection {
    limits: Arc<Limits>,
    /// `None` until something differs from an open connection that has done nothing.
    unsettled: Option<Box<Unsettled>>,
    mode: Mode,
    /// The peer's FIN was received.
    peer_finished: bool,
    /// The cause was set, or the opening noted, and the caller was not told yet.
    has_news: bool,
    totals: Totals,
    opened_at: Timestamp,
    /// Since when a byte has been awaited: the last one received, or the last time something was
    /// owed.
    awaiting_since: Timestamp,
    /// Bytes handed to the kernel that are not known to be acknowledged, saturating. With
    /// [`Probe::is_memory`] it is the memory that they took at the last look, plus the bytes since.
    outstanding: u32,
    /// When acknowledgements last made progress, or when bytes became outstanding.
    progress_at: Timestamp,
}

impl Connection {
    /// A connection that was accepted just now.
    pub fn new(limits: Arc<Limits>, now: Timestamp) -> Connection {
        Connection {
            mode: limits.mode,
            unsettled: limits.proxy_header.map(|_| Unsettled::introducing(limits.max_payload)),
            limits,
            peer_finished: false,
            has_news: false,
            totals: Totals::default(),
            opened_at: now,
            awaiting_since: now,
            outstanding: 0,
            progress_at: now,
        }
    }

    /// A connection that was accepted just now and is closed cleanly without being served.
    pub fn reject(limits: Arc<Limits>, now: Timestamp) -> Connection {
        let mut connection = Connection::new(limits, now);
        connection.end_orderly(Disconnect::new(Reason::AtCapacity, During::Receive));
        connection
    }

    /// Where to receive first: the rest of an unfinished frame. Empty if there is none.
    pub fn room(&mut self) -> &mut [u8] {
        match self.unsettled.as_deref_mut() {
            Some(Unsettled { state: State::Open | State::Retiring { .. }, decoder, .. }) => {
                decoder.room()
            }
            _ => &mut [],
        }
    }

    /// How many bytes the unfinished frame still lacks, as far as known: while the header is
    /// incomplete, only those of the header. `None` if no frame has begun.
    pub fn wanted(&self) -> Option<usize> {
        self.unfinished().map(|(have, need)| need - have)
    }

    /// Takes received bytes: `in_room` of them in [`Connection::room`], and after those `rest`.
    ///
    /// What is returned must be answered, and the answer reported with
    /// [`Connection::handle_answered`], before any other method is called.
    ///
    /// While [`Connection::awaits_header`] they are for [`Connection::handle_header`].
    ///
    /// # Panics
    ///
    /// If `in_room` is larger than the room.
    pub fn handle_received<'a>(
        &mut self,
        in_room: usize,
        rest: &'a [u8],
        now: Timestamp,
    ) -> Received<'a> {
        let start = self.totals.bytes_in;
        self.totals.bytes_in += (in_room + rest.len()) as u64;
        let until = match *self.state() {
            State::Open => u64::MAX,
            State::Retiring { until, .. } => until,
            State::FinSent(cause, mut lingering) => {
                lingering.handle_received(now);
                self.enter(State::FinSent(cause, lingering));
                return Received::Nothing;
            }
            State::Introducing(_) | State::Flushing(_) | State::Closed(..) => {
                return Received::Nothing;
            }
        };
        self.awaiting_since = now;
        if self.mode == Mode::Auto {
            self.mode = match rest {
                [] => Mode::Auto,
                [0x00, ..] => Mode::Framed,
                [_, ..] => Mode::Raw,
            };
            if self.mode == Mode::Raw {
                self.note_raw_opening(rest);
            }
        }
        let fence = usize::try_from(until.saturating_sub(start)).unwrap_or(usize::MAX);
        let received = match self.mode {
            Mode::Auto => Received::Nothing,
            Mode::Raw => Received::Raw(&rest[..rest.len().min(fence)]),
            Mode::Framed => match self.decode(in_room, rest, fence, now) {
                decoded if decoded.count == 0 => Received::Nothing,
                decoded => Received::Frames(decoded),
            },
        };
        self.retire_if_done();
        received
    }

    /// The answer to what was received: the bytes of `parts`, of which the first `sent` were handed
    /// to the kernel. The rest is owed. `frames` is the number of frames in the answer; each part
    /// begins at a frame's first byte.
    ///
    /// # Panics
    ///
    /// In debug builds, if the connection still owes an earlier answer.
    pub fn handle_answered(&mut self, parts: &[&[u8]], frames: u64, sent: usize, now: Timestamp) {
        debug_assert!(self.owed().is_empty(), "answered while bytes were owed");
        self.totals.frames_out += frames;
        if sent < parts.iter().map(|part| part.len()).sum() {
            self.unsettled().owed.put(parts, sent, frames > 0, now);
        }
        self.note_sent(sent, now);
    }

    /// Bytes that are owed and not yet handed to the kernel.
    pub fn owed(&self) -> &[u8] {
        self.unsettled.as_ref().map_or(&[], |unsettled| unsettled.owed.unsent())
    }

    /// The first `count` of the owed bytes were handed to the kernel.
    ///
    /// # Panics
    ///
    /// If fewer are owed.
    pub fn handle_sent(&mut self, count: usize, now: Timestamp) {
        let unsettled = self.unsettled();
        let began_at = unsettled.owed.since();
        unsettled.owed.take(count);
        let is_all = unsettled.owed.is_empty();
        if is_all {
            unsettled.frame_started_at = unsettled.frame_started_at + now.since(began_at);
        }
        // A send of which nothing was taken (EAGAIN) begins no new wait for acknowledgements.
        if count > 0 {
            self.note_sent(count, now);
        }
        if is_all {
            self.awaiting_since = now;
            self.settle();
        }
    }

    /// The time of [`Connection::poll_deadline`] has come: judges it with the help of `probe`.
    ///
    /// Readiness goes first: call this only after receiving what had arrived by `now`, as far as
    /// the connection takes it. While bytes are unread, neither silence nor a slow frame is judged.
    pub fn handle_deadline(&mut self, now: Timestamp, probe: Probe) {
        let seen_at = probe.asked_at.max(now);
        self.note_probe(seen_at, probe);
        match *self.state() {
            State::Open | State::Retiring { .. } => self.judge_open(now, probe),
            State::Introducing(_) => self.judge_header(now, probe.unread),
            State::Flushing(_) | State::FinSent(..) => self.judge_ending(now, probe),
            State::Closed(..) => {}
        }
        self.judge_lifetime(now, seen_at, probe);
        self.settle();
    }

    /// Whether to receive when the socket is readable.
    pub fn wants_receive(&self) -> bool {
        match *self.state() {
            State::Introducing(_) => true,
            State::Open | State::Retiring { .. } => self.owed().is_empty(),
            // Discarding lets a peer that writes before it reads come round to reading.
            State::Flushing(_) | State::FinSent(..) => !self.peer_finished,
            State::Closed(..) => false,
        }
    }

    /// Whether to send when the socket is writable.
    pub fn wants_send(&self) -> bool {
        !self.owed().is_empty() && !matches!(*self.state(), State::Closed(..))
    }

    /// When to call [`Connection::handle_deadline`]; [`Timestamp::NEVER`] if there is no need to.
    pub fn poll_deadline(&self) -> Timestamp {
        let deadline = match *self.state() {
            // Its grace has not begun.
            State::Open => {
                return self.open_deadline().min(self.opened_at.after(self.limits.max_lifetime));
            }
            State::Retiring { .. } => self.open_deadline(),
            State::Introducing(_) => self.header_deadline(),
            State::FinSent(_, lingering) if self.awaits_fin() => {
                let linger = self.limits.linger_timeout;
                lingering.deadline(linger).min(self.next_probe(Some(linger)))
            }
            State::Flushing(_) | State::FinSent(..) => self.stall_deadline(),
            State::Closed(..) => return Timestamp::NEVER,
        };
        deadline.min(self.lifetime_deadline())
    }

    /// Which state the connection is in.
    pub fn phase(&self) -> Phase {
        match *self.state() {
            State::Introducing(_) => Phase::Connected,
            State::Open | State::Retiring { .. } if self.totals.bytes_in == 0 => Phase::Connected,
            State::Open | State::Retiring { .. } => Phase::Open,
            State::Flushing(_) | State::FinSent(..) => Phase::Lingering,
            State::Closed(..) => Phase::Closed,
        }
    }

    /// How the bytes are understood; [`Mode::Auto`] until the first byte has decided.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes and frames so far.
    pub fn totals(&self) -> Totals {
        let unsent = self.unsettled.as_ref().map_or(0, |unsettled| unsettled.owed.unsent_frames());
        Totals { frames_out: self.totals.frames_out - unsent, ..self.totals }
    }

    /// Whether it is known that the peer has acknowledged everything that it was sent.
    pub fn is_acknowledged(&self) -> bool {
        self.outstanding == 0
    }

    /// When the connection was accepted.
    pub fn opened_at(&self) -> Timestamp {
        self.opened_at
    }

    /// Bytes of memory that the connection holds for unfinished frames and owed bytes.
    pub fn buffered(&self) -> usize {
        let buffers =
            |unsettled: &Unsettled| unsettled.decoder.capacity() + unsettled.owed.capacity();
        self.unsettled.as_deref().map_or(0, buffers)
    }

    fn decode<'a>(
        &mut self,
        in_room: usize,
        rest: &'a [u8],
        fence: usize,
        now: Timestamp,
    ) -> Decoded<'a> {
        let mut held = 0;
        let decoded = match self.unsettled.as_deref_mut() {
            Some(unsettled) => {
                held = unsettled.decoder.held_len();
                let decoded = unsettled.decoder.decode(in_room, rest, fence);
                if held == 0 || decoded.count > 0 {
                    unsettled.begin_frame(now);
                }
                decoded
            }
            None => {
                debug_assert_eq!(in_room, 0, "there is no room without an unfinished frame");
                let (decoded, tail) = decode_in_place(U32Be, rest, self.limits.max_payload, fence);
                if !tail.is_empty() {
                    let unsettled = self.unsettled();
                    unsettled.decoder.hold(tail);
                    unsettled.begin_frame(now);
                }
                decoded
            }
        };
        self.totals.frames_in += decoded.count;
        if let DecodeEnd::TooLarge { declared } = decoded.end {
            self.note_refused_opening(declared, held + in_room, rest);
            self.end_orderly(Disconnect::new(Reason::FrameTooLarge { declared }, During::Receive));
        }
        self.settle();
        decoded
    }

    fn judge_open(&mut self, now: Timestamp, probe: Probe) {
        let reading = self.owed().is_empty() && probe.unread == 0;
        if self.is_stalled(now) {
            self.end_stalled(During::Send);
        } else if self.is_frame_late(now, probe.unread) {
            let cause = Disconnect::new(Reason::FrameTimeout, During::Receive);
            self.decide(State::Closed(cause, CloseStep::Reset));
        } else if reading && now >= self.awaiting_since.after(self.limits.timeout) {
            self.end_orderly(Disconnect::new(Reason::RecvTimeout, During::Receive));
        }
    }

    fn open_deadline(&self) -> Timestamp {
        let stall = self.stall_deadline();
        if !self.owed().is_empty() {
            return stall;
        }
        stall.min(self.frame_deadline()).min(self.awaiting_since.after(self.limits.timeout))
    }

    fn frame_deadline(&self) -> Timestamp {
        match self.unsettled.as_deref() {
            Some(Unsettled { decoder, frame_started_at, .. }) if decoder.held_len() > 0 => {
                frame_started_at.after(self.limits.frame_timeout)
            }
            _ => Timestamp::NEVER,
        }
    }

    /// Whether the frame's time is over, and what had arrived by then was received and did not
    /// complete it. Later bytes do not count, so a sender who never pauses cannot put off the
    /// verdict.
    fn is_frame_late(&mut self, now: Timestamp, unread: u64) -> bool {
        if !self.owed().is_empty() || now < self.frame_deadline() {
            return false;
        }
        let received = self.totals.bytes_in;
        let arrived_in_time = self.unsettled().frame_fence.get_or_insert(received + unread);
        unread == 0 || received >= *arrived_in_time
    }

    /// When acknowledgements must be looked at next, or their absence has become a stall. A look on
    /// another occasion puts off the next look, but not the verdict.
    fn stall_deadline(&self) -> Timestamp {
        match self.has_outstanding() {
            true => {
                let verdict = self.progress_at.after(self.limits.timeout);
                self.next_probe(self.limits.timeout).min(verdict)
            }
            false => Timestamp::NEVER,
        }
    }

    /// When acknowledgements must be looked at next.
    fn next_probe(&self, limit: Option<Duration>) -> Timestamp {
        match limit {
            Some(limit) if self.has_outstanding() => {
                let probed_at = self.unsettled.as_ref().map(|unsettled| unsettled.probed_at);
                probed_at.unwrap_or_default().max(self.progress_at) + limit / PROBES_PER_LIMIT
            }
            _ => Timestamp::NEVER,
        }
    }

    /// Whether, as far as known, the peer has not acknowledged all that it is owed.
    fn has_outstanding(&self) -> bool {
        self.outstanding > 0 || !self.owed().is_empty()
    }

    fn is_stalled(&self, now: Timestamp) -> bool {
        self.has_outstanding() && now >= self.progress_at.after(self.limits.timeout)
    }

    fn note_sent(&mut self, count: usize, now: Timestamp) {
        if self.outstanding == 0 {
            self.progress_at = now;
        }
        self.totals.bytes_out += count as u64;
        self.outstanding =
            self.outstanding.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn note_probe(&mut self, now: Timestamp, probe: Probe) {
        let unacknowledged = u32::try_from(self.unacknowledged(probe)).unwrap_or(u32::MAX);
        let before = core::mem::replace(&mut self.outstanding, unacknowledged);
        if unacknowledged > before {
            // The memory of what was sent since the last look, which hides how much of it was read.
            self.progress_at = now;
        } else if unacknowledged < before {
            self.progress_at = now;
            if let Some(unsettled) = self.unsettled.as_deref_mut() {
                unsettled.soft_error = None;
            }
            // It came after the look before, which is longer ago only if the process was stopped.
            let look_before =
                now.before(self.limits.timeout.unwrap_or_default() / PROBES_PER_LIMIT);
            self.awaiting_since = self.awaiting_since.max(look_before);
            if let State::FinSent(cause, mut lingering) = *self.state() {
                lingering.handle_acknowledged(now);
                self.enter(State::FinSent(cause, lingering));
            }
        }
        if self.has_outstanding() {
            // The peer is still busy with what it got; its silence begins afterwards.
            self.awaiting_since = now;
            self.unsettled().probed_at = now;
        }
        match probe.error {
            Some((errno, ErrnoClass::Unreachable)) => {
                self.unsettled().soft_error = Some(errno);
            }
            Some((errno, class)) => self.handle_error(errno, class, During::Send),
            None => {}
        }
    }

    /// Bytes that were sent and not acknowledged. Once the sending side is shut down, the kernel
    /// counts the FIN as one more, which is left out here.
    fn unacknowledged(&self, probe: Probe) -> u64 {
        match *self.state() {
            State::FinSent(..) if !probe.is_memory => probe.unacknowledged.saturating_sub(1),
            _ => probe.unacknowledged,
        }
    }

    fn state(&self) -> &State {
        self.unsettled.as_deref().map_or(&State::Open, |unsettled| &unsettled.state)
    }

    fn enter(&mut self, state: State) {
        self.unsettled().state = state;
    }

    /// How many bytes of an unfinished frame are there, and how many the whole frame has, as far as
    /// known.
    fn unfinished(&self) -> Option<(usize, usize)> {
        let decoder = &self.unsettled.as_ref()?.decoder;
        (decoder.held_len() > 0).then(|| (decoder.held_len(), decoder.needed_len()))
    }

    fn unsettled(&mut self) -> &mut Unsettled {
        let max_payload = self.limits.max_payload;
        self.unsettled.get_or_insert_with(|| Box::new(Unsettled::new(max_payload)))
    }

    /// Lets go of what is of no use in an open connection that is in the middle of nothing.
    fn settle(&mut self) {
        if let Some(unsettled) = self.unsettled.as_deref()
            && let Unsettled { state: State::Open, decoder, owed, probed_at, .. } = unsettled
            && decoder.held_len() == 0
            && owed.is_empty()
            && unsettled.soft_error.is_none()
            && unsettled.opening.is_none()
            // A look before the last progress says nothing about when the next one is due.
            && (*probed_at <= self.progress_at || !self.has_outstanding())
        {
            self.unsettled = None;
        }
    }
}

#[cfg(test)]
mod tests;
