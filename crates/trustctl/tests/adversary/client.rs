//! One client: follows its script, and records what it did and saw.

mod change;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, SockRef, Socket, Type};
use trust_sim::script::{Action, ClientScript};

use change::Why;

use super::history::{End, History, Progress};
use super::host::{Change, Fault, Host};
use super::watch::Watch;
use trust_testkit::{STEP_DEADLINE, kernel};

/// The kernel's bounds for TCP_MAXSEG.
const SEGMENT_MIN: usize = 88;
const SEGMENT_MAX: usize = 32_767;

/// Receives per turn, so that the script's other clients get their turns.
const RECEIVES_PER_TURN: u32 = 256;

/// The most bytes that a client receives per call.
const RECEIVE_MAX: usize = 65_536;

/// A client of a script.
pub(crate) struct Client {
    script: ClientScript,
    host: Host,
    watch: Watch,
    stream: Option<TcpStream>,
    pub(crate) history: History,
    steps_done: usize,
    /// When the next step is due; `None`: never.
    step_at: Option<Duration>,
    /// How many bytes it was told to send so far; some may have to wait for room.
    told: usize,
    half_closes: bool,
    is_reading: bool,
    /// Its host is gone, or it has closed.
    is_gone: bool,
    reads_at: Duration,
    closes_at: Option<Duration>,
    outage_ends: Option<Duration>,
    /// The change of its host or its path in progress, and its reason. It does nothing else
    /// meanwhile.
    change: Option<(Change, Why)>,
}

impl Client {
    pub(crate) fn new(script: &ClientScript, host: Host, watch: Watch) -> Client {
        Client {
            history: History::new(script.upload(), script),
            script: script.clone(),
            host,
            watch,
            stream: None,
            steps_done: 0,
            step_at: None,
            told: 0,
            half_closes: false,
            is_reading: true,
            is_gone: false,
            reads_at: Duration::ZERO,
            closes_at: None,
            outage_ends: None,
            change: None,
        }
    }

    /// Connects when it is time to.
    #[track_caller]
    pub(crate) fn connect_if_due(&mut self, server: SocketAddr) {
        if self.history.connected.is_some() || self.watch.now() < self.script.connects_at {
            return;
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("make a socket");
        let path = &self.script.path;
        // All of it before the handshake, which announces segment size and window.
        let segment = path.segment.clamp(SEGMENT_MIN, SEGMENT_MAX);
        socket.set_tcp_mss(segment as u32).expect("set TCP_MAXSEG");
        socket.set_recv_buffer_size(path.client_receive_buffer).expect("set SO_RCVBUF");
        socket.set_send_buffer_size(path.server_receive_buffer).expect("set SO_SNDBUF");
        socket.set_tcp_nodelay(true).expect("set TCP_NODELAY");
        let own = SocketAddr::from((self.host.address(), 0));
        socket.bind(&own.into()).expect("bind to the host's address");
        let connect = || socket.connect_timeout(&server.into(), STEP_DEADLINE);
        let (span, connected) = self.watch.span(connect);
        connected.expect("connect");
        socket.set_nonblocking(true).expect("set O_NONBLOCK");
        let stream: TcpStream = socket.into();
        self.history.address = stream.local_addr().expect("a connected socket's address");
        self.history.connected = Some(span);
        self.history.last_dry = span.from;
        self.note("connects");
        self.stream = Some(stream);
        self.step_at = self.script.steps.first().map(|step| span.to + step.after);
    }

    /// Does everything that is due.
    #[track_caller]
    pub(crate) fn take_turn(&mut self) {
        if self.history.connected.is_none() {
            return;
        }
        if let Some((change, why)) = self.change.take_if(|(change, _)| change.is_made()) {
            self.go_on(change.made(), why);
        }
        if self.change.is_none() && self.outage_ends.is_some_and(|at| at <= self.watch.now()) {
            self.outage_ends = None;
            let unreachable = self.history.outage.is_some_and(|outage| outage.unreachable);
            let change = self.host.end(Fault::outage(unreachable), self.watch);
            self.change = Some((change, Why::PathRecovers));
        }
        // The number of steps bounds a turn.
        while let Some(at) = self.step_at.filter(|at| *at <= self.watch.now())
            && self.change.is_none()
        {
            self.take_step();
            let next = self.script.steps.get(self.steps_done);
            self.step_at = next.map(|step| at + step.after);
        }
        if self.change.is_some() {
            return;
        }
        self.send();
        self.receive();
        if self.closes_at.is_some_and(|at| at <= self.watch.now()) {
            self.closes_at = None;
            self.close(false);
        }
    }

    /// When it next has something to do without being woken.
    pub(crate) fn next_time(&self) -> Option<Duration> {
        if self.history.connected.is_none() {
            // A client that comes too late stays away.
            return Some(self.script.connects_at).filter(|at| *at > self.watch.now());
        }
        if self.change.is_some() {
            return None;
        }
        let reads =
            (self.wants_receive() && self.reads_at > self.watch.now()).then_some(self.reads_at);
        [self.step_at, self.closes_at, self.outage_ends, reads].into_iter().flatten().min()
    }

    /// What it waits for.
    pub(crate) fn awaits(&self) -> Option<PollFd<'_>> {
        if let Some((change, _)) = &self.change {
            return Some(change.awaits());
        }
        let mut flags = PollFlags::empty();
        if self.wants_receive() && self.reads_at <= self.watch.now() {
            flags |= PollFlags::IN;
        }
        if self.wants_send() {
            flags |= PollFlags::OUT;
        }
        let stream = self.stream.as_ref()?;
        // Polling would report an error again and again even without any requested event.
        (!flags.is_empty()).then(|| PollFd::new(stream, flags))
    }

