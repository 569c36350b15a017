//! Sending: all of it, as a piece that stands alone, with the end.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::{SockRef, TcpKeepalive};
use trust_cli::text::{reason, seconds};
use trust_net::socket;

use super::Wire;
use crate::delivery::DeliveryStep;
use crate::request::Request;
use crate::transcript::{Excerpt, What};
use crate::verdict::{Judged, Verdict};

/// Interval between checks whether the kernel of the first hop has acknowledged everything.
const LOOK: Duration = Duration::from_millis(1);

/// Silence after which keepalive asks.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Whether it could be shown that a piece stood alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Apart {
    /// Its bytes were acknowledged before anything else was sent, or read from a unix socket. That
    /// does not cover what a proxy passes on.
    Shown,
    /// They were not, in all the time available.
    NotShown,
    /// The server ended the connection meanwhile. Its answers until then decide the verdict.
    Ended,
}

impl Wire<'_> {
    /// Does this and shows none of what it sends, if it is secret.
    pub fn sending_secret<T>(&mut self, is_secret: bool, work: impl FnOnce(&mut Self) -> T) -> T {
        let was_hidden = self.is_hidden;
        self.is_hidden |= is_secret;
        let done = work(self);
        self.is_hidden = was_hidden;
        done
    }

    /// Sends a request, whose bytes are not shown if they are secret.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`].
    pub fn send_request(&mut self, request: &Request) -> Judged<()> {
        self.sending_secret(request.is_secret(), |wire| wire.send(&request.bytes))
    }

    /// Sends all of it; the server has to take it within the patience.
    ///
    /// # Errors
    ///
    /// A failure if the server ended the connection, or took nothing for that long.
    pub fn send(&mut self, bytes: &[u8]) -> Judged<()> {
        let expected = "the server reads what is sent";
        match self.try_send(bytes, self.setup.patience)? {
            sent if sent == bytes.len() => Ok(()),
            sent => Err(Verdict::fail_by(
                self.evidence(),
                expected,
                match self.is_over() {
                    true => {
                        format!("it ended the connection after {sent} of {} bytes", bytes.len())
                    }
                    false => format!(
                        "it took {sent} of {} bytes and nothing more for {}",
                        bytes.len(),
                        seconds(self.setup.patience)
                    ),
                },
            )),
        }
    }

    /// Sends as much as the server takes without a pause longer than `patience`, and returns the
    /// number of bytes. An end of the connection stops it too, and is remembered.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn try_send(&mut self, bytes: &[u8], patience: Duration) -> Judged<usize> {
        let mut sent = 0;
        while sent < bytes.len() && !self.is_over() {
            let count = self.send_once(&bytes[sent..]);
            sent += count;
            if count == 0 && !self.is_over() && !self.wait(PollFlags::OUT, patience)? {
                break;
            }
        }
        Ok(sent)
    }

    /// Sends all of it and a FIN that goes with the last byte: the server learns of both at once.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`].
    pub fn send_and_finish(&mut self, bytes: &[u8]) -> Judged<()> {
        // Without it the FIN goes a little later, which is the same to any server but a fast one.
        if self.setup.is_tcp() {
            let _ = SockRef::from(&self.stream).set_tcp_cork(true);
        }
        self.send(bytes)?;
        self.finish();
        Ok(())
    }

    /// Sends a piece and waits until the kernel of the first hop (the server's, or that of a proxy
    /// in front of it) has acknowledged all of it. Then leaves the server alone for the settle
    /// time, so that one receive there can have brought this piece and no more. A preface is a
    /// piece of its own. On a unix socket the same counter (SIOCOUTQ) is the memory of what the
    /// peer has not read, so there the peer itself has read all of it.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`].
    pub fn send_piece(&mut self, bytes: &[u8]) -> Judged<Apart> {
        if self.has_sent_preface_alone && self.leave_alone()? == Apart::Ended {
            return Ok(Apart::Ended);
        }
        self.send(bytes)?;
        self.leave_alone()
    }

    /// Waits until all that was sent is acknowledged, and then for the settle time.
    fn leave_alone(&mut self) -> Judged<Apart> {
        let until = Instant::now() + self.setup.patience;
        while socket::path_info(self.stream.as_fd()).unacknowledged > 0 {
            if Instant::now() >= until {
                let done = self.taken();
                self.note(&format!("not {done}: it cannot be shown that this piece stood alone"));
                return Ok(Apart::NotShown);
            }
            // Without flags `poll(2)` reports only a RST, after which nothing is acknowledged.
            if self.wait(PollFlags::empty(), LOOK)? {
                return Ok(Apart::Ended);
            }
        }
        if self.wait(PollFlags::empty(), self.setup.settle)? {
            return Ok(Apart::Ended);
        }
        let settle = self.setup.settle;
        self.delivery.add(DeliveryStep::Pause(settle));
        self.record(match self.setup.is_tcp() {
            true => What::LeftAlone(settle),
            false => What::ReadAndLeftAlone(settle),
        });
        Ok(Apart::Shown)
    }

    /// Sends the pieces one by one. What follows is judged only if they are shown to have stood
    /// apart.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`]; inconclusive if they may have come together.
    pub fn send_apart<'b>(&mut self, pieces: impl IntoIterator<Item = &'b [u8]>) -> Judged<()> {
        let mut pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).peekable();
        while let Some(piece) = pieces.next() {
            let is_last = pieces.peek().is_none();
            match is_last {
                true => self.send(piece)?,
                false => match self.send_piece(piece)? {
                    Apart::Shown => {}
                    Apart::Ended => return Ok(()),
                    Apart::NotShown => {
                        return Err(Verdict::inconclusive(format!(
                            "a piece was not {} in time, so the pieces may have come together",
                            self.taken()
                        )));
                    }
                },
            }
        }
        Ok(())
    }

    /// What happens to bytes that leave our send queue.
    fn taken(&self) -> &'static str {
        if self.setup.is_tcp() { "acknowledged" } else { "read" }
    }

    /// Sends FIN and goes on receiving (`shutdown(2)`).
    pub fn finish(&mut self) {
        self.stream.half_close();
        self.has_finished = true;
        self.delivery.add(DeliveryStep::Finish);
        self.record(What::SentFin);
    }

    /// Sends an urgent byte (MSG_OOB, `send(2)`; RFC 6093); whether our kernel took it.
    pub fn send_urgent(&mut self, byte: u8) -> bool {
        self.note("an urgent byte");
        SockRef::from(&self.stream).send_out_of_band(&[byte]).is_ok()
    }

    /// Lets our kernel ask, after each second of silence, whether the other side is still there
    /// (SO_KEEPALIVE, `tcp(7)`).
    pub fn keep_alive(&self) {
        let every = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        // Without it the connection is only idle.
        let _ = SockRef::from(&self.stream).set_tcp_keepalive(&every);
    }

    /// Hands to our kernel what it takes now; how many bytes.
    pub(super) fn send_once(&mut self, bytes: &[u8]) -> usize {
        if self.stream.send_error().is_some() {
            return 0;
        }
        let count = self.stream.send(bytes);
        if count > 0 {
            self.has_sent_preface_alone = false;
            self.delivery.add_sent(&bytes[..count], self.is_hidden);
            self.record(What::Sent(match self.is_hidden {
                true => Excerpt::of_secret(count),
                false => Excerpt::of(&bytes[..count]),
            }));
        } else if let Some(errno) = self.stream.send_error() {
            let error = io::Error::from_raw_os_error(errno);
            self.note(&format!("sending fails: {}", reason(&error)));
        }
        count
    }
}
