//! One turn of a connection: it sends what it owes, takes the closing steps, receives and answers.
//!
//! [`Io`] stands for the socket and [`Serve`] for the service, so every server model, the simulator
//! and the fuzzer drive this same code. A turn is taken step by step: [`Turn::step`] returns after
//! each call it made, and the caller looks at the connection in between.
//!
//! A connection remembers what its socket is ready for until a call says otherwise ([`Readiness`]),
//! as edge-triggered readiness requires (`epoll(7)`).

mod readiness;

use core::time::Duration;

use crate::connection::{CloseStep, Connection, Probe, Received};
use crate::disconnect::{During, ErrnoClass};
use crate::proxy_header::ProxyHeader;
use crate::time::Timestamp;

pub use self::readiness::{Asked, Question, Readiness, Unread};

/// A socket and a clock. No call blocks.
pub trait Io {
    /// Receives with one call, into `room` first and then into `rest`; returns 0 at the end of the
    /// stream.
    ///
    /// # Errors
    ///
    /// Why nothing was received.
    fn receive(&mut self, room: &mut [u8], rest: &mut [u8]) -> Result<usize, Refusal>;

    /// Sends with one call; any of `parts` may be empty, but not all of them. Returns the number of
    /// bytes taken.
    ///
    /// # Errors
    ///
    /// Why nothing was taken.
    fn send(&mut self, parts: &[&[u8]; 3]) -> Result<usize, Refusal>;

    /// Asks for readiness, if any, to be reported again: the last call should have been possible,
    /// but was not.
    fn ask(&mut self, question: Question);

    /// What the socket reports about sent bytes.
    fn probe_sent(&mut self) -> Probe;

    /// Sends FIN after everything sent before. For `patience` see [`Connection::kernel_patience`].
    fn shutdown_send(&mut self, patience: Option<Duration>);

    /// The current time.
    fn now(&mut self) -> Timestamp;

    /// The current time from a cheaper clock, for uses where a few milliseconds do not matter.
    /// Never earlier than the last [`Io::now`].
    fn coarse_now(&mut self) -> Timestamp {
        self.now()
    }
}

/// Why a call moved no byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// EAGAIN
    WouldBlock,
    /// EINTR
    Interrupted,
    /// The call failed.
    Failed {
        /// The raw errno.
        errno: i32,
        /// Its class.
        class: ErrnoClass,
    },
}

/// A service that answers.
pub trait Serve {
    /// The PROXY header has come, before anything that is to be answered.
    fn introduce(&mut self, header: &ProxyHeader);

    /// The answer to what one receive brought in. It is sent with one call.
    fn answer<'a>(&'a mut self, received: &'a Received<'_>) -> Answer<'a>;
}

/// Bytes to send.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Sent in this order. Each part of a framed answer begins at a frame boundary. Any may be
    /// empty.
    pub parts: [&'a [u8]; 3],
    /// How many frames they hold.
    pub frames: u64,
}

/// How much one turn may do.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Receives before other connections get their turn.
    pub receives: u32,
    /// Bytes received beyond the rest of an unfinished frame. If no frame is unfinished, the whole
    /// buffer is filled.
    pub receive_len: usize,
}

/// What was done, or what is next if nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// This many bytes were received, and answered where they ask for it.
    Received(usize),
    /// This many of the owed bytes were sent.
    Sent(usize),
    /// The peer's FIN was received.
    EndOfStream,
    /// A call was refused or interrupted.
    Refused(During),
    /// A call failed.
    Failed,
    /// The socket was asked about missing acknowledgements, and some are missing.
    Asked,
    /// FIN was sent.
    FinSent,
    /// Close the connection in this way; no step follows.
    Closed(CloseStep),
    /// Nothing is left to do until the socket is ready again.
    Over,
    /// The connection is still ready, but its turn is used up.
    Unfinished,
}

