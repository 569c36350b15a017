//! Sending while receiving, and sending without.

use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::SockRef;

use super::{RECEIVE_BYTES, Wire, pause};
use crate::check::setup::LARGE_MAX;
use crate::check::transcript::What;
use crate::check::verdict::{Judged, Verdict};
use crate::text::{grouped, seconds};

/// A server that takes nothing for that long waits for the client.
pub const STALL: Duration = Duration::from_millis(500);

/// Longest time for which a client sends without reading.
const UNREAD_TIME: Duration = Duration::from_secs(5);

/// Bytes that a client sends at most without reading where that is to make the server wait: more than kernels buffer by
/// default on both sides.
pub const UNREAD_BYTES: u64 = 8 * 1024 * 1024;

impl Wire<'_> {
    /// Sends these messages and waits for their echoes at the same time, so that neither side waits for the other to
    /// read. The first `sent` bytes of them are taken as sent; `slowness` is a pause before each receive.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`] and [`Wire::expect_echo`].
    pub fn exchange(
        &mut self,
        payloads: &[&[u8]],
        mut sent: usize,
        slowness: Duration,
    ) -> Judged<()> {
        let expected = self.encoded(payloads);
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut right = 0;
        while right < expected.len() && self.end.is_none() {
            if sent < expected.len() && self.send_failed.is_none() {
                sent += self.write_once(&expected[sent..]).unwrap_or(0);
            }
            pause(self.setup, slowness)?;
            let limit = buffer.len().min(expected.len() - right);
            let Some(count) = self.read_once(&mut buffer[..limit]) else {
                let wanted =
                    if sent < expected.len() { PollFlags::OUT } else { PollFlags::empty() };
                if self.end.is_none() && !self.wait(PollFlags::IN | wanted, self.setup.patience)? {
                    self.record(What::Silence(self.setup.patience));
                    break;
                }
                continue;
            };
            if buffer[..count] != expected[right..right + count] {
                let got = [&expected[..right], &buffer[..count]].concat();
                return self.judge_echo(payloads, &expected, &got);
            }
            right += count;
        }
        if sent < expected.len() && self.end.is_none() {
            let got = format!(
                "it took {} of {} bytes, of which it had answered {}, and nothing more for {}",
                grouped(sent as u64),
                grouped(expected.len() as u64),
                grouped(right as u64),
                seconds(self.setup.patience)
            );
            return Err(Verdict::fail("the server reads on while its answers are read", got));
        }
        self.judge_echo(payloads, &expected, &expected[..right])
    }

    /// Sends as much as the server takes without a pause longer than `patience`, and receives behind `got` while it
    /// takes nothing, as a client does that has to read in order to be read; the number of bytes sent.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn send_receiving(
        &mut self,
        bytes: &[u8],
        got: &mut Vec<u8>,
        patience: Duration,
    ) -> Judged<usize> {
        let limit = got.len() + LARGE_MAX as usize * 2;
        let mut sent = self.try_send(bytes, Duration::ZERO)?;
        let mut until = Instant::now() + patience;
        while sent < bytes.len() && self.end.is_none() && Instant::now() < until {
            let before = (sent, got.len());
            if self.wait(
                PollFlags::IN | PollFlags::OUT,
                until.saturating_duration_since(Instant::now()),
            )? {
                self.receive_into(got, limit, Duration::ZERO)?;
                sent += self.try_send(&bytes[sent..], Duration::ZERO)?;
            }
            if before != (sent, got.len()) {
                until = Instant::now() + patience;
            }
        }
        Ok(sent)
    }

    /// Sends this message again and again and reads no answer, until the server takes nothing for `stall` or `most` bytes
    /// have gone; how many did.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn send_unread(&mut self, message: &[u8], most: u64, stall: Duration) -> Judged<u64> {
        // Our receive buffer stays as it is: a kernel does not let it grow unread, and one that is too small drops
        // segments, whose repetitions then make reading them after all slow.
        let _ = SockRef::from(&self.stream).set_send_buffer_size(1);
        self.note("our send buffer is small");
        // Large sends, so that short messages take no longer.
        let many = message.repeat((RECEIVE_BYTES / message.len().max(1)).max(1));
        let since = Instant::now();
        let mut taken = 0;
        while taken < most && since.elapsed() < UNREAD_TIME {
            let sent = self.try_send(&many, stall)?;
            taken += sent as u64;
            if sent < many.len() {
                break;
            }
        }
        self.note(&format!("{} bytes taken in {}", grouped(taken), seconds(since.elapsed())));
        Ok(taken)
    }

    /// Waits for a RST without receiving, for at most `patience`; whether it came. What had arrived before can still be
    /// received, and so can the end.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn await_reset_unread(&self, patience: Duration) -> Judged<bool> {
        // Without flags `poll(2)` tells only of errors and of the end of both directions.
        self.wait(PollFlags::empty(), patience)
    }

    /// Makes our kernel take about so many bytes from the server before we read them, or as few as it can. Much less
    /// than a segment makes a path slow: the server's kernel waits for room before it sends (RFC 9293, 3.8.6.2.1).
    pub fn receive_at_most(&self, bytes: usize) {
        let _ = SockRef::from(&self.stream).set_recv_buffer_size(bytes);
        self.note("our receive buffer is small");
    }
}
