//! What must hold after each step of a connection, and for the step that ends it.

use std::time::Duration;

use trust_wire::{CloseStep, Connection, Phase, Reason, Timestamp};

use super::{Truth, Violation, Witness, require};
use crate::model::Tail;

/// Spare room of a decoder, in bytes, that received bytes need not have earned.
const SPARE_MIN: usize = 512;

impl Witness {
    pub(super) fn check_step(&mut self, step: CloseStep, truth: Truth) -> Result<(), Violation> {
        let reason = self.cause;
        let is_orderly = matches!(
            reason,
            Some(
                Reason::PeerFin
                    | Reason::TruncatedFrame { .. }
                    | Reason::FrameTooLarge { .. }
                    | Reason::RecvTimeout
                    | Reason::MaxLifetime
                    | Reason::Drain
                    | Reason::AtCapacity
            )
        );
        let is_cut = matches!(
            reason,
            Some(
                Reason::SendTimeout
                    | Reason::FrameTimeout
                    | Reason::DrainTimeout
                    | Reason::SecondSignal
                    | Reason::ProxyHeaderInvalid(_)
                    | Reason::ProxyHeaderTimeout
            )
        );
        let holds = match step {
            CloseStep::ShutdownSend => {
                let is_first = self.finished_at.replace(truth.now).is_none();
                let waits = self.awaits_fin() || truth.unacknowledged > 0;
                is_first && is_orderly && !self.was_owing && waits
            }
            CloseStep::Reset => {
                let is_unreachable = reason == Some(Reason::ClientUnreachable);
                let is_outlived = reason == Some(Reason::MaxLifetime) && self.is_grace_over;
                is_cut || is_unreachable || self.failed_alive || is_outlived
            }
            CloseStep::Close if is_cut => self.aborted,
            CloseStep::Close if is_orderly => {
                let is_waived = !self.awaits_fin() || self.failed || self.aborted;
                let is_waited_out = self.finished_at.is_some() && self.waited_out;
                self.failed || !self.was_owing && (is_waived || is_waited_out)
            }
            CloseStep::Close => self.failed,
        };
        let leaves_bytes = step == CloseStep::Close && truth.unacknowledged > 0 && !self.failed;
        require(!leaves_bytes, "a close leaves no byte to the kernel", || format!("{self:?}"))?;
        if step != CloseStep::ShutdownSend {
            require(self.closed.is_none(), "a connection is closed once", || format!("{step:?}"))?;
            self.closed = Some(step);
        }
        require(holds, "the end takes the right steps", || format!("{step:?}: {self:?}"))
    }

    /// Checks that every whole frame that arrived is answered, and nothing else.
    pub(super) fn check_answer(&self, connection: &Connection) -> Result<(), Violation> {
        let owed = connection.owed().len();
        let answer = self.owed_in_all();
        let is_gone = self.failed || self.aborted || self.closed.is_some();
        let is_right = match self.cause {
            Some(Reason::AtCapacity) => self.sent + owed == 0,
            _ if is_gone || connection.cause().is_some_and(|cause| is_failure(cause.reason)) => {
                self.sent <= answer
            }
            _ => self.sent + owed == answer,
        };
        require(is_right, "whole frames are answered, and nothing else", || {
            format!("{} sent, {owed} owed of {answer}: {self:?}", self.sent)
        })?;
        let totals = connection.totals();
        let frames_in = self.model.answer_frames(self.served, self.fence);
        let frames_out = self.model.answer_frames(self.sent, usize::MAX);
        let seen = (totals.bytes_in, totals.bytes_out, totals.frames_in, totals.frames_out);
        let is_served = self.cause != Some(Reason::AtCapacity);
        let frames_in = if is_served { frames_in as u64 } else { 0 };
        let due = (self.received as u64, self.sent as u64, frames_in, frames_out as u64);
        require(seen == due, "the totals are right", || format!("{seen:?}, not {due:?}"))
    }

    pub(super) fn check_buffers(&self, connection: &Connection) -> Result<(), Violation> {
        let have = match (&self.header, self.model.tail(self.served, self.fence)) {
            (Some(header), _) => header.held(),
            (None, Tail::Unfinished { have, .. }) => have,
            _ => 0,
        };
        let is_holding = have > 0 && self.cause.is_none();
        let held = if is_holding { have + have.max(SPARE_MIN) } else { 0 };
        // Owed bytes were put aside once, are freed as a whole, and are at most the answer to one
        // receive.
        let owed_at_most = if self.was_owing { self.put_aside } else { 0 };
        let one_answer = self.last_receive + 4 + self.limits.max_payload as usize;
        require(owed_at_most <= one_answer, "what is owed is the answer to one receive", || {
            format!("{owed_at_most} bytes: {self:?}")
        })?;
        let buffered = connection.buffered();
        let bound = held + owed_at_most;
        require(
            buffered <= bound
                || self.closed.is_some()
                || self.failed
                || self.aborted
                || self.cause.is_some_and(is_failure),
            "no buffer is above its bound",
            || format!("{buffered} bytes above {bound}: {self:?}"),
        )
    }

    pub(super) fn check_interest(&self, connection: &Connection) -> Result<(), Violation> {
        let reads_while_owing =
            self.was_owing && self.cause.is_none() && connection.wants_receive();
        require(!reads_while_owing, "a connection that owes is not read", || format!("{self:?}"))?;
        let is_armed = connection.poll_deadline() != Timestamp::NEVER;
        let needs_deadline = match (self.cause, self.limits.timeout) {
            (None, _) if self.header.is_some() => self.limits.proxy_header < Some(Duration::MAX),
            (None, Some(_)) => true,
            (None, None) => false,
            (Some(_), timeout) => {
                let is_stall_due = timeout.is_some() && self.outstanding_since.is_some();
                let is_limited = self.awaits_fin() || is_stall_due;
                self.finished_at.is_some() && is_limited && self.closed.is_none() && !self.failed
            }
        };
        let is_closed = connection.phase() == Phase::Closed;
        require(is_armed || !needs_deadline || is_closed, "a deadline is armed", || {
            format!("{self:?}")
        })
    }
}

/// Whether `reason` drops what is owed.
fn is_failure(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SendTimeout
            | Reason::FrameTimeout
            | Reason::DrainTimeout
            | Reason::SecondSignal
            | Reason::ClientReset
            | Reason::BrokenPipe
            | Reason::ClientUnreachable
            | Reason::IoError
            | Reason::ProxyHeaderInvalid(_)
            | Reason::ProxyHeaderTimeout
    )
}
