//! A connection in its worker's table.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::{Interest, Registry, Token};
use trust_wire::turn::{Question, Unread};
use trust_wire::{Readiness, Timestamp};

use crate::client::Client;
use crate::questions::{Questions, Registered};
use crate::turn::Endpoint;

/// Both directions, and urgent data, are registered as one.
pub(super) const INTEREST: Interest =
    Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// Records what an event says about a connection's socket.
pub fn note_event(readiness: &mut Readiness, event: &mio::event::Event) {
    let failed = event.is_error();
    let unread = if failed || event.is_read_closed() || event.is_priority() {
        Unread::ToTheEnd
    } else if event.is_readable() {
        Unread::Bytes
    } else {
        Unread::Nothing
    };
    readiness.note(unread, event.is_writable() || event.is_write_closed() || failed);
}

/// A connection in its worker's table.
pub(super) struct Entry<S> {
    pub(super) stream: OwnedFd,
    pub(super) client: Client<S>,
    /// Tells this connection from an earlier one in the same place.
    pub(super) generation: u32,
    /// Waits for another turn without having to be woken.
    pub(super) queued: bool,
    pub(super) readiness: Readiness,
    /// The earliest time for which this connection is in the timers.
    pub(super) armed: Timestamp,
}

impl<S> Entry<S> {
    pub(super) fn new(stream: OwnedFd, client: Client<S>, generation: u32) -> Entry<S> {
        Entry {
            stream,
            client,
            generation,
            queued: false,
            readiness: Readiness::default(),
            armed: Timestamp::NEVER,
        }
    }

    pub(super) fn note_readiness(&mut self, event: &mio::event::Event) {
        note_event(&mut self.readiness, event);
    }

    /// Asks the kernel about it, after a pause.
    pub(super) fn ask_again(&mut self, registry: &Registry, token: Token) {
        self.readiness.ask_again();
        Registered { socket: self.stream.as_fd(), registry, token, interest: INTEREST }.ask();
    }
}

/// A stream whose readiness the worker's poll reports.
pub(super) struct Polled<'a> {
    pub(super) stream: &'a OwnedFd,
    pub(super) registry: &'a Registry,
    pub(super) token: Token,
    pub(super) questions: &'a mut Questions,
}

impl AsFd for Polled<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Endpoint for Polled<'_> {
    fn ask(&mut self, question: Question, now: Timestamp) {
        let (socket, registry, token) = (self.stream.as_fd(), self.registry, self.token);
        let registered = Registered { socket, registry, token, interest: INTEREST };
        self.questions.ask(question, registered, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_in_the_middle_of_nothing_is_small() {
        // Four to eight more are in the timers. A server of many idle connections pays this much
        // for each.
        let size = size_of::<Entry<()>>();
        assert!(size <= 136, "{size} bytes");
    }
}
