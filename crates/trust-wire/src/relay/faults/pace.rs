//! How fast, and in which pieces, a stream is sent.

use core::time::Duration;

use crate::time::Timestamp;

/// The rate is kept in each period of this length.
const QUANTUM: Duration = Duration::from_millis(1);

/// Something that sends are measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum SendPace {
    /// So many bytes in such a time, a piece at a time.
    Rate {
        bytes: u64,
        per: Duration,
        piece: u64,
        /// How much of what was missed because the program was woken late is made up for.
        lag: Duration,
        /// When the next piece is due.
        next: Timestamp,
    },
    /// Pieces of `first` and `every - first` bytes; the first one begins at this byte of the
    /// output.
    Split { first: u64, every: u64, start: u64 },
    /// So many bytes at once, or what has come in such a time.
    Merge { bytes: u64, within: Duration, since: Option<Timestamp> },
}

/// What waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsent {
    /// How many bytes were sent before.
    pub(super) sent: u64,
    /// How many can be sent but for the pace.
    pub(super) len: u64,
    /// Whether more can come to it.
    pub(super) may_grow: bool,
}

impl SendPace {
    /// So many bytes in each second, from 1.
    pub(super) fn rate(bytes: u64) -> SendPace {
        let quantum = (bytes / 1000).max(1);
        // Half of a quantum at a time leaves the other half for a late wake-up. Of one byte there
        // is no half: there a late byte does not put off the next one, unless that is late too.
        let piece = quantum.div_ceil(2);
        let second = Duration::from_secs(1);
        let lag = match quantum - piece {
            0 => QUANTUM.min(time_of(1, bytes, second)).saturating_sub(Duration::from_nanos(1)),
            left => time_of(left, bytes, second),
        };
        SendPace::Rate { bytes, per: second, piece, lag, next: Timestamp::default() }
    }

    /// So many bytes, from 1, each time so much time has passed since the last ones.
    pub(super) fn dribble(bytes: u64, per: Duration) -> SendPace {
        let lag = Duration::ZERO;
        SendPace::Rate { bytes, per, piece: bytes, lag, next: Timestamp::default() }
    }

    /// How many bytes can be sent now, and when more can if none can.
    pub(super) fn allowed(&mut self, waiting: Unsent, now: Timestamp) -> (u64, Timestamp) {
        match self {
            SendPace::Rate { next, .. } if now < *next => (0, *next),
            SendPace::Rate { piece, .. } => (*piece, Timestamp::NEVER),
            SendPace::Split { first, every, start } => {
                let into = (waiting.sent - *start) % *every;
                let border = if into < *first { *first } else { *every };
                (border - into, Timestamp::NEVER)
            }
            SendPace::Merge { since, .. } if waiting.len == 0 => {
                *since = None;
                (0, Timestamp::NEVER)
            }
            SendPace::Merge { bytes, within, since } => {
                let until = *since.get_or_insert(now) + *within;
                if waiting.len >= *bytes || !waiting.may_grow || until <= now {
                    (*bytes, Timestamp::NEVER)
                } else {
                    (0, until)
                }
            }
        }
    }

    /// When the bytes were due that can be sent now.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match self {
            SendPace::Rate { next, .. } => Some(*next),
            SendPace::Merge { within, since, .. } => since.map(|since| since + *within),
            SendPace::Split { .. } => None,
        }
    }

    /// Records that so many bytes were sent.
    pub(super) fn handle_sent(&mut self, count: u64, now: Timestamp) {
        match self {
            SendPace::Rate { bytes, per, lag, next, .. } => {
                // From when it was due, and not from when it was sent: lateness does not add up if
                // it is made up for.
                let due = (*next).max(now.before(*lag));
                *next = due + time_of(count, *bytes, *per);
            }
            SendPace::Split { .. } => {}
            SendPace::Merge { since, .. } => *since = None,
        }
    }

    /// How many bytes must be held for it.
    pub(super) fn room(&self) -> u64 {
        match self {
            SendPace::Merge { bytes, .. } => *bytes,
            SendPace::Rate { .. } | SendPace::Split { .. } => 0,
        }
    }
}

/// How long so many bytes take at that rate, rounded up: never faster.
fn time_of(count: u64, bytes: u64, per: Duration) -> Duration {
    let nanoseconds = (u128::from(count) * per.as_nanos()).div_ceil(u128::from(bytes));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
