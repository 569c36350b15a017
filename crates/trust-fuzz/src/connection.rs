//! A connection's turns as a sequence of operations: whatever the peer, the kernel and the clock
//! do, in any order that a server may see.
//!
//! The simulator has the same judge, the witness, but a realistic network. Here bytes arrive, are
//! acknowledged and get lost just as the fuzzer decides.

use std::sync::Arc;
use std::time::Duration;

use trust_sim::check::{Truth, Violation, Witness};
use trust_sim::model::{HeaderModel, Model};
use trust_sim::script::header::HeaderFate;
use trust_sim::watched::{CallReport, Next, Watched, WatchedIo, at};
use trust_wire::turn::{Bounds, Io, Question, Refusal, Unread};
use trust_wire::{
    Connection, ErrnoClass, Limits, Mode, Phase, Probe, ProxyHeader, Reason, Timestamp,
};

use crate::choices::Choices;

const MODES: [Mode; 3] = [Mode::Auto, Mode::Framed, Mode::Raw];

/// Limits on the payload; mostly small, so that few bytes make frames, and frames close to the
/// limit.
const MAX_PAYLOADS: [u32; 8] = [0, 1, 3, 8, 64, 200, 65_536, u32::MAX];

/// Timeouts in milliseconds, including the shortest that a setting accepts; 0 disables one.
const LIMITS_MS: [u64; 6] = [0, 1, 4, 1000, 5000, 1_000_000_000_000];

/// Steps of the clock in microseconds: within a millisecond, around the limits, and beyond all of
/// them.
const STEPS_US: [u64; 10] =
    [0, 1, 250, 999, 1000, 4000, 1_000_000, 1_250_000, 5_000_000, 60_000_000];

/// Deadlines that may be due in a row while nothing else happens: four looks per limit, and the
/// linger limit five times.
const DEADLINES_MAX: usize = 64;

/// Long after every limit except the longest, which stands for none.
const AFTER_ALL: Duration = Duration::from_secs(3600);

/// Time between two acknowledgements, so that they can be told apart.
const TICK: Duration = Duration::from_nanos(1);

/// Receives per turn, and bytes beyond the rest of a frame: more than the fuzzer's input has.
const BOUNDS: Bounds = Bounds { receives: 4, receive_len: 300 };

/// Room for those bytes and a frame before them.
const BUFFER_LEN: usize = 1024;

/// After this many rounds of receiving and sending everything must have passed, as the pieces are
/// as large as possible.
const ROUNDS_MAX: usize = 8;

/// PROXY headers that connections may begin with, and what must come of them.
const HEADERS: [(&[u8], HeaderFate); 8] = [
    (b"PROXY UNKNOWN\r\n", HeaderFate::Says(ProxyHeader::Socket)),
    (b"PROXY UNKNOWN and more\r\n", HeaderFate::Says(ProxyHeader::Socket)),
    (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", HeaderFate::Says(ProxyHeader::Socket)),
    (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x05other", HeaderFate::Says(ProxyHeader::Socket)),
    (b"\r\n\r\n\0\r\nQUIT\n\x30\0\0\0", HeaderFate::WrongAt(13)),
    (b"PROXY TCP5 ", HeaderFate::WrongAt(11)),
    (b"\0\0\0\x01", HeaderFate::WrongAt(1)),
    (b"PROFILE", HeaderFate::WrongAt(4)),
];

/// The input starts with the mode, the largest payload, four time limits, whether the connection is
/// served, how it ends, whether a PROXY header is expected (perhaps with its limit and which one
/// comes), and the length of what the peer sends, followed by that. Operations make up the rest.
///
/// # Panics
///
/// If a property does not hold.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mode = choices.one_of(&MODES);
    let max_payload = choices.one_of(&MAX_PAYLOADS);
    let mut limit = || Some(choices.one_of(&LIMITS_MS)).filter(|limit| *limit > 0);
    let [timeout, frame_timeout, linger_timeout, max_lifetime] =
        [limit(), limit(), limit(), limit()].map(|limit| limit.map(Duration::from_millis));
    let linger_timeout = linger_timeout.unwrap_or_default();
    let flags = choices.byte();
    let has_header = flags & 4 != 0;
    let header_limit = || Duration::from_millis(choices.one_of(&LIMITS_MS[1..]));
    let proxy_header = has_header.then(header_limit);
    let limits = Limits {
        mode,
        max_payload,
        timeout,
        frame_timeout,
        linger_timeout,
        max_lifetime,
        proxy_header,
    };
    let header = has_header.then(|| choices.one_of(&HEADERS));
    let stream = choices.short_bytes();
    let upload = [header.map_or(&[][..], |(bytes, _)| bytes), stream].concat();
    let mut scene = Scene::new(limits, flags & 1 == 0, header, &upload);
    while !choices.is_empty() && !scene.is_closed() {
        scene.operate(&mut choices);
    }
    match flags & 2 == 0 {
        true => scene.end_with_fin(),
        false => scene.end_in_silence(),
    }
}

/// A connection, and the socket played by the fuzzer.
struct Scene<'a> {
    watched: Watched,
    socket: PlayedSocket<'a>,
    limits: Limits,
    /// The total time that the process was paused.
    paused: Duration,
    /// The furthest phase, and the mode once decided.
    phase: Phase,
    mode: Mode,
}

