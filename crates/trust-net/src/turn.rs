//! One connection of an event loop: what it is ready for, and what it does when its turn comes.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::AsFd;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use trust_wire::{CloseStep, During, HEADER_LEN, Limits, Received, Timestamp};

use crate::client::Client;
use crate::observer::Event;
use crate::questions::{Asked, Questions, Registered};
use crate::service::{Service, Session};
use crate::shared::Shared;
use crate::socket;

/// Receives that one connection may do before the others get their turn.
const RECEIVES_PER_TURN: u32 = 16;

/// Bytes received at once beside the rest of an unfinished frame. Together with a whole frame this is
/// the most that a connection can come to owe by echoing one receive.
const RECEIVE_LEN: usize = 64 * 1024;

/// The largest frame, in bytes, that the shared receive buffer has additional room for, so that it
/// is found in place even if it comes right behind others.
const LARGEST_IN_PLACE: usize = 1024 * 1024;

/// Bytes of the receive buffer that the connections of a worker share.
pub(crate) fn receive_buffer_len(limits: &Limits) -> usize {
    RECEIVE_LEN + (HEADER_LEN + limits.max_payload as usize).min(LARGEST_IN_PLACE)
}

/// A connection in its worker's table.
pub(crate) struct Entry<S> {
    pub(crate) stream: TcpStream,
    pub(crate) client: Client<S>,
    /// Tells this connection from an earlier one in the same place.
    pub(crate) generation: u32,
    /// Waits for another turn without having to be woken.
    pub(crate) queued: bool,
    /// The earliest time for which this connection is in the timers.
    pub(crate) armed: Timestamp,
    unread: Unread,
    writable: bool,
    asked: Asked,
}

/// What is left to receive, by the events so far.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unread {
    Nothing,
    /// Some bytes, until a receive brings less than was asked for.
    Bytes,
    /// More than bytes, until EAGAIN or the end: an end, an error or urgent data were announced, and a receive stops
    /// in front of those (`tcp(7)`), so that a short one does not show that nothing is left.
    ToTheEnd,
}

/// What a connection uses of its worker.
pub(crate) struct TurnContext<'a, S: Service> {
    pub(crate) shared: &'a Shared<S>,
    pub(crate) registry: &'a Registry,
    pub(crate) token: Token,
    pub(crate) questions: &'a mut Questions,
    pub(crate) receive_buffer: &'a mut [u8],
    pub(crate) reply_buffer: &'a mut Vec<u8>,
    /// When something last happened in this turn; before that, when the worker last looked.
    pub(crate) now: Timestamp,
}

impl<S: Service> TurnContext<'_, S> {
    /// Others had their turn since the worker looked, or the process was stopped: nobody's time begins then. Once for
    /// what happens, because each look is a share of an echo's price that can be measured.
    fn look_at_the_clock(&mut self) {
        self.now = self.shared.now();
    }
}

/// What is next for a connection after its turn.
#[derive(PartialEq, Eq)]
pub(crate) enum Turn {
    /// It waits for readiness.
    Over,
    /// It is still ready and has had enough for now.
    Unfinished,
    /// It is to be closed.
    Closed(CloseStep),
}

impl<S: Session> Entry<S> {
    /// Both directions, and urgent data, are registered as one.
    pub(crate) const INTEREST: Interest =
        Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

    pub(crate) fn new(stream: TcpStream, client: Client<S>, generation: u32) -> Entry<S> {
        Entry {
            stream,
            client,
            generation,
            queued: false,
            armed: Timestamp::NEVER,
            unread: Unread::Nothing,
            writable: true,
            asked: Asked::Nothing,
        }
    }

    pub(crate) fn note_readiness(&mut self, event: &mio::event::Event) {
        let failed = event.is_error();
        // By this event alone: one that only says "writable" must not have us read, and ask again, for ever.
        let announced = if failed || event.is_read_closed() || event.is_priority() {
            Unread::ToTheEnd
        } else if event.is_readable() {
            Unread::Bytes
        } else {
            Unread::Nothing
        };
        self.unread = self.unread.max(announced);
        self.writable |= event.is_writable() || event.is_write_closed() || failed;
    }

    /// Bytes may be there that no event has announced yet.
    pub(crate) fn expect_bytes(&mut self) {
        self.unread = self.unread.max(Unread::Bytes);
    }

