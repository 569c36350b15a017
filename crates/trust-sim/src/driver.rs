//! Drives a connection core the way the event loop of a server does: receive into the room and the shared
//! buffer, answer with one send, pay what is owed, take the steps of the end, judge deadlines.

use std::sync::Arc;
use std::time::Duration;

use trust_wire::{
    CloseStep, Connection, Disconnect, During, Limits, Probe, Reason, Received, Timestamp,
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
    /// Bytes received beside the rest of an unfinished frame.
    pub receive_len: usize,
    /// Receives in one turn.
    pub receives_per_turn: u32,
    /// What deadlines are rounded up to.
    pub timer_grid: Duration,
}

impl Shared {
    /// What `script` asks for.
    pub fn new(script: &Script) -> Shared {
        let in_place = (4 + script.limits.max_payload as usize).min(1 << 17);
        Shared {
            receive_buffer: vec![0xa5; script.receive_len + in_place],
            receive_len: script.receive_len,
            receives_per_turn: script.receives_per_turn,
            timer_grid: script.timer_grid,
        }
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
    readable: bool,
    writable: bool,
    end_is_near: bool,
    /// The earliest time for which a timer runs.
    armed: Option<Duration>,
    /// The last cause that was told.
    told: Option<Disconnect>,
}

/// What is next for a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It waits for readiness.
    Over,
    /// It is still ready and has had enough for now.
    Unfinished,
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
            readable: true,
            writable: true,
            end_is_near: false,
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

    /// The socket is looked at.
    pub fn note_readiness(&mut self, path: &Path) {
        self.end_is_near |= path.is_ending(Side::Server);
        self.readable |= path.is_readable(Side::Server);
        self.writable |= path.is_writable(Side::Server);
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
    ) -> Result<Turn, Violation> {
        let mut receives_left = shared.receives_per_turn;
        if self.is_closed() {
            return Ok(Turn::Closed);
        }
        loop {
            if self.writable && self.connection.wants_send() {
                self.send_owed(path, now)?;
            }
            let mut asked = None;
            let step = self.connection.poll_close(at(now), || *asked.insert(path.probe()));
            if let Some(probe) = asked {
                self.witness.note_progress(truth(path, now));
                self.judge(Operation::Asked(Probe { asked_at: at(now), ..probe }), path, now)?;
            }
            match step {
                Some(CloseStep::ShutdownSend) => {
                    path.shutdown_send(Side::Server, now);
                    self.judge(Operation::Step(CloseStep::ShutdownSend), path, now)?;
                }
                Some(step) => {
                    self.judge(Operation::Step(step), path, now)?;
                    path.close(Side::Server, step == CloseStep::Reset, now);
                    return Ok(Turn::Closed);
                }
                None => {}
            }
            if self.readable && self.connection.wants_receive() {
                if receives_left == 0 {
                    return Ok(Turn::Unfinished);
                }
                receives_left -= 1;
                self.receive(path, shared, now)?;
            } else if !(self.writable && self.connection.wants_send()) {
                return Ok(Turn::Over);
            }
        }
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
        self.readable = true;
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

    fn send_owed(&mut self, path: &mut Path, now: Duration) -> Result<(), Violation> {
        let owed = self.connection.owed();
        let len = owed.len();
        match path.send(Side::Server, owed, now) {
            Ok(sent) => self.note_owed_sent(path, sent, len, now),
            Err(EAGAIN) => self.note_owed_sent(path, 0, len, now),
            Err(errno) => self.fail(path, errno, During::Send, now),
        }
    }

    fn note_owed_sent(
        &mut self,
        path: &mut Path,
        sent: usize,
        len: usize,
        now: Duration,
    ) -> Result<(), Violation> {
        self.sent += sent;
        self.connection.handle_sent(sent, at(now));
        self.note_taken(path, sent == len, now);
        self.judge(Operation::Sent, path, now)
    }

    fn note_taken(&mut self, path: &mut Path, is_all: bool, now: Duration) {
        self.writable = is_all;
        if !is_all && path.is_writable(Side::Server) {
            // The kernel was short of memory for a moment.
            path.ask_afresh(now + Duration::from_millis(1));
        }
    }

    fn receive(
        &mut self,
        path: &mut Path,
        shared: &mut Shared,
        now: Duration,
    ) -> Result<(), Violation> {
        let room = self.connection.room();
        let room_len = room.len();
        let rest_len = match room_len {
            0 => shared.receive_buffer.len(),
            _ => shared.receive_len,
        };
        let rest = &mut shared.receive_buffer[..rest_len];
        match path.receive(Side::Server, room, rest, now) {
            Ok(0) => {
                self.readable = false;
                self.connection.handle_end_of_stream();
                self.judge(Operation::EndOfStream, path, now)
            }
            Ok(count) => {
                if count < room_len + rest_len && !self.end_is_near {
                    self.readable = false;
                }
                let in_room = count.min(room_len);
                self.answer(path, in_room, &shared.receive_buffer[..count - in_room], now)
            }
            Err(EAGAIN) => {
                self.readable = false;
                Ok(())
            }
            Err(errno) => self.fail(path, errno, During::Receive, now),
        }
    }

    fn answer(
        &mut self,
        path: &mut Path,
        in_room: usize,
        rest: &[u8],
        now: Duration,
    ) -> Result<(), Violation> {
        let received = self.connection.handle_received(in_room, rest, at(now));
        let operation = Operation::Received(in_room + rest.len());
        let decoded;
        let (parts, frames) = match received {
            Received::Nothing => ([&[][..], &[]], 0),
            Received::Raw(bytes) => ([bytes, &[]], 0),
            Received::Frames(frames) => {
                decoded = frames;
                (decoded.frames().parts(), decoded.count)
            }
        };
        let total = parts[0].len() + parts[1].len();
        if total == 0 {
            self.judge(operation, path, now)?;
            return self.judge(Operation::Answered, path, now);
        }
        let outcome = path.send(Side::Server, &parts.concat(), now);
        let sent = outcome.unwrap_or(0);
        self.sent += sent;
        self.connection.handle_answered(&parts, frames, sent, at(now));
        self.judge(operation, path, now)?;
        self.note_taken(path, sent == total, now);
        match outcome {
            Ok(_) | Err(EAGAIN) => self.judge(Operation::Answered, path, now),
            Err(errno) => self.fail(path, errno, During::Send, now),
        }
    }

    fn fail(
        &mut self,
        path: &mut Path,
        errno: i32,
        during: During,
        now: Duration,
    ) -> Result<(), Violation> {
        let class = errno::classify(errno);
        self.connection.handle_error(errno, class, during);
        self.judge(Operation::Failed(class.into()), path, now)
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
