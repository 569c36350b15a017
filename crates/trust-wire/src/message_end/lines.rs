//! Messages of lines and counted bytes, in a stream that comes in pieces.

use alloc::sync::Arc;

use super::cursor::Cursor;
use super::resp::{self, Walk};
use super::{CountedLine, counted};

/// What a message goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterLine {
    /// Another line.
    Line,
    /// So many bytes that can be anything, and then CR LF.
    Counted(u64),
    /// Nothing: it is whole.
    End,
}

/// Reads messages line by line. What comes between the lines need not be kept.
#[derive(Debug)]
pub(crate) enum Lines {
    /// [`MessageEnd::Resp`](super::MessageEnd::Resp)
    Resp {
        /// Whether messages can be inline commands.
        is_request: bool,
        /// How far the value has come; `None` before its first line.
        walk: Option<Walk>,
    },
    /// [`MessageEnd::Counted`](super::MessageEnd::Counted)
    Counted(Arc<[CountedLine]>),
}

impl Lines {
    /// What follows this line, which is whole. `None`: it cannot be there.
    pub(crate) fn read(&mut self, line: &[u8]) -> Option<AfterLine> {
        match self {
            Lines::Counted(lines) => {
                let count = counted::count_of(line.trim_ascii_end(), lines).ok()?;
                Some(count.map_or(AfterLine::End, |(count, _)| AfterLine::Counted(count)))
            }
            Lines::Resp { is_request, walk } => {
                let is_inline = walk.is_none() && *is_request && !resp::is_type(*line.first()?);
                if is_inline {
                    return Some(AfterLine::End);
                }
                match walk.get_or_insert_default().step(&mut Cursor::new(line)).ok()? {
                    Some(counted) => Some(AfterLine::Counted(counted.len)),
                    None => Some(self.after_counted()),
                }
            }
        }
    }

    /// What follows counted bytes and their CR LF.
    pub(crate) fn after_counted(&mut self) -> AfterLine {
        match self {
            Lines::Resp { walk: Some(walk), .. } if !walk.is_done() => AfterLine::Line,
            Lines::Resp { walk, .. } => {
                *walk = None;
                AfterLine::End
            }
            Lines::Counted(_) => AfterLine::End,
        }
    }
}
