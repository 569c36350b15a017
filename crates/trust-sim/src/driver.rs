//! The server's end of a path: takes a connection's turns as the event loop of a server does, and has a witness
//! judge between their steps.

use std::sync::Arc;
use std::time::Duration;

use trust_wire::turn::{Answer, Bounds, Io, Question, Refusal, Serve, Step, Turn, Unread};
use trust_wire::{
    CloseStep, Connection, Disconnect, Limits, Probe, Readiness, Reason, Received, Timestamp,
};

use crate::check::{Operation, Truth, Violation, Witness, require};
use crate::errno::{self, EAGAIN};
use crate::network::{Path, Side};
use crate::script::Script;

/// What the connections of a server share.
#[derive(Debug)]
pub struct Shared {
    /// The one receive buffer. What earlier receives left in it stays there.
    pub receive_buffer: Vec<u8>,
    /// What one turn may do.
    pub bounds: Bounds,
    /// What deadlines are rounded up to.
    pub timer_grid: Duration,
}

impl Shared {
    /// What `script` asks for.
    pub fn new(script: &Script) -> Shared {
        let in_place = (4 + script.limits.max_payload as usize).min(1 << 17);
        let Script { receive_len, receives_per_turn, timer_grid, .. } = *script;
        Shared {
            receive_buffer: vec![0xa5; receive_len + in_place],
            bounds: Bounds { receives: receives_per_turn, receive_len },
            timer_grid,
        }
    }
}

/// Answers with what came.
#[derive(Debug)]
pub struct Echo;

impl Serve for Echo {
    fn answer<'a>(&'a mut self, received: &'a Received<'_>) -> Answer<'a> {
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

/// The server's socket during one turn, and what is to be known of it afterwards.
struct Socket<'a> {
    path: &'a mut Path,
    now: Duration,
    /// Bytes handed to the kernel.
    sent: usize,
    /// What it said about itself, if it was asked.
    probed: Option<Probe>,
    /// How a call failed, if one did.
    failed: Option<Reason>,
}

impl Socket<'_> {
    fn new(path: &mut Path, now: Duration) -> Socket<'_> {
        Socket { path, now, sent: 0, probed: None, failed: None }
    }

    fn refused(&mut self, errno: i32) -> Refusal {
        match errno {
            EAGAIN => Refusal::WouldBlock,
            errno => {
                let class = errno::classify(errno);
                self.failed = Some(class.into());
                Refusal::Failed { errno, class }
            }
        }
    }
}

impl Io for Socket<'_> {
    fn receive(&mut self, room: &mut [u8], rest: &mut [u8]) -> Result<usize, Refusal> {
        let received = self.path.receive(Side::Server, room, rest, self.now);
        received.map_err(|errno| self.refused(errno))
    }

    fn send(&mut self, parts: &[&[u8]; 3]) -> Result<usize, Refusal> {
        let sent = self.path.send(Side::Server, &parts.concat(), self.now);
        let sent = sent.map_err(|errno| self.refused(errno))?;
        self.sent += sent;
        Ok(sent)
    }

    fn ask(&mut self, question: Question) {
        match question {
            Question::Now => self.path.ask(self.now),
            // Told by `Entry::is_to_be_asked`.
            Question::Later => {}
        }
    }

    fn probe_sent(&mut self) -> Probe {
        *self.probed.insert(Probe { unread: 0, ..self.path.probe() })
    }

    fn shutdown_send(&mut self, _patience: Option<Duration>) {
        self.path.shutdown_send(Side::Server, self.now);
    }

    fn now(&mut self) -> Timestamp {
        at(self.now)
    }
}

/// One accepted connection.
#[derive(Debug)]
pub struct Entry {
    connection: Connection,
    /// Whoever watches it.
    pub witness: Witness,
    /// Bytes handed to the kernel, as the network counts them.
    sent: usize,
    readiness: Readiness,
    /// The earliest time for which a timer runs.
    armed: Option<Duration>,
    /// The last cause that was told.
    told: Option<Disconnect>,
}

/// What is next for a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits for readiness.
    Wait,
    /// It is still ready and has had enough for now.
    Turn,
    /// It is closed.
    Closed,
}

impl Entry {
    /// A connection that was accepted just now, and is served if there is a place.
    pub fn accept(
        limits: &Arc<Limits>,
        is_served: bool,
        witness: Witness,
        path: &Path,
        now: Duration,
    ) -> Result<Entry, Violation> {
        let connection = match is_served {
            true => Connection::new(Arc::clone(limits), at(now)),
            false => Connection::reject(Arc::clone(limits), at(now)),
        };
        let mut entry = Entry {
            connection,
            witness,
            sent: 0,
            readiness: Readiness::default(),
            armed: None,
            told: None,
        };
        entry.judge(Operation::Accepted, path, now)?;
        Ok(entry)
    }

    /// Why it ended, in words.
    pub fn cause(&self) -> Option<Disconnect> {
        self.connection.cause()
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.witness.closed.is_some()
    }

    /// The server has learned of an edge of readiness, with which the kernel says all that there is.
    pub fn note_readiness(&mut self, path: &Path) {
        let unread = match () {
            () if path.is_ending(Side::Server) => Unread::ToTheEnd,
            () if path.is_readable(Side::Server) => Unread::Bytes,
            () => Unread::Nothing,
        };
        self.readiness.note(unread, path.is_writable(Side::Server));
    }

