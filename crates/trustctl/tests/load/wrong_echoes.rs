//! Wrong echoes: each is found, with its position.
//!
//! The expected position is computed from what the server received and what it sent back: the first
//! byte in which the two streams of a connection differ.

use std::sync::{Arc, Mutex, mpsc};

use super::command::document;
use super::document::Document;
use super::server::{Client, Seen, Server};
use trust_load::summary::Wrong;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    one_bit_in_a_million_bytes_is_found,
    one_bit_is_found_in_any_framing_and_size,
    one_wrong_connection_among_many_is_named,
    every_wrong_connection_is_counted,
    a_frame_of_another_connection_is_found,
    frames_that_are_doubled_lost_or_swapped_are_found,
];

/// Bytes of a message of the default size, header included.
const MESSAGE: usize = 68;

/// How a stream is divided into messages.
#[derive(Clone, Copy)]
enum Framing {
    U32Be,
    U16Le,
    Line,
    /// No framing, and messages of this many bytes.
    Raw(usize),
}

impl Framing {
    fn header(self) -> usize {
        match self {
            Framing::U32Be => 4,
            Framing::U16Le => 2,
            Framing::Line | Framing::Raw(_) => 0,
        }
    }

    /// Length of the message at the front of the stream.
    fn message(self, stream: &[u8]) -> usize {
        match self {
            Framing::U32Be => {
                4 + u32::from_be_bytes(stream[..4].try_into().expect("four bytes")) as usize
            }
            Framing::U16Le => 2 + usize::from(u16::from_le_bytes([stream[0], stream[1]])),
            Framing::Line => {
                1 + stream.iter().position(|byte| *byte == b'\n').expect("a line has an end")
            }
            Framing::Raw(size) => size,
        }
    }

    /// The first wrong byte that connection `number` got back.
    fn first_wrong(self, number: usize, seen: &Seen) -> Wrong {
        let mut pairs = seen.received.iter().zip(&seen.sent);
        let at = pairs.position(|(received, sent)| received != sent).expect("a wrong byte");
        let (mut message, mut begin) = (1, 0);
        loop {
            let len = self.message(&seen.received[begin..]);
            if at < begin + len {
                break;
            }
            begin += len;
            message += 1;
        }
        let (offset, header_bytes) = ((at - begin) as u64, self.header() as u64);
        let is_newline = matches!(self, Framing::Line) && seen.received[at] == b'\n';
        Wrong {
            connection: number as u64,
            message,
            offset,
            header_bytes,
            payload_offset: offset.checked_sub(header_bytes).filter(|_| !is_newline),
            expected: seen.received[at],
            got: seen.sent[at],
        }
    }
}

/// A server that flips a bit of byte `at` in everything that one connection sends.
fn flipping(connection: usize, at: usize, bit: u8) -> Server {
    Server::start(move |client: &mut Client| {
        let is_wrong = client.number == connection;
        client.relay(|bytes, before| {
            let at = at.checked_sub(before).filter(|at| is_wrong && *at < bytes.len());
            if let Some(at) = at {
                bytes[at] ^= bit;
            }
        })
    })
}

/// Checks that one wrong echo was found, on this connection.
#[track_caller]
fn is_found(document: &Document, server: &Server, connection: usize, framing: Framing) {
    let seen = &server.seen()[connection - 1];
    assert_eq!(document.causes(), [("mismatch", 1)], "{document:?}");
    assert_eq!(document.wrong, [framing.first_wrong(connection, seen)]);
}

fn one_bit_in_a_million_bytes_is_found() {
    const MESSAGES: usize = 1_000_000_usize.div_ceil(MESSAGE);
    // The four bytes of the first header, the first and the last byte of a payload, the same much
    // later, and the millionth byte.
    let places = [0, 1, 2, 3, 4, 67, 680_000, 680_003, 680_004, 680_067, 999_999];
    for (place, bit) in places.into_iter().zip((0..8).cycle()) {
        let server = flipping(1, place, 1 << bit);
        let flags = format!("--messages {MESSAGES} --in-flight 16");
        let document = document(&server, &flags, 1);
        is_found(&document, &server, 1, Framing::U32Be);
        let wrong = &document.wrong[0];
        let (message, offset) = ((place / MESSAGE) as u64, (place % MESSAGE) as u64);
        assert_eq!((wrong.message, wrong.offset), (message + 1, offset));
        assert_eq!(wrong.expected ^ wrong.got, 1 << bit);
        assert_eq!(document.messages.answered, message, "{document:?}");
        assert_eq!(message + document.messages.failed, MESSAGES as u64, "{document:?}");
    }
}

