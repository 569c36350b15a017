//! From received bytes to messages and their echoes, right or wrong.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;

use trust_cli::framing::Framing;
use trust_wire::format::LengthFormat;

use super::lapses::Silent;
use super::mutant::{RECEIVE_BYTES, Server};

/// What reading messages may get wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bugs {
    /// An answer has a newline behind it that nobody sent.
    pub(crate) adds_a_newline: bool,
    /// A payload of one byte is no message.
    pub(crate) drops_single_bytes: bool,
    /// A payload of no bytes ends the connection.
    pub(crate) empty_is_the_end: bool,
    /// A payload of the largest length is too long.
    pub(crate) limit_is_exclusive: bool,
    /// The limit is one for header and payload together.
    pub(crate) limit_counts_header: bool,
    /// A payload may be a byte longer than the limit.
    pub(crate) limit_is_one_more: bool,
    /// Every length is fine.
    pub(crate) no_limit: bool,
    /// A length with the highest bit set is negative, and so below the limit.
    pub(crate) length_is_signed: bool,
    /// A length of all ones is no message, and skipped.
    pub(crate) all_ones_is_nothing: bool,
    /// A length that is too large is read in the other byte order.
    pub(crate) guesses_byte_order: bool,
    /// A payload that is a message is taken for that message.
    pub(crate) decodes_twice: bool,
    /// Blanks around a payload are no part of it.
    pub(crate) trims: bool,
    /// A length is kept in 16 bits.
    pub(crate) length_is_u16: bool,
    /// A payload has room for 4096 bytes; what is beyond comes back as zeros.
    pub(crate) page_is_enough: bool,
    /// Behind the last whole word of a payload there are zeros.
    pub(crate) copies_words: bool,
    /// A length that is less than what it counts is that of an empty message.
    pub(crate) less_is_nothing: bool,
    /// What is refused comes back before the end.
    pub(crate) echoes_the_unknown: bool,
    /// A refused header is skipped, and what is behind it taken for messages.
    pub(crate) skips_refused: bool,
    /// A header is what one receive brings of it, and zeros.
    pub(crate) header_in_one_receive: bool,
    /// A payload is what one receive brings of it, and zeros.
    pub(crate) payload_in_one_receive: bool,
    /// A receive that ends with a header brought all there is: the payload is zeros.
    pub(crate) payload_comes_with_header: bool,
    /// What a receive brings behind the end of a message that was begun before is dropped.
    pub(crate) drops_behind_completed: bool,
    /// Less than a header behind a whole message is dropped.
    pub(crate) drops_half_header: bool,
    /// A receive without a newline is a line.
    pub(crate) line_is_a_receive: bool,
    /// A receive holds one message; what is behind it is dropped.
    pub(crate) one_frame_a_receive: bool,
    /// A receive makes one message be answered; what is behind it waits for the next receive.
    pub(crate) one_frame_a_wakeup: bool,
    /// What is behind an empty message waits for the next receive.
    pub(crate) empty_ends_the_batch: bool,
    /// Messages are answered when nothing unfinished is behind them.
    pub(crate) half_delays_whole: bool,
    /// A receive that fills its buffer, of a page here, is looked at when more has come.
    pub(crate) full_receive_means_more: bool,
    /// Room for a payload is written to as soon as its length is known.
    pub(crate) touches_declared: bool,
}

