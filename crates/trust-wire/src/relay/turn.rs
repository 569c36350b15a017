//! One turn of a relayed connection: the calls that its two sockets are ready for.

use crate::disconnect::During;
use crate::relay::bulk::BULK_MIN;
use crate::relay::{Relay, RelayClose, RelaySide};
use crate::time::Timestamp;
use crate::turn::{Question, Readiness, Refusal, Unread};

/// Sends of a turn for each receive that it has: without rules there are two at most, one of what
/// is held and one of what came.
const SENDS_PER_RECEIVE: u32 = 16;

/// The two sockets of a relay, and a clock. No call blocks.
pub trait RelayIo {
    /// Receives from a side with one call; returns 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// Why nothing was received.
    fn receive(&mut self, from: RelaySide, buffer: &mut [u8]) -> Result<usize, Refusal>;

    /// Sends to a side with one call; returns the number of bytes taken.
    ///
    /// # Errors
    ///
    /// Why nothing was taken.
    fn send(&mut self, to: RelaySide, bytes: &[u8]) -> Result<usize, Refusal>;

    /// Moves at most `max` bytes from a side into the pipe of the other one, which is empty, with
    /// one call (`splice(2)`). Returns how many, as [`RelayIo::receive`] does; but 0 and
    /// [`Refusal::WouldBlock`] may also mean that an urgent byte is next. `None`: it is not
    /// possible now, and bytes are received.
    ///
    /// # Errors
    ///
    /// Why nothing was moved.
    fn splice_in(&mut self, from: RelaySide, max: usize) -> Option<Result<usize, Refusal>> {
        let _ = (from, max);
        None
    }

    /// Moves the `len` bytes that are in the pipe of a side to it with one call; returns the number
    /// of bytes taken.
    ///
    /// # Errors
    ///
    /// Why nothing was taken.
    fn splice_out(&mut self, to: RelaySide, len: usize) -> Result<usize, Refusal> {
        let _ = (to, len);
        Err(Refusal::WouldBlock)
    }

    /// Asks for readiness, if any, to be reported again: the last call should have been possible,
    /// but was not.
    fn ask(&mut self, side: RelaySide, question: Question);

    /// How many of the sent bytes a side has not acknowledged (SIOCOUTQ, `tcp(7)`).
    fn unacknowledged(&mut self, side: RelaySide) -> u64;

    /// Sends FIN to a side, after everything sent before.
    fn shutdown_send(&mut self, to: RelaySide);

    /// The current time.
    fn now(&mut self) -> Timestamp;
}

/// What was done, or what is next if nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum RelayStep {
    /// This many bytes were received from a side, and sent on or held.
    Received(RelaySide, usize),
    /// This many of the bytes held for a side were sent.
    Sent(RelaySide, usize),
    /// The FIN of a side was received.
    EndOfStream(RelaySide),
    /// A call was refused or interrupted.
    Refused(RelaySide, During),
    /// A call failed.
    Failed(RelaySide, During),
    /// FIN was sent to a side.
    FinSent(RelaySide),
    /// Close the client's socket and that of the upstream in these ways; no step follows.
    Closed([RelayClose; 2]),
    /// Nothing is left to do until a socket is ready again, or the deadline comes.
    Over,
    /// There is more to do, but the turn is used up.
    Unfinished,
}

