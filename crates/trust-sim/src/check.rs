//! The properties that must always hold. They are judged by a witness that knows the network and
//! the naive model, but sees the connection only from outside.

mod awaited_header;
mod demands;

use std::time::Duration;

use trust_wire::closing::TOTAL_LINGER_LIMITS;
use trust_wire::{
    CloseStep, Connection, Disconnect, LIFETIME_GRACE, Limits, Probe, ProxyHeader, Reason,
};

use self::awaited_header::{AwaitedHeader, is_header_invalid};
use crate::model::{HeaderModel, HeaderNow, Model, Tail};

/// How many rounds of timers may pass between an acknowledgement and the judgement of a stall.
pub const ROUNDS: u32 = 10;

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name, the same for every seed.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}

/// Fails with `property` unless `holds`.
pub fn require(
    holds: bool,
    property: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    match holds {
        true => Ok(()),
        false => Err(Violation { property, detail: detail() }),
    }
}

/// The last operation on a connection.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// It was accepted.
    Accepted,
    /// This many bytes were received, and the service was told of this PROXY header with them.
    Received(usize, Option<ProxyHeader>),
    /// Bytes were answered and handed over, and the rest is owed.
    Answered,
    /// Some of the owed bytes went to the kernel.
    Sent,
    /// FIN was received.
    EndOfStream,
    /// A call failed, which leads to this reason.
    Failed(Reason),
    /// A deadline was judged against `due`.
    Deadline {
        /// The time against which it was judged.
        due: Duration,
        /// What the socket reported.
        probe: Probe,
    },
    /// The socket was asked at the end, when only acknowledgements can be missing.
    Asked(Probe),
    /// The server drains; this many bytes are unread.
    Retired(usize),
    /// The server cuts off what is left.
    Aborted(Reason, Probe),
    /// A step of the end is about to be taken.
    Step(CloseStep),
}

/// What the network knows at the moment of a check.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// The current time.
    pub now: Duration,
    /// When bytes last arrived in the receive queue.
    pub arrived_at: Duration,
    /// When bytes were last acknowledged.
    pub acked_at: Duration,
    /// Bytes not yet acknowledged.
    pub unacknowledged: usize,
    /// Bytes in the receive queue.
    pub unread: usize,
}

// Many fields: it keeps its own record of everything that a connection does, to compare the two.
/// Watches one connection.
#[derive(Debug)]
pub struct Witness {
    /// The PROXY header, until it is whole.
    header: Option<AwaitedHeader>,
    model: Model,
    limits: Limits,
    /// How late a deadline may be judged, not counting pauses of the process.
    slack: Duration,
    /// Bytes received, and how many of them arrived before the end was decided.
    received: usize,
    served: usize,
    fence: usize,
    retiring: Option<Reason>,
    /// Bytes handed to the kernel.
    sent: usize,
    was_owing: bool,
    /// Bytes kept when owing began, and bytes of the last receive that was answered.
    put_aside: usize,
    last_receive: usize,
    cause: Option<Reason>,
    /// The peer's FIN was received, or a call failed.
    fin_received: bool,
    failed: bool,
    /// The call failed in a way that leaves the connection alive.
    failed_alive: bool,
    aborted: bool,
    waited_out: bool,
    /// When the maximum lifetime was found to be over, and whether its grace period was.
    outlived_at: Option<Duration>,
    is_grace_over: bool,
    opened_at: Duration,
    received_at: Duration,
    /// When bytes last waited to be received after a turn: some deadlines are not judged over them.
    unread_at: Duration,
    owing_since: Duration,
    paid_at: Duration,
    outstanding_since: Option<Duration>,
    /// When the unfinished frame began, moved on by the time that the connection was not being
    /// read.
    frame: Option<(usize, Duration)>,
    /// How many bytes had arrived when the unfinished frame was first judged after its deadline.
    /// They may still complete it.
    frame_fence: Option<usize>,
    /// When FIN was sent.
    finished_at: Option<Duration>,
    /// An "unreachable" was seen, with no progress since.
    soft_error: bool,
    /// Bytes acknowledged at the last look that noticed progress, and when they were acknowledged.
    acked_seen: usize,
    acked_seen_at: Duration,
    /// How it was closed.
    pub closed: Option<CloseStep>,
}

