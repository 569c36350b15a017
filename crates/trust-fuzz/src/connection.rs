//! The connection core as a sequence of operations: whatever the peer, the kernel and the clock do, in any order
//! that a caller may meet them in.
//!
//! The simulator has the same judge, the witness, but a network that behaves like one. Here bytes arrive, are
//! acknowledged and get lost without any reason but the fuzzer's.

use std::sync::Arc;
use std::time::Duration;

use trust_sim::check::{Operation, Truth, Violation, Witness};
use trust_sim::model::Model;
use trust_wire::{
    CloseStep, Connection, Disconnect, During, ErrnoClass, Limits, Mode, Phase, Probe, Reason,
    Received, Timestamp,
};

use crate::choices::Choices;

const MODES: [Mode; 3] = [Mode::Auto, Mode::Framed, Mode::Raw];

/// Limits of a payload; mostly small, so that few bytes are frames, and frames around the limit.
const MAX_PAYLOADS: [u32; 8] = [0, 1, 3, 8, 64, 200, 65_536, u32::MAX];

/// Limits of time in milliseconds, the shortest that a setting takes among them; 0 turns one off.
const LIMITS_MS: [u64; 6] = [0, 1, 4, 1000, 5000, 1_000_000_000_000];

/// Steps of the clock in microseconds: within a millisecond, around the limits, and above all of them.
const STEPS_US: [u64; 10] =
    [0, 1, 250, 999, 1000, 4000, 1_000_000, 1_250_000, 5_000_000, 60_000_000];

/// Deadlines that may be due one after the other while nothing else happens: four looks a limit, and the
/// linger limit five times.
const DEADLINES_MAX: usize = 64;

/// Long after every limit but the longest, which stands for none.
const AFTER_ALL: Duration = Duration::from_secs(3600);

/// Between two acknowledgements, so that their times tell them apart.
const TICK: Duration = Duration::from_nanos(1);

/// Rounds of receiving and sending in which everything has passed: the pieces are as large as they can be.
const ROUNDS_MAX: usize = 8;

/// Bytes: mode, largest payload, four limits of time, whether it is served and how it ends, the length of what
/// the peer sends and that itself; then operations.
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
    let limits = Limits { mode, max_payload, timeout, frame_timeout, linger_timeout, max_lifetime };
    let flags = choices.byte();
    let upload = choices.short_bytes();
    let mut scene = Scene::new(limits, flags & 1 == 0, upload);
    while !choices.is_empty() && !scene.is_closed() {
        scene.operate(&mut choices);
    }
    match flags & 2 == 0 {
        true => scene.end_with_fin(),
        false => scene.end_in_silence(),
    }
}

/// A connection, and the socket and the clock that the fuzzer plays.
struct Scene<'a> {
    connection: Connection,
    witness: Witness,
    limits: Limits,
    /// Everything that the peer may come to send.
    upload: &'a [u8],
    now: Duration,
    /// How long the process did not run, in all.
    paused: Duration,
    /// Bytes of `upload` that arrived, and that were received.
    arrived: usize,
    received: usize,
    arrived_at: Duration,
    fin_arrived: bool,
    /// Bytes that the kernel took, and that the peer acknowledged.
    sent: usize,
    acknowledged: usize,
    acked_at: Duration,
    /// The sending side is shut down, and the peer does not have the FIN.
    fin_outstanding: bool,
    /// What a look at the socket finds.
    pending: Option<(i32, ErrnoClass)>,
    /// The kernel has given the connection up.
    is_over: bool,
    /// The last cause that was told, the furthest phase, and the mode once it was decided.
    told: Option<Disconnect>,
    phase: Phase,
    mode: Mode,
}

