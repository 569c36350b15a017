//! A place for clients, and when it has something to do.

use std::cmp::Ordering;
use std::time::Duration;

use trust_net::stream::ClientStream;

use crate::connection::Connection;
use crate::readiness::Key;
use crate::schedule::Schedule;
use crate::shape::{Pace, Shape};

/// A place for one client after another.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) state: State,
    /// When messages are due, in an open loop.
    pub(super) schedule: Option<Schedule>,
    /// Messages that may be sent immediately, in a closed loop. With those in flight and those for
    /// which an alarm is set they always add up to the limit on messages in flight.
    pub(super) credits: usize,
    /// Messages that the client has yet to begin.
    pub(super) client_left: u64,
    /// Since when no part of an answer that is owed has arrived.
    pub(super) progress_at: Duration,
    /// Since when the connection can take another message.
    pub(super) free_since: Duration,
    /// Before that it could not, because the limit on messages in flight was reached.
    pub(super) was_full: bool,
    /// When the client could have connected, and when it did: the delay was its own.
    pub(super) put_off: (Duration, Duration),
    /// An alarm for the next message that is due is set.
    pub(super) has_alarm: bool,
    /// The first connection attempt has ended.
    pub(super) has_tried: bool,
    /// Connection attempts so far; alarms of earlier ones are ignored.
    pub(super) attempts: u64,
}

/// What a place is doing.
#[derive(Debug)]
pub(super) enum State {
    /// It waits until it may connect.
    Waiting,
    /// It found the accept queue of a unix socket full, and tries again soon.
    Queueing {
        /// Since then.
        since: Duration,
    },
    /// It connects.
    Connecting {
        /// Since then.
        since: Duration,
        /// The attempt.
        stream: ClientStream,
    },
    /// It has a connection.
    Open(Connection),
    /// Its last connection has sent FIN. It opens the next one once the server's FIN has arrived.
    Closing,
    /// No further clients come.
    Done,
}

impl Place {
    /// Place `number` of all shards.
    pub(super) fn new(shape: &Shape, number: u64) -> Place {
        let schedule = match shape.pace {
            Pace::Closed { .. } => None,
            Pace::Open { rate, arrivals } => {
                Some(Schedule::new(arrivals, rate, number, shape.places.of_all, shape.seed))
            }
        };
        Place {
            state: State::Waiting,
            schedule,
            credits: shape.in_flight,
            client_left: 0,
            progress_at: Duration::ZERO,
            free_since: Duration::ZERO,
            was_full: false,
            put_off: (Duration::ZERO, Duration::ZERO),
            has_alarm: false,
            has_tried: false,
            attempts: 0,
        }
    }

    /// Identifies this attempt's socket.
    pub(super) fn key(&self, index: usize) -> Key {
        Key { place: index as u32, attempt: self.attempts as u32 }
    }

    /// Takes a connection.
    pub(super) fn open(&mut self, connection: Connection, now: Duration) {
        self.state = State::Open(connection);
        self.has_alarm = false;
        self.free_since = now;
        self.was_full = false;
        self.progress_at = now;
    }
}

/// When a place has something to do: the earliest is the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alarm {
    pub(super) at: Duration,
    pub(super) place: usize,
    pub(super) what: What,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Connect, if this is still the last attempt that is to be made.
    Connect { attempt: u64 },
    /// Send what is due, if the connection of this attempt is still there.
    Send { attempt: u64 },
    /// The client has thought long enough: one more message may be sent, on whatever connection.
    Earn,
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at).then(self.place.cmp(&other.place))
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