impl Witness {
    /// Watches a connection that was accepted just now.
    pub fn new(
        header: Option<HeaderModel>,
        model: Model,
        limits: Limits,
        slack: Duration,
        now: Duration,
    ) -> Witness {
        Witness {
            header: header.map(AwaitedHeader::new),
            model,
            limits,
            slack,
            received: 0,
            served: 0,
            fence: usize::MAX,
            retiring: None,
            sent: 0,
            was_owing: false,
            put_aside: 0,
            last_receive: 0,
            cause: None,
            fin_received: false,
            failed: false,
            failed_alive: false,
            aborted: false,
            waited_out: false,
            outlived_at: None,
            is_grace_over: false,
            opened_at: now,
            received_at: now,
            unread_at: now,
            owing_since: now,
            paid_at: now,
            outstanding_since: None,
            frame: None,
            frame_fence: None,
            finished_at: None,
            soft_error: false,
            acked_seen: 0,
            acked_seen_at: now,
            closed: None,
        }
    }

    /// How the connection ended.
    pub fn cause(&self) -> Option<Reason> {
        self.cause
    }

    /// All bytes owed to the peer, sent or not.
    pub fn owed_in_all(&self) -> usize {
        self.model.answer_len(self.served, self.fence)
    }

    /// Whether the end took its full course: FIN both ways, no failure, nothing cut off.
    pub fn is_complete(&self) -> bool {
        self.closed == Some(CloseStep::Close) && self.fin_received && !self.failed && !self.aborted
    }

    /// Judges `operation`, given the state of `connection` after it. `sent` is the total number of
    /// bytes it has handed to the kernel.
    ///
    /// # Errors
    ///
    /// If a property does not hold: the first one.
    pub fn judge(
        &mut self,
        operation: Operation,
        connection: &Connection,
        sent: usize,
        truth: Truth,
    ) -> Result<(), Violation> {
        if sent > self.sent && truth.unacknowledged == sent - self.sent {
            // The peer has acknowledged everything sent before, so its time begins with these
            // bytes.
            self.outstanding_since = None;
        }
        self.sent = sent;
        let before = self.cause;
        let after = connection.cause().map(|cause: Disconnect| cause.reason);
        let expected = self.expect(operation, after, truth)?;
        require(after == expected, "the reason is the right one", || {
            format!("after {operation:?}: {after:?} in place of {expected:?}, before {before:?}")
        })?;
        self.cause = after;
        self.note_owing(connection, truth);
        if !matches!(operation, Operation::Received(..)) {
            self.check_answer(connection)?;
        }
        self.check_buffers(connection)?;
        self.check_interest(connection)?;
        Ok(())
    }

    /// Returns the reason that there must be after `operation`. For a deadline it only checks that
    /// `after` is not too early; [`Witness::check_overdue`] checks that it is not too late.
    fn expect(
        &mut self,
        operation: Operation,
        after: Option<Reason>,
        truth: Truth,
    ) -> Result<Option<Reason>, Violation> {
        let before = self.cause;
        Ok(match operation {
            Operation::Accepted => after.filter(|reason| *reason == Reason::AtCapacity),
            Operation::Answered | Operation::Sent => before,
            Operation::Received(count, introduced) => {
                self.expect_received(count, introduced, after, truth.now)?
            }
            Operation::EndOfStream => {
                let property = "the end is read after the bytes in front of it";
                require(truth.unread == 0, property, || format!("{} unread", truth.unread))?;
                self.fin_received = true;
                self.received_at = truth.now;
                if let Some(header) = &self.header {
                    return Ok(before.or(Some(header.reason_of_fin())));
                }
                before.or(Some(match self.model.tail(self.served, self.fence) {
                    Tail::Unfinished { have, need, .. } => {
                        Reason::TruncatedFrame { have: have as u64, need: need as u64 }
                    }
                    _ => Reason::PeerFin,
                }))
            }
            Operation::Failed(reason) => {
                self.note_failure(reason);
                if before.is_some() && self.finished_at.is_some() { before } else { Some(reason) }
            }
            Operation::Deadline { due, probe } => self.expect_deadline(due, probe, after, truth)?,
            Operation::Asked(probe) => {
                require(
                    !self.was_owing && !self.awaits_fin(),
                    "the socket is not asked too early",
                    || format!("{self:?}"),
                )?;
                self.expect_asked(probe, truth)
            }
            Operation::Retired(unread) => {
                if before.is_none() && self.retiring.is_none() {
                    self.retire(Reason::Drain, unread);
                }
                before.or(self.retired())
            }
            Operation::Aborted(reason, probe) => {
                self.aborted = true;
                match before {
                    Some(first) if !self.is_missing_something(probe) => Some(first),
                    _ => Some(reason),
                }
            }
            Operation::Step(step) => {
                self.check_step(step, truth)?;
                before
            }
        })
    }

