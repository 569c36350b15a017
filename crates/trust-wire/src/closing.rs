//! The orderly close.
//!
//! Closing a socket that has unread bytes in its receive queue makes the kernel send RST instead of
//! FIN (RFC 1122, section 4.2.2.13), and an RST makes the peer's kernel drop answers that its
//! application has not been given yet. So an orderly end sends what is owed, shuts down the sending
//! side, and then *lingers*: it reads and discards until the peer's FIN has come, and only then
//! closes. Two limits keep a peer from holding its place for ever.
//!
//! Nor does it close before the peer's kernel has acknowledged every byte. What is left behind by a
//! close is sent on by the kernel for minutes, with memory and a port that no limit of the server
//! counts.

use core::time::Duration;

use crate::time::Timestamp;

/// How many linger limits the whole of lingering may take, counted from the last acknowledgement.
/// A peer that keeps on sending is cut after this, and one whose acknowledgements have stopped too.
pub const TOTAL_LINGER_LIMITS: u32 = 5;

/// The clocks of a connection whose sending side is shut down and which waits for the peer's FIN.
#[derive(Clone, Copy, Debug)]
pub struct Lingering {
    /// When the peer last gave a sign of life: a byte or an acknowledgement.
    quiet_since: Timestamp,
    /// When bytes were last acknowledged; the start of lingering if none were outstanding.
    acknowledged_at: Timestamp,
}

impl Lingering {
    /// The sending side was shut down just now.
    pub const fn new(now: Timestamp) -> Lingering {
        Lingering { quiet_since: now, acknowledged_at: now }
    }

    /// Bytes came, and were discarded.
    pub const fn handle_received(&mut self, now: Timestamp) {
        self.quiet_since = now;
    }

    /// Owed bytes were acknowledged since the last look.
    pub const fn handle_acknowledged(&mut self, now: Timestamp) {
        self.quiet_since = now;
        self.acknowledged_at = now;
    }

    /// When waiting ends without a FIN, or without the acknowledgements that are missing.
    /// `linger_timeout` is the longest time without a sign of life.
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
