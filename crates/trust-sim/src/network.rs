//! A simulated TCP path: two sockets and what is under way between them.
//!
//! As much of RFC 9293 and of Linux as a server can notice: bytes in flight, send and receive buffers,
//! the window, delayed acknowledgements, retransmission, FIN, RST, ICMP errors, and hosts that are gone.

use std::time::Duration;

use trust_wire::Probe;

use crate::errno::{self, EAGAIN, ECONNRESET, EHOSTUNREACH, EPIPE, ETIMEDOUT};
use crate::rng::Rng;
use crate::script::PathScript;

/// First wait before sending again, and the longest one (tcp(7), RFC 6298).
const FIRST_RETRANSMIT: Duration = Duration::from_millis(200);
const LAST_RETRANSMIT: Duration = Duration::from_secs(60);

/// Keepalive: silence before the first question, time between questions, and how many there are.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_QUESTIONS: u32 = 6;

/// One end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer.
    Client,
    /// The server under test.
    Server,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// What is under way.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    start: usize,
    len: usize,
    fin: bool,
    /// Asks for an acknowledgement although it brings nothing.
    asks: bool,
    rst: bool,
    ack: usize,
    ack_fin: bool,
    window_end: usize,
}

/// What a path wants to happen later.
#[derive(Clone, Copy, Debug)]
pub enum PathEvent {
    /// A packet arrives.
    Arrive(Side, Packet),
    /// A delayed acknowledgement is due.
    Acknowledge(Side),
    /// It is time to look whether something must be sent again.
    Retransmit(Side),
    /// It is time to ask a silent peer.
    KeepAlive,
    /// A socket may have become readable or writable.
    Ready(Side),
    /// The path works again.
    Restored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Held by its process.
    Open,
    /// Ended by RST or by an error, and held by its process.
    Dead,
    /// Closed by its process; the kernel delivers the rest.
    Orphan,
    /// Unknown to its host.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Up,
    /// Switched off, or behind a cable that was cut.
    Silent,
    /// Up again, and does not know the connection.
    Rebooted,
}

#[derive(Debug)]
struct Socket {
    state: State,
    /// All bytes that were ever written.
    out: Vec<u8>,
    sent: usize,
    acked: usize,
    fin_written: bool,
    fin_sent: bool,
    fin_acked: bool,
    window_end: usize,
    send_buffer: usize,
    arrived: usize,
    read: usize,
    fin_arrived: bool,
    advertised: usize,
    receive_buffer: usize,
    error: Option<i32>,
    soft_error: Option<i32>,
    ack_scheduled: bool,
    retransmit_scheduled: bool,
    retransmit_after: Duration,
    acked_at_last_look: usize,
    last_heard: Duration,
    /// When something was first sent that nothing has come in reply to.
    unanswered_since: Option<Duration>,
}

impl Socket {
    fn new(send_buffer: usize, receive_buffer: usize, peer_receive_buffer: usize) -> Socket {
        Socket {
            state: State::Open,
            out: vec![],
            sent: 0,
            acked: 0,
            fin_written: false,
            fin_sent: false,
            fin_acked: false,
            window_end: peer_receive_buffer,
            send_buffer,
            arrived: 0,
            read: 0,
            fin_arrived: false,
            advertised: receive_buffer,
            receive_buffer,
            error: None,
            soft_error: None,
            ack_scheduled: false,
            retransmit_scheduled: false,
            retransmit_after: FIRST_RETRANSMIT,
            acked_at_last_look: 0,
            last_heard: Duration::ZERO,
            unanswered_since: None,
        }
    }

    fn is_outstanding(&self) -> bool {
        self.acked < self.out.len() || (self.fin_written && !self.fin_acked)
    }
}

