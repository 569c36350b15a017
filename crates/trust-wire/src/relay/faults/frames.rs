//! Where the frames of a stream are that comes in pieces.

use alloc::vec::Vec;

use crate::format::LengthFormat;

/// How a stream is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFormat {
    /// By a length in front of each.
    Length(LengthFormat),
    /// By a newline after each.
    Line,
}

impl FrameFormat {
    /// Bytes in front of a payload.
    pub fn header_len(&self) -> u64 {
        match self {
            FrameFormat::Length(format) => format.header_len() as u64,
            FrameFormat::Line => 0,
        }
    }
}

/// Where the frames of a stream stopped making sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostFraming {
    /// The number of the frame whose header declares what cannot be.
    pub frame: u64,
    /// After how many bytes from the source.
    pub position: u64,
}

/// Follows the frames of a stream. Of these it keeps nothing but an unfinished header.
#[derive(Debug)]
pub(super) struct FrameTracker {
    format: FrameFormat,
    /// The number of the current frame, from 1.
    pub(super) number: u64,
    /// Where it begins.
    pub(super) start: u64,
    /// Where it ends, once that is known.
    pub(super) end: Option<u64>,
    header: Vec<u8>,
    /// A header declared what cannot be: there are no frames from there on.
    is_lost: bool,
    /// Where that was, until it is reported.
    lost: Option<LostFraming>,
}

/// What a tracker has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameEvent {
    /// The header of the current frame is whole, and its end is known.
    Header,
    /// The current frame ends here, and the next one begins.
    End,
    /// The header makes no sense.
    Lost,
}

impl FrameTracker {
    pub(super) fn new(format: FrameFormat) -> FrameTracker {
        let (header, end) = (Vec::new(), None);
        FrameTracker { format, number: 1, start: 0, end, header, is_lost: false, lost: None }
    }

    /// How many of these bytes, which come next at `position`, come before the next event.
    pub(super) fn reach(&self, position: u64, bytes: &[u8]) -> usize {
        if self.is_lost {
            return bytes.len();
        }
        let until = match (self.end, self.format) {
            (Some(end), _) => end - position,
            (None, FrameFormat::Length(_)) => self.start + self.format.header_len() - position,
            (None, FrameFormat::Line) => {
                let newline = bytes.iter().position(|byte| *byte == b'\n');
                return newline.map_or(bytes.len(), |at| at + 1);
            }
        };
        bytes.len().min(usize::try_from(until).unwrap_or(usize::MAX))
    }

    /// Takes bytes up to the next event at most; the stream is at `position` after them.
    pub(super) fn advance(&mut self, position: u64, bytes: &[u8]) {
        if self.is_lost || self.end.is_some() {
            return;
        }
        match self.format {
            FrameFormat::Length(_) => self.header.extend_from_slice(bytes),
            FrameFormat::Line if bytes.last() == Some(&b'\n') => self.end = Some(position),
            FrameFormat::Line => {}
        }
    }

    /// The next event at this position, if there is one; to be called until there is none.
    pub(super) fn next_event(&mut self, position: u64) -> Option<FrameEvent> {
        if self.is_lost {
            return None;
        }
        if self.end == Some(position) {
            (self.number, self.start, self.end) = (self.number + 1, position, None);
            return Some(FrameEvent::End);
        }
        let FrameFormat::Length(format) = self.format else { return None };
        if self.end.is_some() || self.header.len() < format.header_len() {
            return None;
        }
        let declared = format.decode(&self.header).ok();
        self.header = Vec::new();
        match declared.and_then(|len| position.checked_add(len)) {
            Some(end) => {
                self.end = Some(end);
                Some(FrameEvent::Header)
            }
            None => {
                self.is_lost = true;
                self.lost = Some(LostFraming { frame: self.number, position });
                Some(FrameEvent::Lost)
            }
        }
    }

    /// Where the stream stopped making sense, once.
    pub(super) fn take_lost(&mut self) -> Option<LostFraming> {
        self.lost.take()
    }

    /// The format, if frames have a length field.
    pub(super) fn length_format(&self) -> Option<LengthFormat> {
        match self.format {
            FrameFormat::Length(format) => Some(format),
            FrameFormat::Line => None,
        }
    }

    /// In which frame that position is, and after how many of its bytes.
    pub(super) fn place(&self, position: u64) -> Option<(u64, u64)> {
        (!self.is_lost).then(|| (self.number, position - self.start))
    }

    /// Frames that are whole.
    pub(super) fn whole(&self) -> u64 {
        self.number - 1
    }
}
