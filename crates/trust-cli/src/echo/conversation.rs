//! What was sent to an echo server and what it owes, without I/O.
//!
//! An echo is the very bytes that were sent, header included, so one buffer is at once the send
//! queue and what the answers are compared with: bytes enter it, are sent, come back, and leave it.

use thiserror::Error;
use trust_wire::frame::{HEADER_LEN, decode_header, encode_header, peek_header};

use crate::text::grouped;

/// Payload bytes of one large frame that may wait to be sent; more only costs memory when the
/// server refuses the frame after its header.
const UNSENT_MAX: usize = 256 * 1024;

/// Bytes at the front of the buffer that are done with and worth moving the rest for.
const RECLAIM_MIN: usize = 64 * 1024;

/// How the bytes that are sent are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Frames; an echo counts when it is whole.
    Framed,
    /// Bytes as they are (RFC 862).
    Raw,
}

/// How much may be on its way at once. A single frame is always allowed, however long it is.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Bytes that were taken in and whose echo was not handed out yet.
    pub bytes: usize,
    /// Frames without an echo.
    pub frames: u64,
}

// Many fields: offsets and counts of one stream, which the invariants hold together.
/// One side of a conversation with an echo server.
///
/// Invariants: `taken <= whole <= matched <= sent <= stream.len()`, all of them offsets into
/// `stream`; `whole` is where the frame begins whose echo comes next (raw: always `matched`);
/// `header_got` is 0 unless `matched == whole`.
#[derive(Debug)]
pub struct Conversation {
    framing: Framing,
    window: Window,
    /// Frames (or raw bytes) that are waiting to be sent, echoed or handed out.
    stream: Vec<u8>,
    /// Before it: handed out by [`Conversation::poll_echo`].
    taken: usize,
    /// Before it: echoed, whole frames only.
    whole: usize,
    /// Before it: echoed.
    matched: usize,
    /// Before it: sent.
    sent: usize,
    /// The header of the next echo, as far as it arrived.
    header: [u8; HEADER_LEN],
    header_got: usize,
    /// Payload bytes of the youngest frame that were announced and not yet pushed.
    unfilled: usize,
    /// Payload bytes left of the echo that is being handed out.
    part_left: Option<usize>,
    frames_started: u64,
    frames_echoed: u64,
    bytes_echoed: u64,
}

/// A piece of an echo that has arrived whole.
#[derive(Debug, PartialEq, Eq)]
pub struct EchoPart<'a> {
    /// Payload bytes.
    pub bytes: &'a [u8],
    /// Whether the echo ends here.
    pub is_last: bool,
}

/// The answer that comes next, and how much of it had arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Owed {
    /// A frame, counted from 1; bytes include the header.
    #[error("got {} of {} bytes of echo {echo}", grouped(*got), grouped(*of))]
    Frame {
        /// Which echo, counted from 1.
        echo: u64,
        /// Bytes that arrived.
        got: u64,
        /// Bytes of the whole frame.
        of: u64,
    },
    /// Raw bytes, counted from the beginning of the connection.
    #[error("got {} of {} bytes", grouped(*got), grouped(*of))]
    Bytes {
        /// Bytes that arrived.
        got: u64,
        /// Bytes that were sent.
        of: u64,
    },
}

/// What came back is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WrongEcho {
    /// The header declares another length than the frame had that was sent.
    #[error(
        "wrong echo {echo}: its header declares {} bytes, {} were sent",
        grouped((*got).into()),
        grouped((*expected).into())
    )]
    Length {
        /// Which echo, counted from 1.
        echo: u64,
        /// Payload bytes that were sent.
        expected: u32,
        /// Payload bytes that the answer declares.
        got: u32,
    },
    /// A payload byte differs.
    #[error(
        "wrong echo {echo}: byte {} is 0x{got:02x}, 0x{expected:02x} was sent",
        grouped(*offset)
    )]
    Byte {
        /// Which echo, counted from 1.
        echo: u64,
        /// Offset in the payload.
        offset: u64,
        /// The byte that was sent.
        expected: u8,
        /// The byte that came back.
        got: u8,
    },
    /// A raw byte differs.
    #[error("wrong echo: byte {} is 0x{got:02x}, 0x{expected:02x} was sent", grouped(*offset))]
    RawByte {
        /// Offset since the beginning of the connection.
        offset: u64,
        /// The byte that was sent.
        expected: u8,
        /// The byte that came back.
        got: u8,
    },
    /// Bytes arrived when all that was sent had been echoed.
    #[error("wrong echo: bytes that were never sent, beginning with 0x{first:02x}")]
    Unasked {
        /// The first of them.
        first: u8,
    },
}