    /// Whether the kernel is to be asked about it after a pause.
    pub fn is_to_be_asked(&self) -> bool {
        self.readiness.is_to_be_asked()
    }

    /// Asks the kernel about it, after a pause.
    pub fn ask_again(&mut self, path: &mut Path, now: Duration) {
        self.readiness.ask_again();
        path.ask(now);
    }

    /// Does what the connection is ready for.
    ///
    /// # Errors
    ///
    /// A property that does not hold.
    pub fn take_turn(
        &mut self,
        path: &mut Path,
        shared: &mut Shared,
        now: Duration,
    ) -> Result<Next, Violation> {
        if self.is_closed() {
            return Ok(Next::Closed);
        }
        let mut readiness = self.readiness;
        let mut turn = Turn::new(&mut readiness, shared.bounds);
        let mut failed = None;
        let next = loop {
            let buffer = &mut shared.receive_buffer;
            let mut io = Socket::new(path, now);
            let step = turn.step(&mut self.connection, &mut io, &mut Echo, buffer);
            self.sent += io.sent;
            failed = failed.or(io.failed);
            if let Some(probe) = io.probed {
                self.witness.note_progress(truth(path, now));
                self.judge(Operation::Asked(Probe { asked_at: at(now), ..probe }), path, now)?;
            }
            match step {
                Step::Received(count) => {
                    self.judge(Operation::Received(count), path, now)?;
                    self.judge(Operation::Answered, path, now)?;
                }
                Step::Sent(_) => self.judge(Operation::Sent, path, now)?,
                Step::EndOfStream => self.judge(Operation::EndOfStream, path, now)?,
                Step::Failed => {
                    let reason = failed.take().expect("a call has failed");
                    self.judge(Operation::Failed(reason), path, now)?;
                }
                Step::FinSent => {
                    self.judge(Operation::Step(CloseStep::ShutdownSend), path, now)?;
                }
                Step::Closed(step) => {
                    self.judge(Operation::Step(step), path, now)?;
                    path.close(Side::Server, step == CloseStep::Reset, now);
                    break Next::Closed;
                }
                Step::Refused(_) | Step::Asked => {}
                Step::Over => break Next::Wait,
                Step::Unfinished => break Next::Turn,
            }
        };
        self.readiness = readiness;
        Ok(next)
    }

    /// When a timer is to run that does not run yet.
    pub fn arm(&mut self, shared: &Shared) -> Option<Duration> {
        let deadline = self.connection.poll_deadline();
        if self.is_closed() || deadline == Timestamp::NEVER {
            return None;
        }
        let deadline = deadline.round_up(shared.timer_grid).since(Timestamp::default());
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return None;
        }
        self.armed = Some(deadline);
        Some(deadline)
    }

    /// Whether the timer that was entered for `time` is still the one that counts.
    pub fn is_armed(&self, time: Duration) -> bool {
        self.armed == Some(time) && !self.is_closed()
    }

    /// Judges the deadline against `due`, if it has come. Returns whether it had.
    ///
    /// # Errors
    ///
    /// A property that does not hold.
    pub fn judge_deadline(
        &mut self,
        path: &mut Path,
        due: Duration,
        now: Duration,
    ) -> Result<bool, Violation> {
        self.armed = None;
        if self.connection.poll_deadline() > at(due) {
            return Ok(false);
        }
        let probe = Probe { asked_at: at(now), ..path.probe() };
        self.witness.note_look(due, truth(path, now));
        self.connection.handle_deadline(at(due), probe);
        self.judge(Operation::Deadline { due, probe }, path, now)?;
        Ok(true)
    }

    /// The server drains.
    ///
    /// # Errors
    ///
    /// A property that does not hold.
    pub fn drain(&mut self, path: &Path, now: Duration) -> Result<(), Violation> {
        let unread = path.unread(Side::Server);
        // What came since the last event has not been announced yet.
        self.readiness.note(Unread::Bytes, false);
        self.connection.retire(Reason::Drain, unread as u64);
        self.judge(Operation::Retired(unread), path, now)
    }

    /// The server cuts what is left.
    ///
    /// # Errors
    ///
    /// A property that does not hold.
    pub fn cut(&mut self, path: &mut Path, reason: Reason, now: Duration) -> Result<(), Violation> {
        let probe = path.probe();
        self.connection.abort(reason, probe);
        self.judge(Operation::Aborted(reason, probe), path, now)
    }

    /// Has the witness judge, and takes the cause as whoever writes it down does.
    fn judge(&mut self, operation: Operation, path: &Path, now: Duration) -> Result<(), Violation> {
        self.witness.judge(operation, &self.connection, self.sent, truth(path, now))?;
        let new = self.connection.poll_cause();
        let expected = match self.connection.cause() {
            cause if cause == self.told => None,
            cause => cause,
        };
        require(new == expected, "every new cause is told once", || {
            format!("{new:?} told, {expected:?} is new after {operation:?}")
        })?;
        self.told = new.or(self.told);
        Ok(())
    }
}

/// What the network knows now.
pub fn truth(path: &Path, now: Duration) -> Truth {
    Truth {
        now,
        arrived_at: path.arrived_at,
        acked_at: path.acked_at,
        unacknowledged: path.unacknowledged(),
        unread: path.unread(Side::Server),
    }
}

fn at(time: Duration) -> Timestamp {
    Timestamp::from_start(time)
}
