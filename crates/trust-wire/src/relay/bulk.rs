//! Many bytes: they go from socket to socket through a pipe (`splice(2)`), so nothing copies them.
//!
//! These bytes are not looked at, so only those go that way that no fault waits for. What is in the
//! pipe of a side is held for it, as bytes in memory are: nothing more is received meanwhile, so a
//! pipe is empty before it is filled.

use super::{Relay, RelaySide, Sending};

/// A receive of so much is taken for one of many.
pub(super) const BULK_MIN: usize = 64 * 1024;

/// Fewer bytes are copied in less time than it takes to move them.
const SPLICE_MIN: usize = 16 * 1024;

/// Most bytes that are moved into a pipe with one call.
pub const SPLICE_MAX: usize = 1024 * 1024;

impl Relay {
    /// How many bytes from a side may be moved on unseen with one call; 0: they must be received.
    pub fn spliceable(&self, from: RelaySide) -> usize {
        let to = self.side(from.other());
        if !to.is_bulk || to.sending != Sending::Open || !to.holds_nothing() {
            return 0;
        }
        let unwatched = to.quiet_until.saturating_sub(to.delivery.received).saturating_sub(1);
        let max = usize::try_from(unwatched).unwrap_or(usize::MAX);
        let max = max.min(SPLICE_MAX).min(self.receive_limit(from));
        if max < SPLICE_MIN { 0 } else { max }
    }

    /// How many bytes for a side are in its pipe.
    pub fn piped(&self, to: RelaySide) -> usize {
        self.side(to).piped
    }

    /// Records that `count` bytes from a side were moved into the pipe of the other one.
    pub fn handle_spliced_in(&mut self, from: RelaySide, count: usize) {
        let to = self.side_mut(from.other());
        to.delivery.received += count as u64;
        to.delivery.due += count as u64;
        to.piped += count;
        to.is_bulk = count >= SPLICE_MIN;
    }

    /// Records that these bytes were taken out of the pipe of a side, to be held in its place.
    ///
    /// # Panics
    ///
    /// If fewer were in it.
    pub fn handle_unpiped(&mut self, to: RelaySide, bytes: &[u8]) {
        let side = self.side_mut(to);
        assert!(bytes.len() <= side.piped, "more bytes taken than were in the pipe");
        side.piped -= bytes.len();
        side.held.append(true, |held| held.extend_from_slice(bytes));
    }

    /// Records that the kernel took `count` bytes from the pipe of a side.
    ///
    /// # Panics
    ///
    /// If fewer were in it.
    pub fn handle_spliced_out(&mut self, to: RelaySide, count: usize) {
        let side = self.side_mut(to);
        assert!(count <= side.piped, "more bytes sent than were in the pipe");
        side.piped -= count;
        side.delivery.sent += count as u64;
    }
}
