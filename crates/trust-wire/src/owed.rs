//! Answers that the kernel has not taken yet.

use alloc::vec::Vec;

use crate::frame::{HEADER_LEN, peek_header};
use crate::time::Timestamp;

/// The unsent rest of one answer.
///
/// Invariants: `sent <= bytes.len()`; `since` is [`Timestamp::NEVER`] if and only if nothing is
/// owed.
#[derive(Debug)]
pub(crate) struct Owed {
    bytes: Vec<u8>,
    /// How many of `bytes` the kernel has taken so far.
    sent: usize,
    /// Where the first complete frame in `bytes` begins; `None` for raw bytes.
    boundary: Option<usize>,
    /// When the bytes became owed.
    since: Timestamp,
}

impl Owed {
    pub(crate) const fn nothing() -> Owed {
        Owed { bytes: Vec::new(), sent: 0, boundary: None, since: Timestamp::NEVER }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Keeps everything after the first `skip` bytes of `parts`. If the answer is `framed`, each
    /// part holds whole frames.
    pub(crate) fn put(&mut self, parts: &[&[u8]], skip: usize, framed: bool, now: Timestamp) {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        assert!(skip <= total, "more bytes sent than were answered");
        if skip == total {
            return;
        }
        self.bytes.reserve_exact(total - skip);
        let mut skip = skip;
        for part in parts {
            if skip < part.len() {
                if self.bytes.is_empty() && framed {
                    self.boundary = Some(boundary_from(part, skip) - skip);
                }
                self.bytes.extend_from_slice(&part[skip..]);
            }
            skip = skip.saturating_sub(part.len());
        }
        self.since = now;
    }

    pub(crate) fn take(&mut self, count: usize) {
        self.sent += count;
        assert!(self.sent <= self.bytes.len(), "more bytes sent than were owed");
        if self.is_empty() {
            *self = Owed::nothing();
        }
    }

    /// Counts the frames whose last byte has not been sent.
    pub(crate) fn unsent_frames(&self) -> u64 {
        let Some(boundary) = self.boundary else {
            return 0;
        };
        let mut count = u64::from(self.sent < boundary);
        let mut end = boundary;
        while let Some(payload_len) = peek_header(&self.bytes[end..]) {
            end += HEADER_LEN + payload_len as usize;
            count += u64::from(self.sent < end);
        }
        count
    }
}

/// The first frame boundary in `frames` at or after byte `from`.
fn boundary_from(frames: &[u8], from: usize) -> usize {
    let mut boundary = 0;
    while boundary < from {
        match peek_header(&frames[boundary..]) {
            Some(payload_len) => boundary += HEADER_LEN + payload_len as usize,
            None => return frames.len(),
        }
    }
    boundary
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode_frame;
    use alloc::vec;

    #[test]
    fn a_frame_counts_as_sent_with_its_last_byte() {
        let mut first = vec![];
        encode_frame(b"abc", &mut first);
        let mut run = vec![];
        encode_frame(b"", &mut run);
        encode_frame(b"defgh", &mut run);
        let parts = [&first[..], &run[..]];
        let total = first.len() + run.len();
        let ends = [7, 11, 20];
        for skip in 0..total {
            let mut owed = Owed::nothing();
            owed.put(&parts, skip, true, Timestamp::default());
            for sent in skip..total {
                let unsent = ends.iter().filter(|end| sent < **end).count() as u64;
                assert_eq!(owed.unsent_frames(), unsent, "skip {skip}, sent {sent}");
                owed.take(1);
            }
            assert!(owed.is_empty());
            assert_eq!((owed.unsent_frames(), owed.capacity()), (0, 0));
        }
    }

    #[test]
    fn raw_bytes_are_no_frames() {
        let mut owed = Owed::nothing();
        owed.put(&[b"\0\0\0\x01x"], 1, false, Timestamp::default());
        assert_eq!(owed.unsent(), b"\0\0\x01x");
        assert_eq!(owed.unsent_frames(), 0);
    }
}
