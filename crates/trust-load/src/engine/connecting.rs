//! From a place without a connection to one that has it.

use std::cmp::Reverse;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::place::{Alarm, State, What};
use super::{Engine, Stage, errno_of};
use crate::connection::Connection;
use crate::shape::Places;
use crate::summary::Cause;

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
        match self.attempt(index) {
            Ok(socket) => self.places[index].state = State::Connecting { since, socket },
            Err(error) => self.fail(index, cause_of_connecting(errno_of(&error))),
        }
    }

    pub(super) fn attempt(&self, index: usize) -> io::Result<Socket> {
        let address = self.shape.address;
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if matches!(errno_of(&error), Errno::INPROGRESS | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        self.readiness.add(&socket, self.places[index].key(index))?;
        Ok(socket)
    }

    /// A connection is there.
    pub(super) fn connected(&mut self, index: usize, socket: Socket, took: Duration) {
        let now = self.now();
        self.tally.connected(took);
        self.connections += 1;
        self.open += 1;
        let peak = &mut self.tally.counts.connections_peak;
        *peak = (*peak).max(self.open);
        // No two shards have a number in common, so an echo that came to the wrong one is seen.
        let Places { first, step, .. } = self.shape.places;
        let number = first + 1 + (self.connections - 1) * step;
        let connection = Connection::new(socket, number, &self.shape.script);
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
        let State::Connecting { since, socket } = state else { unreachable!("it was connecting") };
        // With nobody listening on a port of the ephemeral range the socket may have connected to itself.
        let is_self = || match (socket.local_addr(), socket.peer_addr()) {
            (Ok(own), Ok(peer)) => own == peer,
            _ => false,
        };
        match socket.take_error() {
            Ok(None) if is_self() => self.fail(index, Cause::Refused),
            Ok(None) => self.connected(index, socket, now - since),
            Ok(Some(error)) | Err(error) => {
                self.fail(index, cause_of_connecting(errno_of(&error)));
            }
        }
    }
}

fn cause_of_connecting(errno: Errno) -> Cause {
    match errno {
        Errno::CONNREFUSED | Errno::CONNRESET => Cause::Refused,
        Errno::TIMEDOUT => Cause::ConnectTimeout,
        Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN => {
            Cause::Unreachable
        }
        Errno::ADDRNOTAVAIL | Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
            Cause::NoPort
        }
        _ => Cause::Io,
    }
}