/// One turn of a relayed connection. Like [`Turn`](crate::Turn), it returns after each call, and
/// remembers what the sockets are ready for, as edge-triggered readiness requires (`epoll(7)`).
///
/// ```
/// use std::time::Duration;
/// use trust_wire::Timestamp;
/// use trust_wire::relay::{Relay, RelayIo, RelayStep, RelayTurn, RelaySide};
/// use trust_wire::turn::{Question, Readiness, Refusal, Unread};
///
/// /// Two sockets in memory: the client's has something to receive, and both take everything.
/// struct Memory(&'static [u8], [Vec<u8>; 2]);
///
/// impl RelayIo for Memory {
///     fn receive(&mut self, from: RelaySide, buffer: &mut [u8]) -> Result<usize, Refusal> {
///         assert_eq!(from, RelaySide::Client);
///         let bytes = std::mem::take(&mut self.0);
///         buffer[..bytes.len()].copy_from_slice(bytes);
///         Ok(bytes.len())
///     }
///     fn send(&mut self, to: RelaySide, bytes: &[u8]) -> Result<usize, Refusal> {
///         self.1[to.index()].extend_from_slice(bytes);
///         Ok(bytes.len())
///     }
///     fn ask(&mut self, _side: RelaySide, _question: Question) {}
///     fn unacknowledged(&mut self, _side: RelaySide) -> u64 {
///         0
///     }
///     fn shutdown_send(&mut self, _to: RelaySide) {}
///     fn now(&mut self) -> Timestamp {
///         Timestamp::default()
///     }
/// }
///
/// let mut relay = Relay::new(Duration::from_secs(2));
/// let mut io = Memory(b"hello", [vec![], vec![]]);
/// let mut readiness = [Readiness::default(); 2];
/// readiness[0].note(Unread::ToTheEnd, false); // as an event announced
///
/// let mut buffer = [0; 1024];
/// let mut turn = RelayTurn::new(&mut readiness, 16);
/// let mut step = || turn.step(&mut relay, &mut io, &mut buffer);
/// assert_eq!(step(), RelayStep::Received(RelaySide::Client, 5));
/// assert_eq!(step(), RelayStep::EndOfStream(RelaySide::Client));
/// assert_eq!(step(), RelayStep::FinSent(RelaySide::Upstream));
/// assert_eq!(step(), RelayStep::Over);
/// assert_eq!(io.1, [vec![], b"hello".to_vec()]);
/// ```
#[derive(Debug)]
pub struct RelayTurn<'a> {
    readiness: &'a mut [Readiness; 2],
    receives_left: u32,
    /// Rules can have what one receive brought sent in many pieces.
    sends_left: u32,
    /// Whose turn it is to be received from, so that neither side keeps the other waiting.
    next: RelaySide,
    /// Whether the last call moved bytes from a side, and to it. Its readiness cannot be told from
    /// how many these were, so EAGAIN is expected then.
    spliced: [[bool; 2]; 2],
    /// Whether the end was looked at since something last happened.
    looked: bool,
}