    /// Whether a change of its host or its path is in progress.
    pub(crate) fn is_changing(&self) -> bool {
        self.change.is_some()
    }

    /// Whether it has nothing more to do, now that the server has ended.
    pub(crate) fn is_through(&self) -> bool {
        let starts = |step: &trust_sim::script::Step| matches!(step.action, Action::StartReading);
        let starts_again = self.script.steps[self.steps_done..].iter().any(starts);
        let reads_on = self.is_reading || starts_again;
        self.stream.is_none() || self.is_gone || self.history.end.is_some() || !reads_on
    }

    /// Called just before the server is told to stop: notes which bytes its kernel certainly has.
    pub(crate) fn note_signal(&mut self, server: SocketAddr) {
        let (SocketAddr::V4(own), SocketAddr::V4(server)) = (self.history.address, server) else {
            unreachable!("all is played in 127.0.0.0/8");
        };
        if self.stream.is_none() {
            return;
        }
        let sent = self.history.sent_total();
        let unsure = match kernel::Socket::find(own, server) {
            Some(socket) => usize::try_from(socket.unacknowledged).unwrap_or(usize::MAX),
            // Closed in both directions, so everything was acknowledged; or reset, and then there
            // is no orderly end to be judged by it.
            None if self.history.half_closed => 0,
            None => sent,
        };
        self.history.acknowledged_at_signal = sent.saturating_sub(unsure);
    }

    fn wants_receive(&self) -> bool {
        self.stream.is_some() && self.is_reading && !self.is_gone && self.history.end.is_none()
    }

    fn wants_send(&self) -> bool {
        let is_able = self.stream.is_some() && !self.is_gone && !self.history.is_failed;
        is_able && self.history.sent_total() < self.told
    }

