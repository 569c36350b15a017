//! How a connection comes to its end, and the steps that it takes there.

use core::time::Duration;

use crate::closing::{Lingering, TOTAL_LINGER_LIMITS};
use crate::disconnect::{Disconnect, During, ErrnoClass, Reason};
use crate::limits::LIFETIME_GRACE;
use crate::time::Timestamp;

use super::unsettled::State;
use super::{CloseStep, Connection, Probe};

impl Connection {
    /// The peer's FIN was received (`recv(2)` returned 0).
    pub fn handle_end_of_stream(&mut self) {
        self.peer_finished = true;
        match *self.state() {
            State::Introducing(_) => self.end_before_header(),
            State::Open | State::Retiring { .. } => {
                let reason = match self.unfinished() {
                    None => Reason::PeerFin,
                    Some((have, need)) => {
                        Reason::TruncatedFrame { have: have as u64, need: need as u64 }
                    }
                };
                self.end_orderly(Disconnect::new(reason, During::Receive));
            }
            State::Flushing(_) | State::FinSent(..) | State::Closed(..) => {}
        }
    }

    /// A receive or a send failed with `errno`, and not because it would have blocked. An orderly
    /// close that has already sent everything keeps its cause.
    pub fn handle_error(&mut self, errno: i32, class: ErrnoClass, during: During) {
        let step = match class {
            ErrnoClass::Reset | ErrnoClass::BrokenPipe | ErrnoClass::Unreachable => {
                CloseStep::Close
            }
            // The connection may live on without us.
            ErrnoClass::Other => CloseStep::Reset,
        };
        let cause = Disconnect { reason: class.into(), during, errno: Some(errno) };
        match *self.state() {
            State::Closed(..) => {}
            State::FinSent(first, _) => self.enter(State::Closed(first, step)),
            State::Flushing(first) if self.owed().is_empty() => {
                self.enter(State::Closed(first, step));
            }
            State::Introducing(_) | State::Open | State::Retiring { .. } | State::Flushing(_) => {
                self.decide(State::Closed(cause, step));
            }
        }
    }

    /// Ends the connection for `reason` once everything is answered whose first byte had been
    /// received by now; `unread` is how many of those bytes the kernel still holds.
    pub fn retire(&mut self, reason: Reason, unread: u64) {
        match *self.state() {
            State::Introducing(None) => self.retire_before_header(reason, unread),
            State::Open => {
                self.enter(State::Retiring { reason, until: self.totals.bytes_in + unread });
                self.retire_if_done();
            }
            State::Introducing(Some(_))
            | State::Retiring { .. }
            | State::Flushing(_)
            | State::FinSent(..)
            | State::Closed(..) => {}
        }
    }

    /// Ends the connection at once: with RST if that cuts something off, namely a frame or PROXY
    /// header that had begun, or bytes that were owed or not acknowledged. If nothing is cut off,
    /// an orderly end under way keeps its reason.
    pub fn abort(&mut self, reason: Reason, probe: Probe) {
        let is_receiving = self.unfinished().is_some()
            || matches!(*self.state(), State::Introducing(Some(_)) | State::Retiring { .. });
        let is_sending = !self.owed().is_empty() || self.unacknowledged(probe) > 0;
        let during = if is_receiving { During::Receive } else { During::Send };
        let cause = Disconnect::new(reason, during);
        match *self.state() {
            State::Closed(..) => {}
            // The caller was told the reason when the grace began.
            State::Flushing(first) | State::FinSent(first, _)
                if is_sending && first.reason == reason =>
            {
                self.enter(State::Closed(first, CloseStep::Reset));
            }
            _ if is_receiving || is_sending => self.decide(State::Closed(cause, CloseStep::Reset)),
            State::Flushing(first) | State::FinSent(first, _) => {
                self.enter(State::Closed(first, CloseStep::Close));
            }
            State::Introducing(_) | State::Open | State::Retiring { .. } => {
                self.decide(State::Closed(cause, CloseStep::Close));
            }
        }
    }

