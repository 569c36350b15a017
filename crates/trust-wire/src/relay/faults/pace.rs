//! How fast, and in which pieces, a stream is sent.

use core::time::Duration;

use crate::time::Timestamp;

/// The rate is kept in each period of this length.
const QUANTUM: Duration = Duration::from_millis(1);

const QUANTA_PER_SECOND: u64 = 1000;

/// Something that sends are measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) enum SendPace {
    /// So many bytes in a second, a piece at a time.
    Rate {
        bytes: u64,
        piece: u64,
        /// How much of what was missed because the program was woken late is made up for.
        lag: Duration,
        /// When the next piece is due.
        next: Timestamp,
        /// There was nothing to send, so nothing is late.
        is_idle: bool,
    },
    /// So many bytes at once at most, and nothing for such a time after each time.
    Dribble { bytes: u64, per: Duration, next: Timestamp },
    /// Pieces of `first` and `every - first` bytes; the first one begins at this byte of the
    /// output.
    Split { first: u64, every: u64, start: u64 },
    /// So many bytes at once, or what has come in such a time; `released` ones are on their way.
    Merge { bytes: u64, within: Duration, since: Option<Timestamp>, released: u64 },
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
        let quantum = (bytes / QUANTA_PER_SECOND).max(1);
        // Half of a quantum at a time leaves the other half for a late wake-up. Of one byte there
        // is no half: there a late byte does not put off the next one, unless that is late too.
        let piece = quantum.div_ceil(2);
        let lag = match quantum - piece {
            0 => QUANTUM.min(time_of(1, bytes)).saturating_sub(Duration::from_nanos(1)),
            left => time_of(left, bytes),
        };
        SendPace::Rate { bytes, piece, lag, next: Timestamp::default(), is_idle: true }
    }

    /// So many bytes, from 1, each time so much time has passed since the last ones.
    pub(super) fn dribble(bytes: u64, per: Duration) -> SendPace {
        SendPace::Dribble { bytes, per, next: Timestamp::default() }
    }

    /// So many bytes at once, from 1, or what has come in such a time.
    pub(super) fn merge(bytes: u64, within: Duration) -> SendPace {
        SendPace::Merge { bytes, within, since: None, released: 0 }
    }

    /// How many bytes can be sent now, and when more can if none can.
    pub(super) fn allowed(&mut self, waiting: Unsent, now: Timestamp) -> (u64, Timestamp) {
        match self {
            SendPace::Rate { is_idle, piece, bytes, .. } if waiting.len == 0 => {
                // Half of a quantum is no more than what a pause earns; a whole one would be.
                *is_idle = *bytes < 2 * QUANTA_PER_SECOND;
                (*piece, Timestamp::NEVER)
            }
            SendPace::Rate { next, .. } | SendPace::Dribble { next, .. } if now < *next => {
                (0, *next)
            }
            SendPace::Rate { piece, .. } => (*piece, Timestamp::NEVER),
            SendPace::Dribble { bytes, .. } => (*bytes, Timestamp::NEVER),
            SendPace::Split { first, every, start } => {
                let into = (waiting.sent - *start) % *every;
                let border = if into < *first { *first } else { *every };
                (border - into, Timestamp::NEVER)
            }
            SendPace::Merge { since, released, .. } if waiting.len == 0 => {
                (*since, *released) = (None, 0);
                (0, Timestamp::NEVER)
            }
            SendPace::Merge { released, .. } if *released > 0 => (*released, Timestamp::NEVER),
            SendPace::Merge { bytes, within, since, released } => {
                let until = *since.get_or_insert(now) + *within;
                if waiting.len >= *bytes || !waiting.may_grow || until <= now {
                    (*since, *released) = (None, waiting.len.min(*bytes));
                    (*released, Timestamp::NEVER)
                } else {
                    (0, until)
                }
            }
        }
    }

    /// Records that so many bytes were sent.
    pub(super) fn handle_sent(&mut self, count: u64, now: Timestamp) {
        match self {
            SendPace::Rate { bytes, lag, next, is_idle, .. } => {
                // From when it was due, and not from when it was sent, so that lateness does not
                // add up.
                let lag = if *is_idle { Duration::ZERO } else { *lag };
                (*next, *is_idle) = ((*next).max(now.before(lag)) + time_of(count, *bytes), false);
            }
            SendPace::Dribble { per, next, .. } => *next = now + *per,
            SendPace::Split { .. } => {}
            SendPace::Merge { released, .. } => *released = released.saturating_sub(count),
        }
    }

    /// How many bytes must be held for it.
    pub(super) fn room(&self) -> u64 {
        match self {
            SendPace::Merge { bytes, .. } | SendPace::Dribble { bytes, .. } => *bytes,
            SendPace::Rate { .. } | SendPace::Split { .. } => 0,
        }
    }
}

/// How long so many bytes take at that rate, rounded up: never faster.
fn time_of(count: u64, bytes: u64) -> Duration {
    let nanoseconds = (u128::from(count) * 1_000_000_000).div_ceil(u128::from(bytes));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
