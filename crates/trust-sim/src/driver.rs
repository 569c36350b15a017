//! The server's end of a path: takes a connection's turns as a server's event loop does.

use std::sync::Arc;
use std::time::Duration;

use trust_wire::turn::{Bounds, Io, Question, Refusal, Unread};
use trust_wire::{CloseStep, Connection, Disconnect, During, Limits, Probe, Reason, Timestamp};

use crate::check::{Truth, Violation, Witness, require};
use crate::errno::{self, EAGAIN, EINTR};
use crate::network::{Path, Side};
use crate::script::Script;
use crate::watched::{CallReport, Next, Watched, WatchedIo, at};

/// What the connections of a server share.
#[derive(Debug)]
pub struct ServerResources {
    /// The one receive buffer. What earlier receives left in it stays there.
    pub receive_buffer: Vec<u8>,
    /// What one turn may do.
    pub bounds: Bounds,
    /// The grid that deadlines are rounded up to.
    pub timer_grid: Duration,
}

impl ServerResources {
    /// What `script` asks for.
    pub fn new(script: &Script) -> ServerResources {
        let in_place = (4 + script.limits.max_payload as usize).min(1 << 17);
        let Script { receive_len, receives_per_turn, timer_grid, .. } = *script;
        ServerResources {
            receive_buffer: vec![0xa5; receive_len + in_place],
            bounds: Bounds { receives: receives_per_turn, receive_len },
            timer_grid,
        }
    }
}

/// The server's socket during one turn.
struct PathIo<'a> {
    path: &'a mut Path,
    now: Duration,
    report: CallReport,
}

impl PathIo<'_> {
    fn refused(&mut self, errno: i32, during: During) -> Refusal {
        match errno {
            EAGAIN => {
                let is_ready = match during {
                    During::Receive => self.path.is_readable(Side::Server),
                    During::Send => self.path.is_writable(Side::Server),
                };
                self.report.refused = Some((during, is_ready));
                Refusal::WouldBlock
            }
            EINTR => Refusal::Interrupted,
            errno => {
                let class = errno::classify(errno);
                self.report.failed = Some(class.into());
                Refusal::Failed { errno, class }
            }
        }
    }
}

impl Io for PathIo<'_> {
    fn receive(&mut self, room: &mut [u8], rest: &mut [u8]) -> Result<usize, Refusal> {
        let received = self.path.receive(Side::Server, room, rest, self.now);
        received.map_err(|errno| self.refused(errno, During::Receive))
    }

    fn send(&mut self, parts: &[&[u8]; 3]) -> Result<usize, Refusal> {
        let sent = self.path.send(Side::Server, &parts.concat(), self.now);
        let sent = sent.map_err(|errno| self.refused(errno, During::Send))?;
        self.report.sent += sent;
        Ok(sent)
    }

    fn ask(&mut self, question: Question) {
        match question {
            Question::Now => self.path.ask(self.now),
            // Reported by `ServerEnd::is_to_be_asked`.
            Question::Later => {}
        }
    }

    fn probe_sent(&mut self) -> Probe {
        *self.report.probed.insert(Probe { unread: 0, ..self.path.probe() })
    }

    fn shutdown_send(&mut self, _patience: Option<Duration>) {
        self.path.shutdown_send(Side::Server, self.now);
    }

    fn now(&mut self) -> Timestamp {
        at(self.now)
    }
}

impl WatchedIo for PathIo<'_> {
    fn truth(&self) -> Truth {
        truth(self.path, self.now)
    }

    fn take_report(&mut self) -> CallReport {
        std::mem::take(&mut self.report)
    }
}

/// One accepted connection.
#[derive(Debug)]
pub struct ServerEnd {
    watched: Watched,
    /// The earliest time for which a timer is set.
    armed: Option<Duration>,
}