/// The socket and the clock.
struct PlayedSocket<'a> {
    /// Everything that the peer may come to send: a PROXY header, and the stream.
    upload: &'a [u8],
    stream: &'a [u8],
    now: Duration,
    /// Bytes of `upload` that have arrived, and that were received.
    arrived: usize,
    received: usize,
    arrived_at: Duration,
    fin_arrived: bool,
    /// Bytes that the kernel has taken, and that the peer has acknowledged.
    sent: usize,
    acknowledged: usize,
    acked_at: Duration,
    /// The sending side is shut down, and the peer has not received the FIN.
    fin_outstanding: bool,
    /// The error that the next probe finds.
    pending: Option<(i32, ErrnoClass)>,
    /// The kernel has given up on the connection.
    is_over: bool,
    /// The outcomes of calls in this turn.
    calls: Calls,
    report: CallReport,
}

/// The outcomes of calls in a turn. Calls with no outcome set return EAGAIN.
#[derive(Clone, Copy, Default)]
struct Calls {
    /// The most bytes that the next receive returns; the end of the stream if there are none.
    receive: Option<usize>,
    /// The same for all later receives.
    receives_on: bool,
    /// How many bytes sends take.
    room: usize,
    /// Whether the next receive, and the next send, is interrupted.
    interrupts_receive: bool,
    interrupts_send: bool,
    /// The error of the next receive, and of the next send.
    receive_error: Option<(i32, ErrnoClass)>,
    send_error: Option<(i32, ErrnoClass)>,
}

impl Calls {
    /// Every call succeeds in full.
    const ALL: Calls = Calls {
        receive: Some(usize::MAX),
        receives_on: true,
        room: usize::MAX,
        interrupts_receive: false,
        interrupts_send: false,
        receive_error: None,
        send_error: None,
    };
}

impl PlayedSocket<'_> {
    fn unread(&self) -> usize {
        self.arrived - self.received
    }

    /// What the socket reports; asking clears its error.
    fn probe(&mut self) -> Probe {
        let unacknowledged = self.sent - self.acknowledged + usize::from(self.fin_outstanding);
        Probe {
            asked_at: at(self.now),
            unacknowledged: unacknowledged as u64,
            is_memory: false,
            unread: self.unread() as u64,
            error: self.pending.take(),
            is_over: self.is_over,
        }
    }

    fn fail(&mut self, (errno, class): (i32, ErrnoClass)) -> Refusal {
        self.report.failed = Some(class.into());
        Refusal::Failed { errno, class }
    }
}

