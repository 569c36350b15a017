//! How a connection comes to its end, and the steps that it takes there.

use crate::closing::Lingering;
use crate::disconnect::{Disconnect, During, ErrnoClass, Reason};
use crate::time::Timestamp;

use super::unsettled::State;
use super::{CloseStep, Connection, Probe};

impl Connection {
    /// The peer's FIN was received (`recv(2)` returned 0).
    pub fn handle_end_of_stream(&mut self) {
        self.peer_finished = true;
        match *self.state() {
            State::Open | State::Retiring { .. } => {
                let reason = match self.unfinished() {
                    None => Reason::PeerFin,
                    Some((have, need)) => {
                        Reason::TruncatedFrame { have: have as u64, need: need as u64 }
                    }
                };
                self.end_orderly(Disconnect::new(reason, During::Receive));
            }
            State::Lingering(cause, _) => self.enter(State::Closed(cause, CloseStep::Close)),
            State::Flushing(_) | State::Closed(..) => {}
        }
    }

    /// A receive or a send failed with `errno`, and not because it would have blocked.
    pub fn handle_error(&mut self, errno: i32, class: ErrnoClass, during: During) {
        let cause = Disconnect { reason: class.into(), during, errno: Some(errno) };
        self.end_at_once(cause, CloseStep::Close);
    }

    /// Ends the connection for `reason` once everything is answered whose first byte had been received
    /// by now; `unread` is how many bytes of that the kernel still holds.
    pub fn retire(&mut self, reason: Reason, unread: u64) {
        if let State::Open = *self.state() {
            self.enter(State::Retiring { reason, until: self.totals.bytes_in + unread });
            self.retire_if_done();
        }
    }

    /// Ends the connection at once: with RST if something is cut by that, which is a frame that had begun, or
    /// bytes that were owed or not acknowledged. Where nothing is, an orderly end under way keeps its
    /// reason.
    pub fn abort(&mut self, reason: Reason, probe: Probe) {
        let is_receiving =
            self.unfinished().is_some() || matches!(*self.state(), State::Retiring { .. });
        let is_sending = !self.owed().is_empty() || self.unacknowledged(probe) > 0;
        let during = if is_receiving { During::Receive } else { During::Send };
        let cause = Disconnect::new(reason, during);
        match *self.state() {
            State::Closed(..) => {}
            _ if is_receiving || is_sending => self.decide(State::Closed(cause, CloseStep::Reset)),
            State::Flushing(first) | State::Lingering(first, _) => {
                self.enter(State::Closed(first, CloseStep::Close));
            }
            State::Open | State::Retiring { .. } => {
                self.decide(State::Closed(cause, CloseStep::Close));
            }
        }
    }

    /// Whether the end is decided, so that [`Connection::poll_close`] may have a step.
    pub fn is_ending(&self) -> bool {
        !matches!(*self.state(), State::Open | State::Retiring { .. })
    }

    /// The next step of the end, if one is due. After `Close` and `Reset` there is none.
    pub fn poll_close(&mut self, now: Timestamp) -> Option<CloseStep> {
        match *self.state() {
            State::Flushing(cause) if self.owed().is_empty() => {
                if self.peer_finished || self.limits.linger_timeout.is_zero() {
                    self.enter(State::Closed(cause, CloseStep::Close));
                    return Some(CloseStep::Close);
                }
                self.enter(State::Lingering(cause, Lingering::new(now)));
                Some(CloseStep::ShutdownSend)
            }
            State::Closed(_, step) => Some(step),
            _ => None,
        }
    }

    /// The cause of the end, once, when it has been decided or has been replaced by a failure.
    pub fn poll_cause(&mut self) -> Option<Disconnect> {
        if !self.cause_is_new {
            return None;
        }
        self.cause_is_new = false;
        self.cause()
    }

    /// The cause of the end, if it is decided.
    pub fn cause(&self) -> Option<Disconnect> {
        match *self.state() {
            State::Open | State::Retiring { .. } => None,
            State::Flushing(cause) | State::Lingering(cause, _) | State::Closed(cause, _) => {
                Some(cause)
            }
        }
    }

    /// Ends a retiring connection that has taken everything it was to take.
    pub(super) fn retire_if_done(&mut self) {
        if let State::Retiring { reason, until } = *self.state()
            && self.totals.bytes_in >= until
            && self.unfinished().is_none()
        {
            self.end_orderly(Disconnect::new(reason, During::Receive));
        }
    }

    pub(super) fn end_stalled(&mut self) {
        let cause = match self.unsettled.as_ref().and_then(|unsettled| unsettled.soft_error) {
            None => Disconnect::new(Reason::SendTimeout, During::Send),
            errno => Disconnect { reason: Reason::ClientUnreachable, during: During::Send, errno },
        };
        self.end_at_once(cause, CloseStep::Reset);
    }

    pub(super) fn end_orderly(&mut self, cause: Disconnect) {
        self.unsettled().decoder.clear();
        self.decide(State::Flushing(cause));
    }

    /// Ends the connection without owing anything any more. An orderly close that has already sent
    /// everything keeps its cause.
    pub(super) fn end_at_once(&mut self, cause: Disconnect, step: CloseStep) {
        match *self.state() {
            State::Closed(..) => {}
            State::Lingering(first, _) => self.enter(State::Closed(first, CloseStep::Close)),
            State::Open | State::Retiring { .. } | State::Flushing(_) => {
                self.decide(State::Closed(cause, step));
            }
        }
    }

    /// Enters `state`, which has a new cause that the caller is told of.
    fn decide(&mut self, state: State) {
        self.enter(state);
        self.cause_is_new = true;
    }
}