/// One turn of a connection.
///
/// ```
/// use std::sync::Arc;
/// use trust_wire::turn::{Answer, Bounds, Io, Question, Refusal, Serve, Step, Unread};
/// use trust_wire::{Connection, Limits, Mode, Probe, ProxyHeader, Readiness, Received, Timestamp};
/// use trust_wire::Turn;
///
/// /// A socket in memory, which has something to receive and takes everything at once.
/// struct Memory(&'static [u8], Vec<u8>);
///
/// impl Io for Memory {
///     fn receive(&mut self, _room: &mut [u8], rest: &mut [u8]) -> Result<usize, Refusal> {
///         let (now, later) = self.0.split_at(self.0.len().min(rest.len()));
///         rest[..now.len()].copy_from_slice(now);
///         self.0 = later;
///         if now.is_empty() { Err(Refusal::WouldBlock) } else { Ok(now.len()) }
///     }
///     fn send(&mut self, parts: &[&[u8]; 3]) -> Result<usize, Refusal> {
///         self.1.extend(parts.concat());
///         Ok(parts.concat().len())
///     }
///     fn ask(&mut self, _question: Question) {}
///     fn probe_sent(&mut self) -> Probe {
///         Probe::default()
///     }
///     fn shutdown_send(&mut self, _patience: Option<std::time::Duration>) {}
///     fn now(&mut self) -> Timestamp {
///         Timestamp::default()
///     }
/// }
///
/// /// Echoes frames.
/// struct Echo;
///
/// impl Serve for Echo {
///     fn introduce(&mut self, _header: &ProxyHeader) {}
///     fn answer<'a>(&'a mut self, received: &'a Received<'_>) -> Answer<'a> {
///         let Received::Frames(decoded) = received else { panic!("the mode is Framed") };
///         let [first, run] = decoded.frames().parts();
///         Answer { parts: [first, run, &[]], frames: decoded.count }
///     }
/// }
///
/// let limits = Limits { mode: Mode::Framed, ..Limits::default() };
/// let mut connection = Connection::new(Arc::new(limits), Timestamp::default());
/// let mut io = Memory(b"\0\0\0\x02hi", vec![]);
/// let mut readiness = Readiness::default();
/// readiness.note(Unread::Bytes, false); // as an event announced
///
/// let mut buffer = [0; 1024];
/// let mut turn = Turn::new(&mut readiness, Bounds { receives: 16, receive_len: buffer.len() });
/// assert_eq!(turn.step(&mut connection, &mut io, &mut Echo, &mut buffer), Step::Received(6));
/// assert_eq!(turn.step(&mut connection, &mut io, &mut Echo, &mut buffer), Step::Over);
/// assert_eq!(io.1, b"\0\0\0\x02hi");
/// ```
#[derive(Debug)]
pub struct Turn<'a> {
    readiness: &'a mut Readiness,
    bounds: Bounds,
    receives_left: u32,
    /// The end has been looked at since something last happened.
    looked: bool,
    /// The error from sending an answer, reported as a step of its own.
    failed: Option<(i32, ErrnoClass)>,
}

