//! How connections, clients and places end, and what is counted of what they leave.

use std::time::Duration;

use trust_net::errno::{ErrorClass, Operation, classify};

use super::place::State;
use super::{ALIKE, Engine, PAUSE_AFTER_FAILURE, Stage};
use crate::connection::Times;
use crate::shape::Length;
use crate::summary::Cause;

impl Engine<'_> {
    /// The server has closed the connection, with nothing owed.
    pub(super) fn closed(&mut self, index: usize) {
        self.open -= 1;
        let now = self.now();
        let place = &mut self.places[index];
        place.state = State::Waiting;
        place.put_off.0 = now;
        self.go_on(index, now);
    }

    /// An error ends the connection, or the attempt to have one.
    pub(super) fn fail(&mut self, index: usize, cause: Cause) {
        let now = self.now();
        self.handle_parts(now);
        self.last_settled = now;
        self.tally.failed(cause);
        let place = &mut self.places[index];
        let state = std::mem::replace(&mut place.state, State::Waiting);
        if let State::Open(connection) = &state {
            self.open -= 1;
            for (times, count) in connection.times() {
                let is_measured = self.tally.is_measured(times);
                self.tally.counts.failed += if is_measured { count as u64 } else { 0 };
                if cause == Cause::Timeout {
                    self.tally.given_up(times, count, now);
                }
            }
            place.credits += connection.in_flight();
        }
        drop(state);
        self.attempted(index);
        let place = &mut self.places[index];
        place.put_off.0 = now;
        match self.shape.length {
            Length::Messages { .. } => {
                self.tally.counts.failed += std::mem::take(&mut place.client_left);
                self.go_on(index, now);
            }
            Length::Time(_) => self.go_on(index, now + PAUSE_AFTER_FAILURE),
        }
    }

    /// The server has closed an open connection, which is right only if the client was about to.
    pub(super) fn handle_end(&mut self, index: usize) {
        let State::Open(connection) = &self.places[index].state else { unreachable!("it is open") };
        let (is_inside, is_owed) = (connection.is_inside_message(), connection.in_flight() > 0);
        match (is_inside, is_owed) {
            (true, _) => self.fail(index, Cause::EofInFrame),
            (false, false) if self.has_nothing_to_send(index) => self.closed(index),
            (false, _) => self.fail(index, Cause::EofBetweenFrames),
        }
    }

    /// The next connection of the place's client, or its next client, or nothing more.
    pub(super) fn go_on(&mut self, index: usize, at: Duration) {
        if self.places[index].client_left == 0 {
            self.take_client(index);
        }
        match at >= self.finish_by || self.has_nothing_to_send(index) {
            true => self.retire(index, self.now()),
            false => self.connect_later(index, at),
        }
    }

    /// Whether a client is left that has not begun.
    pub(super) fn has_another_client(&self) -> bool {
        match self.shape.length {
            Length::Time(_) => true,
            Length::Messages { clients, .. } => self.clients_begun < clients,
        }
    }

    /// Gives the place its next client, if there is one.
    pub(super) fn take_client(&mut self, index: usize) {
        self.places[index].client_left = match self.shape.length {
            Length::Time(_) => u64::MAX,
            Length::Messages { clients, each } if self.clients_begun < clients => {
                self.clients_begun += 1;
                each
            }
            Length::Messages { .. } => 0,
        };
    }

    /// Nothing more comes from this place; what was due and could not be sent has waited until `now`.
    pub(super) fn retire(&mut self, index: usize, now: Duration) {
        let place = &mut self.places[index];
        if matches!(place.state, State::Open(_)) {
            self.open -= 1;
        }
        place.state = State::Done;
        self.done += 1;
        self.count_unsent(index, now);
        self.settle();
    }

    /// Work ends with the last answer, and not with the server's FIN.
    fn settle(&mut self) {
        if self.end == Duration::MAX && self.is_settled() {
            self.meter.stop(self.now());
        }
    }

    /// Counts what was due until `now`, and before the end, and was not sent.
    pub(super) fn count_unsent(&mut self, index: usize, now: Duration) {
        let until = now.min(self.end).saturating_sub(self.begin);
        let place = &mut self.places[index];
        let Some(schedule) = &mut place.schedule else { return };
        if place.client_left == 0 || !place.has_tried || self.end == Duration::MAX {
            return;
        }
        while schedule.next() < until {
            let due = self.begin + schedule.next();
            // Many at once, as far as a histogram does not tell their times apart.
            let same = now.saturating_sub(due) / ALIKE;
            let mut left = until.min(schedule.next() + same);
            if due < self.measure_from {
                // None of the measured part counts as one of the warm-up.
                left = left.min(self.measure_from - self.begin);
            }
            let count = schedule.skip_until(left);
            self.tally.unsent(Times::new(due, due), count, now);
            self.last_settled = self.last_settled.max(now);
        }
    }

    /// What was on the way and what was due when a signal came has waited until then.
    pub(super) fn count_outstanding(&mut self, now: Duration) {
        for index in 0..self.places.len() {
            if let State::Open(connection) = &self.places[index].state {
                for (times, count) in connection.times() {
                    self.tally.outstanding(times, count, now);
                }
            }
            if self.stage > Stage::Connecting {
                self.count_unsent(index, now);
            }
        }
    }
}

/// What an error is counted as; `is_owed`: an answer was.
pub(super) fn cause_of(errno: i32, operation: Operation, is_owed: bool) -> Cause {
    match classify(errno, operation) {
        ErrorClass::Reset | ErrorClass::BrokenPipe if is_owed => Cause::ResetBeforeAnswer,
        ErrorClass::Reset | ErrorClass::BrokenPipe => Cause::ResetAfterAnswer,
        ErrorClass::Refused => Cause::Refused,
        ErrorClass::TimedOut if operation == Operation::Connect => Cause::ConnectTimeout,
        ErrorClass::TimedOut => Cause::Timeout,
        ErrorClass::Unreachable => Cause::Unreachable,
        ErrorClass::NoAddress | ErrorClass::Exhausted => Cause::NoPort,
        _ => Cause::Io,
    }
}
