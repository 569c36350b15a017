//! A place for clients, and when it has something to do.

use std::cmp::Ordering;
use std::time::Duration;

use socket2::Socket;

use crate::load::connection::Connection;
use crate::load::readiness::Key;
use crate::load::schedule::Schedule;
use crate::load::shape::{Pace, Shape};

/// A place for one client after the other.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) state: State,
    /// When messages are due, in an open loop.
    pub(super) schedule: Option<Schedule>,
    /// Messages that may be sent at once, in a closed loop. An alarm of an open loop gives one too, which nobody asks
    /// for.
    pub(super) credits: usize,
    /// Messages that the client has still to begin.
    pub(super) client_left: u64,
    /// Since when nothing has come of what is owed.
    pub(super) progress_at: Duration,
    /// Since when the connection can take another message.
    pub(super) free_since: Duration,
    /// An alarm for the next message that is due is set.
    pub(super) has_alarm: bool,
    /// The first connection attempt has ended.
    pub(super) has_tried: bool,
    /// Connection attempts; alarms of former ones mean nothing.
    pub(super) attempts: u64,
}

/// What a place is doing.
#[derive(Debug)]
pub(super) enum State {
    /// It waits until it may connect.
    Waiting,
    /// It connects.
    Connecting {
        /// Since then.
        since: Duration,
        /// The socket.
        socket: Socket,
    },
    /// It has a connection.
    Open(Connection),
    /// It has sent FIN and waits for the server's.
    Closing {
        /// Since then.
        since: Duration,
        /// The connection.
        connection: Connection,
    },
    /// No client comes any more.
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
            credits: 0,
            client_left: 0,
            progress_at: Duration::ZERO,
            free_since: Duration::ZERO,
            has_alarm: false,
            has_tried: false,
            attempts: 0,
        }
    }

    /// What tells of this attempt's socket from others.
    pub(super) fn key(&self, index: usize) -> Key {
        Key { place: index as u32, attempt: self.attempts as u32 }
    }

    /// Takes a connection.
    pub(super) fn open(&mut self, connection: Connection, shape: &Shape, now: Duration) {
        self.state = State::Open(connection);
        self.credits = shape.in_flight;
        self.has_alarm = false;
        self.free_since = now;
        self.progress_at = now;
    }
}

/// When a place has something to do: the earliest is the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alarm {
    pub(super) at: Duration,
    pub(super) place: usize,
    /// The connection attempt that it belongs to.
    pub(super) attempt: u64,
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