impl<'a> RelayTurn<'a> {
    /// Starts a turn with this readiness of the client's socket and the upstream's, and so many
    /// receives before other connections get their turn.
    pub fn new(readiness: &'a mut [Readiness; 2], receives: u32) -> RelayTurn<'a> {
        let sends_left = receives.saturating_mul(SENDS_PER_RECEIVE);
        let next = RelaySide::Client;
        let (receives_left, spliced) = (receives, [[false; 2]; 2]);
        RelayTurn { readiness, receives_left, sends_left, next, spliced, looked: false }
    }

    /// Does the next thing that the sockets are ready for. It receives into `buffer`, which is free
    /// again afterwards.
    ///
    /// Call it until it returns [`RelayStep::Closed`], [`RelayStep::Over`] or
    /// [`RelayStep::Unfinished`].
    pub fn step(
        &mut self,
        relay: &mut Relay,
        io: &mut impl RelayIo,
        buffer: &mut [u8],
    ) -> RelayStep {
        if relay.needs_time() {
            for to in RelaySide::BOTH {
                relay.note_writable(to, self.readiness[to.index()].writable);
            }
            relay.handle_time(io.now());
        }
        for to in RelaySide::BOTH {
            if self.readiness[to.index()].writable && relay.wants_send(to) {
                if self.sends_left == 0 {
                    return RelayStep::Unfinished;
                }
                (self.sends_left, self.looked) = (self.sends_left - 1, false);
                return match relay.piped(to) {
                    0 => self.send_held(relay, io, to),
                    piped => self.splice_out(relay, io, to, piped),
                };
            }
        }
        if let Some(to) = relay.poll_shutdown() {
            self.looked = false;
            io.shutdown_send(to);
            return RelayStep::FinSent(to);
        }
        let mut is_unfinished = false;
        for from in [self.next, self.next.other()] {
            let is_ready = self.readiness[from.index()].unread > Unread::Nothing;
            if is_ready && relay.wants_receive(from) {
                if self.receives_left == 0 {
                    // A peer that never stops sending must not put off the end.
                    is_unfinished = true;
                    break;
                }
                self.receives_left -= 1;
                (self.next, self.looked) = (from.other(), false);
                return self.receive(relay, io, from, buffer);
            }
        }
        if !is_unfinished && relay.needs_time() && relay.handle_idle(io.now()) {
            // It has something to do now.
            return self.step(relay, io, buffer);
        }
        if !self.looked && relay.is_ending() {
            self.looked = true;
            let now = io.now();
            if let Some(close) = relay.poll_close(now, |side| io.unacknowledged(side)) {
                return RelayStep::Closed(close);
            }
        }
        if is_unfinished { RelayStep::Unfinished } else { RelayStep::Over }
    }

    fn send_held(&mut self, relay: &mut Relay, io: &mut impl RelayIo, to: RelaySide) -> RelayStep {
        let held = relay.sendable(to);
        let len = held.len();
        match io.send(to, held) {
            Ok(sent) => {
                relay.handle_sent(to, sent);
                self.note_sent(to, sent == len);
                RelayStep::Sent(to, sent)
            }
            Err(refusal) => self.handle_refused_send(relay, io, to, refusal),
        }
    }

    fn receive(
        &mut self,
        relay: &mut Relay,
        io: &mut impl RelayIo,
        from: RelaySide,
        buffer: &mut [u8],
    ) -> RelayStep {
        let spliceable = relay.spliceable(from);
        if spliceable > 0
            && let Some(step) = self.splice(relay, io, from, spliceable)
        {
            return step;
        }
        let readiness = &mut self.readiness[from.index()];
        let limit = buffer.len().min(relay.receive_limit(from));
        let buffer = &mut buffer[..limit];
        match io.receive(from, buffer) {
            Ok(0) => {
                readiness.unread = Unread::Nothing;
                if relay.needs_time() {
                    relay.handle_time(io.now());
                }
                relay.handle_end_of_stream(from);
                RelayStep::EndOfStream(from)
            }
            Ok(count) => {
                readiness.asked.handle_success();
                if count < buffer.len() && readiness.unread == Unread::Bytes {
                    readiness.unread = Unread::Nothing;
                }
                self.forward(relay, io, from, &buffer[..count])
            }
            Err(refusal) => self.handle_refused_receive(relay, io, from, refusal),
        }
    }

    fn handle_refused_receive(
        &mut self,
        relay: &mut Relay,
        io: &mut impl RelayIo,
        from: RelaySide,
        refusal: Refusal,
    ) -> RelayStep {
        match refusal {
            Refusal::WouldBlock => {
                self.readiness[from.index()].unread = Unread::Nothing;
                self.handle_would_block(io, from, During::Receive);
                RelayStep::Refused(from, During::Receive)
            }
            Refusal::Interrupted => RelayStep::Refused(from, During::Receive),
            Refusal::Failed { errno, class } => {
                self.readiness[from.index()].unread = Unread::Nothing;
                relay.handle_receive_error(from, errno, class);
                RelayStep::Failed(from, During::Receive)
            }
        }
    }

    /// Moves bytes from a side on through a pipe; `None`: they must be received.
    fn splice(
        &mut self,
        relay: &mut Relay,
        io: &mut impl RelayIo,
        from: RelaySide,
        max: usize,
    ) -> Option<RelayStep> {
        let is_announced = self.readiness[from.index()].unread == Unread::ToTheEnd;
        match io.splice_in(from, max)? {
            // An urgent byte stops it, and after that even a FIN further on is reported as one. If
            // it has come since the last event, there will be another.
            Ok(0) => None,
            Err(Refusal::WouldBlock) if is_announced => None,
            Ok(count) => {
                self.readiness[from.index()].asked.handle_success();
                self.spliced[During::Receive as usize][from.index()] = true;
                // Others get their turn after as many bytes as if they were copied.
                let others = u32::try_from(count / BULK_MIN).unwrap_or(u32::MAX);
                self.receives_left = self.receives_left.saturating_sub(others);
                relay.handle_spliced_in(from, count);
                let _ = self.splice_out(relay, io, from.other(), count);
                Some(RelayStep::Received(from, count))
            }
            Err(refusal) => Some(self.handle_refused_receive(relay, io, from, refusal)),
        }
    }

    fn splice_out(
        &mut self,
        relay: &mut Relay,
        io: &mut impl RelayIo,
        to: RelaySide,
        piped: usize,
    ) -> RelayStep {
        match io.splice_out(to, piped) {
            Ok(count) => {
                relay.handle_spliced_out(to, count);
                // The next call says whether it takes more.
                self.readiness[to.index()].writable = true;
                self.readiness[to.index()].asked.handle_success();
                self.spliced[During::Send as usize][to.index()] = true;
                RelayStep::Sent(to, count)
            }
            Err(refusal) => self.handle_refused_send(relay, io, to, refusal),
        }
    }

    fn forward(
        &mut self,
        relay: &mut Relay,
        io: &mut impl RelayIo,
        from: RelaySide,
        received: &[u8],
    ) -> RelayStep {
        let to = from.other();
        if relay.needs_time() {
            // They came before this, so nothing is early.
            relay.handle_time(io.now());
        }
        let bytes = relay.handle_received(from, received);
        if bytes.is_empty() {
            return RelayStep::Received(from, received.len());
        }
        // Also if the socket was not writable when it was last tried: nothing was held since, so
        // everything was taken then.
        match io.send(to, bytes) {
            Ok(sent) => {
                relay.handle_forwarded(to, bytes, sent);
                self.note_sent(to, sent == bytes.len());
                RelayStep::Received(from, received.len())
            }
            Err(refusal) => {
                relay.handle_forwarded(to, bytes, 0);
                let _ = self.handle_refused_send(relay, io, to, refusal);
                RelayStep::Received(from, received.len())
            }
        }
    }

    fn note_sent(&mut self, to: RelaySide, is_all: bool) {
        let readiness = &mut self.readiness[to.index()];
        readiness.writable = is_all;
        readiness.asked.handle_success();
    }

    fn handle_refused_send(
        &mut self,
        relay: &mut Relay,
        io: &mut impl RelayIo,
        to: RelaySide,
        refusal: Refusal,
    ) -> RelayStep {
        match refusal {
            Refusal::Failed { errno, class } => {
                relay.handle_send_error(to, errno, class);
                // What it had sent before, and how it ended, need no event.
                self.readiness[to.index()].unread = Unread::ToTheEnd;
                RelayStep::Failed(to, During::Send)
            }
            // Also after a signal: its handler may have asked for something more urgent.
            Refusal::WouldBlock | Refusal::Interrupted => {
                self.readiness[to.index()].writable = false;
                self.handle_would_block(io, to, During::Send);
                RelayStep::Refused(to, During::Send)
            }
        }
    }

    /// Handles a call that should have been possible but was not.
    fn handle_would_block(&mut self, io: &mut impl RelayIo, side: RelaySide, during: During) {
        if core::mem::take(&mut self.spliced[during as usize][side.index()]) {
            return;
        }
        if let Some(question) = self.readiness[side.index()].asked.handle_would_block() {
            io.ask(side, question);
        }
    }
}
