use super::*;
use crate::frame::encode_frame;
use crate::limits::Limits;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

const BOUNDS: Bounds = Bounds { receives: 3, receive_len: 8 };

const GONE: Refusal = Refusal::Failed { errno: 104, class: ErrnoClass::Reset };

/// A socket with a scripted outcome for every call: bytes to receive, and how much a send takes.
/// Without a script there is nothing to receive, and everything is taken.
#[derive(Default)]
struct Scripted {
    receives: VecDeque<Result<Vec<u8>, Refusal>>,
    sends: VecDeque<Result<usize, Refusal>>,
    sent: Vec<u8>,
    questions: Vec<Question>,
    fin_sent: bool,
    unacknowledged: u64,
}

impl Io for Scripted {
    fn receive(&mut self, room: &mut [u8], rest: &mut [u8]) -> Result<usize, Refusal> {
        let bytes = self.receives.pop_front().unwrap_or(Err(Refusal::WouldBlock))?;
        let in_room = bytes.len().min(room.len());
        room[..in_room].copy_from_slice(&bytes[..in_room]);
        rest[..bytes.len() - in_room].copy_from_slice(&bytes[in_room..]);
        Ok(bytes.len())
    }

    fn send(&mut self, parts: &[&[u8]; 3]) -> Result<usize, Refusal> {
        let bytes = parts.concat();
        let taken = self.sends.pop_front().unwrap_or(Ok(bytes.len()))?;
        self.sent.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn ask(&mut self, question: Question) {
        self.questions.push(question);
    }

    fn probe_sent(&mut self) -> Probe {
        Probe { unacknowledged: self.unacknowledged, ..Probe::default() }
    }

    fn shutdown_send(&mut self, _patience: Option<Duration>) {
        self.fin_sent = true;
    }

    fn now(&mut self) -> Timestamp {
        Timestamp::default()
    }
}

#[derive(Default)]
struct Echo {
    /// What it was told of, and how often it answered before.
    introduced: Vec<(ProxyHeader, usize)>,
    answers: usize,
}

impl Serve for Echo {
    fn introduce(&mut self, header: &ProxyHeader) {
        self.introduced.push((*header, self.answers));
    }

    fn answer<'a>(&'a mut self, received: &'a Received<'_>) -> Answer<'a> {
        self.answers += 1;
        match received {
            Received::Nothing => Answer { parts: [&[]; 3], frames: 0 },
            Received::Raw(bytes) => Answer { parts: [bytes, &[], &[]], frames: 0 },
            Received::Frames(decoded) => {
                let [first, run] = decoded.frames().parts();
                Answer { parts: [first, run, &[]], frames: decoded.count }
            }
        }
    }
}

/// A connection and everything its turns need.
struct Scene {
    connection: Connection,
    readiness: Readiness,
    io: Scripted,
    echo: Echo,
}

impl Scene {
    fn new(receives: impl IntoIterator<Item = Result<Vec<u8>, Refusal>>) -> Scene {
        Scene::with(Limits::default(), receives)
    }

    fn with(limits: Limits, receives: impl IntoIterator<Item = Result<Vec<u8>, Refusal>>) -> Scene {
        let receives = receives.into_iter().collect();
        Scene {
            connection: Connection::new(Arc::new(limits), Timestamp::default()),
            readiness: Readiness::default(),
            echo: Echo::default(),
            io: Scripted { receives, ..Scripted::default() },
        }
    }

    /// Takes a turn after an event; returns its steps.
    fn turn(&mut self, unread: Unread, writable: bool) -> Vec<Step> {
        self.readiness.note(unread, writable);
        let mut turn = Turn::new(&mut self.readiness, BOUNDS);
        let mut steps = vec![];
        loop {
            let buffer = &mut [0xa5; 64];
            let step = turn.step(&mut self.connection, &mut self.io, &mut self.echo, buffer);
            steps.push(step);
            if matches!(step, Step::Closed(_) | Step::Over | Step::Unfinished) {
                return steps;
            }
        }
    }
}

/// A frame of 8 bytes.
fn frame() -> Vec<u8> {
    let mut bytes = vec![];
    encode_frame(b"abcd", &mut bytes);
    bytes
}

