//! From received bytes to messages and their echoes, right or wrong.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

use trust_cli::framing::Framing;
use trust_wire::format::LengthFormat;

use super::amounts::expects_more_behind;
use super::lapses::Silent;
use super::mutant::{RECEIVE_BYTES, Server};

/// What reading messages may get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// An answer has a newline behind it that nobody sent.
    AddsANewline,
    /// A payload of one byte is no message.
    DropsSingleBytes,
    /// A payload of no bytes ends the connection.
    EmptyIsTheEnd,
    /// A payload of the largest length is too long.
    LimitIsExclusive,
    /// The limit is one for header and payload together.
    LimitCountsHeader,
    /// A payload may be a byte longer than the limit.
    LimitIsOneMore,
    /// Every length is fine.
    NoLimit,
    /// A length with the highest bit set is negative, and so below the limit.
    LengthIsSigned,
    /// A length of all ones is no message, and skipped.
    AllOnesIsNothing,
    /// A length that is too large is read in the other byte order.
    GuessesByteOrder,
    /// A payload that is a message is taken for that message.
    DecodesTwice,
    /// Blanks around a payload are no part of it.
    Trims,
    /// A length is kept in 16 bits.
    LengthIsU16,
    /// A payload has room for 4096 bytes; what is beyond comes back as zeros.
    PageIsEnough,
    /// Behind the last whole word of a payload there are zeros.
    CopiesWords,
    /// A length that is less than what it counts is that of an empty message.
    LessIsNothing,
    /// What is refused comes back before the end.
    EchoesTheUnknown,
    /// A refused header is skipped, and what is behind it taken for messages.
    SkipsRefused,
    /// A header is what one receive brings of it, and zeros.
    HeaderInOneReceive,
    /// A payload is what one receive brings of it, and zeros.
    PayloadInOneReceive,
    /// A receive that ends with a header brought all there is: the payload is zeros.
    PayloadComesWithHeader,
    /// What a receive brings behind the end of a message that was begun before is dropped.
    DropsBehindCompleted,
    /// Less than a header behind a whole message is dropped.
    DropsHalfHeader,
    /// A receive without a newline is a line.
    LineIsAReceive,
    /// A receive holds one message; what is behind it is dropped.
    OneFrameAReceive,
    /// A receive makes one message be answered; what is behind it waits for the next receive.
    OneFrameAWakeup,
    /// What is behind an empty message waits for the next receive.
    EmptyEndsTheBatch,
    /// Messages are answered when nothing unfinished is behind them.
    HalfDelaysWhole,
    /// A receive that fills its buffer, of a page here, is looked at when more has come.
    FullReceiveMeansMore,
    /// Room for a payload is written to as soon as its length is known.
    TouchesDeclared,
}

/// Bytes of a page, as much as a server that is content with one receives at once or has room for.
const PAGE: usize = 4096;

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
    held: Vec<u8>,
}

/// What some bytes begin with.
enum Begun {
    /// A message, of so many bytes with its header.
    Whole(usize),
    Unfinished,
    Refused,
}

