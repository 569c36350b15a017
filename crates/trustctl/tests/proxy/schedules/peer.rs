//! A peer that follows the script of a simulated one over a real connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::SockRef;
use trust_sim::relay::endings::SeenEnd;
use trust_sim::script::{Action, ClientScript};
use trust_testkit::STEP_DEADLINE;

use crate::proxy::accept;

/// The longest wait: an ending may be due although no socket is ready.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// One peer of a schedule.
pub(super) struct SchedulePeer {
    script: ClientScript,
    upload: Vec<u8>,
    /// `None`: it has closed.
    stream: Option<TcpStream>,
    steps_done: usize,
    step_at: Instant,
    /// How many bytes it was told to send, and how many it has sent.
    told: usize,
    pub(super) sent: usize,
    sending: Sending,
    pub(super) has_sent_fin: bool,
    pub(super) has_reset: bool,
    is_reading: bool,
    pub(super) received: Vec<u8>,
    end: Option<SeenEnd>,
}

/// How far it is with sending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// FIN comes after what it was told to send.
    Finishing,
    Finished,
    /// A send failed.
    Failed,
}

impl SchedulePeer {
    /// A client of the proxy.
    #[track_caller]
    pub(super) fn connect(script: &ClientScript, proxy: SocketAddr) -> SchedulePeer {
        match TcpStream::connect_timeout(&proxy, STEP_DEADLINE) {
            Ok(stream) => SchedulePeer::new(script, Some(stream)),
            // Its connection was reset before it knew that it had one.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                SchedulePeer::new(script, None)
            }
            Err(error) => panic!("cannot connect to {proxy}: {error}"),
        }
    }

    /// The upstream of a client.
    #[track_caller]
    pub(super) fn accept(script: &ClientScript, listener: &TcpListener) -> SchedulePeer {
        SchedulePeer::new(script, Some(accept(listener).into_stream()))
    }

    #[track_caller]
    fn new(script: &ClientScript, stream: Option<TcpStream>) -> SchedulePeer {
        if let Some(stream) = &stream {
            stream.set_nonblocking(true).expect("set O_NONBLOCK");
            stream.set_nodelay(true).expect("set TCP_NODELAY");
        }
        let end = stream.is_none().then_some(SeenEnd::Rst);
        let now = Instant::now();
        let first = script.steps.first().map_or(Duration::ZERO, |step| step.after);
        SchedulePeer {
            script: script.clone(),
            upload: script.upload(),
            stream,
            steps_done: 0,
            step_at: now + first,
            told: 0,
            sent: 0,
            sending: Sending::Open,
            has_sent_fin: false,
            has_reset: false,
            is_reading: true,
            received: vec![],
            end,
        }
    }

    /// Does what it can; whether that was anything.
    pub(super) fn act(&mut self, now: Instant) -> bool {
        let mut has_acted = false;
        while let Some(step) = self.script.steps.get(self.steps_done).copied()
            && self.step_at <= now
        {
            self.steps_done += 1;
            self.take_step(step.action);
            let next = self.script.steps.get(self.steps_done);
            self.step_at += next.map_or(Duration::ZERO, |next| next.after);
            has_acted = true;
        }
        has_acted |= self.send();
        has_acted |= self.receive();
        if self.end.is_some() && self.script.closes_after.is_some() && self.has_taken_all_steps() {
            self.close(false);
        }
        has_acted
    }

    /// Whether nothing more is to come from its script.
    pub(super) fn has_taken_all_steps(&self) -> bool {
        self.steps_done == self.script.steps.len() || self.stream.is_none()
    }

    /// Whether it has seen the end, or has closed before.
    pub(super) fn is_through(&self) -> bool {
        self.end.is_some() || self.stream.is_none()
    }

    /// How it has seen the end.
    pub(super) fn seen(&self) -> SeenEnd {
        self.end.unwrap_or(SeenEnd::Open)
    }

    fn take_step(&mut self, action: Action) {
        match action {
            Action::Send(count) if self.sending == Sending::Open => {
                self.told = (self.told + count).min(self.upload.len());
            }
            Action::HalfClose if self.sending == Sending::Open => {
                self.sending = Sending::Finishing;
            }
            Action::StopReading => self.is_reading = false,
            Action::StartReading => self.is_reading = true,
            Action::Close => self.close(false),
            Action::Reset => self.close(true),
            _ => {}
        }
    }

    fn send(&mut self) -> bool {
        let Some(mut stream) = self.stream.as_ref() else { return false };
        let before = self.sent;
        while self.sent < self.told && self.sending != Sending::Failed {
            match stream.write(&self.upload[self.sent..self.told]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It learns by reading whether the stream had ended before.
                Err(_) => self.sending = Sending::Failed,
            }
        }
        if self.sending == Sending::Finishing && self.sent == self.told {
            self.has_sent_fin = stream.shutdown(Shutdown::Write).is_ok();
            self.sending = Sending::Finished;
            return true;
        }
        self.sent > before
    }

    fn receive(&mut self) -> bool {
        let Some(mut stream) = self.stream.as_ref() else { return false };
        let mut buffer = vec![0; self.script.read_len.clamp(1, 65_536)];
        let (before, was_open) = (self.received.len(), self.end.is_none());
        while self.is_reading && self.end.is_none() {
            match stream.read(&mut buffer) {
                // A send has taken the error of a RST, which is no end of the stream.
                Ok(0) if self.sending == Sending::Failed => self.end = Some(SeenEnd::Rst),
                Ok(0) => self.end = Some(SeenEnd::Fin),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.end = Some(SeenEnd::Rst),
            }
        }
        self.received.len() > before || was_open && self.end.is_some()
    }

    /// Closes, with RST if `resets` or if bytes are unread.
    pub(super) fn close(&mut self, resets: bool) {
        let Some(stream) = self.stream.take() else { return };
        if resets {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
            self.has_reset = true;
        } else {
            self.has_sent_fin = true;
        }
    }
}

/// Waits until one of them can act, or until that time.
pub(super) fn await_any(peers: &[SchedulePeer; 2], until: Instant) {
    let now = Instant::now();
    let mut wait = WAIT_MAX.min(until.saturating_duration_since(now).max(Duration::from_millis(1)));
    let mut descriptors = vec![];
    for peer in peers {
        if !peer.has_taken_all_steps() {
            wait = wait.min(peer.step_at.saturating_duration_since(now));
        }
        let Some(stream) = &peer.stream else { continue };
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, peer.is_reading && peer.end.is_none());
        flags.set(PollFlags::OUT, peer.sent < peer.told && peer.sending != Sending::Failed);
        if !flags.is_empty() {
            descriptors.push(PollFd::new(stream, flags));
        }
    }
    let wait = Timespec::try_from(wait).expect("a short time");
    // A signal only makes it shorter.
    let _ = rustix::event::poll(&mut descriptors, Some(&wait));
}
