//! The protocol recognised in the start of a stream: never the expected one, and never after a
//! valid frame.

use std::sync::Arc;

use trust_wire::foreign::{OPENING_MAX, Protocol};
use trust_wire::{Connection, LengthFormat, Limits, Mode, Opening, Received, Timestamp};

use crate::choices::Choices;

/// The connection's largest payload, small so that a short stream can exceed it.
const MAX_PAYLOAD: u32 = 300;

/// Input: the expected format, the connection's mode, how much it receives at once, the stream.
///
/// # Panics
///
/// If the expected format is recognised, if the recognised frames do not fit, or if a connection
/// reports the opening of a stream whose first frame was valid.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let expected = LengthFormat::parse(choices.one_of(&LengthFormat::NAMES));
    let mode = choices.one_of(&[Mode::Auto, Mode::Framed, Mode::Raw]);
    let piece = usize::from(choices.byte()).max(1);
    let stream = choices.rest();

    let opening = Opening::new(stream, expected);
    assert_eq!(opening.bytes(), &stream[..stream.len().min(OPENING_MAX)]);
    assert_eq!(opening.protocol(), Protocol::recognise(stream, expected));
    match opening.protocol() {
        Some(Protocol::Frames(format)) => {
            assert_ne!(Some(format), expected);
            let payload_len = format.decode(stream).expect("a length");
            assert_ne!(payload_len, 0, "an empty frame proves nothing");
        }
        Some(Protocol::Text) => assert!(stream.is_ascii()),
        Some(_) | None => {}
    }
    tells_only_of_what_is_not_right(mode, stream, piece);
}

/// Feeds the stream to a connection, and then its end.
fn tells_only_of_what_is_not_right(mode: Mode, stream: &[u8], piece: usize) {
    let limits = Limits { mode, max_payload: MAX_PAYLOAD, ..Limits::default() };
    let now = Timestamp::default();
    let mut connection = Connection::new(Arc::new(limits), now);
    for bytes in stream.chunks(piece) {
        match connection.handle_received(0, bytes, now) {
            Received::Nothing => {}
            Received::Raw(raw) => connection.handle_answered(&[raw], 0, raw.len(), now),
            Received::Frames(decoded) => {
                let count = decoded.count;
                drop(decoded);
                connection.handle_answered(&[], count, 0, now);
            }
        }
        judge(mode, &mut connection, stream);
    }
    connection.handle_end_of_stream();
    judge(mode, &mut connection, stream);
}

fn judge(mode: Mode, connection: &mut Connection, stream: &[u8]) {
    let opening = connection.poll_opening();
    assert!(connection.poll_opening().is_none(), "it is told once");
    let _ = connection.poll_cause();
    let Some(opening) = opening else { return };
    assert!(stream.starts_with(opening.bytes()));
    assert_ne!(mode, Mode::Raw, "raw is what was asked for");
    assert_eq!(connection.totals().frames_in, 0, "the first frame was right");
    let is_raw = connection.mode() == Mode::Raw;
    assert!(!is_raw || opening.protocol().is_some_and(|protocol| protocol != Protocol::Text));
}
