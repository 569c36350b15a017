//! Cuts standard input into messages, without I/O.

use thiserror::Error;
use trust_cli::text::grouped;

/// Where one message ends and the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A line is a message, without its newline; a last line needs none.
    Lines {
        /// Bytes that a line may have.
        max: u32,
    },
    /// So many bytes are a message; the last may be shorter.
    Chunks {
        /// Bytes of a message; not 0.
        len: u32,
    },
}

/// A line is longer than a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("line {line} of standard input is longer than {} bytes", grouped((*max).into()))]
pub struct LineTooLong {
    /// Its number, counted from 1.
    pub line: u64,
    /// The limit in bytes.
    pub max: u32,
}

/// Bytes that were read, and the messages in them.
///
/// Invariant: `start <= scanned <= held.len()`, and `held[start..scanned]` has no newline that
/// counts.
#[derive(Debug)]
pub struct Input {
    cut: Cut,
    held: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    /// How far the search for its end has come.
    scanned: usize,
    lines: u64,
    /// Whether all messages in what was read were polled.
    is_starved: bool,
    ended: bool,
}

impl Input {
    /// An input of which nothing was read yet.
    pub fn new(cut: Cut) -> Input {
        assert_ne!(cut, Cut::Chunks { len: 0 }, "a chunk has at least one byte");
        Input {
            cut,
            held: Vec::new(),
            start: 0,
            scanned: 0,
            lines: 0,
            is_starved: true,
            ended: false,
        }
    }

    /// Takes bytes that were read.
    ///
    /// # Panics
    ///
    /// If it does not want any: what is held would grow without bound.
    pub fn handle_read(&mut self, bytes: &[u8]) {
        assert!(self.wants_bytes(), "messages are polled before more is read");
        self.is_starved = false;
        if self.start > 0 {
            self.held.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.held.extend_from_slice(bytes);
    }

    /// Notes that there is no more to read: what is left is the last message.
    pub fn handle_end(&mut self) {
        self.ended = true;
    }

    /// Whether it takes more: there is no message left to poll, and no end.
    pub fn wants_bytes(&self) -> bool {
        self.is_starved && !self.ended
    }

    /// The next message, or `None` while more must be read ([`Input::is_ended`]: for ever).
    ///
    /// # Errors
    ///
    /// A line that is longer than the limit. It stays where it is: so does the error.
    pub fn poll_message(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let found = match self.cut {
            Cut::Lines { max } => self.find_line(max)?,
            Cut::Chunks { len } => self.find_chunk(len as usize),
        };
        let Some((end, next)) = found else {
            self.is_starved = true;
            return Ok(None);
        };
        let begin = self.start;
        self.start = next;
        self.scanned = next;
        Ok(Some(&self.held[begin..end]))
    }

    /// Whether all messages were polled and none can follow.
    pub fn is_done(&self) -> bool {
        self.ended && self.start == self.held.len()
    }

    /// Whether nothing more can be read.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Where the chunk ends and where the next begins.
    fn find_chunk(&self, len: usize) -> Option<(usize, usize)> {
        let end = self.held.len().min(self.start + len);
        let is_short = end - self.start < len;
        let is_missing = end == self.start || (is_short && !self.ended);
        (!is_missing).then_some((end, end))
    }

    /// Where the line ends and where the next begins.
    fn find_line(&mut self, max: u32) -> Result<Option<(usize, usize)>, LineTooLong> {
        let newline = self.held[self.scanned..].iter().position(|&byte| byte == b'\n');
        let end = newline.map_or(self.held.len(), |at| self.scanned + at);
        self.scanned = end;
        if end - self.start > max as usize {
            return Err(LineTooLong { line: self.lines + 1, max });
        }
        let is_last = self.ended && end > self.start;
        if newline.is_none() && !is_last {
            return Ok(None);
        }
        self.lines += 1;
        Ok(Some((end, end + usize::from(newline.is_some()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads `pieces` one after the other; the messages, and how it ended.
    fn messages(cut: Cut, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<LineTooLong>) {
        let mut input = Input::new(cut);
        let mut found = vec![];
        for (index, piece) in pieces.iter().enumerate() {
            input.handle_read(piece);
            if index + 1 == pieces.len() {
                input.handle_end();
            }
            loop {
                match input.poll_message() {
                    Ok(Some(message)) => found.push(message.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        assert!(input.is_done());
        (found, None)
    }

    const LINES: Cut = Cut::Lines { max: 10 };

    #[test]
    fn a_line_is_a_message_without_its_newline() {
        let check = |pieces: &[&[u8]], expected: &[&[u8]]| {
            let expected = expected.iter().map(|message| message.to_vec()).collect();
            assert_eq!(messages(LINES, pieces), (expected, None));
        };
        check(&[b"one\ntwo\n"], &[b"one", b"two"]);
        check(&[b"one\ntwo"], &[b"one", b"two"]);
        check(&[b"o", b"ne", b"\nt", b"wo\n"], &[b"one", b"two"]);
        check(&[b"\n\n"], &[b"", b""]);
        check(&[b"one\n", b""], &[b"one"]);
        check(&[b""], &[]);
        check(&[b"a\0b\r\n\xff\n"], &[b"a\0b\r", b"\xff"]);
        check(&[b"0123456789\n", b"0123456789"], &[b"0123456789", b"0123456789"]);
    }

    #[test]
    fn a_line_above_the_limit_is_named_and_those_before_it_count() {
        let error = Some(LineTooLong { line: 3, max: 10 });
        for pieces in [&[&b"a\nb\n0123456789x\nc\n"[..]][..], &[b"a\nb\n01234", b"56789", b"x"]] {
            assert_eq!(messages(LINES, pieces), (vec![b"a".to_vec(), b"b".to_vec()], error));
        }
    }

    #[test]
    fn a_chunk_waits_until_it_is_whole_and_the_last_may_be_short() {
        let cut = Cut::Chunks { len: 4 };
        let expected = vec![b"0123".to_vec(), b"4567".to_vec(), b"89".to_vec()];
        assert_eq!(messages(cut, &[b"012", b"34567", b"89"]), (expected, None));
        assert_eq!(messages(cut, &[b"0123"]), (vec![b"0123".to_vec()], None));
        let mut input = Input::new(cut);
        input.handle_read(b"012");
        assert_eq!(input.poll_message(), Ok(None));
        assert!(!input.is_done());
    }

    #[test]
    fn no_more_is_wanted_while_a_message_is_held() {
        let mut input = Input::new(LINES);
        assert!(input.wants_bytes());
        input.handle_read(b"one\ntw");
        assert!(!input.wants_bytes());
        assert_eq!(input.poll_message(), Ok(Some(&b"one"[..])));
        assert!(!input.wants_bytes(), "the next one was not looked for");
        assert_eq!(input.poll_message(), Ok(None));
        assert!(input.wants_bytes());
        input.handle_end();
        assert!(!input.wants_bytes());
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_how_the_input_is_read(
            text in "[ab\n]{0,200}",
            places in prop::collection::vec(0..200_usize, 0..20),
            len in 1..20_u32,
        ) {
            let bytes = text.as_bytes();
            let mut places: Vec<usize> = places.into_iter().map(|p| p.min(bytes.len())).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<&[u8]> =
                places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            for cut in [Cut::Lines { max: len }, Cut::Lines { max: 200 }, Cut::Chunks { len }] {
                prop_assert_eq!(messages(cut, &pieces), messages(cut, &[bytes]));
            }
            let (lines, _) = messages(Cut::Lines { max: 200 }, &pieces);
            let expected: Vec<Vec<u8>> =
                text.lines().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(lines, expected);
        }
    }
}
