//! From a place without a connection to one that has it.

use std::cmp::Reverse;
use std::io;
use std::time::Duration;

use trust_net::errno::{self, Operation};
use trust_net::stream::ClientStream;

use super::ending::cause_of;
use super::place::{Alarm, State, What};
use super::{Engine, Stage};
use crate::connection::Connection;
use crate::shape::Places;

impl Engine<'_> {
    /// Lets the place connect as soon as it may.
    pub(super) fn connect_later(&mut self, index: usize, from: Duration) {
        let at = from.max(self.next_connect);
        if !self.shape.connect_gap.is_zero() {
            self.next_connect = at + self.shape.connect_gap;
        }
        let place = &mut self.places[index];
        place.state = State::Waiting;
        place.attempts += 1;
        place.put_off.1 = at;
        let what = What::Connect { attempt: place.attempts };
        self.alarms.push(Reverse(Alarm { at, place: index, what }));
    }

    pub(super) fn connect(&mut self, index: usize) {
        let since = self.now();
        let stream = ClientStream::begin_connecting(self.shape.address, |_| ());
        let key = self.places[index].key(index);
        match stream.and_then(|stream| self.readiness.add(&stream, key).map(|()| stream)) {
            Ok(stream) => self.places[index].state = State::Connecting { since, stream },
            Err(error) => self.fail_connecting(index, &error),
        }
    }

    fn fail_connecting(&mut self, index: usize, error: &io::Error) {
        self.fail(index, cause_of(errno::of(error), Operation::Connect, false));
    }

    /// A connection is there.
    pub(super) fn connected(&mut self, index: usize, stream: ClientStream, took: Duration) {
        let now = self.now();
        self.tally.connected(took);
        self.connections += 1;
        self.open += 1;
        let peak = &mut self.tally.counts.connections_peak;
        *peak = (*peak).max(self.open);
        // No two shards have a number in common, so an echo that came to the wrong one is seen.
        let Places { first, step, .. } = self.shape.places;
        let number = first + 1 + (self.connections - 1) * step;
        let connection = Connection::new(stream, number, &self.shape.script);
        self.places[index].open(connection, now);
        self.attempted(index);
        self.pump(index);
    }

    /// The place's connection attempt has come to an end.
    pub(super) fn attempted(&mut self, index: usize) {
        if std::mem::replace(&mut self.places[index].has_tried, true) {
            return;
        }
        self.first_attempts -= 1;
        if self.stage != Stage::Connecting {
            // Whoever comes while others send already does not catch up.
            let since_begin = self.now() - self.begin;
            if let Some(schedule) = &mut self.places[index].schedule {
                schedule.skip_to(since_begin);
            }
        } else if self.first_attempts == 0 {
            self.begin_sending(self.now());
        }
    }

    pub(super) fn finish_connecting(&mut self, index: usize) {
        let now = self.now();
        let place = &mut self.places[index];
        let state = std::mem::replace(&mut place.state, State::Waiting);
        let State::Connecting { since, stream } = state else { unreachable!("it was connecting") };
        match stream.finish_connecting() {
            Ok(()) => self.connected(index, stream, now - since),
            Err(error) => self.fail_connecting(index, &error),
        }
    }
}
