//! The header with which a proxy introduces its client, before everything else.

use crate::disconnect::{Disconnect, During, Reason};
use crate::proxy_header::{BadProxyHeader, PROXY_HEADER_MAX, ProxyHeader};
use crate::time::Timestamp;

use super::unsettled::State;
use super::{CloseStep, Connection};

impl Connection {
    /// Whether what comes is the PROXY header, and no part of the stream yet.
    #[inline]
    pub fn awaits_header(&self) -> bool {
        matches!(*self.state(), State::Introducing(_))
    }

    /// Takes received bytes while the PROXY header is awaited. Once it is whole, returns what it
    /// says and the bytes that follow it, which are those of the stream.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use trust_wire::{Connection, Limits, ProxyHeader, Timestamp};
    ///
    /// let limits = Limits { proxy_header: Some(Duration::from_secs(5)), ..Limits::default() };
    /// let now = Timestamp::default();
    /// let mut connection = Connection::new(Arc::new(limits), now);
    /// assert!(connection.awaits_header());
    ///
    /// assert_eq!(connection.handle_header(b"PROXY UNKN", now), None);
    /// let (header, rest) = connection.handle_header(b"OWN\r\nhello", now).expect("it is whole");
    /// assert_eq!((header, rest), (ProxyHeader::Socket, &b"hello"[..]));
    /// assert!(!connection.awaits_header());
    /// ```
    #[inline(never)]
    pub fn handle_header<'a>(
        &mut self,
        bytes: &'a [u8],
        now: Timestamp,
    ) -> Option<(ProxyHeader, &'a [u8])> {
        let State::Introducing(retiring) = *self.state() else { return None };
        let decoder = &mut self.unsettled().decoder;
        let held = decoder.held_len();
        // What follows the header would be held in vain.
        decoder.hold(&bytes[..bytes.len().min(PROXY_HEADER_MAX - held)]);
        let arrived = (held + bytes.len()) as u64;
        match ProxyHeader::decode(decoder.held()) {
            Ok(Some((header, len))) => {
                decoder.clear();
                self.open_after_header(retiring, len as u64, now);
                return Some((header, &bytes[len - held..]));
            }
            Ok(None) => match retiring {
                // Nothing that follows it has come in time.
                Some((reason, until)) if arrived >= until => {
                    self.end_orderly(Disconnect::new(reason, During::Receive));
                }
                _ => {}
            },
            Err(problem) => self.reset(Reason::ProxyHeaderInvalid(problem)),
        }
        None
    }

    /// The peer's FIN has come in place of the header's last byte. Balancers look in this way
    /// whether a server accepts, without a header: that is a normal end.
    pub(super) fn end_before_header(&mut self) {
        match self.unfinished() {
            None => self.end_orderly(Disconnect::new(Reason::PeerFin, During::Receive)),
            Some(_) => self.reset(Reason::ProxyHeaderInvalid(BadProxyHeader::Unfinished)),
        }
    }

    /// The connection is to end for `reason` once everything is answered whose first byte had been
    /// received by now; of that the kernel still holds `unread` bytes.
    pub(super) fn retire_before_header(&mut self, reason: Reason, unread: u64) {
        match unread {
            0 => self.end_orderly(Disconnect::new(reason, During::Receive)),
            _ => {
                let held = self.unsettled().decoder.held_len() as u64;
                self.enter(State::Introducing(Some((reason, held + unread))));
            }
        }
    }

    /// Judges a header that may be late. Bytes that had arrived by the first look after its time
    /// may complete it, like a frame.
    pub(super) fn judge_header(&mut self, now: Timestamp, unread: u64) {
        if now < self.opened_at.after(self.limits.proxy_header) {
            return;
        }
        let unsettled = self.unsettled();
        let received = unsettled.decoder.held_len() as u64;
        let arrived_in_time = *unsettled.frame_fence.get_or_insert(received + unread);
        if unread == 0 || received >= arrived_in_time {
            self.reset(Reason::ProxyHeaderTimeout);
        }
    }

    /// When the header is late, or the longest life over.
    pub(super) fn header_deadline(&self) -> Timestamp {
        self.opened_at.after(self.limits.proxy_header).min(self.lifetime_deadline())
    }

    /// The header is whole, with so many bytes: what follows is the stream.
    fn open_after_header(&mut self, retiring: Option<(Reason, u64)>, len: u64, now: Timestamp) {
        self.awaiting_since = now;
        let unsettled = self.unsettled();
        unsettled.frame_fence = None;
        unsettled.state = match retiring {
            None => State::Open,
            Some((reason, until)) => State::Retiring { reason, until: until.saturating_sub(len) },
        };
        self.retire_if_done();
        self.settle();
    }

    fn reset(&mut self, reason: Reason) {
        let cause = Disconnect::new(reason, During::Receive);
        self.decide(State::Closed(cause, CloseStep::Reset));
    }
}

#[cfg(test)]
mod tests;
