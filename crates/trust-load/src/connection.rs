//! One connection of the engine: how much of its stream was sent, and how much came back right.
//!
//! Neither direction has its own buffer. Bytes that the kernel did not take are generated again
//! from the script, and received bytes are compared in the buffer into which they were received.

use std::collections::VecDeque;
use std::time::Duration;

use trust_net::stream::ClientStream;

use crate::script::Script;
use crate::summary::Wrong;

/// One connection.
///
/// Invariants: `received <= sent <= Position { message: begun, offset: 0 }`; the counts in `oldest`
/// and `later` are those of the messages from `received.message` up to `begun`.
#[derive(Debug)]
pub struct Connection {
    /// Its socket.
    pub stream: ClientStream,
    number: u64,
    /// The script's for this connection.
    key: u64,
    begun: u64,
    sent: Position,
    received: Position,
    /// The oldest messages in flight, as many as share the same times.
    oldest: (Times, usize),
    /// Messages after those. Empty in most closed loops, which therefore allocate nothing.
    later: VecDeque<(Times, usize)>,
    is_blocked: bool,
}

/// A position in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    message: u64,
    offset: usize,
}

/// When a message was due, and when sending it began, in nanoseconds from the engine's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// When it was due; in a closed loop that is when it was begun.
    pub due_ns: u64,
    /// When it was handed to the kernel.
    pub begun_ns: u64,
}

impl Times {
    /// Of a message that was due and begun then.
    pub fn new(due: Duration, begun: Duration) -> Times {
        Times { due_ns: nanos(due), begun_ns: nanos(begun) }
    }
}

/// A time in nanoseconds; `u64::MAX` for 584 years and more.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is wrong with received bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// A byte differs.
    Wrong(Wrong),
    /// The client had not sent them.
    Surplus,
}