/// The path between a client and the server.
#[derive(Debug)]
pub struct Path {
    script: PathScript,
    rng: Rng,
    client: Socket,
    server: Socket,
    client_host: Host,
    /// Until when every packet is lost, and whether a router says so.
    outage: Option<(Duration, bool)>,
    was_cut: bool,
    /// When the last packet in each direction arrives: packets do not overtake each other.
    last_arrival: [Duration; 2],
    keepalive_questions: u32,
    keepalive_scheduled: bool,
    /// What is to be scheduled.
    pub events: Vec<(Duration, PathEvent)>,
    /// When bytes last arrived in the server's receive queue.
    pub arrived_at: Duration,
    /// When the client last acknowledged bytes of the server.
    pub acked_at: Duration,
}

impl Path {
    /// An established connection.
    pub fn new(script: PathScript, seed: u64, now: Duration) -> Path {
        let s = script;
        let mut path = Path {
            script,
            rng: Rng::new(seed),
            client: Socket::new(usize::MAX, s.client_receive_buffer, s.server_receive_buffer),
            server: Socket::new(
                s.server_send_buffer,
                s.server_receive_buffer,
                s.client_receive_buffer,
            ),
            client_host: Host::Up,
            outage: None,
            was_cut: false,
            last_arrival: [now; 2],
            keepalive_questions: 0,
            keepalive_scheduled: false,
            events: vec![],
            arrived_at: now,
            acked_at: now,
        };
        path.server.last_heard = now;
        if path.script.keepalive {
            path.schedule_keepalive(now + KEEPALIVE_IDLE);
        }
        path
    }

    /// Bytes that can be received, FIN not counted (FIONREAD).
    pub fn unread(&self, side: Side) -> usize {
        let socket = self.socket(side);
        socket.arrived - socket.read
    }

    /// What the server's socket says about itself; reading the error clears it.
    pub fn probe(&mut self) -> Probe {
        let unacknowledged = self.unacknowledged() + self.unacknowledged_fin();
        let server = &mut self.server;
        let error = match unacknowledged {
            0 => None,
            _ => server.error.take().or(server.soft_error.take()),
        };
        Probe {
            unacknowledged: unacknowledged as u64,
            unread: self.unread(Side::Server) as u64,
            error: error.map(|errno| (errno, errno::classify(errno))),
            ..Probe::default()
        }
    }