impl Io for PlayedSocket<'_> {
    fn receive(&mut self, room: &mut [u8], rest: &mut [u8]) -> Result<usize, Refusal> {
        if std::mem::take(&mut self.calls.interrupts_receive) {
            return Err(Refusal::Interrupted);
        }
        if let Some(error) = self.calls.receive_error.take() {
            return Err(self.fail(error));
        }
        let most =
            if self.calls.receives_on { self.calls.receive } else { self.calls.receive.take() };
        let count = most.unwrap_or(0).min(self.unread()).min(room.len() + rest.len());
        if count == 0 {
            let is_end = most.is_some() && self.fin_arrived && self.unread() == 0;
            return if is_end { Ok(0) } else { Err(Refusal::WouldBlock) };
        }
        let bytes = &self.upload[self.received..self.received + count];
        // Bytes that were not received must not be read.
        room.fill(0xa5);
        rest.fill(0xa5);
        let in_room = count.min(room.len());
        room[..in_room].copy_from_slice(&bytes[..in_room]);
        rest[..count - in_room].copy_from_slice(&bytes[in_room..]);
        self.received += count;
        Ok(count)
    }

    fn send(&mut self, parts: &[&[u8]; 3]) -> Result<usize, Refusal> {
        if std::mem::take(&mut self.calls.interrupts_send) {
            return Err(Refusal::Interrupted);
        }
        if let Some(error) = self.calls.send_error.take() {
            return Err(self.fail(error));
        }
        let bytes = parts.concat();
        let echo = self.stream.get(self.sent..self.sent + bytes.len());
        assert!(!bytes.is_empty() && echo == Some(&bytes[..]), "what is sent is what came");
        let taken = bytes.len().min(self.calls.room);
        self.calls.room = self.calls.room.saturating_sub(taken);
        if taken == 0 {
            return Err(Refusal::WouldBlock);
        }
        self.sent += taken;
        self.report.sent += taken;
        Ok(taken)
    }

    // The fuzzer reports readiness when it chooses to.
    fn ask(&mut self, _question: Question) {}

    fn probe_sent(&mut self) -> Probe {
        let probe = self.probe();
        *self.report.probed.insert(probe)
    }

    fn shutdown_send(&mut self, _patience: Option<Duration>) {
        self.fin_outstanding = true;
    }

    fn now(&mut self) -> Timestamp {
        at(self.now)
    }
}

impl WatchedIo for PlayedSocket<'_> {
    fn truth(&self) -> Truth {
        Truth {
            now: self.now,
            arrived_at: self.arrived_at,
            acked_at: self.acked_at,
            unacknowledged: self.sent - self.acknowledged,
            unread: self.unread(),
        }
    }

    fn take_report(&mut self) -> CallReport {
        std::mem::take(&mut self.report)
    }
}

