//! From received bytes to messages and their echoes, right or wrong.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

use trust_wire::format::LengthFormat;
use trustctl::check::framing::Framing;

use super::mutant::{RECEIVE_BYTES, Server};

/// What reading messages may get wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bugs {
    /// A header is what one receive brings of it, and zeros.
    pub(crate) header_in_one_receive: bool,
    /// A payload is what one receive brings of it.
    pub(crate) payload_in_one_receive: bool,
    /// A receive holds one message; what is behind it is dropped.
    pub(crate) one_frame_a_receive: bool,
    /// A payload of the largest length is too long.
    pub(crate) limit_is_exclusive: bool,
    /// Every length is fine.
    pub(crate) no_limit: bool,
    /// A payload of no bytes ends the connection.
    pub(crate) empty_is_the_end: bool,
}

/// Nothing wrong.
pub(crate) const NO_BUGS: Bugs = Bugs {
    header_in_one_receive: false,
    payload_in_one_receive: false,
    one_frame_a_receive: false,
    limit_is_exclusive: false,
    no_limit: false,
    empty_is_the_end: false,
};

/// What a look at the connection brought.
#[derive(Debug)]
pub(crate) enum Received {
    /// Some bytes; the echoes of what they completed are there.
    Frames,
    /// The end of the stream. A message that it cuts is none.
    Fin,
    /// Something that is no message.
    Refused,
    /// Nothing in time.
    Timeout,
    /// The connection failed.
    Failed(io::Error),
}

/// A connection's unfinished input.
#[derive(Debug)]
pub(crate) struct Frames<'s> {
    server: &'s Server,
    bugs: Bugs,
    held: Vec<u8>,
}

impl<'s> Frames<'s> {
    pub(crate) fn new(server: &'s Server) -> Frames<'s> {
        Frames { server, bugs: server.behaviour.framing, held: vec![] }
    }

    /// Receives once, or until a message is whole with `exact`; appends echoes.
    pub(crate) fn receive(&mut self, stream: &TcpStream, answers: &mut Vec<Vec<u8>>) -> Received {
        if let (Framing::Length(_), true) = (self.server.framing, self.server.behaviour.exact) {
            return self.receive_exactly(stream, answers);
        }
        let mut buffer = vec![0; RECEIVE_BYTES];
        match receive(stream, &mut buffer) {
            Ok(0) => Received::Fin,
            Ok(count) => {
                self.held.extend_from_slice(&buffer[..count]);
                self.decode(answers)
            }
            Err(error) => ended(error),
        }
    }

    /// Answers all whole messages of what is held.
    fn decode(&mut self, answers: &mut Vec<Vec<u8>>) -> Received {
        let mut at = 0;
        let mut received = Received::Frames;
        while at < self.held.len() {
            let Some(len) = self.whole(&self.held[at..]) else {
                received = Received::Refused;
                break;
            };
            let Some(len) = len else { break };
            answers.push(self.held[at..at + len].to_vec());
            at += len;
            if self.bugs.one_frame_a_receive {
                at = self.held.len();
            }
        }
        self.held.drain(..at);
        received
    }

    /// The length of the message that the bytes begin with, header included; `Some(None)` if it is unfinished,
    /// `None` if it is none.
    fn whole(&self, bytes: &[u8]) -> Option<Option<usize>> {
        let limit = self.server.max_frame;
        match self.server.framing {
            Framing::Raw => Some(Some(bytes.len())),
            Framing::Line => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(len) => (len as u64 <= limit).then_some(Some(len + 1)),
                None => (bytes.len() as u64 <= limit).then_some(None),
            },
            Framing::Length(format) => {
                let header_len = format.header_len();
                let Some(header) = bytes.get(..header_len) else { return Some(None) };
                let len = header_len as u64 + self.declared(format, header)?;
                Some((bytes.len() as u64 >= len).then_some(len as usize))
            }
        }
    }

    /// The payload's length; `None` if it is refused.
    fn declared(&self, format: LengthFormat, header: &[u8]) -> Option<u64> {
        let len = format.decode(header).ok()?;
        let limit = self.server.max_frame;
        let is_above = len > limit || len == limit && self.bugs.limit_is_exclusive;
        let is_refused = is_above && !self.bugs.no_limit || len == 0 && self.bugs.empty_is_the_end;
        // Room for the header is added to it.
        (!is_refused).then_some(len.min(u64::MAX / 2))
    }

    /// One message, with receives for as much as it still needs.
    fn receive_exactly(&mut self, stream: &TcpStream, answers: &mut Vec<Vec<u8>>) -> Received {
        let Framing::Length(format) = self.server.framing else { return Received::Refused };
        let mut frame = vec![0; format.header_len()];
        if let Err(received) = fill(stream, &mut frame, self.bugs.header_in_one_receive) {
            return received;
        }
        let Some(len) = self.declared(format, &frame) else { return Received::Refused };
        let mut payload = vec![0; len as usize];
        if let Err(received) = fill(stream, &mut payload, self.bugs.payload_in_one_receive) {
            return received;
        }
        frame.append(&mut payload);
        answers.push(frame);
        Received::Frames
    }
}

/// Receives until the buffer is full, or only once; what is missing then stays zero.
fn fill(stream: &TcpStream, buffer: &mut [u8], once: bool) -> Result<(), Received> {
    let mut at = 0;
    while at < buffer.len() {
        match receive(stream, &mut buffer[at..]) {
            Ok(0) => return Err(Received::Fin),
            Ok(_) if once => return Ok(()),
            Ok(count) => at += count,
            Err(error) => return Err(ended(error)),
        }
    }
    Ok(())
}

fn receive(mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn ended(error: io::Error) -> Received {
    match error.kind() {
        // A read timeout (SO_RCVTIMEO, socket(7)) is this.
        ErrorKind::WouldBlock => Received::Timeout,
        _ => Received::Failed(error),
    }
}