    fn expect_received(
        &mut self,
        count: usize,
        introduced: Option<ProxyHeader>,
        after: Option<Reason>,
        now: Duration,
    ) -> Result<Option<Reason>, Violation> {
        let awaited = self.header.as_mut().filter(|_| self.cause.is_none());
        let header = awaited.map(|header| header.receive(count));
        let expected = match header {
            Some(HeaderNow::Whole(says, _)) => Some(says),
            _ => None,
        };
        require(introduced == expected, "the service is told of the header", || {
            format!("{introduced:?} in place of {expected:?}")
        })?;
        match header {
            None => Ok(self.expect_stream(count, now)),
            Some(HeaderNow::Unfinished) => Ok(self.retired()),
            Some(HeaderNow::Wrong) => Ok(after.filter(is_header_invalid)),
            Some(HeaderNow::Whole(_, rest)) => {
                let received = self.header.take().map_or(0, |header| header.received);
                self.fence = self.fence.saturating_sub(received - rest);
                Ok(self.expect_stream(rest, now))
            }
        }
    }

    fn expect_stream(&mut self, count: usize, now: Duration) -> Option<Reason> {
        self.received += count;
        self.received_at = now;
        if self.cause.is_some() {
            return self.cause;
        }
        self.served = self.received;
        self.last_receive = count;
        let tail = self.model.tail(self.served, self.fence);
        self.frame = match (tail, self.frame) {
            (Tail::Unfinished { start, .. }, Some((begun, at))) if begun == start => {
                Some((begun, at))
            }
            (Tail::Unfinished { start, .. }, _) => {
                self.frame_fence = None;
                Some((start, now))
            }
            _ => None,
        };
        match tail {
            Tail::TooLarge { declared } => Some(Reason::FrameTooLarge { declared }),
            _ => self.retired(),
        }
    }

    /// Whether cutting the connection off costs the peer anything.
    fn is_missing_something(&self, probe: Probe) -> bool {
        let fin = u64::from(self.finished_at.is_some());
        let is_unfinished =
            self.cause.is_none() && (self.retiring.is_some() || self.has_begun_a_frame());
        is_unfinished || self.was_owing || probe.unacknowledged > fin
    }

    /// Whether the end waits for the peer's FIN.
    fn awaits_fin(&self) -> bool {
        !self.fin_received && !self.limits.linger_timeout.is_zero()
    }

    fn note_failure(&mut self, reason: Reason) {
        self.failed = true;
        self.failed_alive |= reason == Reason::IoError;
    }

    /// Notes an error found by a probe; returns the reason that it gives, if any.
    fn note_error(&mut self, probe: Probe) -> Option<Reason> {
        let reason = Reason::from(probe.error?.1);
        if reason == Reason::ClientUnreachable {
            self.soft_error = true;
            return None;
        }
        self.note_failure(reason);
        Some(reason)
    }

    /// Everything is sent: an error does not change the reason, unless the kernel has given up on
    /// the peer.
    fn expect_asked(&mut self, probe: Probe, truth: Truth) -> Option<Reason> {
        let is_gone = self.note_error(probe).is_some();
        if !is_gone && probe.is_over && truth.unacknowledged > 0 {
            self.failed = true;
            if self.soft_error {
                return Some(Reason::ClientUnreachable);
            }
        }
        self.cause
    }

    fn retire(&mut self, reason: Reason, unread: usize) {
        self.retiring = Some(reason);
        // Of a connection whose header is awaited the bytes count from its beginning.
        let received = self.header.as_ref().map_or(self.received, |header| header.received);
        self.fence = received + unread;
    }

    /// The reason why a retiring connection ends, once it has received everything that it had to.
    fn retired(&self) -> Option<Reason> {
        let is_over = match &self.header {
            Some(header) => header.received >= self.fence,
            None => self.served >= self.fence && !self.has_begun_a_frame(),
        };
        self.retiring.filter(|_| is_over)
    }

    /// Or a PROXY header.
    fn has_begun_a_frame(&self) -> bool {
        if let Some(header) = &self.header {
            return header.received > 0;
        }
        matches!(self.model.tail(self.served, self.fence), Tail::Unfinished { .. })
    }

