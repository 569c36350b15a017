//! What a server sends to a client is accepted exactly as far as it is the echo.
//!
//! The load tester compares with the same code.

use trust_cli::echo::conversation::{Conversation, Framing, Owed, Window, WrongEcho};
use trust_wire::HEADER_LEN;

use crate::choices::Choices;
use crate::oneline::check_line;

/// Bytes handed out at once, so that an echo takes several pieces.
const PIECE: usize = 7;

/// Number and length of the messages: enough for several in flight, and few enough to go byte by
/// byte.
const MESSAGES_MAX: usize = 16;
const MESSAGE_LEN_MAX: usize = 63;

/// Input: framed or raw, messages and their lengths, how many bytes are sent and received at once,
/// where and how a byte of the echo is changed, and how many unrequested bytes follow; then the
/// text of the messages, repeated as needed.
///
/// # Panics
///
/// If a right echo is refused, a wrong one is accepted, or any byte but the first wrong one is
/// named.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let framing = choices.one_of(&[Framing::Framed, Framing::Raw]);
    let count = usize::from(choices.byte()) % (MESSAGES_MAX + 1);
    let lens = choices.bytes(count);
    let [send_len, receive_len] = [choices.byte(), choices.byte()].map(|it| usize::from(it).max(1));
    let window = Window {
        bytes: choices.one_of(&[1, 16, 300, usize::MAX]),
        frames: choices.one_of(&[1, 2, u64::MAX]),
    };
    let change_at = usize::from(choices.byte()) | usize::from(choices.byte()) << 8;
    let change = choices.byte();
    let unasked = choices.short_bytes();
    let text = choices.rest();

    let mut scene = Scene {
        conversation: Conversation::new(framing, window),
        framing,
        sent: vec![],
        echoed: 0,
        payload: vec![],
        printed: vec![],
    };
    let mut text = text.iter().copied().cycle().chain(std::iter::repeat(b'.'));
    let mut messages = lens.iter().map(|len| -> Vec<u8> {
        text.by_ref().take(usize::from(*len) % (MESSAGE_LEN_MAX + 1)).collect()
    });
    let mut next = messages.next();
    loop {
        if let Some(message) = &next
            && scene.push(message)
        {
            next = messages.next();
        }
        scene.send(send_len);
        let owed = scene.sent.len() - scene.echoed;
        if owed == 0 && next.is_none() && scene.conversation.unsent().is_empty() {
            break;
        }
        let begin = scene.echoed;
        let mut bytes = scene.sent[begin..begin + owed.min(receive_len)].to_vec();
        if let Some(byte) = change_at.checked_sub(begin).and_then(|at| bytes.get_mut(at)) {
            *byte ^= change;
        }
        if !scene.receive(&bytes) {
            return;
        }
    }
    assert!(scene.conversation.is_settled(), "{:?}", scene.conversation);
    assert_eq!(scene.conversation.owed(), None);
    assert!(scene.printed == scene.payload, "what is handed out is what was sent");
    if let Some(first) = unasked.first() {
        let wrong = scene.conversation.handle_received(unasked);
        assert_eq!(wrong, Err(WrongEcho::Unasked { first: *first }));
    }
}

/// A conversation, and what it should contain.
struct Scene {
    conversation: Conversation,
    framing: Framing,
    /// Every byte sent, and how many of them have come back.
    sent: Vec<u8>,
    echoed: usize,
    /// The payload pushed, and the payload handed out.
    payload: Vec<u8>,
    printed: Vec<u8>,
}

impl Scene {
    /// Returns whether the window took the message.
    fn push(&mut self, message: &[u8]) -> bool {
        match self.framing {
            Framing::Framed if !self.conversation.wants_frame() => return false,
            Framing::Framed => self.conversation.push_message(message),
            Framing::Raw if self.conversation.room() == 0 => return false,
            Framing::Raw => self.conversation.push(message),
        }
        self.payload.extend_from_slice(message);
        true
    }

