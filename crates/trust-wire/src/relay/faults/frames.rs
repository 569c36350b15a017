//! Where the frames of a stream are that comes in pieces.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::format::LengthFormat;
use crate::message_end::{AfterLine, CountedLine, Lines, MessageEnd, varint_length};

/// The longest line that is kept until it is whole, because what follows depends on it.
const LINE_MAX: usize = 64 * 1024;

/// How much room for headers and lines is kept for the next one.
const ROOM_KEPT: usize = 64;

const LINE_END: &[u8] = b"\r\n";

/// How a stream is cut into frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameFormat {
    /// By a length in front of each.
    Length(LengthFormat),
    /// By a newline after each.
    Line,
    /// By a length in front of each, as [`MessageEnd::Varint`] has it.
    Varint {
        /// Bytes before the length.
        offset: u16,
    },
    /// As [`MessageEnd::Resp`] says.
    Resp {
        /// Whether a frame can be an inline command.
        is_request: bool,
    },
    /// As [`MessageEnd::Counted`] says.
    Counted(Arc<[CountedLine]>),
    /// By a length in front of each, but for how the stream begins.
    Opened(FrameOpening, LengthFormat),
}

/// How a stream begins that goes on with frames of another kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameOpening {
    /// With these bytes, which are no frame: the preface of HTTP/2 (RFC 9113, section 3.4).
    Preface(&'static [u8]),
    /// With frames that have another header: those of PostgreSQL before a client has a session.
    Startup {
        /// That header.
        format: LengthFormat,
        /// The longest payload that they can have.
        max: u64,
        /// A frame with a payload of this length is followed by another one of this kind; any
        /// other is the last one.
        again: u64,
    },
    /// With answers to some of those, of a byte each, which are frames.
    SingleBytes {
        /// After this one the stream goes on, perhaps with another one.
        refused: u8,
        /// After one of these the stream has no such frames: it is encrypted.
        accepted: &'static [u8],
    },
}

impl FrameFormat {
    /// The frames that are messages with such an end, if they can be found without the opposite
    /// direction and without keeping them.
    pub fn of_messages(end: &MessageEnd, is_request: bool) -> Option<FrameFormat> {
        match end {
            MessageEnd::Length(format) => Some(FrameFormat::Length(*format)),
            MessageEnd::Varint { offset } => Some(FrameFormat::Varint { offset: *offset }),
            MessageEnd::Bytes(last) if last == b"\n" => Some(FrameFormat::Line),
            MessageEnd::Resp => Some(FrameFormat::Resp { is_request }),
            MessageEnd::Counted(lines) => Some(FrameFormat::Counted(lines.as_slice().into())),
            MessageEnd::Bytes(_) | MessageEnd::Http => None,
        }
    }

    /// Whether a frame has a header that says how long it is.
    pub const fn has_header(&self) -> bool {
        matches!(
            self,
            FrameFormat::Length(_) | FrameFormat::Varint { .. } | FrameFormat::Opened(..)
        )
    }

    /// Whether that header has a length field of a known width.
    pub const fn has_length_field(&self) -> bool {
        matches!(self, FrameFormat::Length(_) | FrameFormat::Opened(..))
    }
}

/// Where the frames of a stream stopped making sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostFraming {
    /// The number of the frame that cannot be one.
    pub frame: u64,
    /// After how many bytes from the source that is known.
    pub position: u64,
}

/// Follows the frames of a stream. Of these it keeps nothing but an unfinished header or line.
#[derive(Debug)]
pub(super) struct FrameTracker {
    format: FrameFormat,
    /// The number of the current frame, from 1; 0 is what comes before the first one.
    pub(super) number: u64,
    /// Where it begins.
    pub(super) start: u64,
    /// Where it ends, once that is known.
    pub(super) end: Option<u64>,
    stage: Stage,
    /// What is looked at together, as far as it has come.
    held: Vec<u8>,
    /// Reads the lines of a format that has any.
    lines: Option<Lines>,
    /// The stream is not past its [`FrameOpening`].
    is_opening: bool,
    /// Where the frames stopped making sense, until it is reported.
    lost: Option<LostFraming>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The rest of a preface.
    Preface,
    /// The rest of a header.
    Header,
    /// The rest of a line, after which it is known what follows.
    Line,
    /// Bytes up to this position, which can be anything.
    Counted(u64),
    /// The rest of a CR LF.
    LineEnd,
    /// The rest of the frame, up to its end, or to a newline.
    Rest,
    /// Nothing that has frames; that is not known outside yet.
    Foreign,
    /// There are no frames from here on.
    Lost,
}

