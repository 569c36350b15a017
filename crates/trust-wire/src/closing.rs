//! The orderly close.
//!
//! Closing a socket that has unread bytes in its receive queue makes the kernel send RST instead of
//! FIN (RFC 1122, section 4.2.2.13). An RST makes the peer's kernel drop answers that its
//! application has not read yet. So an orderly close sends what is owed, shuts down the sending
//! side, and then *lingers*: it reads and discards until the peer's FIN arrives, and only then
//! closes. Two limits keep a peer from holding its slot forever.
//!
//! Nor does it close before the peer's kernel has acknowledged every byte. After a close the kernel
//! would go on sending the rest for minutes, using memory and a port that count against none of the
//! server's limits.

use core::time::Duration;

use crate::time::Timestamp;

/// Upper limit for all of lingering, in linger timeouts since the last acknowledgement. A peer that
/// keeps sending, or stops acknowledging, is cut off after this.
pub const TOTAL_LINGER_LIMITS: u32 = 5;

/// The timers of a connection that has shut down its sending side and waits for the peer's FIN.
///
/// ```
/// use std::time::Duration;
/// use trust_wire::Timestamp;
/// use trust_wire::closing::Lingering;
///
/// let linger_timeout = Duration::from_secs(2);
/// let at = |seconds| Timestamp::from_start(Duration::from_secs(seconds));
/// let mut lingering = Lingering::new(at(10));
/// assert_eq!(lingering.deadline(linger_timeout), at(12));
/// // A peer that keeps sending is waited for, but not forever.
/// for second in 11..20 {
///     lingering.handle_received(at(second));
/// }
/// assert_eq!(lingering.deadline(linger_timeout), at(20));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Lingering {
    /// When the peer last showed a sign of life: a byte or an acknowledgement.
    quiet_since: Timestamp,
    /// When bytes were last acknowledged; the start of lingering if none were outstanding.
    acknowledged_at: Timestamp,
}

impl Lingering {
    /// Starts lingering: the sending side has just been shut down.
    pub const fn new(now: Timestamp) -> Lingering {
        Lingering { quiet_since: now, acknowledged_at: now }
    }

    /// Records that bytes arrived and were discarded.
    pub const fn handle_received(&mut self, now: Timestamp) {
        self.quiet_since = now;
    }

    /// Records that owed bytes were acknowledged since the last look.
    pub const fn handle_acknowledged(&mut self, now: Timestamp) {
        self.quiet_since = now;
        self.acknowledged_at = now;
    }

    /// When to stop waiting for a missing FIN or missing acknowledgements. `linger_timeout` is the
    /// longest time without a sign of life.
    pub fn deadline(&self, linger_timeout: Duration) -> Timestamp {
        let total = linger_timeout.saturating_mul(TOTAL_LINGER_LIMITS);
        (self.quiet_since + linger_timeout).min(self.acknowledged_at + total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn a_silent_peer_is_waited_for_one_limit() {
        assert_eq!(Lingering::new(at(10)).deadline(LINGER), at(12));
    }

    #[test]
    fn a_peer_that_keeps_sending_is_waited_for_five_limits() {
        let mut lingering = Lingering::new(at(10));
        for second in 11..20 {
            lingering.handle_received(at(second));
        }
        assert_eq!(lingering.deadline(LINGER), at(20));
    }

    #[test]
    fn a_slow_reader_is_waited_for_as_long_as_it_acknowledges() {
        let mut lingering = Lingering::new(at(10));
        for second in 11..100 {
            lingering.handle_acknowledged(at(second));
        }
        assert_eq!(lingering.deadline(LINGER), at(101));
    }
}