impl ServerEnd {
    /// A connection that has just been accepted; it is served if there is a free slot.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn accept(
        limits: &Arc<Limits>,
        is_served: bool,
        witness: Witness,
        path: &Path,
        now: Duration,
    ) -> Result<ServerEnd, Violation> {
        let connection = match is_served {
            true => Connection::new(Arc::clone(limits), at(now)),
            false => Connection::reject(Arc::clone(limits), at(now)),
        };
        let watched = Watched::accept(connection, witness, truth(path, now))?;
        Ok(ServerEnd { watched, armed: None })
    }

    /// The witness that watches it.
    pub fn witness(&self) -> &Witness {
        &self.watched.witness
    }

    /// The witness that watches it, to be updated from the network.
    pub fn witness_mut(&mut self) -> &mut Witness {
        &mut self.watched.witness
    }

    /// Why it ended.
    pub fn cause(&self) -> Option<Disconnect> {
        self.watched.connection().cause()
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.watched.is_closed()
    }

    /// The server learns of an edge of readiness, with which the kernel reports everything there
    /// is.
    pub fn note_readiness(&mut self, path: &mut Path) {
        let unread = if path.stops_receives() {
            Unread::ToTheEnd
        } else if path.is_readable(Side::Server) {
            Unread::Bytes
        } else {
            Unread::Nothing
        };
        self.watched.readiness.note(unread, path.poll_writable());
    }

    /// The network has produced an edge of readiness; the server may not know of it yet.
    pub fn note_edge(&mut self) {
        self.watched.effort.note_edge();
    }

    /// Checks that a connection at rest has no turn due.
    ///
    /// # Errors
    ///
    /// If there is something to do.
    pub fn check_rest(&self, path: &Path) -> Result<(), Violation> {
        let connection = self.watched.connection();
        let is_due = connection.wants_receive() && path.is_readable(Side::Server)
            || connection.wants_send()
                && path.is_writable(Side::Server)
                && !path.will_report_room();
        require(self.is_closed() || !is_due, "in a quiescent state no turn is due", || {
            let (unread, owed) = (path.unread(Side::Server), connection.owed().len());
            format!("{unread} bytes unread, {owed} owed, {:?}", self.watched.readiness)
        })
    }

    /// Whether to ask the kernel about it after a pause.
    pub fn is_to_be_asked(&self) -> bool {
        self.watched.readiness.is_to_be_asked()
    }

    /// Asks the kernel about it after that pause.
    pub fn ask_again(&mut self, path: &mut Path, now: Duration) {
        self.watched.readiness.ask_again();
        path.ask(now);
    }

    /// Does what the connection is ready for.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn take_turn(
        &mut self,
        path: &mut Path,
        shared: &mut ServerResources,
        now: Duration,
    ) -> Result<Next, Violation> {
        let mut socket = PathIo { path, now, report: CallReport::default() };
        let next =
            self.watched.take_turn(&mut socket, shared.bounds, &mut shared.receive_buffer)?;
        if let Next::Close(step) = next {
            path.close(Side::Server, step == CloseStep::Reset, now);
        }
        Ok(next)
    }

    /// Sets a timer for the deadline, unless one runs no later; returns its time.
    pub fn arm(&mut self, shared: &ServerResources) -> Option<Duration> {
        let deadline = self.watched.connection().poll_deadline();
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

    /// Whether the timer set for `time` is still the current one.
    pub fn is_armed(&self, time: Duration) -> bool {
        self.armed == Some(time) && !self.is_closed()
    }

    /// Judges the deadline against `due`, if it has come. Returns whether it had come.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn judge_deadline(
        &mut self,
        path: &mut Path,
        due: Duration,
        now: Duration,
    ) -> Result<bool, Violation> {
        self.armed = None;
        if self.watched.connection().poll_deadline() > at(due) {
            return Ok(false);
        }
        let probe = Probe { asked_at: at(now), ..path.probe() };
        self.watched.handle_deadline(due, probe, truth(path, now))?;
        Ok(true)
    }

    /// The server drains.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn drain(&mut self, path: &Path, now: Duration) -> Result<(), Violation> {
        self.watched.drain(truth(path, now))
    }

    /// The server cuts off what is left.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn cut(&mut self, path: &mut Path, reason: Reason, now: Duration) -> Result<(), Violation> {
        let probe = path.probe();
        self.watched.cut(reason, probe, truth(path, now))
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