    /// Whether the kernel is to be asked about this connection after a pause.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        self.asked == Asked::Later
    }

    /// The pause is over.
    pub(crate) fn ask_again(&mut self, registry: &Registry, token: Token) {
        let (source, interest) = (&mut self.stream, Self::INTEREST);
        Questions::ask_again(&mut self.asked, Registered { source, registry, token, interest });
    }

    /// Does what the connection is ready for.
    pub(crate) fn take_turn<V: Service<Session = S>>(
        &mut self,
        context: &mut TurnContext<'_, V>,
    ) -> Turn {
        let mut receives_left = RECEIVES_PER_TURN;
        loop {
            if self.writable && self.client.connection.wants_send() {
                self.send_owed(context);
            }
            if self.client.connection.is_ending() {
                context.look_at_the_clock();
                let stream = self.stream.as_fd();
                let ask = || socket::probe_sent(stream);
                match self.client.connection.poll_close(context.now, ask) {
                    Some(CloseStep::ShutdownSend) => {
                        let patience = self.client.connection.kernel_patience();
                        socket::shutdown_send(stream, patience);
                    }
                    Some(step) => return Turn::Closed(step),
                    None => {}
                }
            }
            let connection = &self.client.connection;
            if self.unread > Unread::Nothing && connection.wants_receive() {
                if receives_left == 0 {
                    return Turn::Unfinished;
                }
                receives_left -= 1;
                self.receive(context);
            } else if !(self.writable && connection.wants_send()) {
                return Turn::Over;
            }
        }
    }

    fn send_owed<V: Service<Session = S>>(&mut self, context: &mut TurnContext<'_, V>) {
        let owed = self.client.connection.owed();
        let len = owed.len();
        match send_once(&self.stream, &[IoSlice::new(owed)], context.shared) {
            Ok(sent) => {
                context.look_at_the_clock();
                self.client.handle_sent(sent, context.now);
                self.writable = sent == len;
                match sent {
                    0 => self.handle_would_block(context),
                    _ => self.asked.handle_success(),
                }
            }
            Err(error) => self.client.handle_io_error(&error, During::Send),
        }
    }

    fn receive<V: Service<Session = S>>(&mut self, context: &mut TurnContext<'_, V>) {
        let room = self.client.connection.room();
        let room_len = room.len();
        let buffer = &mut *context.receive_buffer;
        let (asked, outcome) = if room_len == 0 {
            (buffer.len(), socket::receive(self.stream.as_fd(), buffer))
        } else {
            let rest = &mut buffer[..RECEIVE_LEN];
            let mut parts = [IoSliceMut::new(room), IoSliceMut::new(rest)];
            (room_len + RECEIVE_LEN, socket::receive_parts(self.stream.as_fd(), &mut parts))
        };
        match outcome {
            Ok(0) => {
                self.unread = Unread::Nothing;
                self.client.connection.handle_end_of_stream();
            }
            Ok(count) => {
                self.asked.handle_success();
                if count < asked && self.unread == Unread::Bytes {
                    self.unread = Unread::Nothing;
                }
                self.handle_received(count.min(room_len), count, context);
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    self.unread = Unread::Nothing;
                    self.handle_would_block(context);
                }
                ErrorKind::Interrupted => {
                    let during = Some(During::Receive);
                    context.shared.observer.observe(&Event::Interrupted { during });
                }
                _ => self.client.handle_io_error(&error, During::Receive),
            },
        }
    }

    /// A call that was to be ready said EAGAIN.
    fn handle_would_block<V: Service<Session = S>>(&mut self, context: &mut TurnContext<'_, V>) {
        let TurnContext { registry, token, questions, now, .. } = context;
        let (source, interest) = (&mut self.stream, Self::INTEREST);
        let registered = Registered { source, registry, token: *token, interest };
        questions.handle_would_block(&mut self.asked, registered, *now);
    }

    fn handle_received<V: Service<Session = S>>(
        &mut self,
        in_room: usize,
        count: usize,
        context: &mut TurnContext<'_, V>,
    ) {
        // After the call: what it brought had arrived by now, even if the process was stopped before.
        context.look_at_the_clock();
        let TurnContext { shared, receive_buffer, reply_buffer, now, .. } = context;
        let rest = &receive_buffer[..count - in_room];
        let received = self.client.connection.handle_received(in_room, rest, *now);
        if matches!(received, Received::Nothing) {
            return;
        }
        let stream = &self.stream;
        let mut sent = 0;
        let send =
            |parts: &[IoSlice<'_>]| send_once(stream, parts, shared).inspect(|count| sent = *count);
        let observer = &*shared.observer;
        // To the tick of the kernel, which is a good deal cheaper and close enough for how long a session took.
        let clock = || shared.clock.coarse_now().max(*now);
        let is_sent = self.client.answer(&received, reply_buffer, observer, clock, send);
        self.writable &= is_sent;
        if sent == 0 && !is_sent {
            self.handle_would_block(context);
        }
    }
}

/// Sends with one call; 0 if nothing fits now, or if a signal came first: then the kernel is asked afresh,
/// and the stop flag is looked at before the next try.
fn send_once<S: Service>(
    stream: &TcpStream,
    parts: &[IoSlice<'_>],
    shared: &Shared<S>,
) -> io::Result<usize> {
    let outcome = match parts {
        [part] => socket::send(stream.as_fd(), part),
        _ => socket::send_parts(stream.as_fd(), parts),
    };
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            let during = Some(During::Send);
            shared.observer.observe(&Event::Interrupted { during });
            Ok(0)
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_in_the_middle_of_nothing_is_small() {
        // With the socket, of which builds with assertions keep more than the descriptor, 136 bytes; four to eight more
        // are in the timers. A server of many idle connections costs this much each.
        let size = size_of::<Entry<()>>() - size_of::<TcpStream>();
        assert!(size <= 132, "{size} bytes beside the socket");
    }
}
