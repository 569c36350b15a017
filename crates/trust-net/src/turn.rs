//! A connection's turn over its socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::time::Duration;

use trust_wire::turn::{Bounds, Io, Question, Refusal, Step, Turn};
use trust_wire::{CloseStep, During, HEADER_LEN, Limits, Probe, Readiness, Timestamp};

use crate::address::Family;
use crate::client::{Answering, Client};
use crate::errno::{self, ErrorClass};
use crate::observer::Event;
use crate::service::{Service, Session};
use crate::shared::Shared;
use crate::socket;

/// Bytes received at once in addition to the rest of an unfinished frame. Together with a whole
/// frame this is the most that a connection can come to owe by echoing one receive.
const RECEIVE_LEN: usize = 64 * 1024;

/// The largest frame, in bytes, that the shared receive buffer has additional room for, so that it
/// is found in place even if it comes right after others.
const LARGEST_IN_PLACE: usize = 1024 * 1024;

/// Sixteen receives, and the others get their turn.
const BOUNDS: Bounds = Bounds { receives: 16, receive_len: RECEIVE_LEN };

/// What all connections of a thread use in turn.
pub(crate) struct Buffers {
    receive: Vec<u8>,
    reply: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new(limits: &Limits) -> Buffers {
        let in_place = (HEADER_LEN + limits.max_payload as usize).min(LARGEST_IN_PLACE);
        Buffers { receive: vec![0; RECEIVE_LEN + in_place], reply: Vec::new() }
    }
}

/// A socket, and how its readiness is asked for.
pub(crate) trait Endpoint: AsFd {
    /// Has its readiness reported once more.
    fn ask(&mut self, question: Question, now: Timestamp);
}

/// What a turn does to the outside.
pub(crate) struct SocketIo<'a, S: Service, E> {
    pub(crate) shared: &'a Shared<S>,
    pub(crate) endpoint: E,
    pub(crate) family: Family,
    /// When something last happened in this turn; before that, when the thread last looked.
    pub(crate) now: Timestamp,
}

impl<S: Service, E: Endpoint> SocketIo<'_, S, E> {
    fn refused(&self, error: &io::Error, during: During) -> Refusal {
        let errno = errno::of(error);
        match errno::classify(errno, during.into()) {
            ErrorClass::WouldBlock => Refusal::WouldBlock,
            ErrorClass::Interrupted => {
                let during = Some(during);
                self.shared.observer.observe(&Event::Interrupted { during });
                Refusal::Interrupted
            }
            class => Refusal::Failed { errno, class: class.into() },
        }
    }
}

impl<S: Service, E: Endpoint> Io for SocketIo<'_, S, E> {
    fn receive(&mut self, room: &mut [u8], rest: &mut [u8]) -> Result<usize, Refusal> {
        let socket = self.endpoint.as_fd();
        let outcome = if room.is_empty() {
            socket::receive(socket, rest)
        } else {
            socket::receive_parts(socket, &mut [IoSliceMut::new(room), IoSliceMut::new(rest)])
        };
        outcome.map_err(|error| self.refused(&error, During::Receive))
    }

    fn send(&mut self, parts: &[&[u8]; 3]) -> Result<usize, Refusal> {
        let socket = self.endpoint.as_fd();
        // Most answers have one part, and one part needs no list.
        let outcome = match parts {
            [only, [], []] | [[], only, []] | [[], [], only] => socket::send(socket, only),
            _ => socket::send_parts(socket, &parts.map(IoSlice::new)),
        };
        outcome.map_err(|error| self.refused(&error, During::Send))
    }

    fn ask(&mut self, question: Question) {
        self.endpoint.ask(question, self.now);
    }

    fn probe_sent(&mut self) -> Probe {
        socket::probe_sent(self.endpoint.as_fd(), self.family)
    }

    fn shutdown_send(&mut self, patience: Option<Duration>) {
        let patience = patience.filter(|_| self.family == Family::Ip);
        socket::shutdown_send(self.endpoint.as_fd(), patience);
    }

    /// Looks at the clock: other connections had their turn since the last look, or the process was
    /// stopped, and that must not count against this one. Once per event, because each look is a
    /// measurable share of what an echo costs.
    fn now(&mut self) -> Timestamp {
        self.now = self.shared.now();
        self.now
    }

    /// To the kernel's tick, which is a good deal cheaper, and precise enough for how long a
    /// session took.
    fn coarse_now(&mut self) -> Timestamp {
        self.shared.clock.coarse_now().max(self.now)
    }
}

/// What is next for a connection after its turn.
#[derive(PartialEq, Eq)]
pub(crate) enum Next {
    /// It waits for readiness.
    Wait,
    /// It is still ready and has had enough for now.
    Turn,
    /// It is to be closed.
    Close(CloseStep),
}

/// Lets a client do what its socket is ready for.
pub(crate) fn take_turn<S: Service>(
    client: &mut Client<S::Session>,
    readiness: &mut Readiness,
    io: &mut SocketIo<'_, S, impl Endpoint>,
    buffers: &mut Buffers,
) -> Next
where
    S::Session: Session,
{
    let mut turn = Turn::new(readiness, BOUNDS);
    let (service, observer) = (&io.shared.service, &*io.shared.observer);
    loop {
        let Client { connection, served } = client;
        let mut answering = Answering { served, service, observer, buffer: &mut buffers.reply };
        match turn.step(connection, io, &mut answering, &mut buffers.receive) {
            Step::Sent(_) => client.report_drained(),
            Step::Over => return Next::Wait,
            Step::Unfinished => return Next::Turn,
            Step::Closed(step) => return Next::Close(step),
            Step::Received(_)
            | Step::EndOfStream
            | Step::Refused(_)
            | Step::Failed
            | Step::Asked
            | Step::FinSent => {}
        }
    }
}