/// What a tracker has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameEvent {
    /// The header of the current frame is whole, and its end is known.
    Header,
    /// The current frame ends here, and the next one begins.
    End,
    /// The stream makes no sense.
    Lost,
}

impl FrameTracker {
    pub(super) fn new(format: FrameFormat) -> FrameTracker {
        let lines = match &format {
            FrameFormat::Resp { is_request } => {
                Some(Lines::Resp { is_request: *is_request, walk: None })
            }
            FrameFormat::Counted(lines) => Some(Lines::Counted(lines.clone())),
            _ => None,
        };
        let (number, end, stage) = match &format {
            FrameFormat::Opened(FrameOpening::Preface(bytes), _) => {
                (0, Some(bytes.len() as u64), Stage::Preface)
            }
            format => (1, None, Stage::first_of(format)),
        };
        let is_opening = matches!(format, FrameFormat::Opened(..));
        let (start, held, lost) = (0, Vec::new(), None);
        FrameTracker { format, number, start, end, stage, held, lines, is_opening, lost }
    }

    /// How many of these bytes, which come next at `position`, come before the next event.
    pub(super) fn reach(&self, position: u64, bytes: &[u8]) -> usize {
        let line = |bytes: &[u8]| {
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            newline.map_or(bytes.len(), |at| at + 1)
        };
        let until = match (self.stage, self.end) {
            (Stage::Foreign | Stage::Lost, _) => return bytes.len(),
            (_, Some(end)) => end - position,
            (Stage::Counted(end), None) => end - position,
            (Stage::Header, None) => (self.header_len() - self.held.len()) as u64,
            (Stage::LineEnd, None) => (LINE_END.len() - self.held.len()) as u64,
            (Stage::Line, None) => {
                return line(&bytes[..bytes.len().min(LINE_MAX - self.held.len())]);
            }
            (Stage::Rest | Stage::Preface, None) => return line(bytes),
        };
        bytes.len().min(usize::try_from(until).unwrap_or(usize::MAX))
    }

    /// Takes bytes up to the next event at most; the stream is at `position` after them.
    pub(super) fn advance(&mut self, position: u64, bytes: &[u8]) {
        match self.stage {
            Stage::Preface | Stage::Header | Stage::Line | Stage::LineEnd => {
                self.held.extend_from_slice(bytes);
            }
            Stage::Rest if self.end.is_none() && bytes.last() == Some(&b'\n') => {
                self.end = Some(position);
            }
            Stage::Rest | Stage::Counted(_) | Stage::Foreign | Stage::Lost => {}
        }
    }

    /// The next event at this position, if there is one; to be called until there is none.
    pub(super) fn next_event(&mut self, position: u64) -> Option<FrameEvent> {
        loop {
            if self.end == Some(position) {
                return Some(self.end_frame(position));
            }
            match self.stage {
                Stage::Preface | Stage::Rest | Stage::Lost => return None,
                Stage::Foreign => return Some(self.lose(position)),
                Stage::Header if self.held.len() < self.header_len() => return None,
                Stage::Header => {
                    if let Some(event) = self.read_header(position) {
                        return Some(event);
                    }
                }
                Stage::Line if self.held.last() == Some(&b'\n') => {
                    let next = self.lines.as_mut().and_then(|lines| lines.read(&self.held));
                    if !self.go_on(next, position) {
                        return Some(self.lose(position));
                    }
                }
                Stage::Line if self.held.len() < LINE_MAX => return None,
                Stage::Counted(end) if position < end => return None,
                Stage::Counted(_) => self.stage = Stage::LineEnd,
                Stage::LineEnd if self.held.len() < LINE_END.len() => return None,
                Stage::LineEnd if self.held == LINE_END => {
                    let next = self.lines.as_mut().map(Lines::after_counted);
                    self.go_on(next, position);
                }
                Stage::Line | Stage::LineEnd => return Some(self.lose(position)),
            }
        }
    }

    /// The length of the header, as far as it is known.
    fn header_len(&self) -> usize {
        match &self.format {
            FrameFormat::Varint { offset } => {
                let is_more_wanted = varint_length(&self.held, *offset).is_none();
                (self.held.len() + usize::from(is_more_wanted)).max(usize::from(*offset) + 1)
            }
            FrameFormat::Opened(FrameOpening::SingleBytes { .. }, _) if self.is_opening => 1,
            _ => self.length_format().map_or(1, |format| format.header_len()),
        }
    }