    #[track_caller]
    fn take_step(&mut self) {
        let action = self.script.steps[self.steps_done].action;
        self.steps_done += 1;
        // A host that is gone can only come back; its path can still fail.
        if self.is_gone && !matches!(action, Action::Reboot | Action::Outage(..)) {
            return;
        }
        self.note(&format!("{action:?}"));
        match action {
            // Nothing can be sent after FIN.
            Action::Send(_) if self.half_closes => {}
            Action::Send(count) => match self.loses_answer_in() {
                Some(fault) => {
                    self.note(&format!("{fault:?} for what comes"));
                    let change = self.host.begin_towards_it(fault, self.watch);
                    self.change = Some((change, Why::LosesAnswerTo(count)));
                }
                None => self.is_told_to_send(count),
            },
            Action::StopReading => {
                self.is_reading = false;
                self.history.stop_reading(self.watch.now());
            }
            Action::StartReading => {
                self.is_reading = true;
                self.history.start_reading(self.watch.now());
            }
            Action::HalfClose => self.half_closes = true,
            Action::Close => self.close(false),
            Action::Reset => self.close(true),
            Action::Vanish => {
                self.is_gone = true;
                self.history.is_careless = true;
                self.history.vanished = true;
                let change = self.host.begin(Fault::Gone, self.watch);
                self.change = Some((change, Why::Vanishes));
            }
            Action::Reboot => self.reboot(),
            Action::Outage(length, unreachable) => {
                // Once per path, as in the simulation.
                if self.history.outage.is_none() {
                    let change = self.host.begin(Fault::outage(unreachable), self.watch);
                    self.change = Some((change, Why::PathFails(length, unreachable)));
                }
            }
        }
    }

    fn is_told_to_send(&mut self, count: usize) {
        self.told = (self.told + count).min(self.history.upload.len());
        self.send();
    }

    fn send(&mut self) {
        while self.wants_send() {
            let done = self.history.sent_total();
            let stream = self.stream.as_ref().expect("it wants to send");
            let mut stream = stream;
            let bytes = &self.history.upload[done..self.told];
            let (span, outcome) = self.watch.span(|| stream.write(bytes));
            match outcome {
                Ok(count) => self.history.sent.push(Progress { span, total: done + count }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.fail(error.raw_os_error().unwrap_or_default()),
            }
        }
        let is_able = !self.is_gone && !self.history.is_failed && !self.wants_send();
        if self.half_closes && is_able && self.history.fin.is_none() {
            let Some(stream) = &self.stream else { return };
            let (span, outcome) = self.watch.span(|| stream.shutdown(Shutdown::Write));
            self.note("sends FIN");
            match outcome {
                Ok(()) => {
                    self.history.fin = Some(span);
                    self.history.half_closed = true;
                }
                Err(error) => self.fail(error.raw_os_error().unwrap_or_default()),
            }
        }
    }

    fn receive(&mut self) {
        let mut buffer = vec![0; self.script.read_len.clamp(1, RECEIVE_MAX)];
        for _ in 0..RECEIVES_PER_TURN {
            let now = self.watch.now();
            if !self.wants_receive() || self.reads_at > now {
                return;
            }
            let mut stream = self.stream.as_ref().expect("it wants to receive");
            let (span, outcome) = self.watch.span(|| stream.read(&mut buffer));
            match outcome {
                Ok(0) => {
                    // After a failed call the end of the stream means nothing.
                    let end = if self.history.is_failed { End::Error } else { End::OfStream };
                    self.history.end = Some((end, span.to));
                    self.note("reads the end of the stream");
                    self.closes_at = self.script.closes_after.map(|after| span.to + after);
                }
                Ok(count) => {
                    self.history.take_echo(&buffer[..count], span);
                    self.reads_at = span.to + self.script.read_gap;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.history.last_dry = span.from;
                    return;
                }
                Err(error) => {
                    self.fail(error.raw_os_error().unwrap_or_default());
                    self.history.end = Some((End::Error, span.to));
                }
            }
        }
    }

    /// A call failed: nothing more can be sent, and anything read afterwards proves nothing.
    fn fail(&mut self, errno: i32) {
        self.history.is_failed = true;
        self.note(&format!("fails with errno {errno}"));
    }

    fn close(&mut self, resets: bool) {
        let Some(stream) = self.stream.take() else { return };
        if self.history.end.is_none() {
            self.history.is_careless = true;
        }
        if resets {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
        }
        let (span, ()) = self.watch.span(|| drop(stream));
        self.is_gone = true;
        self.history.may_reset.get_or_insert(span);
        if resets {
            self.history.reset.get_or_insert(span);
        } else {
            self.history.fin.get_or_insert(span);
        }
        self.note("closes");
    }

    fn note(&mut self, what: &str) {
        self.history.note(self.watch.now(), what);
    }
}