impl<'a> Scene<'a> {
    fn new(
        limits: Limits,
        is_served: bool,
        header: Option<(&[u8], HeaderFate)>,
        upload: &'a [u8],
    ) -> Scene<'a> {
        let stream = &upload[header.map_or(0, |(bytes, _)| bytes.len())..];
        let header = header.map(|(bytes, fate)| HeaderModel::of(bytes, fate));
        let model = Model::of(stream, limits.mode, limits.max_payload);
        let shared = Arc::new(limits.clone());
        let connection = match is_served {
            true => Connection::new(shared, Timestamp::default()),
            false => Connection::reject(shared, Timestamp::default()),
        };
        let start = Duration::ZERO;
        let socket = PlayedSocket {
            upload,
            stream,
            now: start,
            arrived: 0,
            received: 0,
            arrived_at: start,
            fin_arrived: false,
            sent: 0,
            acknowledged: 0,
            acked_at: start,
            fin_outstanding: false,
            pending: None,
            is_over: false,
            calls: Calls::default(),
            report: CallReport::default(),
        };
        // Deadlines are judged when they are due, apart from pauses.
        let witness = Witness::new(header, model, limits.clone(), Duration::ZERO, start);
        let watched = hold(Watched::accept(connection, witness, socket.truth()));
        let mode = limits.mode;
        let mut scene =
            Scene { watched, socket, limits, paused: start, phase: Phase::Connected, mode };
        scene.turn(Unread::Nothing, false, Calls::default());
        scene
    }

    fn connection(&self) -> &Connection {
        self.watched.connection()
    }

    fn is_closed(&self) -> bool {
        self.watched.is_closed()
    }

    fn operate(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 13 {
            0 => self.arrive(choices.byte().into()),
            1 => self.socket.fin_arrived = true,
            2 => return self.receive(choices),
            3 => {
                let calls = Calls { room: choices.byte().into(), ..Calls::default() };
                return self.turn(Unread::Nothing, true, calls);
            }
            4 => self.acknowledge(choices.byte().into()),
            5 => self.pass(Duration::from_micros(choices.one_of(&STEPS_US))),
            6 => {
                let pause = Duration::from_micros(choices.one_of(&STEPS_US));
                self.socket.now += pause;
                self.paused += pause;
            }
            7 => {
                let step = Duration::from_micros(choices.one_of(&STEPS_US));
                self.judge_deadline(self.socket.now.saturating_sub(step));
            }
            8 => hold(self.watched.drain(self.socket.truth())),
            9 => {
                let reason = choices.one_of(&[Reason::DrainTimeout, Reason::SecondSignal]);
                self.abort(reason);
            }
            10 => {
                let calls = Calls { receive_error: Some(error(choices)), ..Calls::default() };
                return self.turn(Unread::ToTheEnd, false, calls);
            }
            11 => {
                let calls = Calls { send_error: Some(error(choices)), ..Calls::default() };
                return self.turn(Unread::Nothing, true, calls);
            }
            _ => {
                let found = error(choices);
                self.socket.pending = Some(found);
                // An unreachable peer may still come back and acknowledge.
                let is_soft = found.1 == ErrnoClass::Unreachable && choices.byte() & 1 == 0;
                self.socket.is_over |= !is_soft;
            }
        }
        self.turn(Unread::Nothing, false, Calls::default());
    }

    fn arrive(&mut self, count: usize) {
        let socket = &mut self.socket;
        if !socket.fin_arrived {
            let count = count.min(socket.upload.len() - socket.arrived);
            socket.arrived += count;
            socket.arrived_at = if count > 0 { socket.now } else { socket.arrived_at };
        }
    }

    /// Receives as much as the fuzzer chooses, and answers.
    fn receive(&mut self, choices: &mut Choices<'_>) {
        let [count, fault, room] = [choices.byte(), choices.byte(), choices.byte()];
        // Mostly, all or nothing of an answer is taken at once.
        let room = if room >= 240 { usize::MAX } else { usize::from(room) };
        let mut calls = Calls { receive: Some(count.into()), room, ..Calls::default() };
        // Mostly no fault.
        match fault {
            253 => calls.interrupts_receive = true,
            254 => calls.interrupts_send = true,
            255 => calls.send_error = Some(error(choices)),
            _ => {}
        }
        self.turn(Unread::Bytes, false, calls);
    }

    /// Lets the connection do what it is ready for, and checks what the witness does not.
    fn turn(&mut self, unread: Unread, writable: bool, calls: Calls) {
        if self.is_closed() {
            return;
        }
        self.socket.calls = calls;
        self.watched.readiness.note(unread, writable);
        // A turn that was cut short goes on with calls that return EAGAIN, or with the same ones
        // until they are used up.
        while hold(self.watched.take_turn(&mut self.socket, BOUNDS, &mut [0xa5; BUFFER_LEN]))
            == Next::Turn
        {}
        let Scene { socket, .. } = self;
        let connection = self.watched.connection();
        let owed = connection.owed();
        assert_eq!(owed, &socket.stream[socket.sent..][..owed.len()], "what is owed is what came");
        let phase = connection.phase();
        assert!(phase as u8 >= self.phase as u8, "{:?} after {:?}", phase, self.phase);
        self.phase = phase;
        let mode = connection.mode();
        assert!(mode == self.mode || self.mode == Mode::Auto, "{mode:?} after {:?}", self.mode);
        self.mode = mode;
    }

    fn acknowledge(&mut self, count: usize) {
        let socket = &mut self.socket;
        let count = count.min(socket.sent - socket.acknowledged);
        if socket.is_over {
            return;
        }
        if count > 0 {
            socket.now += TICK;
            self.paused += TICK;
            socket.acknowledged += count;
            socket.acked_at = socket.now;
        } else if socket.acknowledged == socket.sent {
            socket.fin_outstanding = false;
        }
        self.watched.witness.note_outstanding(self.socket.truth());
    }

    fn abort(&mut self, reason: Reason) {
        let probe = self.socket.probe();
        hold(self.watched.cut(reason, probe, self.socket.truth()));
    }

    /// Lets time pass, with deadlines judged when they are due.
    fn pass(&mut self, time: Duration) {
        let until = self.socket.now + time;
        for round in 0.. {
            let deadline = self.connection().poll_deadline();
            if self.is_closed() || deadline > at(until) {
                break;
            }
            assert!(round < DEADLINES_MAX, "deadlines come to an end: {:?}", self.connection());
            self.socket.now = self.socket.now.max(deadline.since(Timestamp::default()));
            self.judge_deadline(self.socket.now);
            self.turn(Unread::Nothing, false, Calls::default());
        }
        if !self.is_closed() {
            self.socket.now = until;
            let paused = self.paused;
            hold(self.watched.witness.check_overdue(self.socket.truth(), |_| paused));
        }
    }

    /// Judges the deadline against `due`, if it had come by then.
    fn judge_deadline(&mut self, due: Duration) {
        if self.socket.arrived_at <= due {
            // Readiness comes first.
            self.receive_all();
        }
        if self.is_closed() || self.connection().poll_deadline() > at(due) {
            return;
        }
        let probe = self.socket.probe();
        hold(self.watched.handle_deadline(due, probe, self.socket.truth()));
        let is_due_again = self.connection().poll_deadline() <= at(due);
        let may_be = probe.unread > 0 || self.connection().phase() == Phase::Closed;
        assert!(may_be || !is_due_again, "a deadline is judged once: {:?}", self.connection());
    }

    fn receive_all(&mut self) {
        if self.connection().wants_receive()
            && (self.socket.unread() > 0 || self.socket.fin_arrived)
        {
            self.turn(Unread::ToTheEnd, false, Calls::ALL);
        }
    }

    /// The peer sends everything, finishes, and reads everything: the connection closes within a
    /// few rounds.
    fn end_with_fin(&mut self) {
        self.arrive(usize::MAX);
        self.socket.fin_arrived = true;
        for _ in 0..ROUNDS_MAX {
            if self.is_closed() {
                break;
            }
            self.turn(Unread::ToTheEnd, true, Calls::ALL);
            self.acknowledge(usize::MAX);
        }
        assert!(self.is_closed(), "still {:?}", self.connection());
        let cause = self.connection().cause();
        let is_served = cause.is_some_and(|it| it.reason != Reason::AtCapacity);
        let witness = &self.watched.witness;
        if is_served && witness.is_complete() {
            assert_eq!(self.socket.sent, witness.owed_in_all(), "all that was owed was sent");
        }
    }

    /// Nothing more arrives: the limits end the connection; without limits, the server does.
    fn end_in_silence(&mut self) {
        self.pass(AFTER_ALL);
        let is_limited =
            |limit: Option<Duration>| limit.is_some_and(|limit| limit < AFTER_ALL / 16);
        let limits = &self.limits;
        let has_limits = is_limited(limits.timeout)
            && is_limited(Some(limits.linger_timeout))
            && limits.proxy_header.is_none_or(|limit| is_limited(Some(limit)));
        if has_limits {
            assert!(self.is_closed(), "still {:?}", self.connection());
        }
        if !self.is_closed() {
            self.abort(Reason::SecondSignal);
            self.turn(Unread::Nothing, false, Calls::default());
        }
        assert!(self.is_closed(), "still {:?}", self.connection());
    }
}

fn error(choices: &mut Choices<'_>) -> (i32, ErrnoClass) {
    let classes =
        [ErrnoClass::Reset, ErrnoClass::BrokenPipe, ErrnoClass::Unreachable, ErrnoClass::Other];
    let class = choices.one_of(&classes);
    // Only the class matters, so any number will do.
    (class as i32 + 100, class)
}

fn hold<T>(result: Result<T, Violation>) -> T {
    match result {
        Ok(value) => value,
        Err(Violation { property, detail }) => panic!("{property}: {detail}"),
    }
}