    /// Bytes of the server that the client has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.server.out.len() - self.server.acked
    }

    fn unacknowledged_fin(&self) -> usize {
        usize::from(self.server.fin_written && !self.server.fin_acked)
    }

    /// Whether a receive would not block.
    pub fn is_readable(&self, side: Side) -> bool {
        let socket = self.socket(side);
        socket.arrived > socket.read || socket.fin_arrived || socket.state != State::Open
    }

    /// Whether a send would not block.
    pub fn is_writable(&self, side: Side) -> bool {
        let socket = self.socket(side);
        socket.state != State::Open || socket.out.len() - socket.acked < socket.send_buffer
    }

    /// Whether an end or an error is to be read.
    pub fn is_ending(&self, side: Side) -> bool {
        let socket = self.socket(side);
        socket.fin_arrived || socket.state != State::Open
    }

    /// What was written and not accepted may be tried again at `at`.
    pub fn ask_afresh(&mut self, at: Duration) {
        self.events.push((at, PathEvent::Ready(Side::Server)));
    }

    /// send(2) without blocking.
    pub fn send(&mut self, side: Side, bytes: &[u8], now: Duration) -> Result<usize, i32> {
        let is_short = side == Side::Server && self.rng.one_in(self.script.short_send_one_in);
        let limit = if is_short { self.rng.size(0..=bytes.len()) } else { bytes.len() };
        let socket = self.socket_mut(side);
        if let Some(errno) = socket.error.take() {
            return Err(errno);
        }
        if socket.state != State::Open || socket.fin_written {
            return Err(EPIPE);
        }
        let free = socket.send_buffer.saturating_sub(socket.out.len() - socket.acked);
        let taken = limit.min(free);
        if taken == 0 && !bytes.is_empty() {
            return Err(EAGAIN);
        }
        socket.out.extend_from_slice(&bytes[..taken]);
        self.transmit(side, now);
        Ok(taken)
    }

    /// recv(2) without blocking, into `first` and then `second`.
    pub fn receive(
        &mut self,
        side: Side,
        first: &mut [u8],
        second: &mut [u8],
        now: Duration,
    ) -> Result<usize, i32> {
        let (socket, sender) = match side {
            Side::Client => (&mut self.client, &self.server),
            Side::Server => (&mut self.server, &self.client),
        };
        let there = &sender.out[socket.read..socket.arrived];
        if there.is_empty() {
            if socket.fin_arrived {
                return Ok(0);
            }
            return match (socket.error.take(), socket.state) {
                (Some(errno), _) => Err(errno),
                (None, State::Open) => Err(EAGAIN),
                (None, _) => Ok(0),
            };
        }
        let count = there.len().min(first.len() + second.len());
        let in_first = count.min(first.len());
        first[..in_first].copy_from_slice(&there[..in_first]);
        second[..count - in_first].copy_from_slice(&there[in_first..count]);
        socket.read += count;
        let opened = socket.read + socket.receive_buffer - socket.advertised;
        if opened * 2 >= socket.receive_buffer && socket.state == State::Open {
            self.send_packet(side, self.bare_packet(side), now);
        }
        Ok(count)
    }

    /// shutdown(2) with SHUT_WR.
    pub fn shutdown_send(&mut self, side: Side, now: Duration) {
        let socket = self.socket_mut(side);
        if socket.state == State::Open && !socket.fin_written {
            socket.fin_written = true;
            self.transmit(side, now);
        }
    }

    /// close(2), with RST if `reset` or if bytes are unread (RFC 1122, section 4.2.2.13).
    pub fn close(&mut self, side: Side, reset: bool, now: Duration) {
        let has_unread = self.unread(side) > 0;
        let socket = self.socket_mut(side);
        match socket.state {
            State::Orphan | State::Gone => {}
            State::Dead => socket.state = State::Gone,
            State::Open if reset || has_unread => {
                socket.state = State::Gone;
                let packet = Packet { rst: true, ..self.bare_packet(side) };
                self.send_packet(side, packet, now);
            }
            State::Open => {
                socket.state = State::Orphan;
                socket.fin_written = true;
                self.transmit(side, now);
            }
        }
    }

    /// The client's host is switched off.
    pub fn silence_client(&mut self) {
        self.client_host = Host::Silent;
    }

    /// The client's host is up again and knows of nothing.
    pub fn reboot_client(&mut self) {
        self.client_host = Host::Rebooted;
        self.client.state = State::Gone;
    }

    /// Nothing gets through until `until`; if `unreachable`, a router says so. Once in the life of a path:
    /// several outages in a row would be more than TCP promises to survive.
    pub fn cut(&mut self, until: Duration, unreachable: bool) {
        if std::mem::replace(&mut self.was_cut, true) {
            return;
        }
        self.outage = Some((until, unreachable));
        self.events.push((until, PathEvent::Restored));
    }

    /// Does what was scheduled.
    pub fn handle(&mut self, event: PathEvent, now: Duration) {
        match event {
            PathEvent::Arrive(side, packet) => self.handle_arrival(side, packet, now),
            PathEvent::Acknowledge(side) => {
                if std::mem::take(&mut self.socket_mut(side).ack_scheduled) {
                    self.send_packet(side, self.bare_packet(side), now);
                }
            }
            PathEvent::Retransmit(side) => self.look_at_outstanding(side, now),
            PathEvent::KeepAlive => self.keep_alive(now),
            PathEvent::Restored if self.outage.is_some_and(|(until, _)| until <= now) => {
                self.outage = None;
            }
            PathEvent::Restored | PathEvent::Ready(_) => {}
        }
    }

    fn handle_arrival(&mut self, side: Side, packet: Packet, now: Duration) {
        if let Some((_, unreachable)) = self.outage {
            if unreachable && side == Side::Client && self.server.state == State::Open {
                self.server.soft_error = Some(EHOSTUNREACH);
            }
            return;
        }
        if side == Side::Client && self.client_host == Host::Silent {
            return;
        }
        let socket = self.socket_mut(side);
        if socket.state == State::Gone || socket.state == State::Dead {
            if !packet.rst && socket.state == State::Gone {
                let reply = Packet { rst: true, ..self.bare_packet(side) };
                self.send_packet(side, reply, now);
            }
            return;
        }
        socket.last_heard = now;
        socket.unanswered_since = None;
        if packet.rst {
            let errno = if socket.fin_arrived { EPIPE } else { ECONNRESET };
            return self.end_with(side, errno, now);
        }
        self.take_acknowledgement(side, packet, now);
        self.take_bytes(side, packet, now);
        self.transmit(side, now);
    }

    fn take_acknowledgement(&mut self, side: Side, packet: Packet, now: Duration) {
        let socket = self.socket_mut(side);
        socket.window_end = socket.window_end.max(packet.window_end);
        socket.fin_acked |= packet.ack_fin;
        if packet.ack > socket.acked {
            socket.acked = packet.ack;
            socket.sent = socket.sent.max(packet.ack);
            socket.retransmit_after = FIRST_RETRANSMIT;
            socket.soft_error = None;
            if side == Side::Server {
                self.acked_at = now;
            }
            self.events.push((now, PathEvent::Ready(side)));
        }
        if side == Side::Server {
            self.keepalive_questions = 0;
        }
    }

    fn take_bytes(&mut self, side: Side, packet: Packet, now: Duration) {
        if packet.len == 0 && !packet.fin && !packet.asks {
            return;
        }
        let socket = self.socket_mut(side);
        let end = packet.start + packet.len;
        let brings_bytes = packet.start <= socket.arrived && end > socket.arrived;
        if brings_bytes && socket.state == State::Orphan {
            socket.state = State::Gone;
            let reply = Packet { rst: true, ..self.bare_packet(side) };
            return self.send_packet(side, reply, now);
        }
        let mut is_news = false;
        if brings_bytes {
            let accepted = end.min(socket.read + socket.receive_buffer);
            is_news = accepted > socket.arrived;
            socket.arrived = socket.arrived.max(accepted);
        }
        if packet.fin && end == socket.arrived && !socket.fin_arrived {
            socket.fin_arrived = true;
            is_news = true;
        }
        let schedule = !std::mem::replace(&mut socket.ack_scheduled, true);
        if schedule {
            let delay = self.rng.time_up_to(self.script.ack_delay);
            self.events.push((now + delay, PathEvent::Acknowledge(side)));
        }
        if is_news {
            if side == Side::Server {
                self.arrived_at = now;
            }
            self.events.push((now, PathEvent::Ready(side)));
        }
    }

    fn end_with(&mut self, side: Side, errno: i32, now: Duration) {
        let socket = self.socket_mut(side);
        match socket.state {
            State::Open => {
                socket.state = State::Dead;
                socket.error = Some(errno);
                self.events.push((now, PathEvent::Ready(side)));
            }
            _ => socket.state = State::Gone,
        }
    }

    /// Sends what the window allows.
    fn transmit(&mut self, side: Side, now: Duration) {
        let segment = self.script.segment;
        loop {
            let socket = self.socket_mut(side);
            if !matches!(socket.state, State::Open | State::Orphan) {
                return;
            }
            let end = socket.out.len().min(socket.window_end).min(socket.sent + segment);
            let len = end.saturating_sub(socket.sent);
            let fin =
                socket.fin_written && !socket.fin_sent && socket.sent + len == socket.out.len();
            if len == 0 && !fin {
                break;
            }
            let start = socket.sent;
            socket.sent += len;
            socket.fin_sent |= fin;
            let packet = Packet { start, len, fin, ..self.bare_packet(side) };
            self.send_packet(side, packet, now);
        }
        self.schedule_retransmit(side, now);
    }

    fn schedule_retransmit(&mut self, side: Side, now: Duration) {
        let socket = self.socket_mut(side);
        if socket.is_outstanding() && !socket.retransmit_scheduled {
            socket.retransmit_scheduled = true;
            socket.acked_at_last_look = socket.acked;
            let at = now + socket.retransmit_after;
            self.events.push((at, PathEvent::Retransmit(side)));
        }
    }

    fn look_at_outstanding(&mut self, side: Side, now: Duration) {
        let give_up_after = self.script.give_up_after;
        let is_down = side == Side::Client && self.client_host != Host::Up;
        let socket = self.socket_mut(side);
        socket.retransmit_scheduled = false;
        let is_alive = matches!(socket.state, State::Open | State::Orphan);
        if is_down || !is_alive || !socket.is_outstanding() {
            return;
        }
        if socket.acked == socket.acked_at_last_look {
            let is_hopeless =
                socket.unanswered_since.is_some_and(|since| now - since >= give_up_after);
            if side == Side::Server && is_hopeless {
                let errno = socket.soft_error.unwrap_or(ETIMEDOUT);
                return self.end_with(side, errno, now);
            }
            socket.retransmit_after = (socket.retransmit_after * 2).min(LAST_RETRANSMIT);
            socket.sent = socket.acked;
            socket.fin_sent = false;
            if socket.window_end == socket.sent && socket.out.len() > socket.sent {
                let packet = Packet { asks: true, ..self.bare_packet(side) };
                self.send_packet(side, packet, now);
            }
        }
        self.transmit(side, now);
    }

    fn schedule_keepalive(&mut self, at: Duration) {
        if !std::mem::replace(&mut self.keepalive_scheduled, true) {
            self.events.push((at, PathEvent::KeepAlive));
        }
    }

    fn keep_alive(&mut self, now: Duration) {
        self.keepalive_scheduled = false;
        let server = &self.server;
        if server.state != State::Open {
            return;
        }
        let idle_until = server.last_heard + KEEPALIVE_IDLE;
        if server.is_outstanding() || idle_until > now {
            return self.schedule_keepalive(idle_until.max(now + KEEPALIVE_INTERVAL));
        }
        if self.keepalive_questions == KEEPALIVE_QUESTIONS {
            return self.end_with(Side::Server, ETIMEDOUT, now);
        }
        self.keepalive_questions += 1;
        let packet = Packet { asks: true, ..self.bare_packet(Side::Server) };
        self.send_packet(Side::Server, packet, now);
        self.schedule_keepalive(now + KEEPALIVE_INTERVAL);
    }

    /// A packet that brings nothing but an acknowledgement.
    fn bare_packet(&self, side: Side) -> Packet {
        let socket = self.socket(side);
        Packet {
            start: socket.sent,
            len: 0,
            fin: false,
            asks: false,
            rst: false,
            ack: socket.arrived,
            ack_fin: socket.fin_arrived,
            window_end: socket.read + socket.receive_buffer,
        }
    }

    fn send_packet(&mut self, from: Side, packet: Packet, now: Duration) {
        let socket = self.socket_mut(from);
        socket.advertised = packet.window_end;
        if packet.len > 0 || packet.fin || packet.asks {
            socket.unanswered_since.get_or_insert(now);
        }
        if packet.ack > 0 || packet.ack_fin {
            socket.ack_scheduled = false;
        }
        if from == Side::Client && self.client_host == Host::Silent {
            return;
        }
        let to = from.other();
        let delay = self.script.latency + self.rng.time_up_to(self.script.jitter);
        let last = &mut self.last_arrival[to as usize];
        *last = (*last).max(now + delay);
        self.events.push((*last, PathEvent::Arrive(to, packet)));
    }

    fn socket(&self, side: Side) -> &Socket {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    fn socket_mut(&mut self, side: Side) -> &mut Socket {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}
