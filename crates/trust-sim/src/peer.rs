//! The simulated client.

use std::time::Duration;

use crate::errno::{EAGAIN, ECONNRESET};
use crate::network::{Path, Side};
use crate::script::{Action, ClientScript, Step};

/// How a client saw its connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEnd {
    /// The server's FIN.
    EndOfStream,
    /// An error.
    Error(i32),
}

/// An event that a client schedules.
#[derive(Clone, Copy, Debug)]
pub enum PeerEvent {
    /// Its next step is due.
    Step,
    /// It receives.
    Read,
    /// It closes after the end.
    Close,
}

// Many fields: what it is to do, what it has done, and what it has seen.
/// A client.
#[derive(Debug)]
pub struct SimulatedPeer {
    script: ClientScript,
    /// All that it may come to send, the PROXY header first.
    upload: Vec<u8>,
    sent: usize,
    steps_done: usize,
    is_reading: bool,
    /// Its host is gone, or it has closed.
    is_gone: bool,
    /// It did something that can lose it answers: closed early, sent RST, or vanished.
    pub is_careless: bool,
    read_scheduled: bool,
    buffer: Vec<u8>,
    /// What it may receive: the echo, unless that is replaced.
    pub owed: Vec<u8>,
    /// How many bytes of that it has received.
    pub received: usize,
    /// How it saw the end.
    pub end: Option<PeerEnd>,
    /// A send reported RST. A receive does not report that again.
    pub is_told_of_reset: bool,
    /// Events to be scheduled.
    pub events: Vec<(Duration, PeerEvent)>,
}

impl SimulatedPeer {
    /// A client that has just connected.
    pub fn new(script: &ClientScript, now: Duration) -> SimulatedPeer {
        let mut script = script.clone();
        let mut upload = vec![];
        if let Some(header) = &script.header {
            upload.extend_from_slice(&header.bytes);
            script.steps = [&header.steps[..], &script.steps].concat();
        }
        let header_len = upload.len();
        upload.append(&mut script.upload());
        let mut peer = SimulatedPeer {
            buffer: vec![],
            script,
            sent: 0,
            steps_done: 0,
            is_reading: true,
            is_gone: false,
            is_careless: false,
            read_scheduled: false,
            owed: upload[header_len..].to_vec(),
            upload,
            received: 0,
            end: None,
            is_told_of_reset: false,
            events: vec![],
        };
        peer.schedule_step(now);
        peer
    }

    /// All that it may come to send.
    pub fn upload(&self) -> &[u8] {
        &self.upload
    }

    /// Whether it still reads, or would if anything arrived.
    pub fn reads_on(&self) -> bool {
        self.is_reading
    }

    /// Its socket may have become readable.
    pub fn handle_ready(&mut self, path: &Path, now: Duration) {
        let can_read = self.is_reading && !self.is_gone && self.end.is_none();
        if can_read && path.is_readable(Side::Client) && !self.read_scheduled {
            self.read_scheduled = true;
            self.events.push((now + self.script.read_gap, PeerEvent::Read));
        }
    }

    /// Handles a scheduled event; returns a line for the trace, or an empty one.
    ///
    /// # Errors
    ///
    /// If it receives anything that it is not owed.
    pub fn handle(
        &mut self,
        event: PeerEvent,
        path: &mut Path,
        now: Duration,
    ) -> Result<String, String> {
        match event {
            PeerEvent::Step => Ok(self.take_step(path, now)),
            PeerEvent::Read => self.read(path, now),
            PeerEvent::Close => {
                if self.is_gone {
                    return Ok(String::new());
                }
                self.is_gone = true;
                path.close(Side::Client, false, now);
                Ok("closes".to_owned())
            }
        }
    }

    fn schedule_step(&mut self, now: Duration) {
        if let Some(step) = self.script.steps.get(self.steps_done) {
            self.events.push((now + step.after, PeerEvent::Step));
        }
    }

    fn take_step(&mut self, path: &mut Path, now: Duration) -> String {
        let Step { action, .. } = self.script.steps[self.steps_done];
        self.steps_done += 1;
        self.schedule_step(now);
        // A host that is gone can only come back; its path can still fail.
        if self.is_gone && !matches!(action, Action::Reboot | Action::Outage(..)) {
            return String::new();
        }
        match action {
            Action::Send(count) => {
                let end = (self.sent + count).min(self.upload.len());
                // A client that sends after an RST learns of it by reading.
                match path.send(Side::Client, &self.upload[self.sent..end], now) {
                    Ok(taken) => self.sent += taken,
                    Err(errno) => self.is_told_of_reset |= errno == ECONNRESET,
                }
            }
            Action::StopReading => self.is_reading = false,
            Action::StartReading => {
                self.is_reading = true;
                self.handle_ready(path, now);
            }
            Action::HalfClose => path.shutdown_send(Side::Client, now),
            Action::Close | Action::Reset => {
                self.is_careless = true;
                self.is_gone = true;
                path.close(Side::Client, matches!(action, Action::Reset), now);
            }
            Action::Vanish => {
                self.is_careless = true;
                self.is_gone = true;
                path.silence_client();
            }
            // Only a host that was switched off can reboot.
            Action::Reboot if self.is_gone => path.reboot_client(),
            Action::Reboot => {}
            Action::Outage(length, unreachable) => path.cut(now + length, unreachable),
        }
        format!("{action:?}")
    }

    fn read(&mut self, path: &mut Path, now: Duration) -> Result<String, String> {
        self.read_scheduled = false;
        if !self.is_reading || self.is_gone {
            return Ok(String::new());
        }
        self.buffer.resize(self.script.read_len.min(self.owed.len() + 1), 0);
        match path.receive(Side::Client, &mut self.buffer, &mut [], now) {
            Ok(0) => {
                self.end = Some(PeerEnd::EndOfStream);
                if let Some(closes_after) = self.script.closes_after {
                    self.events.push((now + closes_after, PeerEvent::Close));
                }
                Ok("reads the end of the stream".to_owned())
            }
            Ok(count) => {
                let at = self.received;
                if self.owed.get(at..at + count) != Some(&self.buffer[..count]) {
                    return Err(format!("{count} bytes from byte {at} on are not what it is owed"));
                }
                self.received += count;
                self.handle_ready(path, now);
                Ok(format!("reads {count} bytes"))
            }
            Err(EAGAIN) => Ok(String::new()),
            Err(errno) => {
                self.end = Some(PeerEnd::Error(errno));
                Ok(format!("reads error {errno}"))
            }
        }
    }
}
