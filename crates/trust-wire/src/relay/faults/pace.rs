//! How fast, and in which pieces, a stream is sent.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use super::draw::draw;
use crate::time::Timestamp;

/// The rate is kept in each period of this length.
const QUANTUM: Duration = Duration::from_millis(1);

const QUANTA_PER_SECOND: u64 = 1000;

/// A rate that several streams share, of one connection or of many.
///
/// A stream with something to send reserves a time for its next piece, after the times of all
/// others. So they take turns, are never faster together, and need not know each other.
#[derive(Clone, Debug)]
pub struct SharedRate {
    /// In a second.
    bytes: u64,
    /// Up to when every time is taken, in nanoseconds.
    reserved: Arc<AtomicU64>,
}

impl SharedRate {
    /// So many bytes in each second, from 1.
    pub fn new(bytes: u64) -> SharedRate {
        SharedRate { bytes, reserved: Arc::default() }
    }

    /// Reserves the next free time for a piece, of at most so many bytes.
    fn reserve(&self, len: u64, now: Timestamp) -> ReservedPiece {
        let (piece, lag) = piece_and_lag(self.bytes);
        let len = len.min(piece);
        // A time that has passed is lost, unless the program was only woken late.
        let earliest = now.before(lag);
        // Half of a quantum is no more than what a pause earns; a whole one would be.
        let first = if self.bytes < 2 * QUANTA_PER_SECOND { now } else { earliest };
        let free = |reserved: u64| match Timestamp::from_nanos(reserved) {
            missed if missed < earliest => first,
            free => free,
        };
        let end = |reserved| (free(reserved) + time_of(len, self.bytes)).as_nanos();
        let order = Ordering::Relaxed;
        let (Ok(reserved) | Err(reserved)) =
            self.reserved.fetch_update(order, order, |reserved| Some(end(reserved)));
        ReservedPiece { at: free(reserved), len }
    }
}

/// Whether it is the same one, and not only as fast.
impl PartialEq for SharedRate {
    fn eq(&self, other: &SharedRate) -> bool {
        Arc::ptr_eq(&self.reserved, &other.reserved)
    }
}

impl Eq for SharedRate {}

/// Bytes that can be sent at a time that was reserved for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::relay) struct ReservedPiece {
    at: Timestamp,
    len: u64,
}