    /// Whether the end is decided, so that [`Connection::poll_close`] may have a step.
    pub fn is_ending(&self) -> bool {
        !matches!(*self.state(), State::Introducing(_) | State::Open | State::Retiring { .. })
    }

    /// The next step of the end, if one is due. After `Close` and `Reset` there is none.
    ///
    /// `ask` looks at the socket; it is called only where nothing but acknowledgements can be
    /// missing. Once the FIN is sent, the kernel reports readiness when the last of them has come,
    /// so a caller that polls then needs no timer to learn of it.
    pub fn poll_close(&mut self, now: Timestamp, ask: impl FnOnce() -> Probe) -> Option<CloseStep> {
        match *self.state() {
            State::Introducing(_) | State::Open | State::Retiring { .. } => None,
            State::Closed(_, step) => Some(step),
            State::Flushing(_) | State::FinSent(..) if !self.owed().is_empty() => None,
            State::Flushing(cause) | State::FinSent(cause, _) => self.next_step(cause, now, ask),
        }
    }

    /// Whether FIN is sent and only acknowledgements are missing: readiness shows when the last one
    /// has come. Level-triggered readiness does not, because the socket is ready already.
    pub fn awaits_acknowledgement(&self) -> bool {
        matches!(*self.state(), State::FinSent(..)) && !self.awaits_fin()
    }

    /// How long the kernel may keep trying to deliver what is unacknowledged at the end
    /// (TCP_USER_TIMEOUT, `tcp(7)`), in case this process does not live to cut it: twice the
    /// longest limit that can be in force then. `None` if nothing is unacknowledged, as far as
    /// known, or if there is no such limit.
    pub fn kernel_patience(&self) -> Option<Duration> {
        let limits = &self.limits;
        let linger = limits.linger_timeout.saturating_mul(TOTAL_LINGER_LIMITS);
        let limit = limits.timeout.map(|timeout| timeout.max(linger).saturating_mul(2));
        limit.filter(|_| self.has_outstanding())
    }