impl Connection {
    /// Connection `number`, from 1, on a socket that is connected.
    pub fn new(stream: ClientStream, number: u64, script: &Script) -> Connection {
        Connection {
            stream,
            number,
            key: script.key(number),
            begun: 0,
            sent: Position::default(),
            received: Position::default(),
            oldest: (Times::default(), 0),
            later: VecDeque::new(),
            is_blocked: false,
        }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Messages that were begun.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Messages that were begun and have not come back.
    pub fn in_flight(&self) -> usize {
        (self.begun - self.received.message) as usize
    }

    /// Times of the messages that have not come back, and how many have them, the oldest first.
    pub fn times(&self) -> impl Iterator<Item = (Times, usize)> {
        [self.oldest].into_iter().chain(self.later.iter().copied())
    }

    /// When the oldest message that has not come back was begun; `None` if there is none.
    pub fn oldest_begun(&self) -> Option<Duration> {
        let (times, count) = self.oldest;
        (count > 0).then(|| Duration::from_nanos(times.begun_ns))
    }

    /// Whether no byte has come back right.
    pub fn has_received_nothing(&self) -> bool {
        self.received == Position::default()
    }

    /// Whether part of a message has come back.
    pub fn is_inside_message(&self) -> bool {
        self.received.offset > 0
    }

    /// Whether the oldest message in flight is not fully sent yet, so that no answer is due.
    pub fn is_sending_oldest(&self) -> bool {
        self.sent.message == self.received.message
    }

    /// Has the next `count` messages sent by the next [`Connection::send`].
    pub fn begin(&mut self, times: Times, count: usize) {
        match self.oldest.1 == 0 {
            true => self.oldest = (times, count),
            false => self.later.push_back((times, count)),
        }
        self.begun += count as u64;
    }

    /// The kernel takes bytes again.
    pub fn unblock(&mut self) {
        self.is_blocked = false;
        self.stream.flush_preface();
    }

    /// Sends what was begun, until all is sent or the kernel takes no more; how many bytes it took.
    pub fn send(&mut self, script: &Script, buffer: &mut [u8]) -> usize {
        let mut taken = 0;
        while !self.is_blocked && self.sent.message < self.begun {
            let (filled, end) = self.fill(script, buffer);
            let count = self.stream.send(&buffer[..filled]);
            taken += count;
            self.is_blocked = count < filled;
            self.sent = if count == filled { end } else { self.after(script, count) };
        }
        taken
    }

    /// Compares received bytes with what was sent. Calls `answered` with the times of the messages
    /// that are complete, and how many share them.
    ///
    /// # Errors
    ///
    /// The first fault. Messages before it count as answered; the connection is of no further use.
    pub fn check(
        &mut self,
        script: &Script,
        bytes: &[u8],
        answered: impl FnMut(Times, usize),
    ) -> Result<(), Fault> {
        let before = self.received.message;
        let result = self.compare(script, bytes);
        self.settle(self.received.message - before, answered);
        result
    }

    fn compare(&mut self, script: &Script, bytes: &[u8]) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Position { message: number, offset } = self.received;
            if number == self.begun {
                return Err(Fault::Surplus);
            }
            if offset == 0 {
                let most = self.sent.message - number;
                let right = script.count_right(self.key, number, most, rest);
                if right > 0 {
                    rest = &rest[right as usize * script.message(self.key, number).wire_len()..];
                    self.received.message += right;
                    continue;
                }
            }
            let message = script.message(self.key, number);
            let len = message.wire_len();
            let (got, tail) = rest.split_at(rest.len().min(len - offset));
            if let Some((at, expected)) = message.mismatch(offset, got) {
                let (offset, header) = (offset + at, message.header_len());
                let in_payload = offset.checked_sub(header);
                let in_payload = in_payload.filter(|place| *place < message.payload_len());
                return Err(Fault::Wrong(Wrong {
                    connection: self.number,
                    message: number + 1,
                    offset: offset as u64,
                    header_bytes: header as u64,
                    payload_offset: in_payload.map(|place| place as u64),
                    expected,
                    got: got[at],
                }));
            }
            rest = tail;
            let end = Position { message: number, offset: offset + got.len() };
            // Bytes that came back before they were sent are no echo, even if they are right.
            if end > self.sent {
                return Err(Fault::Surplus);
            }
            self.received = match end.offset == len {
                true => Position { message: number + 1, offset: 0 },
                false => end,
            };
        }
        Ok(())
    }

    /// Reports the oldest `count` messages as answered, grouped by their times.
    fn settle(&mut self, count: u64, mut answered: impl FnMut(Times, usize)) {
        let mut left = count as usize;
        while left > 0 {
            let (times, same) = &mut self.oldest;
            let settled = left.min(*same);
            assert!(settled > 0, "what was begun has its times");
            answered(*times, settled);
            left -= settled;
            *same -= settled;
            if *same == 0 {
                self.oldest = self.later.pop_front().unwrap_or_default();
            }
        }
    }

    /// Fills the buffer with the bytes to send next. Returns how many they are, and where in the
    /// stream they end.
    fn fill(&self, script: &Script, buffer: &mut [u8]) -> (usize, Position) {
        let (mut filled, mut position) = (0, self.sent);
        while filled < buffer.len() && position.message < self.begun {
            if position.offset == 0 {
                let (number, most) = (position.message, self.begun - position.message);
                let whole = script.fill_whole(self.key, number, most, &mut buffer[filled..]);
                if whole > 0 {
                    filled += whole as usize * script.message(self.key, number).wire_len();
                    position.message += whole;
                    continue;
                }
            }
            let message = script.message(self.key, position.message);
            let count = message.fill(position.offset, &mut buffer[filled..]);
            filled += count;
            position.offset += count;
            if position.offset == message.wire_len() {
                position = Position { message: position.message + 1, offset: 0 };
            }
        }
        (filled, position)
    }

    /// The position `count` bytes after what was sent.
    fn after(&self, script: &Script, count: usize) -> Position {
        let Position { mut message, mut offset } = self.sent;
        offset += count;
        loop {
            let len = script.message(self.key, message).wire_len();
            if offset < len {
                return Position { message, offset };
            }
            offset -= len;
            message += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use trust_cli::framing::Framing;

    use super::*;
    use crate::sizes::Sizes;

    const NOW: Times = Times { due_ns: 0, begun_ns: 0 };
    const LATER: Times = Times { due_ns: 0, begun_ns: 1 };

    /// A connection, its script, and the server's end of it.
    fn pair(sizes: &str) -> (Connection, Script, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let client =
            ClientStream::begin_connecting(&address.into(), |_| ()).expect("it is under way");
        let (server, _) = listener.accept().expect("a client");
        let framing = Framing::parse("u32be").expect("a framing");
        let script = Script::new(framing, Sizes::parse(sizes).expect("sizes"), 1);
        (Connection::new(client, 1, &script), script, server)
    }

    /// What the connection sends of its first `count` messages.
    fn stream(script: &Script, count: u64) -> Vec<u8> {
        let mut stream = vec![];
        for number in 0..count {
            let message = script.message(script.key(1), number);
            let start = stream.len();
            stream.resize(start + message.wire_len(), 0);
            message.fill(0, &mut stream[start..]);
        }
        stream
    }

    #[test]
    fn a_stream_that_the_kernel_takes_in_pieces_arrives_whole() {
        let (mut connection, script, mut server) = pair("100000,7,0");
        connection.begin(NOW, 100);
        let expected = stream(&script, 100);
        let (mut arrived, mut piece, mut buffer) = (vec![], vec![0; 70_000], vec![0; 65_536]);
        while arrived.len() < expected.len() {
            connection.unblock();
            connection.send(&script, &mut buffer);
            let count = server.read(&mut piece).expect("bytes");
            arrived.extend_from_slice(&piece[..count]);
        }
        assert!(arrived == expected);
        assert!(!connection.is_sending_oldest());
    }

    #[test]
    fn answers_count_in_any_pieces_and_only_when_they_are_whole() {
        for piece in [1, 3, 68, 1000] {
            let (mut connection, script, _server) = pair("64,10");
            connection.begin(NOW, 7);
            connection.begin(LATER, 13);
            connection.send(&script, &mut [0; 4096]);
            let stream = stream(&script, 20);
            let mut answers = 0;
            for bytes in stream.chunks(piece) {
                let checked = connection.check(&script, bytes, |times, count| {
                    answers += count;
                    assert_eq!(times, if answers <= 7 { NOW } else { LATER });
                });
                checked.expect("they are right");
            }
            assert_eq!((answers, connection.in_flight()), (20, 0));
        }
    }

    #[test]
    fn a_wrong_byte_is_told_with_its_place() {
        let (mut connection, script, _server) = pair("64");
        connection.begin(NOW, 3);
        connection.send(&script, &mut [0; 4096]);
        let mut stream = stream(&script, 3);
        let right = stream[68 + 30];
        stream[68 + 30] ^= 4;
        let mut answers = 0;
        let fault = connection
            .check(&script, &stream, |_, count| answers += count)
            .expect_err("a wrong byte");
        let expected = right;
        let got = right ^ 4;
        let (connection, message, offset) = (1, 2, 30);
        let (header_bytes, payload_offset) = (4, Some(26));
        let wrong =
            Wrong { connection, message, offset, header_bytes, payload_offset, expected, got };
        assert_eq!((fault, answers), (Fault::Wrong(wrong), 1));
    }

    #[test]
    fn what_ends_a_message_is_no_part_of_its_payload() {
        let framing = Framing::parse("line").expect("a framing");
        let script = Script::new(framing, Sizes::parse("64").expect("sizes"), 1);
        for (at, in_payload) in [(63, Some(63)), (64, None)] {
            let (mut connection, _, _server) = pair("64");
            connection.begin(NOW, 1);
            connection.send(&script, &mut [0; 4096]);
            let mut stream = stream(&script, 1);
            stream[at] ^= 1;
            match connection.check(&script, &stream, |_, _| ()) {
                Err(Fault::Wrong(wrong)) => {
                    assert_eq!((wrong.offset, wrong.payload_offset), (at as u64, in_payload));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn bytes_that_nobody_has_sent_are_no_echo() {
        let (mut connection, script, _server) = pair("64");
        let stream = stream(&script, 2);
        assert_eq!(connection.check(&script, &stream[..1], |_, _| ()), Err(Fault::Surplus));
        // Begun, and not yet sent: not even the right bytes are an echo.
        connection.begin(NOW, 1);
        assert_eq!(connection.check(&script, &stream[..1], |_, _| ()), Err(Fault::Surplus));
    }
}