/// Something that sends are measured by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::relay) enum SendPace {
    /// Nothing is sent.
    Stopped,
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
    /// A part of a rate, and what of it is this stream's next.
    Shared { rate: SharedRate, next: Option<ReservedPiece> },
    /// So many bytes at once at most, and nothing for such a time after each time.
    Dribble { bytes: u64, per: Duration, next: Timestamp },
    /// Pieces of `first` and `every - first` bytes; the first one begins at this byte of the
    /// output.
    Split { first: u64, every: u64, start: u64 },
    /// Pieces of about `size` bytes, and nothing for such a time after each; the current one is the
    /// last of `made`, and has so many bytes left.
    Slice { size: u64, vary: u64, per: Duration, seed: u64, made: u64, left: u64, next: Timestamp },
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
    /// So many bytes in each second.
    pub(super) fn rate(bytes: u64) -> SendPace {
        if bytes == 0 {
            return SendPace::Stopped;
        }
        let (piece, lag) = piece_and_lag(bytes);
        SendPace::Rate { bytes, piece, lag, next: Timestamp::default(), is_idle: true }
    }

    /// A part of that rate.
    pub(super) const fn shared(rate: SharedRate) -> SendPace {
        SendPace::Shared { rate, next: None }
    }

    /// So many bytes, from 1, each time so much time has passed since the last ones.
    pub(super) fn dribble(bytes: u64, per: Duration) -> SendPace {
        SendPace::Dribble { bytes, per, next: Timestamp::default() }
    }

    /// Pieces of so many bytes, from 1, or up to `vary` more or fewer, and such a time after each.
    pub(super) fn slice(size: u64, vary: u64, per: Duration, seed: u64) -> SendPace {
        SendPace::Slice { size, vary, per, seed, made: 0, left: 0, next: Timestamp::default() }
    }

    /// So many bytes at once, from 1, or what has come in such a time.
    pub(super) fn merge(bytes: u64, within: Duration) -> SendPace {
        SendPace::Merge { bytes, within, since: None, released: 0 }
    }

    /// The same, beginning at that byte of the output.
    pub(super) fn beginning_at(mut self, sent: u64) -> SendPace {
        if let SendPace::Split { start, .. } = &mut self {
            *start = sent;
        }
        self
    }

    /// How many bytes can be sent now, and when more can if none can.
    pub(super) fn allowed(&mut self, waiting: Unsent, now: Timestamp) -> (u64, Timestamp) {
        match self {
            SendPace::Stopped => (0, Timestamp::NEVER),
            SendPace::Rate { is_idle, piece, bytes, .. } if waiting.len == 0 => {
                // Half of a quantum is no more than what a pause earns; a whole one would be.
                *is_idle = *bytes < 2 * QUANTA_PER_SECOND;
                (*piece, Timestamp::NEVER)
            }
            // A stream with nothing to send waits for no time.
            SendPace::Shared { .. } if waiting.len == 0 => (1, Timestamp::NEVER),
            SendPace::Shared { rate, next } => {
                let (_, lag) = piece_and_lag(rate.bytes);
                // Pieces of long ago must not be sent all at once.
                let piece = match *next {
                    Some(piece) if now <= piece.at + lag => piece,
                    _ => rate.reserve(waiting.len, now),
                };
                *next = Some(piece);
                if now < piece.at { (0, piece.at) } else { (piece.len, Timestamp::NEVER) }
            }
            SendPace::Rate { next, .. }
            | SendPace::Dribble { next, .. }
            | SendPace::Slice { next, .. }
                if now < *next =>
            {
                (0, *next)
            }
            SendPace::Slice { size, vary, seed, made, left, .. } => {
                if *left == 0 {
                    let drawn = draw(*seed, *made) % (vary.saturating_mul(2).saturating_add(1));
                    *left = size.saturating_add(drawn).saturating_sub(*vary).max(1);
                    *made += 1;
                }
                (*left, Timestamp::NEVER)
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
            SendPace::Slice { per, left, next, .. } => {
                *left = left.saturating_sub(count);
                if *left == 0 && !per.is_zero() {
                    *next = now + *per;
                }
            }
            SendPace::Stopped | SendPace::Split { .. } => {}
            SendPace::Merge { released, .. } => *released = released.saturating_sub(count),
            SendPace::Shared { next, .. } => {
                if let Some(piece) = next {
                    piece.len = piece.len.saturating_sub(count);
                }
                *next = next.filter(|piece| piece.len > 0);
            }
        }
    }

    /// How many bytes must be held for it.
    pub(super) fn room(&self) -> u64 {
        match self {
            SendPace::Merge { bytes, .. } | SendPace::Dribble { bytes, .. } => *bytes,
            SendPace::Stopped
            | SendPace::Rate { .. }
            | SendPace::Shared { .. }
            | SendPace::Slice { .. }
            | SendPace::Split { .. } => 0,
        }
    }

    /// Whether others wait for what it keeps from them.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self, SendPace::Shared { .. })
    }
}

/// How many bytes are sent at once at that rate, and how much of what was missed because the
/// program was woken late is made up for.
fn piece_and_lag(bytes: u64) -> (u64, Duration) {
    let quantum = (bytes / QUANTA_PER_SECOND).max(1);
    // Half of a quantum at a time leaves the other half for a late wake-up. Of one byte there is no
    // half: there a late byte does not put off the next one, unless that is late too.
    let piece = quantum.div_ceil(2);
    let lag = match quantum - piece {
        0 => QUANTUM.min(time_of(1, bytes)).saturating_sub(Duration::from_nanos(1)),
        left => time_of(left, bytes),
    };
    (piece, lag)
}

/// How long so many bytes take at that rate, rounded up: never faster.
fn time_of(count: u64, bytes: u64) -> Duration {
    let nanoseconds = (u128::from(count) * 1_000_000_000).div_ceil(u128::from(bytes));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