    fn expect_deadline(
        &mut self,
        due: Duration,
        probe: Probe,
        after: Option<Reason>,
        truth: Truth,
    ) -> Result<Option<Reason>, Violation> {
        let before = self.cause;
        if let Some(header) = self.header.as_mut().filter(|_| self.cause.is_none()) {
            header.note_look(due.saturating_sub(self.opened_at), &self.limits, probe);
        }
        if self.is_frame_over(due) && !self.was_owing {
            self.frame_fence.get_or_insert(self.received + probe.unread as usize);
        }
        if let Some(reason) = self.note_error(probe) {
            let replaces = self.finished_at.is_none() || before.is_none();
            return Ok(if replaces { Some(reason) } else { before });
        }
        let is_settled = self.finished_at.is_some() && !self.awaits_fin();
        if is_settled && probe.is_over && truth.unacknowledged > 0 {
            self.failed = true;
        }
        // The first look after the maximum lifetime starts the grace period, which only shows from
        // outside by its length; nor is the start of a retirement visible.
        let is_old = self.limits.max_lifetime.is_some_and(|life| due >= self.opened_at + life);
        let is_first_look = is_old && self.outlived_at.is_none();
        if is_first_look {
            self.outlived_at = Some(truth.now);
        }
        let graced_until = self.outlived_at.map(|at| at + LIFETIME_GRACE);
        self.is_grace_over = !is_first_look && graced_until.is_some_and(|until| due >= until);
        self.aborted |= self.is_grace_over;
        if after != before {
            let reason = after.expect("no operation takes a reason back");
            self.check_not_early(reason, due, probe, truth)?;
            return Ok(Some(reason));
        }
        if is_first_look && before.is_none() && self.retiring.is_none() {
            self.retire(Reason::MaxLifetime, truth.unread);
            return Ok(self.retired());
        }
        let is_cut = self.is_grace_over && self.is_missing_something(probe) && !self.failed;
        Ok(if is_cut { Some(Reason::MaxLifetime) } else { before })
    }

    /// Whether the unfinished frame has used up its time at `due`.
    fn is_frame_over(&self, due: Duration) -> bool {
        let begun_at = self.frame.map_or(Duration::MAX, |(_, at)| at);
        let limit = self.limits.frame_timeout.unwrap_or(Duration::MAX);
        due.saturating_sub(begun_at) >= limit
    }

    fn check_not_early(
        &mut self,
        reason: Reason,
        due: Duration,
        probe: Probe,
        truth: Truth,
    ) -> Result<(), Violation> {
        let is_open = self.cause.is_none();
        let since = |at: Duration| due.saturating_sub(at);
        let timeout = self.limits.timeout.unwrap_or(Duration::MAX);
        let is_reading = is_open && !self.was_owing && probe.unread == 0;
        let holds = match reason {
            Reason::RecvTimeout => {
                is_reading
                    && self.header.is_none()
                    && probe.unacknowledged == 0
                    && since(self.received_at) >= timeout
                    // Bytes that arrived at the moment of the look arrived after it, or the
                    // connection would know of them.
                    && (truth.arrived_at >= due || since(truth.arrived_at) >= timeout)
                    && since(self.paid_at) >= timeout
                    && since(truth.acked_at.min(due)) + self.slack + timeout / 4 >= timeout
            }
            Reason::ProxyHeaderTimeout => {
                let limit = self.limits.proxy_header.unwrap_or(Duration::MAX);
                let had_all = |header: &AwaitedHeader| probe.unread == 0 || header.had_all();
                is_open
                    && since(self.opened_at) >= limit
                    && self.header.as_ref().is_some_and(had_all)
            }
            Reason::FrameTimeout => {
                let had_all = self.frame_fence.is_some_and(|fence| self.received >= fence);
                let may_be_judged = is_reading || is_open && !self.was_owing && had_all;
                may_be_judged && self.is_frame_over(due)
            }
            Reason::SendTimeout | Reason::ClientUnreachable => {
                let since_outstanding = self.outstanding_since.map_or(Duration::ZERO, since);
                let is_lingering = self.finished_at.is_some() && self.awaits_fin();
                let is_stalled = match is_lingering {
                    true => self.waited_out && truth.unacknowledged > 0,
                    false => since(self.acked_seen_at) >= timeout && since_outstanding >= timeout,
                };
                // A connection that the kernel has given up on is over.
                (is_stalled || self.failed)
                    && self.soft_error == (reason == Reason::ClientUnreachable)
            }
            Reason::MaxLifetime if self.is_grace_over => self.is_missing_something(probe),
            Reason::MaxLifetime => {
                if is_open && self.retiring.is_none() {
                    self.retire(Reason::MaxLifetime, truth.unread);
                }
                is_open && self.outlived_at.is_some() && self.retired() == Some(reason)
            }
            _ => false,
        };
        require(holds, "no deadline is early", || {
            format!("{reason:?} judged against {due:?}, {probe:?}, {truth:?}, {self:?}")
        })
    }