/// Nothing wrong.
pub(crate) const NO_BUGS: Bugs = Bugs {
    adds_a_newline: false,
    drops_single_bytes: false,
    empty_is_the_end: false,
    limit_is_exclusive: false,
    limit_counts_header: false,
    limit_is_one_more: false,
    no_limit: false,
    length_is_signed: false,
    all_ones_is_nothing: false,
    guesses_byte_order: false,
    decodes_twice: false,
    trims: false,
    length_is_u16: false,
    page_is_enough: false,
    copies_words: false,
    less_is_nothing: false,
    echoes_the_unknown: false,
    skips_refused: false,
    header_in_one_receive: false,
    payload_in_one_receive: false,
    payload_comes_with_header: false,
    drops_behind_completed: false,
    drops_half_header: false,
    line_is_a_receive: false,
    one_frame_a_receive: false,
    one_frame_a_wakeup: false,
    empty_ends_the_batch: false,
    half_delays_whole: false,
    full_receive_means_more: false,
    touches_declared: false,
};

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
    bugs: Bugs,
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
        Frames { server, bugs: server.behaviour.framing, held: vec![] }
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
        let room = if self.bugs.full_receive_means_more { PAGE } else { RECEIVE_BYTES };
        let mut buffer = vec![0; room];
        let count = match receive(stream, &mut buffer) {
            Ok(0) => return Received::Fin,
            Ok(count) => count,
            Err(error) => return ended(error),
        };
        let was_inside = self.is_inside();
        self.held.extend_from_slice(&buffer[..count]);
        let behaviour = &self.server.behaviour;
        if self.bugs.full_receive_means_more && count == room
            || behaviour.amounts.expects_more_behind(stream, count)
        {
            return Received::Frames;
        }
        let held = self.held.len();
        // Once, as soon as the header is whole.
        if self.bugs.touches_declared && held - count < self.server.framing.overhead() {
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
            Framing::Line if self.bugs.line_is_a_receive && !self.held.ends_with(b"\n") => {
                self.held.push(b'\n');
            }
            Framing::Length(format)
                if self.bugs.payload_comes_with_header
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
        let Bugs { one_frame_a_receive, one_frame_a_wakeup, .. } = self.bugs;
        let before = answers.len();
        let mut at = 0;
        let mut is_refused = false;
        while at < self.held.len() {
            let rest = &self.held[at..];
            let len = match self.begun(rest) {
                Begun::Whole(len) => len,
                Begun::Unfinished => break,
                Begun::Refused if self.bugs.skips_refused => {
                    at += rest.len().min(self.server.framing.overhead());
                    continue;
                }
                Begun::Refused => {
                    is_refused = true;
                    if self.bugs.echoes_the_unknown {
                        answers.push(rest.to_vec());
                    }
                    break;
                }
            };
            let is_first = at == 0;
            answers.extend(self.echo(&rest[..len]));
            at += len;
            if one_frame_a_receive || is_first && was_inside && self.bugs.drops_behind_completed {
                at = self.held.len();
            }
            let is_empty = len == self.server.framing.overhead();
            if one_frame_a_wakeup || is_empty && self.bugs.empty_ends_the_batch {
                break;
            }
        }
        let left = self.held.len() - at;
        if self.bugs.half_delays_whole && left > 0 && !is_refused {
            answers.truncate(before);
            return Received::Frames;
        }
        if self.bugs.drops_half_header && at > 0 && left < self.server.framing.overhead() {
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
        let (bugs, limit) = (&self.bugs, self.server.max_frame);
        let field = &header[format.length_at()];
        if bugs.all_ones_is_nothing && field.iter().all(|byte| *byte == 0xff) {
            return Some(0);
        }
        let highest = if format.is_big_endian() { field.first() } else { field.last() };
        let is_negative = bugs.length_is_signed && highest.is_some_and(|byte| *byte >= 0x80);
        let mut len = match format.decode(header) {
            Ok(len) => len,
            Err(_) if bugs.less_is_nothing => 0,
            Err(_) => return None,
        };
        if bugs.guesses_byte_order && len > limit {
            len = format.swapped().decode(header).ok()?;
        }
        let counted = if bugs.limit_counts_header { header.len() as u64 } else { 0 };
        let least_refused = if bugs.limit_is_exclusive { limit } else { limit + 1 };
        let more = u64::from(bugs.limit_is_one_more);
        let is_above = len.saturating_add(counted) >= least_refused + more;
        let is_too_long = is_above && !bugs.no_limit && !is_negative;
        if is_too_long || len == 0 && bugs.empty_is_the_end {
            return None;
        }
        if bugs.length_is_u16 {
            len &= 0xffff;
        }
        // The header's length is added to it.
        Some(len.min(u64::MAX / 2))
    }

    /// What is sent back for a whole message.
    fn echo(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let (bugs, framing) = (&self.bugs, self.server.framing);
        let mut echo = frame.to_vec();
        let (begin, end) = match framing {
            Framing::Length(format) => (format.header_len(), echo.len()),
            Framing::Line => (0, echo.len() - 1),
            Framing::Raw => (0, echo.len()),
        };
        let payload = &mut echo[begin..end];
        if bugs.drops_single_bytes && payload.len() == 1 {
            return None;
        }
        if bugs.page_is_enough && payload.len() > PAGE {
            payload[PAGE..].fill(0);
        }
        if bugs.copies_words {
            let words = payload.len() / 4 * 4;
            payload[words..].fill(0);
        }
        if bugs.trims {
            return Some(framing.encode(payload.trim_ascii()));
        }
        if bugs.decodes_twice
            && let Begun::Whole(len) = self.begun(payload)
            && len == payload.len()
        {
            return Some(payload.to_vec());
        }
        if bugs.adds_a_newline {
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
        if let Err(received) = fill(stream, &mut frame, self.bugs.header_in_one_receive) {
            return received;
        }
        let Some(len) = self.declared(format, &frame) else { return Received::Refused };
        // Zeros would be pages that nobody has touched.
        let mut payload = vec![u8::from(self.bugs.touches_declared); len as usize];
        if let Err(received) = fill(stream, &mut payload, self.bugs.payload_in_one_receive) {
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
