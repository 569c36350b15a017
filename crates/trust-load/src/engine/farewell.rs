//! Connections that have sent all they had to: FIN, and a while for the server's.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use trust_net::errno::Operation;
use trust_net::stream::Incoming;

use super::ending::cause_of;
use super::place::State;
use super::{Engine, FAREWELL_MAX};
use crate::connection::Connection;
use crate::readiness::Key;
use crate::summary::Cause;

/// Descriptors that are neither a place's connection nor one that leaves: files, signals, epoll and
/// a timer.
const OTHER_DESCRIPTORS: usize = 64;

/// A connection that has sent FIN and is owed nothing.
#[derive(Debug)]
pub(super) struct Leaving {
    since: Duration,
    connection: Connection,
}

/// How many connections may leave while their places have others: no connection is to fail for want
/// of a descriptor that one of them has.
pub(super) fn leaving_max(places: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(places + OTHER_DESCRIPTORS)
}

impl Engine<'_> {
    /// Sends FIN, and lets the place go on.
    ///
    /// In an open loop messages are due whatever the server does, so none of them waits for its
    /// FIN. In a closed loop the place waits: there are never more connections than clients at the
    /// same time.
    pub(super) fn half_close(&mut self, index: usize) {
        let now = self.timetable.now();
        let place = &mut self.places[index];
        let state = std::mem::replace(&mut place.state, State::Closing);
        let State::Open(connection) = state else { unreachable!("it was open") };
        connection.stream.half_close();
        place.put_off.0 = now;
        let key = place.key(index);
        self.population.leaving.insert(key, Leaving { since: now, connection });
        let is_free = self.shape.is_open_loop()
            && self.population.leaving.len() <= self.population.leaving_max;
        if is_free || self.is_last_connection(index) {
            self.go_on(index, now);
        }
    }

    /// Whether the place has nothing to send on another connection.
    fn is_last_connection(&self, index: usize) -> bool {
        let has_another_client = self.population.has_another_client(self.shape.length);
        let is_last_client = self.places[index].client_left == 0 && !has_another_client;
        is_last_client || (self.places[index].client_left > 0 && self.has_nothing_to_send(index))
    }

    /// Receives what comes after the client's FIN: the server's, or what should not come.
    pub(super) fn receive_last(&mut self, key: Key) {
        let leaving = self.population.leaving.get(&key);
        let Some(Leaving { connection, .. }) = leaving else { return };
        match connection.stream.receive(&mut self.buffer) {
            Incoming::Nothing => return,
            Incoming::End => {}
            // Nothing is owed, and no message fails with it.
            Incoming::Bytes(count) => {
                let now = self.timetable.now();
                self.handle_parts(now);
                self.tally.received(count, now <= self.timetable.end);
                self.tally.failed(Cause::Surplus);
            }
            Incoming::Failed(errno) => {
                self.handle_parts(self.timetable.now());
                self.tally.failed(cause_of(errno, Operation::Receive, false));
            }
        }
        self.left(key);
    }

    /// Closes what has waited for the server's FIN long enough.
    pub(super) fn end_farewells(&mut self, now: Duration) {
        let is_over = |leaving: &Leaving| now.saturating_sub(leaving.since) >= FAREWELL_MAX;
        let over = self.population.leaving.iter().filter(|(_, leaving)| is_over(leaving));
        let keys: Vec<Key> = over.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.left(key));
    }

    /// The connection is over.
    fn left(&mut self, key: Key) {
        self.population.leaving.remove(&key);
        self.population.open -= 1;
        let index = key.place as usize;
        let place = &self.places[index];
        if matches!(place.state, State::Closing) && place.key(index) == key {
            self.go_on(index, self.timetable.now());
        }
    }
}