    /// Takes the header, and says if the frame's length is known or cannot be; otherwise it goes
    /// on, or there is more of it.
    fn read_header(&mut self, position: u64) -> Option<FrameEvent> {
        let declared = match &self.format {
            FrameFormat::Varint { offset } => varint_length(&self.held, *offset)?.ok(),
            FrameFormat::Opened(opening, _) if self.is_opening => match opening {
                FrameOpening::SingleBytes { refused, accepted } => {
                    let is_accepted = accepted.contains(&self.held[0]);
                    if is_accepted || self.held[0] == *refused {
                        self.end = Some(position);
                    } else {
                        self.is_opening = false;
                    }
                    if is_accepted {
                        self.stage = Stage::Foreign;
                    }
                    return None;
                }
                FrameOpening::Startup { format, max, again } => {
                    let declared = format.decode(&self.held).ok().filter(|len| len <= max);
                    self.is_opening = declared == Some(*again);
                    declared
                }
                FrameOpening::Preface(_) => None,
            },
            _ => self.length_format().and_then(|format| format.decode(&self.held).ok()),
        };
        let Some(end) = declared.and_then(|len| position.checked_add(len)) else {
            return Some(self.lose(position));
        };
        self.let_go();
        (self.end, self.stage) = (Some(end), Stage::Rest);
        Some(FrameEvent::Header)
    }

    /// Goes on after a line, or after counted bytes; `false`: it cannot.
    fn go_on(&mut self, next: Option<AfterLine>, position: u64) -> bool {
        self.let_go();
        match next {
            Some(AfterLine::Line) => self.stage = Stage::Line,
            Some(AfterLine::End) => self.end = Some(position),
            Some(AfterLine::Counted(len)) => match position.checked_add(len) {
                Some(end) => self.stage = Stage::Counted(end),
                None => return false,
            },
            None => return false,
        }
        true
    }

    /// The frame ends here, and the next one begins.
    fn end_frame(&mut self, position: u64) -> FrameEvent {
        match (self.stage, &self.format) {
            (Stage::Foreign, _) => {}
            (Stage::Preface, FrameFormat::Opened(FrameOpening::Preface(bytes), _)) => {
                self.is_opening = false;
                if self.held != *bytes {
                    return self.lose(position);
                }
                self.stage = Stage::Header;
            }
            (_, format) => self.stage = Stage::first_of(format),
        }
        self.let_go();
        (self.number, self.start, self.end) = (self.number + 1, position, None);
        FrameEvent::End
    }

    fn lose(&mut self, position: u64) -> FrameEvent {
        (self.end, self.stage, self.held) = (None, Stage::Lost, Vec::new());
        self.lost = Some(LostFraming { frame: self.number.max(1), position });
        FrameEvent::Lost
    }

    /// Forgets what was looked at.
    fn let_go(&mut self) {
        self.held.clear();
        self.held.shrink_to(ROOM_KEPT);
    }

    /// Whether it stopped making sense, and that was not taken.
    pub(super) fn is_newly_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Where the stream stopped making sense, once.
    pub(super) fn take_lost(&mut self) -> Option<LostFraming> {
        self.lost.take()
    }

    /// The format of the header that the current frame has, if that has a length field.
    pub(super) fn length_format(&self) -> Option<LengthFormat> {
        match &self.format {
            FrameFormat::Opened(FrameOpening::Startup { format, .. }, _) if self.is_opening => {
                Some(*format)
            }
            FrameFormat::Length(format) | FrameFormat::Opened(_, format) => Some(*format),
            _ => None,
        }
    }

    /// In which frame that position is, and after how many of its bytes.
    pub(super) fn place(&self, position: u64) -> Option<(u64, u64)> {
        let is_in_frame = self.number > 0 && self.stage != Stage::Lost;
        is_in_frame.then(|| (self.number, position - self.start))
    }

    /// Frames that are whole.
    pub(super) fn whole(&self) -> u64 {
        self.number.saturating_sub(1)
    }
}

impl Stage {
    /// That of a frame that begins.
    const fn first_of(format: &FrameFormat) -> Stage {
        match format {
            FrameFormat::Line => Stage::Rest,
            FrameFormat::Resp { .. } | FrameFormat::Counted(_) => Stage::Line,
            FrameFormat::Length(_) | FrameFormat::Varint { .. } | FrameFormat::Opened(..) => {
                Stage::Header
            }
        }
    }
}

#[cfg(test)]
mod tests;
