//! The two sockets of a relay, as its turn sees them.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use trust_net::address::Family;
use trust_net::errno::{self, ErrorClass};
use trust_net::loop_parts::Registered;
use trust_net::{Event, Observer, socket};
use trust_wire::relay::{RelayIo, RelaySide};
use trust_wire::turn::{Question, Refusal};
use trust_wire::{During, Timestamp};

use crate::engine::pipes::{Pipe, PipePool};
use crate::engine::{INTEREST, LoopWait, token};

/// The two sockets of a relay.
pub(super) struct RelaySockets<'a, O> {
    pub(super) streams: [Option<BorrowedFd<'a>>; 2],
    pub(super) families: [Family; 2],
    /// Those for each side that bytes are in.
    pub(super) pipes: &'a mut [Option<Pipe>; 2],
    pub(super) pool: &'a mut PipePool,
    /// Of the client.
    pub(super) key: usize,
    pub(super) waiting: &'a mut LoopWait,
    pub(super) observer: &'a O,
    /// When the loop last looked.
    pub(super) now: Timestamp,
}

impl<'a, O: Observer> RelaySockets<'a, O> {
    fn stream(&self, side: RelaySide) -> BorrowedFd<'a> {
        // Nothing is received from or sent to an upstream that cannot be reached.
        self.streams[side.index()].expect("a side that is used has a socket")
    }

    fn refused(&self, error: &io::Error, during: During) -> Refusal {
        let errno = errno::of(error);
        match errno::classify(errno, during.into()) {
            ErrorClass::WouldBlock => Refusal::WouldBlock,
            ErrorClass::Interrupted => {
                self.observer.observe(&Event::Interrupted { during: Some(during) });
                Refusal::Interrupted
            }
            class => Refusal::Failed { errno, class: class.into() },
        }
    }
}

impl<O: Observer> RelayIo for RelaySockets<'_, O> {
    fn receive(&mut self, from: RelaySide, buffer: &mut [u8]) -> Result<usize, Refusal> {
        let received = socket::receive(self.stream(from), buffer);
        received.map_err(|error| self.refused(&error, During::Receive))
    }

    fn send(&mut self, to: RelaySide, bytes: &[u8]) -> Result<usize, Refusal> {
        let sent = socket::send(self.stream(to), bytes);
        sent.map_err(|error| self.refused(&error, During::Send))
    }

    fn splice_in(&mut self, from: RelaySide, max: usize) -> Option<Result<usize, Refusal>> {
        let pipe = self.pool.take()?;
        let moved = pipe.fill(self.stream(from), max);
        if matches!(moved, Ok(1..)) {
            self.pipes[from.other().index()] = Some(pipe);
        } else {
            self.pool.put(pipe);
        }
        match moved {
            // Of such a socket nothing can be moved.
            Err(Errno::INVAL) => None,
            _ => Some(moved.map_err(|errno| self.refused(&errno.into(), During::Receive))),
        }
    }

    fn splice_out(&mut self, to: RelaySide, len: usize) -> Result<usize, Refusal> {
        let pipe = self.pipes[to.index()].as_mut().expect("bytes for a side are in a pipe");
        let moved = pipe.empty(self.streams[to.index()].expect("a side that is sent to"), len);
        if moved == Ok(len)
            && let Some(pipe) = self.pipes[to.index()].take()
        {
            self.pool.put(pipe);
        }
        moved.map_err(|errno| self.refused(&errno.into(), During::Send))
    }

    fn ask(&mut self, side: RelaySide, question: Question) {
        let socket = self.stream(side);
        let registry = self.waiting.poll.registry();
        let token = token(self.key, side);
        let registered = Registered { socket, registry, token, interest: INTEREST };
        self.waiting.questions.ask(question, registered, self.now);
    }

    fn unacknowledged(&mut self, side: RelaySide) -> u64 {
        match (self.families[side.index()], self.streams[side.index()]) {
            (Family::Ip, Some(socket)) => socket::unacknowledged(socket),
            // What a unix socket took is in the peer's queue, and outlives a close.
            _ => 0,
        }
    }

    fn shutdown_send(&mut self, to: RelaySide) {
        socket::shutdown_send(self.stream(to), None);
    }

    fn now(&mut self) -> Timestamp {
        self.waiting.clock.now()
    }
}
