//! How the stream of a connection began, where that is worth reporting.

use alloc::boxed::Box;

use crate::foreign::{Opening, Protocol};
use crate::format::LengthFormat;
use crate::frame::{HEADER_LEN, encode_header};
use crate::limits::Mode;

use super::Connection;
use super::unsettled::State;

impl Connection {
    /// How the stream began, reported once, and only for some connections: one without a whole
    /// frame that ends in the middle of its first frame or because of its header; one that ends in
    /// the middle of its PROXY header or because of it; and one that became raw ([`Mode::Auto`])
    /// although its bytes are those of a known protocol. Call this before
    /// [`Connection::poll_cause`].
    pub fn poll_opening(&mut self) -> Option<Box<Opening>> {
        if !self.has_news {
            return None;
        }
        let opening = self.unsettled.as_deref_mut()?.opening.take();
        self.settle();
        opening
    }

    /// The first bytes have made the connection a raw one. That is as intended for text.
    #[inline(never)]
    pub(super) fn note_raw_opening(&mut self, start: &[u8]) {
        let opening = Opening::new(start, Some(LengthFormat::U32_BE));
        if opening.protocol().is_some_and(|protocol| protocol != Protocol::Text) {
            self.keep_opening(opening);
        }
    }

    /// A header declares too much. `taken` bytes of the stream's frame had come before `rest`, if
    /// it is the first one.
    #[inline(never)]
    pub(super) fn note_refused_opening(&mut self, declared: u32, taken: usize, rest: &[u8]) {
        if self.totals.frames_in > 0 {
            return;
        }
        let opening = match taken {
            0 => Opening::new(rest, Some(LengthFormat::U32_BE)),
            _ => {
                let body = &rest[HEADER_LEN.saturating_sub(taken)..];
                let start = [&encode_header(declared)[..], body].concat();
                Opening::new(&start, Some(LengthFormat::U32_BE))
            }
        };
        self.keep_opening(opening);
    }

    /// The connection ends, perhaps in the middle of its PROXY header or its first frame.
    pub(super) fn note_unfinished_opening(&mut self) {
        let expected = match *self.state() {
            // Any frames are something else, the right ones too.
            State::Introducing(_) => None,
            _ if self.totals.frames_in > 0 || self.mode == Mode::Raw => return,
            _ => Some(LengthFormat::U32_BE),
        };
        let held = self.unsettled.as_deref().map_or(&[][..], |unsettled| unsettled.decoder.held());
        if !held.is_empty() {
            self.keep_opening(Opening::new(held, expected));
        }
    }

    fn keep_opening(&mut self, opening: Opening) {
        self.unsettled().opening = Some(Box::new(opening));
        self.has_news = true;
    }
}