impl Conversation {
    /// A conversation in which nothing was said yet.
    pub fn new(framing: Framing, window: Window) -> Conversation {
        Conversation {
            framing,
            window,
            stream: Vec::new(),
            taken: 0,
            whole: 0,
            matched: 0,
            sent: 0,
            header: [0; HEADER_LEN],
            header_got: 0,
            unfilled: 0,
            part_left: None,
            frames_started: 0,
            frames_echoed: 0,
            bytes_echoed: 0,
        }
    }

    /// Whether the window lets another frame begin.
    pub fn wants_frame(&self) -> bool {
        self.framing == Framing::Framed
            && self.unfilled == 0
            && self.stream.len() - self.taken < self.window.bytes
            && self.frames_started - self.frames_echoed < self.window.frames
    }

    /// Bytes that [`Conversation::push`] takes now: of the frame that was begun, or raw ones.
    pub fn room(&self) -> usize {
        match self.framing {
            Framing::Framed => self.unfilled.min(UNSENT_MAX.saturating_sub(self.unsent().len())),
            Framing::Raw => self.window.bytes.saturating_sub(self.stream.len() - self.taken),
        }
    }

    /// Takes in a whole message as one frame.
    ///
    /// # Panics
    ///
    /// If a frame was begun and is not filled, or the message is longer than `u32::MAX` bytes.
    pub fn push_message(&mut self, payload: &[u8]) {
        let len = u32::try_from(payload.len()).expect("a message is at most u32::MAX bytes");
        self.start_frame(len);
        self.push(payload);
    }

    /// Begins a frame whose payload follows by [`Conversation::push`].
    ///
    /// # Panics
    ///
    /// If a frame was begun and is not filled.
    pub fn start_frame(&mut self, payload_len: u32) {
        assert_eq!(self.framing, Framing::Framed, "raw bytes have no frames");
        assert_eq!(self.unfilled, 0, "a frame begins after the one before is filled");
        self.reclaim();
        self.stream.extend_from_slice(&encode_header(payload_len));
        self.unfilled = payload_len as usize;
        self.frames_started += 1;
    }

    /// Takes in payload bytes of the frame that was begun, or raw bytes.
    ///
    /// # Panics
    ///
    /// If there are more of them than the frame still needs.
    pub fn push(&mut self, bytes: &[u8]) {
        match self.framing {
            Framing::Framed => {
                assert!(bytes.len() <= self.unfilled, "more payload than the header declares");
                self.unfilled -= bytes.len();
            }
            Framing::Raw => self.reclaim(),
        }
        self.stream.extend_from_slice(bytes);
    }

    /// Bytes that are to be sent next.
    pub fn unsent(&self) -> &[u8] {
        &self.stream[self.sent..]
    }

    /// Notes that the first `count` bytes of [`Conversation::unsent`] were sent.
    pub fn handle_sent(&mut self, count: usize) {
        self.sent += count;
        assert!(self.sent <= self.stream.len(), "more bytes sent than there were");
    }

    /// The part of the next echo's header that has arrived.
    pub fn begun_header(&self) -> &[u8] {
        &self.header[..self.header_got]
    }

    /// How the bytes that are sent are cut.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Compares what arrived with what was sent. After an error the conversation is over.
    ///
    /// # Errors
    ///
    /// The first byte, or header, that is not an echo.
    pub fn handle_received(&mut self, bytes: &[u8]) -> Result<(), WrongEcho> {
        let mut bytes = bytes;
        while let Some(&first) = bytes.first() {
            let asked = self.sent - self.matched - self.header_got;
            if asked == 0 {
                return Err(WrongEcho::Unasked { first });
            }
            let wanted = match self.framing {
                Framing::Raw => asked,
                Framing::Framed if self.matched == self.whole => HEADER_LEN - self.header_got,
                Framing::Framed => self.whole + self.frame_len_at(self.whole) - self.matched,
            };
            let (now, later) = bytes.split_at(bytes.len().min(wanted).min(asked));
            match self.framing {
                Framing::Framed if self.matched == self.whole => self.handle_header(now)?,
                _ => self.handle_payload(now)?,
            }
            bytes = later;
        }
        Ok(())
    }