#[test]
fn an_echo_is_one_receive_and_one_send() {
    let mut scene = Scene::new([Ok(frame())]);
    assert_eq!(scene.turn(Unread::Bytes, false), [Step::Received(8), Step::Over]);
    assert_eq!(scene.io.sent, frame());
    assert_eq!(scene.turn(Unread::Nothing, true), [Step::Over], "nothing else was announced");
}

#[test]
fn a_short_receive_shows_that_nothing_is_left_unless_something_else_was_announced() {
    let mut scene = Scene::new([Ok(frame()), Ok(frame())]);
    let steps = scene.turn(Unread::ToTheEnd, false);
    let received = Step::Received(8);
    assert_eq!(steps, [received, received, Step::Refused(During::Receive), Step::Over]);
    assert_eq!(scene.turn(Unread::Nothing, true), [Step::Over], "EAGAIN has ended it");
}

#[test]
fn the_rest_of_a_frame_is_received_where_the_frame_is() {
    let (mut head, tail) = (frame(), frame().split_off(3));
    head.truncate(3);
    let mut scene = Scene::new([Ok(head), Ok(tail)]);
    assert_eq!(scene.turn(Unread::Bytes, false), [Step::Received(3), Step::Over]);
    assert_eq!(scene.io.sent, []);
    assert_eq!(scene.turn(Unread::Bytes, false), [Step::Received(5), Step::Over]);
    assert_eq!(scene.io.sent, frame());
}

#[test]
fn a_connection_that_has_received_enough_lets_others_have_their_turn_and_goes_on_later() {
    let full = || Ok(frame().repeat(8));
    let mut scene = Scene::new([full(), full(), full(), full()]);
    let received = Step::Received(64);
    let steps = scene.turn(Unread::Bytes, false);
    assert_eq!(steps, [received, received, received, Step::Unfinished]);
    let steps = scene.turn(Unread::Nothing, false);
    assert_eq!(steps, [received, Step::Refused(During::Receive), Step::Over]);
}

#[test]
fn what_is_not_taken_is_owed_and_sent_once_there_is_room() {
    let mut scene = Scene::new([Ok(frame())]);
    scene.io.sends = [Ok(5), Ok(2)].into();
    assert_eq!(scene.turn(Unread::Bytes, false), [Step::Received(8), Step::Over]);
    assert_eq!(scene.turn(Unread::Bytes, false), [Step::Over], "it is not read while it owes");
    assert_eq!(scene.turn(Unread::Nothing, true), [Step::Sent(2), Step::Over]);
    let steps = scene.turn(Unread::Nothing, true);
    assert_eq!(steps, [Step::Sent(1), Step::Refused(During::Receive), Step::Over]);
    assert_eq!(scene.io.sent, frame());
    assert_eq!(scene.io.questions, [Question::Now], "a send that takes some gets another event");
}

#[test]
fn an_answer_that_fails_is_received_first_and_fails_then() {
    let mut scene = Scene::new([Ok(frame())]);
    scene.io.sends = [Err(GONE)].into();
    let closed = Step::Closed(CloseStep::Close);
    let steps = scene.turn(Unread::Bytes, false);
    assert_eq!(steps, [Step::Received(8), Step::Failed, closed]);
    assert_eq!(scene.connection.cause().map(|cause| cause.during), Some(During::Send));
}

#[test]
fn bytes_in_front_of_the_end_are_answered_before_it() {
    let mut scene = Scene::new([Ok(frame()), Ok(vec![])]);
    let closed = Step::Closed(CloseStep::Close);
    let steps = scene.turn(Unread::ToTheEnd, false);
    assert_eq!(steps, [Step::Received(8), Step::EndOfStream, closed]);
    assert_eq!(scene.io.sent, frame());
}