impl<'a> Turn<'a> {
    /// Starts a turn of a connection with this readiness.
    pub fn new(readiness: &'a mut Readiness, bounds: Bounds) -> Turn<'a> {
        Turn { readiness, bounds, receives_left: bounds.receives, looked: false, failed: None }
    }

    /// Does the next thing that the connection is ready for. It receives into `buffer`, which is
    /// free again afterwards.
    ///
    /// Call it until it returns [`Step::Closed`], [`Step::Over`] or [`Step::Unfinished`].
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than [`Bounds::receive_len`].
    pub fn step(
        &mut self,
        connection: &mut Connection,
        io: &mut impl Io,
        serve: &mut impl Serve,
        buffer: &mut [u8],
    ) -> Step {
        if let Some((errno, class)) = self.failed.take() {
            connection.handle_error(errno, class, During::Send);
            return Step::Failed;
        }
        if self.readiness.writable && connection.wants_send() {
            self.looked = false;
            return self.send_owed(connection, io);
        }
        if !self.looked
            && connection.is_ending()
            && let Some(step) = self.look_at_the_end(connection, io)
        {
            return step;
        }
        if self.readiness.unread > Unread::Nothing && connection.wants_receive() {
            if self.receives_left == 0 {
                return Step::Unfinished;
            }
            self.receives_left -= 1;
            self.looked = false;
            return self.receive(connection, io, serve, buffer);
        }
        Step::Over
    }

    fn send_owed(&mut self, connection: &mut Connection, io: &mut impl Io) -> Step {
        let owed = connection.owed();
        let len = owed.len();
        match io.send(&[owed, &[], &[]]) {
            Ok(sent) => {
                connection.handle_sent(sent, io.now());
                self.readiness.writable = sent == len;
                self.readiness.asked.handle_success();
                Step::Sent(sent)
            }
            Err(Refusal::Failed { errno, class }) => {
                connection.handle_error(errno, class, During::Send);
                Step::Failed
            }
            // Also after a signal: its handler may have asked for something more urgent.
            Err(Refusal::WouldBlock | Refusal::Interrupted) => {
                self.readiness.writable = false;
                self.handle_would_block(io);
                Step::Refused(During::Send)
            }
        }
    }

    fn look_at_the_end(&mut self, connection: &mut Connection, io: &mut impl Io) -> Option<Step> {
        self.looked = true;
        let now = io.now();
        let mut is_asked = false;
        let step = connection.poll_close(now, || {
            is_asked = true;
            io.probe_sent()
        });
        match step {
            Some(CloseStep::ShutdownSend) => {
                io.shutdown_send(connection.kernel_patience());
                Some(Step::FinSent)
            }
            Some(step) => Some(Step::Closed(step)),
            None => is_asked.then_some(Step::Asked),
        }
    }

    fn receive(
        &mut self,
        connection: &mut Connection,
        io: &mut impl Io,
        serve: &mut impl Serve,
        buffer: &mut [u8],
    ) -> Step {
        let room = connection.room();
        let room_len = room.len();
        let rest_len = if room_len == 0 { buffer.len() } else { self.bounds.receive_len };
        match io.receive(room, &mut buffer[..rest_len]) {
            Ok(0) => {
                self.readiness.unread = Unread::Nothing;
                connection.handle_end_of_stream();
                Step::EndOfStream
            }
            Ok(count) => {
                self.readiness.asked.handle_success();
                if count < room_len + rest_len && self.readiness.unread == Unread::Bytes {
                    self.readiness.unread = Unread::Nothing;
                }
                let in_room = count.min(room_len);
                self.answer(connection, io, serve, in_room, &buffer[..count - in_room]);
                Step::Received(count)
            }
            Err(Refusal::WouldBlock) => {
                self.readiness.unread = Unread::Nothing;
                self.handle_would_block(io);
                Step::Refused(During::Receive)
            }
            Err(Refusal::Interrupted) => Step::Refused(During::Receive),
            Err(Refusal::Failed { errno, class }) => {
                connection.handle_error(errno, class, During::Receive);
                Step::Failed
            }
        }
    }

    fn answer(
        &mut self,
        connection: &mut Connection,
        io: &mut impl Io,
        serve: &mut impl Serve,
        in_room: usize,
        rest: &[u8],
    ) {
        // After the call: what it brought had arrived by now, even if the process was stopped
        // before.
        let now = io.now();
        let mut rest = rest;
        if connection.awaits_header() {
            rest = introduce(connection, serve, rest, now);
            if rest.is_empty() {
                return;
            }
        }
        let received = connection.handle_received(in_room, rest, now);
        if matches!(received, Received::Nothing) {
            return;
        }
        let Answer { parts, frames } = serve.answer(&received);
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len == 0 {
            return;
        }
        let outcome = io.send(&parts);
        let sent = outcome.unwrap_or(0);
        // Taken after the answer: time that the service needs does not count against the peer.
        connection.handle_answered(&parts, frames, sent, io.coarse_now());
        self.readiness.writable &= sent == len;
        match outcome {
            Ok(_) => {}
            Err(Refusal::Failed { errno, class }) => self.failed = Some((errno, class)),
            Err(Refusal::WouldBlock | Refusal::Interrupted) => self.handle_would_block(io),
        }
    }

    /// Handles a call that should have been possible but was not.
    fn handle_would_block(&mut self, io: &mut impl Io) {
        if let Some(question) = self.readiness.asked.handle_would_block() {
            io.ask(question);
        }
    }
}

/// Receives the PROXY header; returns what follows it, if it is whole.
#[cold]
fn introduce<'a>(
    connection: &mut Connection,
    serve: &mut impl Serve,
    bytes: &'a [u8],
    now: Timestamp,
) -> &'a [u8] {
    let Some((header, rest)) = connection.handle_header(bytes, now) else { return &[] };
    serve.introduce(&header);
    rest
}

#[cfg(test)]
mod tests;
