//! A connection whose turns a witness judges, step by step.

use std::time::Duration;

use trust_wire::turn::{Answer, Bounds, Io, Serve, Step, Turn, Unread};
use trust_wire::{
    CloseStep, Connection, Disconnect, During, Probe, ProxyHeader, Readiness, Reason, Received,
    Timestamp,
};

use crate::check::{Operation, Truth, Violation, Witness, require};
use crate::effort::Effort;

/// A socket that reports what was done with it.
pub trait WatchedIo: Io {
    /// What the network knows now.
    fn truth(&self) -> Truth;

    /// What was done since the last report.
    fn take_report(&mut self) -> CallReport;
}

/// What was done with a socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallReport {
    /// Bytes handed to the kernel.
    pub sent: usize,
    /// What the socket reported about itself, if it was asked.
    pub probed: Option<Probe>,
    /// How a call failed, if one did.
    pub failed: Option<Reason>,
    /// A call returned EAGAIN: which one, and whether the kernel reports the socket as ready for it
    /// all the same.
    pub refused: Option<(During, bool)>,
}

/// Answers with what came.
#[derive(Debug, Default)]
pub struct Echo {
    /// The PROXY header of which it was told.
    introduced: Option<ProxyHeader>,
}

impl Serve for Echo {
    fn introduce(&mut self, header: &ProxyHeader) {
        self.introduced = Some(*header);
    }

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

/// A connection and its witness.
#[derive(Debug)]
pub struct Watched {
    connection: Connection,
    /// The witness that watches it.
    pub witness: Witness,
    /// What the server knows about the socket's readiness.
    pub readiness: Readiness,
    /// The calls that moved nothing.
    pub effort: Effort,
    /// Bytes handed to the kernel.
    sent: usize,
    /// The last cause that was reported.
    told: Option<Disconnect>,
}

/// What to do with a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for readiness.
    Wait,
    /// It is still ready, but its turn is used up.
    Turn,
    /// Close it.
    Close(CloseStep),
}

impl Watched {
    /// A connection that has just been accepted.
    ///
    /// # Errors
    ///
    /// If a property does not hold; the same goes for all methods.
    pub fn accept(
        connection: Connection,
        witness: Witness,
        truth: Truth,
    ) -> Result<Watched, Violation> {
        let (readiness, effort) = (Readiness::default(), Effort::default());
        let mut watched = Watched { connection, witness, readiness, effort, sent: 0, told: None };
        watched.judge(Operation::Accepted, truth)?;
        Ok(watched)
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.witness.closed.is_some()
    }

    /// Does what the connection is ready for.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn take_turn(
        &mut self,
        io: &mut impl WatchedIo,
        bounds: Bounds,
        buffer: &mut [u8],
    ) -> Result<Next, Violation> {
        let mut readiness = self.readiness;
        let mut turn = Turn::new(&mut readiness, bounds);
        let mut echo = Echo::default();
        let mut failed = None;
        let mut receives = 0;
        let next = loop {
            let step = turn.step(&mut self.connection, io, &mut echo, buffer);
            let (report, truth) = (io.take_report(), io.truth());
            self.sent += report.sent;
            failed = failed.or(report.failed);
            receives += u32::from(matches!(step, Step::Received(_)));
            require(receives <= bounds.receives, "a turn has an end", || {
                format!("{receives} receives, {bounds:?}")
            })?;
            self.judge_effort(step, report, truth)?;
            if let Some(probe) = report.probed {
                self.witness.note_progress(truth);
                self.judge(Operation::Asked(Probe { asked_at: at(truth.now), ..probe }), truth)?;
            }
            match step {
                Step::Received(count) => {
                    let introduced = echo.introduced.take();
                    self.judge(Operation::Received(count, introduced), truth)?;
                    self.judge(Operation::Answered, truth)?;
                }
                Step::Sent(_) => self.judge(Operation::Sent, truth)?,
                Step::EndOfStream => self.judge(Operation::EndOfStream, truth)?,
                Step::Failed => {
                    let reason = failed.take().expect("a call has failed");
                    self.judge(Operation::Failed(reason), truth)?;
                }
                Step::FinSent => self.judge(Operation::Step(CloseStep::ShutdownSend), truth)?,
                Step::Closed(step) => {
                    self.judge(Operation::Step(step), truth)?;
                    break Next::Close(step);
                }
                Step::Refused(_) | Step::Asked => {}
                Step::Over => break Next::Wait,
                Step::Unfinished => break Next::Turn,
            }
        };
        self.readiness = readiness;
        Ok(next)
    }

    /// Judges the deadline against `due`.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn handle_deadline(
        &mut self,
        due: Duration,
        probe: Probe,
        truth: Truth,
    ) -> Result<(), Violation> {
        self.readiness.note_probe(&probe);
        self.witness.note_look(due, truth);
        self.connection.handle_deadline(at(due), probe);
        self.judge(Operation::Deadline { due, probe }, truth)
    }

    /// The server drains.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn drain(&mut self, truth: Truth) -> Result<(), Violation> {
        // Bytes that arrived since the last event have not been announced yet.
        self.readiness.note(Unread::Bytes, false);
        self.connection.retire(Reason::Drain, truth.unread as u64);
        self.judge(Operation::Retired(truth.unread), truth)
    }

    /// The server cuts off what is left.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn cut(&mut self, reason: Reason, probe: Probe, truth: Truth) -> Result<(), Violation> {
        self.connection.abort(reason, probe);
        self.judge(Operation::Aborted(reason, probe), truth)
    }

    fn judge_effort(
        &mut self,
        step: Step,
        report: CallReport,
        truth: Truth,
    ) -> Result<(), Violation> {
        if matches!(step, Step::Received(_) | Step::EndOfStream | Step::Sent(_)) {
            self.effort.note_success();
        }
        match report.refused {
            Some((during, is_ready)) => self.effort.note_refusal(during, is_ready, truth.now),
            None => Ok(()),
        }
    }

    /// Lets the witness judge, and takes the cause as a log writer would.
    fn judge(&mut self, operation: Operation, truth: Truth) -> Result<(), Violation> {
        self.witness.judge(operation, &self.connection, self.sent, truth)?;
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

/// A point in simulated time, for the core.
pub fn at(time: Duration) -> Timestamp {
    Timestamp::from_start(time)
}
