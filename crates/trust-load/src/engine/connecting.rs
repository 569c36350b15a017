//! How places connect.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use trust_net::Address;
use trust_net::errno::{self, Operation};
use trust_net::socket::path_info;
use trust_net::stream::ClientStream;

use super::Engine;
use super::ending::cause_of;
use super::place::{State, What};
use super::timetable::Stage;
use crate::connection::Connection;

/// Just under the time after which the kernel retransmits a SYN: a second (RFC 6298, section 2.1).
const SYN_AGAIN: Duration = Duration::from_millis(900);

/// Retransmitted segments, SYNs included.
fn retransmits(stream: &ClientStream) -> u32 {
    path_info(stream.as_fd()).retransmits
}

impl Engine<'_> {
    /// Lets the place connect as soon as `--connect-rate` permits.
    pub(super) fn connect_later(&mut self, index: usize, from: Duration) {
        let at = self.timetable.take_connect(from, self.shape.connecting.gap);
        let place = &mut self.places[index];
        place.state = State::Waiting;
        place.attempts += 1;
        place.put_off.1 = at;
        let what = What::Connect { attempt: place.attempts };
        self.timetable.set_alarm(at, index, what);
    }

    pub(super) fn connect(&mut self, index: usize) {
        let now = self.timetable.now();
        let since = match self.places[index].state {
            State::Queueing { since } => since,
            _ => now,
        };
        let address = self.address(index);
        let stream = match ClientStream::begin_connecting(address, |_| ()) {
            Err(error) if ClientStream::is_queue_full(address, &error) => {
                return self.queue(index, since, now);
            }
            stream => stream,
        };
        let key = self.places[index].key(index);
        match stream.and_then(|stream| self.readiness.add(&stream, key).map(|()| stream)) {
            Ok(stream) => self.places[index].state = State::Connecting { since, stream },
            Err(error) => self.fail_connecting(index, &error),
        }
    }

    /// Lets the place try again soon, as part of the same attempt.
    fn queue(&mut self, index: usize, since: Duration, now: Duration) {
        let place = &mut self.places[index];
        place.state = State::Queueing { since };
        let what = What::Connect { attempt: place.attempts };
        let pause = ClientStream::queue_pause(now.saturating_sub(since));
        self.timetable.set_alarm(now + pause, index, what);
    }

    /// The address that the place connects to. Places take the addresses in turn, and each place
    /// moves on to the next one with every connection. The first place's first connection was made
    /// earlier, to the first address.
    fn address(&self, index: usize) -> &Address {
        let before = self.places[index].attempts as usize - 1;
        let addresses = &self.shape.connecting.addresses;
        &addresses[(index + before) % addresses.len()]
    }

    fn fail_connecting(&mut self, index: usize, error: &io::Error) {
        self.fail(index, cause_of(errno::of(error), Operation::Connect, false));
    }

    /// The place has a connection now.
    pub(super) fn connected(&mut self, index: usize, stream: ClientStream, took: Duration) {
        let now = self.timetable.now();
        self.tally.connected(took, took >= SYN_AGAIN && retransmits(&stream) > 0);
        let number = self.population.connected(self.shape.places);
        let peak = &mut self.tally.counts.connections_peak;
        *peak = (*peak).max(self.population.open);
        let connection = Connection::new(stream, number, &self.shape.script);
        self.places[index].open(connection, now);
        self.attempted(index);
        self.pump(index);
    }

    /// The place's connection attempt has ended.
    pub(super) fn attempted(&mut self, index: usize) {
        if std::mem::replace(&mut self.places[index].has_tried, true) {
            return;
        }
        self.population.first_attempts -= 1;
        if self.timetable.stage != Stage::Connecting {
            // A place that connects while others are already sending does not catch up.
            let since_begin = self.timetable.now() - self.timetable.begin;
            if let Some(schedule) = &mut self.places[index].schedule {
                schedule.skip_to(since_begin);
            }
        } else if self.population.first_attempts == 0 {
            self.begin_sending(self.timetable.now());
        }
    }

    pub(super) fn finish_connecting(&mut self, index: usize) {
        let now = self.timetable.now();
        let place = &mut self.places[index];
        let state = std::mem::replace(&mut place.state, State::Waiting);
        let State::Connecting { since, mut stream } = state else {
            unreachable!("it was connecting")
        };
        match stream.finish_connecting() {
            Ok(()) => {
                // Immediately: the server may not wait for it until the first message is sent.
                if let Some(preface) = &self.shape.connecting.preface {
                    stream.send_preface(preface);
                }
                self.connected(index, stream, now - since);
            }
            Err(error) => self.fail_connecting(index, &error),
        }
    }
}