    /// Checks that nothing should have ended by now. `paused` is how long the process did not run
    /// lately.
    ///
    /// # Errors
    ///
    /// If something should have ended.
    pub fn check_overdue(
        &mut self,
        truth: Truth,
        paused_since: impl Fn(Duration) -> Duration,
    ) -> Result<(), Violation> {
        let Truth { now, .. } = truth;
        if self.closed.is_some() {
            return Ok(());
        }
        if truth.unread > 0 {
            self.unread_at = now;
        }
        let is_over = |start: Duration, limit: Option<Duration>| {
            let Some(limit) = limit else { return false };
            let quarter = limit / 4;
            now > start + limit + quarter + self.slack + paused_since(start)
        };
        let is_outstanding = self.outstanding_since.is_some();
        let limits = &self.limits;
        let timeout = limits.timeout;
        let overdue = |what: &str, is: bool| {
            require(!is, "no deadline is missed", || {
                format!("{what} at {now:?}: {truth:?}, {self:?}")
            })
        };
        match self.outlived_at {
            None => overdue("a life", is_over(self.opened_at, limits.max_lifetime))?,
            Some(since) => overdue("the grace", is_over(since, Some(LIFETIME_GRACE)))?,
        }
        if let Some(since) = self.finished_at {
            let acked_at = truth.acked_at.max(since);
            let sign_at = acked_at.max(self.received_at);
            let linger = limits.linger_timeout;
            if self.awaits_fin() {
                overdue("lingering in silence", is_over(sign_at, Some(linger)))?;
                let total = linger * TOTAL_LINGER_LIMITS;
                return overdue("lingering", is_over(acked_at, Some(total)));
            }
            overdue(
                "a place of what is acknowledged",
                !is_outstanding && is_over(sign_at, timeout),
            )?;
        }
        if let Some(since) = self.outstanding_since {
            // After the peer's FIN another limit applies.
            let fin_at = self.finished_at.map_or(Duration::ZERO, |_| self.received_at);
            overdue("a stall", is_over(since.max(truth.acked_at).max(fin_at), timeout))?;
        }
        if self.cause.is_some() || self.was_owing || truth.unread > 0 {
            return Ok(());
        }
        // Once they are received, it is judged in the next round.
        let was_unread = now <= self.unread_at + self.slack + paused_since(self.unread_at);
        if self.header.is_some() {
            let is_over = is_over(self.opened_at, limits.proxy_header);
            return overdue("a proxy header", is_over && !was_unread);
        }
        let quiet_since = self.received_at.max(self.paid_at).max(truth.acked_at);
        overdue("silence", !is_outstanding && is_over(quiet_since, timeout))?;
        if let Some((_, begun_at)) = self.frame {
            let is_over = is_over(begun_at, limits.frame_timeout);
            overdue("a slow frame", is_over && !was_unread)?;
        } else if self.retiring.is_none() || self.served >= self.fence {
            overdue(
                "an old connection",
                is_over(self.opened_at.max(self.paid_at), limits.max_lifetime),
            )?;
        }
        Ok(())
    }

    /// Notes progress when the socket is probed.
    pub fn note_progress(&mut self, truth: Truth) {
        // Compares bytes, not times: an acknowledgement may arrive at the very moment of the look
        // before.
        let acked = self.sent.saturating_sub(truth.unacknowledged);
        if acked > self.acked_seen {
            self.acked_seen = acked;
            self.acked_seen_at = truth.acked_at;
            self.soft_error = false;
        }
    }

    /// Notes progress, and whether lingering is over, when a deadline is about to be judged against
    /// `due`.
    pub fn note_look(&mut self, due: Duration, truth: Truth) {
        self.note_progress(truth);
        let Some(since) = self.finished_at else { return };
        let acked_at = self.acked_seen_at.max(since);
        let sign_at = acked_at.max(self.received_at);
        let linger = self.limits.linger_timeout;
        self.waited_out = due >= sign_at + linger || due >= acked_at + linger * TOTAL_LINGER_LIMITS;
    }

    fn note_owing(&mut self, connection: &Connection, truth: Truth) {
        let is_owing = !connection.owed().is_empty();
        if is_owing && !self.was_owing {
            self.owing_since = truth.now;
            self.put_aside = connection.owed().len();
        }
        if !is_owing && self.was_owing {
            self.paid_at = truth.now;
            if let Some((_, begun_at)) = &mut self.frame {
                *begun_at += truth.now - self.owing_since;
            }
        }
        self.was_owing = is_owing;
        self.note_outstanding(truth);
    }

    /// Notes whether bytes are outstanding, which also changes with acknowledgements.
    pub fn note_outstanding(&mut self, truth: Truth) {
        self.outstanding_since = match self.was_owing || truth.unacknowledged > 0 {
            true => self.outstanding_since.or(Some(truth.now)),
            false => None,
        };
    }
}