    /// Whether [`Connection::poll_opening`] or [`Connection::poll_cause`] has something new.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.has_news
    }

    /// The cause of the end, once, when it has been decided or has been replaced by a failure.
    pub fn poll_cause(&mut self) -> Option<Disconnect> {
        if !self.has_news {
            return None;
        }
        self.has_news = false;
        self.cause()
    }

    /// The cause of the end, if it is decided.
    pub fn cause(&self) -> Option<Disconnect> {
        match *self.state() {
            State::Introducing(_) | State::Open | State::Retiring { .. } => None,
            State::Flushing(cause) | State::FinSent(cause, _) | State::Closed(cause, _) => {
                Some(cause)
            }
        }
    }

    /// The next step of a connection that has sent all it owes and ends for `cause`.
    fn next_step(
        &mut self,
        cause: Disconnect,
        now: Timestamp,
        ask: impl FnOnce() -> Probe,
    ) -> Option<CloseStep> {
        if !self.awaits_fin() {
            let probe = if self.outstanding > 0 { ask() } else { Probe::default() };
            if self.unacknowledged(probe) == 0 {
                self.outstanding = 0;
                self.enter(State::Closed(cause, CloseStep::Close));
                return Some(CloseStep::Close);
            }
            self.note_probe(now.max(probe.asked_at), probe);
            self.close_if_settled(probe);
        }
        match *self.state() {
            State::Flushing(cause) => {
                self.enter(State::FinSent(cause, Lingering::new(now)));
                Some(CloseStep::ShutdownSend)
            }
            State::Closed(_, step) => Some(step),
            _ => None,
        }
    }

    /// Ends a retiring connection that has taken all it had to take.
    pub(super) fn retire_if_done(&mut self) {
        if let State::Retiring { reason, until } = *self.state()
            && self.totals.bytes_in >= until
            && self.unfinished().is_none()
        {
            self.end_orderly(Disconnect::new(reason, During::Receive));
        }
    }

    /// Cuts a connection whose peer has stopped acknowledging what it was sent, when only that was
    /// waited for, or also its FIN.
    pub(super) fn end_stalled(&mut self, during: During) {
        let stalled = Disconnect::new(Reason::SendTimeout, during);
        let cause = self.unreachable().unwrap_or(stalled);
        self.decide(State::Closed(cause, CloseStep::Reset));
    }

    /// Whether to go on waiting for the peer's FIN.
    pub(super) fn awaits_fin(&self) -> bool {
        !self.peer_finished && !self.limits.linger_timeout.is_zero()
    }

    /// When the longest life is over or, once it was found to be, its grace.
    pub(super) fn lifetime_deadline(&self) -> Timestamp {
        match self.unsettled.as_deref() {
            Some(unsettled) if unsettled.cut_at != Timestamp::NEVER => unsettled.cut_at,
            _ => self.opened_at.after(self.limits.max_lifetime),
        }
    }

    /// Judges an end that is under way, with the help of `probe`, which was noted.
    pub(super) fn judge_ending(&mut self, now: Timestamp, probe: Probe) {
        match *self.state() {
            State::FinSent(cause, lingering) if self.awaits_fin() => {
                let is_waited_out = now >= lingering.deadline(self.limits.linger_timeout);
                match self.has_outstanding() {
                    _ if !is_waited_out => {}
                    true => self.end_stalled(During::Receive),
                    false => self.enter(State::Closed(cause, CloseStep::Close)),
                }
            }
            _ if self.is_stalled(now) => self.end_stalled(During::Send),
            State::FinSent(..) => self.close_if_settled(probe),
            _ => {}
        }
    }

    /// Begins to end a connection whose longest life is over, and cuts it when the grace is over
    /// too. The grace counts from `seen_at`, so that no connection is cut because the process
    /// paused.
    pub(super) fn judge_lifetime(&mut self, now: Timestamp, seen_at: Timestamp, probe: Probe) {
        if now < self.lifetime_deadline() || matches!(*self.state(), State::Closed(..)) {
            return;
        }
        let unsettled = self.unsettled();
        if unsettled.cut_at == Timestamp::NEVER {
            unsettled.cut_at = seen_at + LIFETIME_GRACE;
            self.retire(Reason::MaxLifetime, probe.unread);
        } else {
            self.abort(Reason::MaxLifetime, probe);
        }
    }

    /// Closes a connection that has sent all it owes and lacks only acknowledgements: if none are
    /// missing, or if `probe`, which was noted, says that none will come.
    fn close_if_settled(&mut self, probe: Probe) {
        let (State::Flushing(cause) | State::FinSent(cause, _)) = *self.state() else { return };
        if !self.has_outstanding() {
            self.enter(State::Closed(cause, CloseStep::Close));
        } else if probe.is_over {
            match self.unreachable() {
                Some(cause) => self.decide(State::Closed(cause, CloseStep::Close)),
                None => self.enter(State::Closed(cause, CloseStep::Close)),
            }
        }
    }

    /// The cause that the network gave, if it did.
    fn unreachable(&self) -> Option<Disconnect> {
        let errno = self.unsettled.as_ref()?.soft_error?;
        let (reason, during) = (Reason::ClientUnreachable, During::Send);
        Some(Disconnect { reason, during, errno: Some(errno) })
    }

    pub(super) fn end_orderly(&mut self, cause: Disconnect) {
        self.decide(State::Flushing(cause));
        self.unsettled().decoder.clear();
    }

    /// Enters `state`, which has a new cause that the caller is told of.
    pub(super) fn decide(&mut self, state: State) {
        self.note_unfinished_opening();
        self.enter(state);
        self.has_news = true;
    }
}
