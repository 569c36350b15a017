//! What a server says unasked is taken out of what it sends.

use trust_wire::{Found, MessageEnd};

use crate::exchange::learned::Learned;
use crate::exchange::pattern::Pattern;

/// Bytes of a message after which it is known whether it begins like one that comes unasked.
const BEGINNING_MAX: usize = 1024;

/// The messages of one connection, without those that come unasked. The beginning of a message is
/// held back until it is known what it is.
#[derive(Debug)]
pub(super) struct WithoutUnasked<'s> {
    patterns: &'s [Pattern],
    end: &'s MessageEnd,
    /// What came of the last message.
    message: Vec<u8>,
    /// How many bytes of it were passed on.
    passed: usize,
    /// No more ends of messages are found.
    is_lost: bool,
}

impl<'s> WithoutUnasked<'s> {
    /// For a new connection; `None` if the protocol has no such messages.
    pub(super) fn new(learned: &'s Learned) -> Option<WithoutUnasked<'s>> {
        let protocol = &learned.protocol;
        let end = protocol.answer_end.as_ref().filter(|_| !protocol.unasked.is_empty())?;
        Some(WithoutUnasked {
            patterns: &protocol.unasked,
            end: &end.message,
            message: vec![],
            passed: 0,
            is_lost: false,
        })
    }

    /// Takes what came, appends to `kept` what is known to be asked for, and returns the messages
    /// that are not.
    pub(super) fn take(&mut self, bytes: &[u8], kept: &mut Vec<u8>) -> Vec<Vec<u8>> {
        self.message.extend_from_slice(bytes);
        let (mut unasked, mut at) = (vec![], 0);
        while at < self.message.len() && !self.is_lost {
            let rest = &self.message[at..];
            // Whether there is a body may depend on the request only in HTTP, which has none of
            // these messages.
            match self.end.find(rest, Some(&[])) {
                Found::End(len) => {
                    match self.passed == 0 && self.is_unasked(&rest[..len]) {
                        true => unasked.push(rest[..len].to_vec()),
                        false => kept.extend_from_slice(&rest[self.passed..len]),
                    }
                    self.passed = 0;
                    at += len;
                }
                Found::More => {
                    let is_known = rest.len() >= BEGINNING_MAX && !self.is_unasked(rest);
                    if self.passed > 0 || is_known {
                        kept.extend_from_slice(&rest[self.passed..]);
                        self.passed = rest.len();
                    }
                    break;
                }
                Found::AtClose | Found::Wrong(_) => self.is_lost = true,
            }
        }
        self.message.drain(..at);
        if self.is_lost {
            self.end(kept);
        }
        unasked
    }

    /// Nothing more comes: appends to `kept` what was held back.
    pub(super) fn end(&mut self, kept: &mut Vec<u8>) {
        kept.extend_from_slice(&self.message[self.passed..]);
        self.message.clear();
        self.passed = 0;
    }

    fn is_unasked(&self, message: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_at_start(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::file;

    const LINES: &str = "[message]\nend = 'line'\nunasked = ['\\* ', '~']\n\
                         [[exchange]]\nsend = \"a\\n\"\n";

    fn learned(text: &str) -> Learned {
        let no_file = |_: &str| Err("no file".to_owned());
        Learned::new(file::parse(text.as_bytes(), "FILE", &no_file).unwrap())
    }

    /// What is kept of these pieces, and what is not.
    fn taken(learned: &Learned, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut without = WithoutUnasked::new(learned).unwrap();
        let (mut kept, mut unasked) = (vec![], vec![]);
        for piece in pieces {
            unasked.extend(without.take(piece, &mut kept));
        }
        without.end(&mut kept);
        (kept, unasked)
    }

    #[test]
    fn it_is_taken_out_wherever_it_stands_and_however_it_is_cut() {
        let learned = learned(LINES);
        let all = b"* one\nan * answer\n~\n* two\nanother\n* th";
        let expected = (
            b"an * answer\nanother\n* th".to_vec(),
            vec![b"* one\n".to_vec(), b"~\n".to_vec(), b"* two\n".to_vec()],
        );
        for cut in 0..=all.len() {
            let (before, after) = all.split_at(cut);
            assert_eq!(taken(&learned, &[before, after]), expected, "{cut}");
        }
        let each: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(taken(&learned, &each), expected);
    }

    #[test]
    fn a_long_answer_is_passed_on_before_it_is_whole() {
        let learned = learned(LINES);
        let mut without = WithoutUnasked::new(&learned).unwrap();
        let mut kept = vec![];
        without.take(&[b'x'; BEGINNING_MAX], &mut kept);
        assert_eq!(kept.len(), BEGINNING_MAX);
        without.take(b"* y", &mut kept);
        assert!(kept.ends_with(b"x* y"));
        without.take(b"\n* ", &mut kept);
        assert!(kept.ends_with(b"y\n"), "a new message has begun");
    }

    #[test]
    fn what_is_no_message_is_passed_on() {
        let text =
            "[message]\nend = 'resp'\nunasked = ['>']\n[[exchange]]\nsend = \"PING\\r\\n\"\n";
        let (kept, unasked) = taken(&learned(text), &[b">1\r\n+x\r\n+PONG\r\n?", b"?>1\r\n+y\r\n"]);
        assert_eq!(kept, b"+PONG\r\n??>1\r\n+y\r\n");
        assert_eq!(unasked, [b">1\r\n+x\r\n"]);
    }

    #[test]
    fn a_protocol_without_such_messages_has_nothing_to_take_out() {
        let text = LINES.replace("unasked = ['\\* ', '~']\n", "");
        assert!(WithoutUnasked::new(&learned(&text)).is_none());
    }
}