impl<'a> Scene<'a> {
    fn new(limits: Limits, is_served: bool, upload: &'a [u8]) -> Scene<'a> {
        let model = Model::of(upload, limits.mode, limits.max_payload);
        let shared = Arc::new(limits.clone());
        let connection = match is_served {
            true => Connection::new(shared, Timestamp::default()),
            false => Connection::reject(shared, Timestamp::default()),
        };
        let start = Duration::ZERO;
        let mut scene = Scene {
            connection,
            // Deadlines are judged when they are due, apart from pauses.
            witness: Witness::new(model, limits.clone(), Duration::ZERO, start),
            mode: limits.mode,
            limits,
            upload,
            now: start,
            paused: start,
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
            told: None,
            phase: Phase::Connected,
        };
        scene.judge(Operation::Accepted);
        scene.take_steps();
        scene
    }

    fn is_closed(&self) -> bool {
        self.witness.closed.is_some()
    }

    fn operate(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 13 {
            0 => self.arrive(choices.byte().into()),
            1 => self.fin_arrived = true,
            2 => self.receive(choices),
            3 => self.send_owed(choices.byte().into()),
            4 => self.acknowledge(choices.byte().into()),
            5 => self.pass(Duration::from_micros(choices.one_of(&STEPS_US))),
            6 => {
                let pause = Duration::from_micros(choices.one_of(&STEPS_US));
                self.now += pause;
                self.paused += pause;
            }
            7 => {
                let due = self.now.saturating_sub(Duration::from_micros(choices.one_of(&STEPS_US)));
                self.judge_deadline(due);
            }
            8 => {
                let unread = self.unread();
                self.connection.retire(Reason::Drain, unread as u64);
                self.judge(Operation::Retired(unread));
            }
            9 => {
                let reason = choices.one_of(&[Reason::DrainTimeout, Reason::SecondSignal]);
                self.abort(reason);
            }
            10 => self.fail(During::Receive, choices),
            11 => self.fail(During::Send, choices),
            _ => {
                let found = error(choices);
                self.pending = Some(found);
                // Of an unreachable peer it may go on to be acknowledged.
                let is_soft = found.1 == ErrnoClass::Unreachable && choices.byte() & 1 == 0;
                self.is_over |= !is_soft;
            }
        }
        self.take_steps();
    }

    fn arrive(&mut self, count: usize) {
        if !self.fin_arrived {
            let count = count.min(self.upload.len() - self.arrived);
            self.arrived += count;
            self.arrived_at = if count > 0 { self.now } else { self.arrived_at };
        }
    }

    fn unread(&self) -> usize {
        self.arrived - self.received
    }

    /// Receives as much as the fuzzer wants, and answers.
    fn receive(&mut self, choices: &mut Choices<'_>) {
        let [count, uses_room, sent] = [choices.byte(), choices.byte(), choices.byte()];
        // Of an answer mostly all or nothing is taken at once.
        let sent = if sent >= 240 { usize::MAX } else { usize::from(sent) };
        self.receive_some(count.into(), uses_room & 1 == 0, sent);
    }

    fn receive_some(&mut self, count: usize, uses_room: bool, kernel_room: usize) {
        if !self.connection.wants_receive() {
            return;
        }
        let count = count.min(self.unread());
        if count == 0 {
            if self.fin_arrived && self.unread() == 0 {
                self.connection.handle_end_of_stream();
                self.judge(Operation::EndOfStream);
            }
            return;
        }
        let bytes = &self.upload[self.received..self.received + count];
        let mut in_room = 0;
        if uses_room {
            let wanted = self.connection.wanted();
            let room = self.connection.room();
            assert!(room.len() <= wanted.unwrap_or(0), "the room ends with the frame");
            room.fill(0xa5);
            in_room = count.min(room.len());
            room[..in_room].copy_from_slice(&bytes[..in_room]);
        }
        self.received += count;
        let received = self.connection.handle_received(in_room, &bytes[in_room..], at(self.now));
        let decoded;
        let (parts, frames) = match received {
            Received::Nothing => ([&[][..], &[]], 0),
            Received::Raw(bytes) => ([bytes, &[]], 0),
            Received::Frames(frames) => {
                decoded = frames;
                (decoded.frames().parts(), decoded.count)
            }
        };
        let answer_len = parts[0].len() + parts[1].len();
        let answer = &self.upload[self.sent..self.sent + answer_len];
        assert!(parts[0] == &answer[..parts[0].len()], "the completed frame is what came");
        assert!(parts[1] == &answer[parts[0].len()..], "the answer is what came");
        let taken = answer_len.min(kernel_room);
        if answer_len > 0 {
            self.sent += taken;
            self.connection.handle_answered(&parts, frames, taken, at(self.now));
        }
        self.judge(Operation::Received(count));
        self.judge(Operation::Answered);
    }

    fn send_owed(&mut self, kernel_room: usize) {
        if self.connection.wants_send() {
            let taken = self.connection.owed().len().min(kernel_room);
            self.sent += taken;
            self.connection.handle_sent(taken, at(self.now));
            self.judge(Operation::Sent);
        }
    }

    fn acknowledge(&mut self, count: usize) {
        let count = count.min(self.sent - self.acknowledged);
        if self.is_over {
            return;
        }
        if count > 0 {
            self.now += TICK;
            self.paused += TICK;
            self.acknowledged += count;
            self.acked_at = self.now;
        } else if self.acknowledged == self.sent {
            self.fin_outstanding = false;
        }
        self.witness.note_outstanding(self.truth());
    }

    fn fail(&mut self, during: During, choices: &mut Choices<'_>) {
        let (errno, class) = error(choices);
        let is_called = match during {
            During::Receive => self.connection.wants_receive(),
            During::Send => self.connection.wants_send(),
        };
        if is_called {
            self.connection.handle_error(errno, class, during);
            self.judge(Operation::Failed(class.into()));
        }
    }

    fn abort(&mut self, reason: Reason) {
        let probe = self.probe();
        self.connection.abort(reason, probe);
        self.judge(Operation::Aborted(reason, probe));
    }

    /// Lets time pass for a server that judges deadlines when they are due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for round in 0.. {
            let deadline = self.connection.poll_deadline();
            if self.is_closed() || deadline > at(until) {
                break;
            }
            assert!(round < DEADLINES_MAX, "deadlines come to an end: {:?}", self.connection);
            self.now = self.now.max(deadline.since(Timestamp::default()));
            self.judge_deadline(self.now);
            self.take_steps();
        }
        if !self.is_closed() {
            self.now = until;
            let overdue = self.witness.check_overdue(self.truth(), |_| self.paused);
            hold(overdue, &self.connection);
        }
    }

    /// Judges the deadline against `due`, if it had come by then.
    fn judge_deadline(&mut self, due: Duration) {
        if self.arrived_at <= due {
            // Readiness goes first.
            self.receive_all();
        }
        if self.is_closed() || self.connection.poll_deadline() > at(due) {
            return;
        }
        let probe = Probe { asked_at: at(self.now), ..self.probe() };
        self.witness.note_look(due, self.truth());
        self.connection.handle_deadline(at(due), probe);
        self.judge(Operation::Deadline { due, probe });
        let is_due_again = self.connection.poll_deadline() <= at(due);
        let may_be = probe.unread > 0 || self.connection.phase() == Phase::Closed;
        assert!(may_be || !is_due_again, "a deadline is judged once: {:?}", self.connection);
    }

    fn receive_all(&mut self) {
        while self.connection.wants_receive() && (self.unread() > 0 || self.fin_arrived) {
            self.receive_some(usize::MAX, true, usize::MAX);
            self.take_steps();
        }
    }

    /// What the socket says; asking clears its error.
    fn probe(&mut self) -> Probe {
        let probe = self.next_probe();
        self.pending = None;
        probe
    }

    fn next_probe(&self) -> Probe {
        let unacknowledged = self.sent - self.acknowledged + usize::from(self.fin_outstanding);
        Probe {
            asked_at: at(self.now),
            unacknowledged: unacknowledged as u64,
            unread: self.unread() as u64,
            error: self.pending,
            is_over: self.is_over,
        }
    }

    fn truth(&self) -> Truth {
        Truth {
            now: self.now,
            arrived_at: self.arrived_at,
            acked_at: self.acked_at,
            unacknowledged: self.sent - self.acknowledged,
            unread: self.unread(),
        }
    }

    /// Takes the steps of the end that are due, as a caller does after every operation.
    fn take_steps(&mut self) {
        if self.is_closed() {
            return;
        }
        if let Some(step) = self.poll_close() {
            self.fin_outstanding |= step == CloseStep::ShutdownSend;
            self.judge(Operation::Step(step));
            if step == CloseStep::ShutdownSend {
                let next = self.poll_close();
                assert_eq!(next, None, "the sending side is shut down once");
            }
        }
    }

    fn poll_close(&mut self) -> Option<CloseStep> {
        let (probe, mut is_asked) = (self.next_probe(), false);
        let step = self.connection.poll_close(at(self.now), || {
            is_asked = true;
            probe
        });
        if is_asked {
            self.pending = None;
            self.witness.note_progress(self.truth());
            self.judge(Operation::Asked(probe));
        }
        step
    }

    /// Has the witness judge, and looks at what the witness does not.
    fn judge(&mut self, operation: Operation) {
        let truth = self.truth();
        let judged = self.witness.judge(operation, &self.connection, self.sent, truth);
        hold(judged, &self.connection);
        let owed = self.connection.owed();
        assert_eq!(owed, &self.upload[self.sent..][..owed.len()], "what is owed is what came");
        let new = self.connection.poll_cause();
        let expected = self.connection.cause().filter(|cause| Some(*cause) != self.told);
        assert_eq!(new, expected, "every new cause is told once, after {operation:?}");
        self.told = new.or(self.told);
        let phase = self.connection.phase();
        assert!(phase as u8 >= self.phase as u8, "{:?} after {:?}", phase, self.phase);
        self.phase = phase;
        let mode = self.connection.mode();
        assert!(mode == self.mode || self.mode == Mode::Auto, "{mode:?} after {:?}", self.mode);
        self.mode = mode;
    }

    /// The peer sends all, finishes, and takes everything: the connection is closed in a few rounds.
    fn end_with_fin(&mut self) {
        self.arrive(usize::MAX);
        self.fin_arrived = true;
        for _ in 0..ROUNDS_MAX {
            if self.is_closed() {
                break;
            }
            self.send_owed(usize::MAX);
            self.take_steps();
            self.receive_all();
            self.acknowledge(usize::MAX);
        }
        assert!(self.is_closed(), "still {:?}", self.connection);
        let is_served = self.connection.cause().is_some_and(|it| it.reason != Reason::AtCapacity);
        if is_served && self.witness.is_complete() {
            assert_eq!(self.sent, self.witness.owed_in_all(), "all that was owed was sent");
        }
    }

    /// Nothing comes any more: the limits end the connection, where there are none, the server does.
    fn end_in_silence(&mut self) {
        self.pass(AFTER_ALL);
        let is_limited =
            |limit: Option<Duration>| limit.is_some_and(|limit| limit < AFTER_ALL / 16);
        let has_limits =
            is_limited(self.limits.timeout) && is_limited(Some(self.limits.linger_timeout));
        if has_limits {
            assert!(self.is_closed(), "still {:?}", self.connection);
        }
        if !self.is_closed() {
            self.abort(Reason::SecondSignal);
            self.take_steps();
        }
        assert!(self.is_closed(), "still {:?}", self.connection);
    }
}

fn error(choices: &mut Choices<'_>) -> (i32, ErrnoClass) {
    let classes =
        [ErrnoClass::Reset, ErrnoClass::BrokenPipe, ErrnoClass::Unreachable, ErrnoClass::Other];
    let class = choices.one_of(&classes);
    // The class decides, so the number may be any.
    (class as i32 + 100, class)
}

fn hold(result: Result<(), Violation>, connection: &Connection) {
    if let Err(Violation { property, detail }) = result {
        panic!("{property}: {detail}\n{connection:?}");
    }
}

fn at(time: Duration) -> Timestamp {
    Timestamp::from_start(time)
}