    fn send(&mut self, most: usize) {
        let unsent = self.conversation.unsent();
        let count = unsent.len().min(most);
        self.sent.extend_from_slice(&unsent[..count]);
        self.conversation.handle_sent(count);
    }

    /// Compares with the bytes sent; returns whether the conversation goes on.
    fn receive(&mut self, bytes: &[u8]) -> bool {
        let expected = &self.sent[self.echoed..][..bytes.len()];
        let wrong_at = expected.iter().zip(bytes).position(|(expected, got)| expected != got);
        let result = self.conversation.handle_received(bytes);
        if let Err(wrong) = result {
            check_line(&wrong.to_string());
        }
        match wrong_at {
            None => {
                // If any byte of the header so far were wrong, it would be refused with the
                // header's last byte.
                assert_eq!(result, Ok(()), "a right echo");
                self.echoed += bytes.len();
                self.check_owed();
                while let Some(part) = self.conversation.poll_echo(PIECE) {
                    assert!(part.bytes.len() <= PIECE, "a piece is too long");
                    self.printed.extend_from_slice(part.bytes);
                }
                true
            }
            Some(at) => {
                let at = self.echoed + at;
                self.check_wrong(at, bytes, result);
                false
            }
        }
    }

    /// Byte `at` of the echo is the first wrong one, and is among `bytes`.
    fn check_wrong(&mut self, at: usize, bytes: &[u8], result: Result<(), WrongEcho>) {
        let (expected, got) = (self.sent[at], bytes[at - self.echoed]);
        if self.framing == Framing::Raw {
            let offset = at as u64;
            assert_eq!(result, Err(WrongEcho::RawByte { offset, expected, got }));
            return;
        }
        let (number, start) = self.frame_at(at);
        let echo = number as u64 + 1;
        if let Some(offset) = (at - start).checked_sub(HEADER_LEN) {
            let offset = offset as u64;
            assert_eq!(result, Err(WrongEcho::Byte { echo, offset, expected, got }));
            return;
        }
        // A header is judged once it is complete.
        let came = self.echoed + bytes.len();
        let header = start..start + HEADER_LEN;
        let result = match self.sent.get(came..header.end) {
            Some(rest) => result.and_then(|()| self.conversation.handle_received(rest)),
            None if came < header.end => return assert_eq!(result, Ok(()), "half a header"),
            None => result,
        };
        match result {
            Err(WrongEcho::Length { echo: named, expected, got }) => {
                assert_eq!((named, &expected.to_be_bytes()[..]), (echo, &self.sent[header]));
                assert_ne!(expected, got);
            }
            other => panic!("{other:?} for a wrong header"),
        }
    }

    fn check_owed(&self) {
        let owed = self.conversation.owed();
        let left = self.sent.len() - self.echoed;
        match owed {
            None => assert_eq!(left, 0, "something is owed"),
            Some(Owed::Bytes { got, of }) => {
                assert_eq!((got, of), (self.echoed as u64, self.sent.len() as u64));
            }
            Some(Owed::Frame { echo, got, of }) => {
                let (number, start) = self.frame_at(self.echoed);
                assert_eq!((echo, got), (number as u64 + 1, (self.echoed - start) as u64));
                assert!(got < of, "{got} of {of}");
            }
        }
    }

    /// The number of the frame that the byte is in, from 0, and where that frame begins.
    fn frame_at(&self, at: usize) -> (usize, usize) {
        let (mut number, mut start) = (0, 0);
        loop {
            let header = self.sent[start..].first_chunk::<HEADER_LEN>();
            let len = header.map_or(usize::MAX, |header| u32::from_be_bytes(*header) as usize);
            let end = start.saturating_add(HEADER_LEN).saturating_add(len);
            if at < end {
                return (number, start);
            }
            (number, start) = (number + 1, end);
        }
    }
}