impl<'s> Frames<'s> {
    pub(crate) fn new(server: &'s Server) -> Frames<'s> {
        Frames { server, held: vec![] }
    }

    fn has(&self, bug: Bug) -> bool {
        self.server.behaviour.framing == Some(bug)
    }

    /// Holds this as the beginning of a message.
    pub(crate) fn begin_with(&mut self, part: Vec<u8>) {
        self.held = part;
    }

    /// Whether part of a message is held.
    pub(crate) fn is_inside(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether part of a message is held, and the client is silent there.
    pub(crate) fn is_silent(&self, silent: Silent) -> bool {
        let header_len = self.server.framing.overhead();
        match silent {
            Silent::InAHeader => self.is_inside() && self.held.len() < header_len,
            Silent::InAPayload => self.held.len() >= header_len,
        }
    }

    /// Gives up what is held of a message.
    pub(crate) fn forget(&mut self) {
        self.held.clear();
    }

    /// What is held of a message; nothing is, then.
    pub(crate) fn take_part(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// What the unfinished message declares; 0 without one, or without its header.
    pub(crate) fn declares(&self) -> u64 {
        let Framing::Length(format) = self.server.framing else { return 0 };
        let header = self.held.get(..format.header_len());
        header.and_then(|header| self.declared(format, header)).unwrap_or(0)
    }

    /// Receives once, or until a message is whole with `exact`; appends echoes.
    pub(crate) fn receive(&mut self, stream: &TcpStream, answers: &mut Vec<Vec<u8>>) -> Received {
        if let (Framing::Length(format), true) = (self.server.framing, self.server.behaviour.exact)
        {
            return self.receive_exactly(format, stream, answers);
        }
        let room = if self.has(Bug::FullReceiveMeansMore) { PAGE } else { RECEIVE_BYTES };
        let mut buffer = vec![0; room];
        let count = match receive(stream, &mut buffer) {
            Ok(0) => return Received::Fin,
            Ok(count) => count,
            Err(error) => return ended(error),
        };
        let was_inside = self.is_inside();
        self.held.extend_from_slice(&buffer[..count]);
        let behaviour = &self.server.behaviour;
        if self.has(Bug::FullReceiveMeansMore) && count == room
            || expects_more_behind(behaviour.amounts, stream, count)
        {
            return Received::Frames;
        }
        let held = self.held.len();
        // Once, as soon as the header is whole.
        if self.has(Bug::TouchesDeclared) && held - count < self.server.framing.overhead() {
            let room = vec![1; self.declares() as usize];
            self.held.extend_from_slice(&room);
            self.held.truncate(held);
        }
        self.mend();
        self.decode(was_inside, answers)
    }

    /// Adds what a receive did not bring, where its end is taken for the end of a message.
    fn mend(&mut self) {
        match self.server.framing {
            Framing::Line if self.has(Bug::LineIsAReceive) && !self.held.ends_with(b"\n") => {
                self.held.push(b'\n');
            }
            Framing::Length(format)
                if self.has(Bug::PayloadComesWithHeader)
                    && self.held.len() == format.header_len() =>
            {
                let len = self.declared(format, &self.held).unwrap_or(0);
                self.held.resize(self.held.len() + len as usize, 0);
            }
            _ => {}
        }
    }

    /// Answers whole messages of what is held.
    fn decode(&mut self, was_inside: bool, answers: &mut Vec<Vec<u8>>) -> Received {
        let before = answers.len();
        let mut at = 0;
        let mut is_refused = false;
        while at < self.held.len() {
            let rest = &self.held[at..];
            let len = match self.begun(rest) {
                Begun::Whole(len) => len,
                Begun::Unfinished => break,
                Begun::Refused if self.has(Bug::SkipsRefused) => {
                    at += rest.len().min(self.server.framing.overhead());
                    continue;
                }
                Begun::Refused => {
                    is_refused = true;
                    if self.has(Bug::EchoesTheUnknown) {
                        answers.push(rest.to_vec());
                    }
                    break;
                }
            };
            let is_first = at == 0;
            answers.extend(self.echo(&rest[..len]));
            at += len;
            let drops_behind = is_first && was_inside && self.has(Bug::DropsBehindCompleted);
            if drops_behind || self.has(Bug::OneFrameAReceive) {
                at = self.held.len();
            }
            let is_empty = len == self.server.framing.overhead();
            if self.has(Bug::OneFrameAWakeup) || is_empty && self.has(Bug::EmptyEndsTheBatch) {
                break;
            }
        }
        let left = self.held.len() - at;
        if self.has(Bug::HalfDelaysWhole) && left > 0 && !is_refused {
            answers.truncate(before);
            return Received::Frames;
        }
        if self.has(Bug::DropsHalfHeader) && at > 0 && left < self.server.framing.overhead() {
            at = self.held.len();
        }
        self.held.drain(..at);
        if is_refused { Received::Refused } else { Received::Frames }
    }

    fn begun(&self, bytes: &[u8]) -> Begun {
        let limit = self.server.max_frame;
        match self.server.framing {
            Framing::Raw => Begun::Whole(bytes.len()),
            Framing::Line => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                match end {
                    _ if end.unwrap_or(bytes.len()) as u64 > limit => Begun::Refused,
                    Some(len) => Begun::Whole(len + 1),
                    None => Begun::Unfinished,
                }
            }
            Framing::Length(format) => {
                let Some(header) = bytes.get(..format.header_len()) else {
                    return Begun::Unfinished;
                };
                let Some(len) = self.declared(format, header) else { return Begun::Refused };
                let len = header.len() as u64 + len;
                if bytes.len() as u64 >= len {
                    Begun::Whole(len as usize)
                } else {
                    Begun::Unfinished
                }
            }
        }
    }

    /// The payload's length; `None` if it is refused.
    fn declared(&self, format: LengthFormat, header: &[u8]) -> Option<u64> {
        let limit = self.server.max_frame;
        let field = &header[format.length_at()];
        if self.has(Bug::AllOnesIsNothing) && field.iter().all(|byte| *byte == 0xff) {
            return Some(0);
        }
        let highest = if format.is_big_endian() { field.first() } else { field.last() };
        let is_negative =
            self.has(Bug::LengthIsSigned) && highest.is_some_and(|byte| *byte >= 0x80);
        let mut len = match format.decode(header) {
            Ok(len) => len,
            Err(_) if self.has(Bug::LessIsNothing) => 0,
            Err(_) => return None,
        };
        if self.has(Bug::GuessesByteOrder) && len > limit {
            len = format.swapped().decode(header).ok()?;
        }
        let counted = if self.has(Bug::LimitCountsHeader) { header.len() as u64 } else { 0 };
        let least_refused = if self.has(Bug::LimitIsExclusive) { limit } else { limit + 1 };
        let more = u64::from(self.has(Bug::LimitIsOneMore));
        let is_above = len.saturating_add(counted) >= least_refused + more;
        let is_too_long = is_above && !self.has(Bug::NoLimit) && !is_negative;
        if is_too_long || len == 0 && self.has(Bug::EmptyIsTheEnd) {
            return None;
        }
        if self.has(Bug::LengthIsU16) {
            len &= 0xffff;
        }
        // The header's length is added to it.
        Some(len.min(u64::MAX / 2))
    }

    /// What is sent back for a whole message.
    fn echo(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let framing = self.server.framing;
        let mut echo = frame.to_vec();
        let (begin, end) = match framing {
            Framing::Length(format) => (format.header_len(), echo.len()),
            Framing::Line => (0, echo.len() - 1),
            Framing::Raw => (0, echo.len()),
        };
        let payload = &mut echo[begin..end];
        if self.has(Bug::DropsSingleBytes) && payload.len() == 1 {
            return None;
        }
        if self.has(Bug::PageIsEnough) && payload.len() > PAGE {
            payload[PAGE..].fill(0);
        }
        if self.has(Bug::CopiesWords) {
            let words = payload.len() / 4 * 4;
            payload[words..].fill(0);
        }
        if self.has(Bug::Trims) {
            return Some(framing.encode(payload.trim_ascii()));
        }
        if self.has(Bug::DecodesTwice)
            && let Begun::Whole(len) = self.begun(payload)
            && len == payload.len()
        {
            return Some(payload.to_vec());
        }
        if self.has(Bug::AddsANewline) {
            echo.push(b'\n');
        }
        Some(echo)
    }

    /// One message, with receives for as much as it still needs.
    fn receive_exactly(
        &mut self,
        format: LengthFormat,
        stream: &TcpStream,
        answers: &mut Vec<Vec<u8>>,
    ) -> Received {
        let mut frame = vec![0; format.header_len()];
        if let Err(received) = fill(stream, &mut frame, self.has(Bug::HeaderInOneReceive)) {
            return received;
        }
        let Some(len) = self.declared(format, &frame) else { return Received::Refused };
        // Zeros would be pages that nobody has touched.
        let mut payload = vec![u8::from(self.has(Bug::TouchesDeclared)); len as usize];
        if let Err(received) = fill(stream, &mut payload, self.has(Bug::PayloadInOneReceive)) {
            return received;
        }
        frame.append(&mut payload);
        answers.extend(self.echo(&frame));
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