#[test]
fn an_end_with_bytes_unacknowledged_sends_fin_and_asks_again_at_each_event() {
    let mut scene = Scene::new([Ok(frame()), Ok(vec![])]);
    scene.io.unacknowledged = 8;
    let steps = scene.turn(Unread::ToTheEnd, false);
    assert_eq!(steps, [Step::Received(8), Step::EndOfStream, Step::FinSent, Step::Over]);
    assert!(scene.io.fin_sent);
    // The FIN counts as one byte.
    scene.io.unacknowledged = 9;
    assert_eq!(scene.turn(Unread::Nothing, true), [Step::Asked, Step::Over]);
    scene.io.unacknowledged = 1;
    assert_eq!(scene.turn(Unread::Nothing, true), [Step::Closed(CloseStep::Close)]);
}

#[test]
fn an_interrupted_receive_is_tried_again_and_counts_against_the_turn() {
    let interrupted = || Err(Refusal::Interrupted);
    let mut scene = Scene::new([interrupted(), Ok(frame())]);
    let steps = scene.turn(Unread::Bytes, false);
    let refused = Step::Refused(During::Receive);
    assert_eq!(steps, [refused, Step::Received(8), Step::Over]);
    scene.io.receives = [interrupted(), interrupted(), interrupted(), Ok(frame())].into();
    assert_eq!(scene.turn(Unread::Bytes, false), [refused, refused, refused, Step::Unfinished]);
}

#[test]
fn the_kernel_is_asked_at_once_and_then_after_a_pause() {
    let refused = || Err(Refusal::WouldBlock);
    let mut scene = Scene::new([Ok(frame())]);
    scene.io.sends = [refused(), refused(), refused(), refused()].into();
    let _ = scene.turn(Unread::Bytes, false);
    assert_eq!(scene.io.questions, [Question::Now]);
    for _ in 0..2 {
        let _ = scene.turn(Unread::Nothing, true);
        assert_eq!(scene.io.questions, [Question::Now, Question::Later]);
        assert!(scene.readiness.is_to_be_asked());
    }
    scene.readiness.ask_again();
    let _ = scene.turn(Unread::Nothing, true);
    assert_eq!(scene.io.questions, [Question::Now, Question::Later, Question::Later]);
    scene.readiness.ask_again();
    let steps = scene.turn(Unread::Nothing, true);
    assert_eq!(steps[0], Step::Sent(8));
    assert_eq!(scene.io.sent, frame());
}

#[test]
fn bytes_that_a_look_has_found_need_no_event() {
    let mut scene = Scene::new([Err(Refusal::WouldBlock), Ok(frame())]);
    assert_eq!(scene.turn(Unread::Bytes, false), [Step::Refused(During::Receive), Step::Over]);
    scene.readiness.note_probe(&Probe::default());
    assert_eq!(scene.turn(Unread::Nothing, false), [Step::Over]);
    scene.readiness.note_probe(&Probe { unread: 8, ..Probe::default() });
    assert_eq!(scene.turn(Unread::Nothing, false), [Step::Received(8), Step::Over]);
}

#[test]
fn who_answers_is_told_of_the_header_before_anything_else_and_once() {
    let limits = Limits { proxy_header: Some(Duration::from_secs(5)), ..Limits::default() };
    let (line, frame) = (b"PROXY UNKNOWN\r\n", frame());
    let all = [line, &frame[..]].concat();
    for at in [0, 1, 14, 15, 16, 22, 23] {
        let (first, rest) = all.split_at(at);
        let pieces = [first, rest].into_iter().filter(|piece| !piece.is_empty());
        let mut scene = Scene::with(limits.clone(), pieces.map(|piece| Ok(piece.to_vec())));
        let steps = scene.turn(Unread::ToTheEnd, false);
        assert!(!steps.contains(&Step::Failed), "{steps:?}");
        assert_eq!(scene.io.sent, frame, "cut at {at}");
        assert_eq!(scene.echo.introduced, [(ProxyHeader::Socket, 0)], "cut at {at}");
    }
    let mut scene = Scene::with(limits, [Ok(b"hello".to_vec())]);
    let steps = scene.turn(Unread::Bytes, false);
    assert_eq!(steps, [Step::Received(5), Step::Closed(CloseStep::Reset)]);
    assert_eq!((scene.echo.introduced, scene.echo.answers), (vec![], 0));
}
