//! How connections, clients and places end, and how the messages that they leave are counted.

use std::time::Duration;

use trust_net::errno::{ErrorClass, Operation, classify};

use super::place::State;
use super::timetable::Stage;
use super::{ALIKE, Engine, PAUSE_AFTER_FAILURE};
use crate::connection::Times;
use crate::shape::Length;
use crate::summary::Cause;

impl Engine<'_> {
    /// The server has closed the connection, with nothing owed.
    pub(super) fn closed(&mut self, index: usize) {
        self.population.open -= 1;
        let now = self.timetable.now();
        let place = &mut self.places[index];
        place.state = State::Waiting;
        place.put_off.0 = now;
        self.go_on(index, now);
    }

    /// An error ends the connection, or the attempt to make one.
    pub(super) fn fail(&mut self, index: usize, cause: Cause) {
        let now = self.timetable.now();
        self.handle_parts(now);
        self.tally.last_settled = now;
        self.tally.failed(cause);
        let place = &mut self.places[index];
        let state = std::mem::replace(&mut place.state, State::Waiting);
        if let State::Open(connection) = &state {
            self.population.open -= 1;
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

    /// Starts the next connection of the place's client or of its next one, or ends the place.
    pub(super) fn go_on(&mut self, index: usize, at: Duration) {
        if self.places[index].client_left == 0 {
            self.places[index].client_left = self.population.take_client(self.shape.length);
        }
        match at >= self.timetable.finish_by || self.has_nothing_to_send(index) {
            true => self.retire(index, self.timetable.now()),
            false => self.connect_later(index, at),
        }
    }

    /// Takes the place out of the run. Messages that were due and could not be sent have waited
    /// until `now`.
    pub(super) fn retire(&mut self, index: usize, now: Duration) {
        let place = &mut self.places[index];
        if matches!(place.state, State::Open(_)) {
            self.population.open -= 1;
        }
        place.state = State::Done;
        self.population.busy_places -= 1;
        self.count_unsent(index, now);
        self.settle();
    }

    /// Work ends with the last answer, not with the server's FIN.
    fn settle(&mut self) {
        if self.timetable.end == Duration::MAX && self.population.is_settled() {
            self.meter.stop(self.timetable.now());
        }
    }

    /// Counts messages that were due by `now`, and before the end, but were not sent.
    pub(super) fn count_unsent(&mut self, index: usize, now: Duration) {
        let until = now.min(self.timetable.end).saturating_sub(self.timetable.begin);
        let place = &mut self.places[index];
        let Some(schedule) = &mut place.schedule else { return };
        if place.client_left == 0 || !place.has_tried || self.timetable.end == Duration::MAX {
            return;
        }
        while schedule.next() < until {
            let due = self.timetable.due(schedule);
            // Many at once, as long as a histogram cannot tell their times apart.
            let same = now.saturating_sub(due) / ALIKE;
            let mut left = until.min(schedule.next() + same);
            if due < self.timetable.measure_from {
                // A message of the measured part must not count as one of the warm-up.
                left = left.min(self.timetable.measure_from - self.timetable.begin);
            }
            let count = schedule.skip_until(left);
            self.tally.unsent(Times::new(due, due), count, now);
            self.tally.last_settled = self.tally.last_settled.max(now);
        }
    }

    /// Counts the messages in flight when the wait for the last answers is over.
    pub(super) fn count_past_grace(&mut self, index: usize) {
        let State::Open(connection) = &self.places[index].state else { return };
        for (times, count) in connection.times() {
            if self.tally.is_measured(times) {
                self.tally.counts.past_grace += count as u64;
            }
        }
    }

    /// Counts the messages in flight or due when a signal came. They have waited until `now`.
    pub(super) fn count_outstanding(&mut self, now: Duration) {
        for index in 0..self.places.len() {
            if let State::Open(connection) = &self.places[index].state {
                for (times, count) in connection.times() {
                    self.tally.outstanding(times, count, now);
                }
            }
            if self.timetable.stage > Stage::Connecting {
                self.count_unsent(index, now);
            }
        }
    }
}

/// The cause that an error counts as. `is_owed`: whether an answer was owed.
pub(super) fn cause_of(errno: i32, operation: Operation, is_owed: bool) -> Cause {
    match classify(errno, operation) {
        ErrorClass::Reset | ErrorClass::BrokenPipe if is_owed => Cause::ResetBeforeAnswer,
        ErrorClass::Reset | ErrorClass::BrokenPipe => Cause::ResetAfterAnswer,
        ErrorClass::Refused | ErrorClass::Missing => Cause::Refused,
        ErrorClass::TimedOut if operation == Operation::Connect => Cause::ConnectTimeout,
        ErrorClass::TimedOut => Cause::Timeout,
        ErrorClass::Unreachable => Cause::Unreachable,
        ErrorClass::NoAddress | ErrorClass::Exhausted => Cause::NoPort,
        _ => Cause::Io,
    }
}