fn one_bit_is_found_in_any_framing_and_size() {
    let cases = [
        ("--framing u16le --size 100", Framing::U16Le),
        ("--framing line --size 50", Framing::Line),
        ("--framing line --size 0-90", Framing::Line),
        ("--raw --size 32", Framing::Raw(32)),
        ("--framing raw --size 1", Framing::Raw(1)),
        ("--size 0-300", Framing::U32Be),
        ("--size 1,10,1000", Framing::U32Be),
    ];
    for (flags, framing) in cases {
        // At 50, the newline of a 50-byte line.
        for (place, bit) in [(0, 1), (1, 0x80), (50, 4), (997, 0x40)] {
            let server = flipping(1, place, bit);
            let flags = format!("{flags} --messages 1000 --in-flight 20");
            let document = document(&server, &flags, 1);
            is_found(&document, &server, 1, framing);
            assert_eq!(document.wrong[0].message, document.messages.answered + 1);
        }
    }
}

fn one_wrong_connection_among_many_is_named() {
    const PLACE: usize = 7_000;
    for connection in [1, 3, 8] {
        let server = flipping(connection, PLACE, 0x10);
        let document = document(&server, "--concurrency 8 --messages 200 --in-flight 4", 1);
        is_found(&document, &server, connection, Framing::U32Be);
        let right = 7 * 200 + (PLACE / MESSAGE) as u64;
        assert_eq!(document.messages.answered, right, "{document:?}");
        assert_eq!(right + document.messages.failed, 8 * 200, "{document:?}");
        assert_eq!(document.connections.made, 8);
    }
}

fn every_wrong_connection_is_counted() {
    const CONNECTIONS: usize = 12;
    let server = Server::start(|client: &mut Client| {
        let frame = client.frame()?;
        let mut wrong = frame.clone();
        wrong[20] ^= 1;
        client.send(&wrong)?;
        client.be_silent()
    });
    let flags = format!("--clients {CONNECTIONS} --concurrency 1 --messages 2");
    let document = document(&server, &flags, 1);
    assert_eq!(document.causes(), [("mismatch", CONNECTIONS as u64)], "{document:?}");
    // The first ten have received everything.
    let seen = server.seen();
    let due = (1..=10).map(|number| Framing::U32Be.first_wrong(number, &seen[number - 1]));
    assert_eq!(document.wrong, due.collect::<Vec<_>>());
    assert_eq!((document.messages.answered, document.messages.failed), (0, 24));
}

fn a_frame_of_another_connection_is_found() {
    let (give, take) = mpsc::channel();
    let take = Arc::new(Mutex::new(take));
    let server = Server::start(move |client: &mut Client| {
        client.echo_frames(4)?;
        let frame = client.frame()?;
        let back = match client.number {
            1 => {
                give.send(frame.clone()).expect("the other one listens");
                frame
            }
            2 => {
                let take = take.lock().expect("no other thread panics");
                take.recv_timeout(STEP_DEADLINE).expect("the frame of the first connection")
            }
            _ => frame,
        };
        client.send(&back)?;
        client.echo()
    });
    let document = document(&server, "--concurrency 4 --messages 10", 1);
    is_found(&document, &server, 2, Framing::U32Be);
    let Wrong { message, payload_offset, .. } = document.wrong[0];
    assert_eq!((message, payload_offset.is_some()), (5, true));
    assert_eq!((document.messages.answered, document.messages.failed), (34, 6));
}

/// A server that answers four frames correctly, takes two more, and sends what `change` makes of
/// them instead.
fn changing(change: fn(Vec<u8>, Vec<u8>) -> Vec<u8>) -> Server {
    Server::start(move |client: &mut Client| {
        client.echo_frames(4)?;
        let (one, two) = (client.frame()?, client.frame()?);
        client.send(&change(one, two))?;
        client.echo()
    })
}

fn frames_that_are_doubled_lost_or_swapped_are_found() {
    type Change = fn(Vec<u8>, Vec<u8>) -> Vec<u8>;
    // The number of the message whose echo is wrong.
    let cases: [(Change, u64); 3] = [
        (|one, two| [one.clone(), one, two].concat(), 6),
        (|_, two| two, 5),
        (|one, two| [two, one].concat(), 5),
    ];
    for (change, message) in cases {
        let server = changing(change);
        let document = document(&server, "--messages 50 --in-flight 8", 1);
        is_found(&document, &server, 1, Framing::U32Be);
        assert_eq!(document.wrong[0].message, message);
        assert_eq!(
            (document.messages.answered, document.messages.failed),
            (message - 1, 51 - message)
        );
    }
    // With nothing else in flight, an extra echo belongs to no message, and a missing one does not
    // come.
    let doubling = Server::start(|client: &mut Client| {
        client.echo_frames(4)?;
        let frame = client.frame()?;
        client.send(&[frame.clone(), frame].concat())?;
        client.echo()
    });
    let doubled = document(&doubling, "--messages 50 --in-flight 1", 1);
    assert_eq!(doubled.causes(), [("surplus", 1)], "{doubled:?}");
    assert_eq!((doubled.messages.answered, doubled.messages.failed), (5, 45));
    let losing = Server::start(|client: &mut Client| {
        client.echo_frames(4)?;
        client.skip_frames(1)?;
        client.echo()
    });
    let lost = document(&losing, "--messages 50 --in-flight 1 --timeout 1", 1);
    assert_eq!(lost.causes(), [("timeout", 1)], "{lost:?}");
    assert_eq!((lost.messages.answered, lost.messages.failed), (4, 46));
}
