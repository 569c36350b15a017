//! From received bytes to messages and their echoes, rightly or wrongly.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

use trust_cli::framing::Framing;
use trust_wire::format::LengthFormat;

use super::amounts::expects_more_behind;
use super::lapses::Silent;
use super::mutant::{RECEIVE_BYTES, Server};

/// What may be wrong about reading messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// An answer is followed by a newline that was not sent.
    AddsANewline,
    /// A one-byte payload is ignored.
    DropsSingleBytes,
    /// An empty payload ends the connection.
    EmptyIsTheEnd,
    /// A payload of exactly the limit is refused.
    LimitIsExclusive,
    /// The limit includes the header.
    LimitCountsHeader,
    /// A payload may exceed the limit by one byte.
    LimitIsOneMore,
    /// There is no limit.
    NoLimit,
    /// A length with the highest bit set counts as negative, and so as below the limit.
    LengthIsSigned,
    /// A length of all ones is skipped.
    AllOnesIsNothing,
    /// A length that is too large is read in the other byte order.
    GuessesByteOrder,
    /// A payload that is itself a message is decoded once more.
    DecodesTwice,
    /// Blanks around a payload are removed.
    Trims,
    /// A length is kept in 16 bits.
    LengthIsU16,
    /// A payload has room for 4096 bytes; the rest comes back as zeros.
    PageIsEnough,
    /// Bytes after the last whole word of a payload are zeros.
    CopiesWords,
    /// A length smaller than what it counts is taken for an empty message.
    LessIsNothing,
    /// Refused bytes are echoed before the end.
    EchoesTheUnknown,
    /// A refused header is skipped, and the bytes after it are taken for messages.
    SkipsRefused,
    /// A header is what one receive returns of it, padded with zeros.
    HeaderInOneReceive,
    /// A payload is what one receive returns of it, padded with zeros.
    PayloadInOneReceive,
    /// If a receive ends with a header, nothing more is expected, and the payload is zeros.
    PayloadComesWithHeader,
    /// Bytes received after the end of a message that began earlier are dropped.
    DropsBehindCompleted,
    /// Less than a header after a whole message is dropped.
    DropsHalfHeader,
    /// A receive without a newline counts as a line.
    LineIsAReceive,
    /// A receive holds one message; anything after it is dropped.
    OneFrameAReceive,
    /// Each receive answers one message; anything after it waits for the next receive.
    OneFrameAWakeup,
    /// Anything after an empty message waits for the next receive.
    EmptyEndsTheBatch,
    /// Messages are answered only when nothing unfinished follows them.
    HalfDelaysWhole,
    /// A receive that fills its buffer, here one page, is not processed until more has come.
    FullReceiveMeansMore,
    /// Room for a payload is written to as soon as its length is known.
    TouchesDeclared,
}

/// Bytes of a page: the receive size, or the room, of a server that is content with one page.
const PAGE: usize = 4096;

/// The result of a receive.
#[derive(Debug)]
pub(crate) enum Received {
    /// Some bytes; the echoes of the messages that they completed are ready.
    Frames,
    /// The end of the stream. A message cut off by it does not count.
    Fin,
    /// Something that is not a valid message.
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

/// The result of looking at the first bytes.
enum Begun {
    /// A message, of this many bytes including its header.
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

    /// Holds these bytes as the beginning of a message.
    pub(crate) fn begin_with(&mut self, part: Vec<u8>) {
        self.held = part;
    }

    /// Whether part of a message is held.
    pub(crate) fn is_inside(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether part of a message is held, and the client fell silent at this point.
    pub(crate) fn is_silent(&self, silent: Silent) -> bool {
        let header_len = self.server.framing.overhead();
        match silent {
            Silent::InAHeader => self.is_inside() && self.held.len() < header_len,
            Silent::InAPayload => self.held.len() >= header_len,
        }
    }

    /// Drops the held part of a message.
    pub(crate) fn forget(&mut self) {
        self.held.clear();
    }

    /// Takes the held part of a message, so that nothing is held afterwards.
    pub(crate) fn take_part(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// The length declared by the unfinished message; 0 if there is none, or its header is
    /// incomplete.
    pub(crate) fn declares(&self) -> u64 {
        let Framing::Length(format) = self.server.framing else { return 0 };
        let header = self.held.get(..format.header_len());
        header.and_then(|header| self.declared(format, header)).unwrap_or(0)
    }

    /// Receives once, or with `exact` until a message is complete; appends echoes.
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
        // Once, as soon as the header is complete.
        if self.has(Bug::TouchesDeclared) && held - count < self.server.framing.overhead() {
            let room = vec![1; self.declares() as usize];
            self.held.extend_from_slice(&room);
            self.held.truncate(held);
        }
        self.mend();
        self.decode(was_inside, answers)
    }

    /// Pads missing bytes, where the end of a receive is taken for the end of a message.
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

    /// Answers the whole messages among the held bytes.
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
        // The header's length will be added to it.
        Some(len.min(u64::MAX / 2))
    }

    /// The echo of a whole message.
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

    /// Receives one message, with as many receives as it needs.
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
        // Zeros would be pages that are never touched.
        let mut payload = vec![u8::from(self.has(Bug::TouchesDeclared)); len as usize];
        if let Err(received) = fill(stream, &mut payload, self.has(Bug::PayloadInOneReceive)) {
            return received;
        }
        frame.append(&mut payload);
        answers.extend(self.echo(&frame));
        Received::Frames
    }
}

/// Receives until the buffer is full, or only once, and then missing bytes stay zero.
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
        // This is the error of a read timeout (SO_RCVTIMEO, socket(7)).
        ErrorKind::WouldBlock => Received::Timeout,
        _ => Received::Failed(error),
    }
}