    /// The next piece, of at most `max` bytes, of an echo that has arrived whole (raw: of any
    /// echoed bytes). An empty message yields one empty piece.
    pub fn poll_echo(&mut self, max: usize) -> Option<EchoPart<'_>> {
        if self.taken == self.whole && self.part_left.is_none() {
            return None;
        }
        let left = match (self.framing, self.part_left) {
            (Framing::Raw, _) => self.whole - self.taken,
            (Framing::Framed, Some(left)) => left,
            (Framing::Framed, None) => {
                let left = self.frame_len_at(self.taken) - HEADER_LEN;
                self.taken += HEADER_LEN;
                left
            }
        };
        let begin = self.taken;
        self.taken += left.min(max);
        let left = left - (self.taken - begin);
        self.part_left = (left > 0 && self.framing == Framing::Framed).then_some(left);
        Some(EchoPart { bytes: &self.stream[begin..self.taken], is_last: left == 0 })
    }

    /// The answer that comes next, if one is owed: something was sent that was not echoed yet.
    pub fn owed(&self) -> Option<Owed> {
        if self.sent == self.whole {
            return None;
        }
        let got = (self.matched - self.whole + self.header_got) as u64;
        Some(match self.framing {
            Framing::Framed => Owed::Frame {
                echo: self.frames_echoed + 1,
                got,
                of: self.frame_len_at(self.whole) as u64,
            },
            Framing::Raw => Owed::Bytes {
                got: self.bytes_echoed,
                of: self.bytes_echoed + (self.sent - self.matched) as u64,
            },
        })
    }

    /// Whether all that was taken in was sent and echoed.
    pub fn is_settled(&self) -> bool {
        self.unfilled == 0 && self.whole == self.stream.len()
    }

    /// Whole echoes that have arrived.
    pub fn frames_echoed(&self) -> u64 {
        self.frames_echoed
    }

    /// Bytes that came back as they were sent, headers included.
    pub fn bytes_echoed(&self) -> u64 {
        self.bytes_echoed
    }

    fn handle_header(&mut self, bytes: &[u8]) -> Result<(), WrongEcho> {
        self.header[self.header_got..][..bytes.len()].copy_from_slice(bytes);
        self.header_got += bytes.len();
        if self.header_got < HEADER_LEN {
            return Ok(());
        }
        let expected = (self.frame_len_at(self.whole) - HEADER_LEN) as u32;
        let got = decode_header(self.header);
        if got != expected {
            return Err(WrongEcho::Length { echo: self.frames_echoed + 1, expected, got });
        }
        self.header_got = 0;
        self.advance(HEADER_LEN);
        Ok(())
    }

    fn handle_payload(&mut self, bytes: &[u8]) -> Result<(), WrongEcho> {
        let expected = &self.stream[self.matched..][..bytes.len()];
        if expected == bytes {
            self.advance(bytes.len());
            return Ok(());
        }
        let pairs = expected.iter().zip(bytes);
        let equal = pairs.take_while(|(expected, got)| expected == got).count();
        let (expected, got) = (expected[equal], bytes[equal]);
        self.advance(equal);
        Err(match self.framing {
            Framing::Raw => WrongEcho::RawByte { offset: self.bytes_echoed, expected, got },
            Framing::Framed => WrongEcho::Byte {
                echo: self.frames_echoed + 1,
                offset: (self.matched - self.whole - HEADER_LEN) as u64,
                expected,
                got,
            },
        })
    }

    fn advance(&mut self, count: usize) {
        self.matched += count;
        self.bytes_echoed += count as u64;
        if self.framing == Framing::Raw {
            self.whole = self.matched;
        } else if self.matched == self.whole + self.frame_len_at(self.whole) {
            self.whole = self.matched;
            self.frames_echoed += 1;
        }
    }

    /// Bytes of the frame that begins at `offset`, header included.
    fn frame_len_at(&self, offset: usize) -> usize {
        let payload_len = peek_header(&self.stream[offset..]).expect("headers enter whole");
        HEADER_LEN + payload_len as usize
    }

    /// Frees the front of the buffer, so that the window bounds it. Every byte is moved at most
    /// once.
    fn reclaim(&mut self) {
        let done = self.taken;
        if done < self.stream.len() && (done < RECLAIM_MIN || done * 2 < self.stream.len()) {
            return;
        }
        self.stream.drain(..done);
        self.taken = 0;
        self.whole -= done;
        self.matched -= done;
        self.sent -= done;
    }
}

#[cfg(test)]
mod tests;
