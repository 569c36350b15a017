//! A simulated TCP path: two sockets and what is in flight between them.
//!
//! It covers as much of RFC 9293 and of Linux as a server can notice: bytes in flight, send and
//! receive buffers, the window, delayed acknowledgements, retransmission, FIN, RST, ICMP errors,
//! and hosts that disappear.

mod kernels;

use std::time::Duration;

use trust_wire::Probe;

use self::kernels::{FIRST_RETRANSMIT, KEEPALIVE_IDLE};
use crate::errno::{self, EAGAIN, EINTR, EPIPE};
use crate::rng::Rng;
use crate::script::PathScript;

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

/// A packet in flight.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    start: usize,
    len: usize,
    fin: bool,
    /// It asks for an acknowledgement although it carries nothing.
    asks: bool,
    rst: bool,
    ack: usize,
    ack_fin: bool,
    window_end: usize,
}

/// An event that a path schedules.
#[derive(Clone, Copy, Debug)]
pub enum PathEvent {
    /// A packet arrives.
    Arrive(Side, Packet),
    /// A delayed acknowledgement is due.
    Acknowledge(Side),
    /// It is time to check whether something must be retransmitted.
    Retransmit(Side),
    /// It is time to send a keepalive probe.
    KeepAlive,
    /// A socket may have become readable or writable.
    Ready(Side),
    /// The server's socket was registered again.
    Asked,
    /// The path works again.
    Restored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SocketState {
    /// Owned by its process.
    Open,
    /// Ended by RST or by an error, and still owned by its process.
    Dead,
    /// Closed by its process; the kernel delivers the rest.
    Orphan,
    /// Unknown to its host.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Up,
    /// Switched off, or its cable was cut.
    Silent,
    /// Up again, with no memory of the connection.
    Rebooted,
}

// Many fields: both directions of a connection, as a kernel keeps them.
#[derive(Debug)]
struct KernelSocket {
    state: SocketState,
    /// All bytes ever written.
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
    /// When the oldest unanswered packet was first sent.
    unanswered_since: Option<Duration>,
    /// A send was refused or cut short: free room will be reported as an edge of readiness
    /// (SOCK_NOSPACE in Linux).
    lacks_room: bool,
}

impl KernelSocket {
    fn new(send_buffer: usize, receive_buffer: usize, peer_receive_buffer: usize) -> KernelSocket {
        KernelSocket {
            state: SocketState::Open,
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
            lacks_room: false,
        }
    }

    fn is_outstanding(&self) -> bool {
        self.acked < self.out.len() || (self.fin_written && !self.fin_acked)
    }
}

// Many fields: two kernels, what is between them, and the faults of both.
/// The path between a client and the server.
#[derive(Debug)]
pub struct Path {
    script: PathScript,
    rng: Rng,
    /// Decides which calls of the server fail.
    faults: Rng,
    /// The last call of the server returned EAGAIN although it need not have.
    was_refused: bool,
    /// Which of the client's bytes are urgent data (RFC 6093).
    urgent: Vec<usize>,
    client: KernelSocket,
    server: KernelSocket,
    client_host: Host,
    /// Until when every packet is lost, and whether a router reports it.
    outage: Option<(Duration, bool)>,
    was_cut: bool,
    /// When the last packet in each direction arrives: packets do not overtake each other.
    last_arrival: [Duration; 2],
    keepalive_questions: u32,
    keepalive_scheduled: bool,
    /// Events to be scheduled.
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
            faults: Rng::new(!seed),
            was_refused: false,
            urgent: vec![],
            client: KernelSocket::new(usize::MAX, s.client_receive_buffer, s.server_receive_buffer),
            server: KernelSocket::new(
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

    /// Bytes that can be received, not counting a FIN (FIONREAD).
    pub fn unread(&self, side: Side) -> usize {
        let socket = self.socket(side);
        socket.arrived - socket.read
    }

    /// What the server's socket reports about itself; reading the error clears it.
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
            is_over: self.server.state != SocketState::Open,
            ..Probe::default()
        }
    }

    /// The server's bytes that the client has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.server.out.len() - self.server.acked
    }

    fn unacknowledged_fin(&self) -> usize {
        usize::from(self.server.fin_written && !self.server.fin_acked)
    }

    /// What the client has not acknowledged, where a FIN counts as one byte (SIOCOUTQ, `tcp(7)`).
    pub fn outstanding(&self) -> u64 {
        (self.unacknowledged() + self.unacknowledged_fin()) as u64
    }

    /// Bytes that a side has handed to its kernel.
    pub fn written(&self, side: Side) -> usize {
        self.socket(side).out.len()
    }

    /// Whether a side's connection is open at that end: it was neither closed there, nor ended by
    /// RST or an error.
    pub fn is_open(&self, side: Side) -> bool {
        self.socket(side).state == SocketState::Open
    }

    /// Whether the server's socket has an error that no call has reported (EPOLLERR).
    pub fn has_error(&self) -> bool {
        self.server.error.is_some()
    }

    /// Takes this error (SO_ERROR, `socket(7)`).
    pub fn take_error(&mut self) -> Option<i32> {
        self.server.error.take()
    }

    /// Whether a receive would not block.
    pub fn is_readable(&self, side: Side) -> bool {
        let socket = self.socket(side);
        socket.arrived > socket.read || socket.fin_arrived || socket.state != SocketState::Open
    }

    /// Whether a send would not block.
    pub fn is_writable(&self, side: Side) -> bool {
        let socket = self.socket(side);
        socket.state != SocketState::Open || socket.out.len() - socket.acked < socket.send_buffer
    }

    /// Whether the server can send; if not, it will be notified when it can (`tcp_poll` in Linux).
    pub fn poll_writable(&mut self) -> bool {
        let is_writable = self.is_writable(Side::Server);
        self.server.lacks_room |= !is_writable;
        is_writable
    }

    /// Whether the acknowledgement of bytes in flight will notify the server of free room: a send
    /// took less than it was given.
    pub fn will_report_room(&self) -> bool {
        self.server.lacks_room && self.unacknowledged() > 0
    }

    /// Whether the server has an end, an error or urgent data to read: receives stop in front of
    /// them.
    pub fn stops_receives(&self) -> bool {
        let socket = &self.server;
        let is_urgent = |at: &usize| (socket.read..socket.arrived).contains(at);
        socket.fin_arrived || socket.state != SocketState::Open || self.urgent.iter().any(is_urgent)
    }

    /// The server registers its socket again, so that its readiness is reported once more
    /// (`EPOLL_CTL_MOD`).
    pub fn ask(&mut self, now: Duration) {
        self.events.push((now, PathEvent::Asked));
    }

    /// send(2) without blocking.
    pub fn send(&mut self, side: Side, bytes: &[u8], now: Duration) -> Result<usize, i32> {
        if side == Side::Server {
            self.disturb_call()?;
            if self.is_short_of_memory(now) {
                self.server.lacks_room = true;
                return Err(EAGAIN);
            }
        }
        let is_short = side == Side::Server && self.rng.one_in(self.script.short_send_one_in);
        let limit = if is_short { self.rng.size(0..=bytes.len()) } else { bytes.len() };
        let socket = self.socket_mut(side);
        if let Some(errno) = socket.error.take() {
            return Err(errno);
        }
        if socket.state != SocketState::Open || socket.fin_written {
            return Err(EPIPE);
        }
        let free = socket.send_buffer.saturating_sub(socket.out.len() - socket.acked);
        let taken = limit.min(free);
        socket.lacks_room |= taken < bytes.len();
        if taken == 0 && !bytes.is_empty() {
            return Err(EAGAIN);
        }
        socket.out.extend_from_slice(&bytes[..taken]);
        if side == Side::Client && taken > 0 && self.faults.one_in(self.script.urgent_one_in) {
            self.urgent.push(self.client.out.len() - 1);
        }
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
        // A refused end of stream would look like silence while the next question waits for a
        // pause.
        if side == Side::Server && self.unread(side) > 0 {
            self.disturb_call()?;
        }
        let stop = self.receive_stop(side);
        let (socket, sender) = match side {
            Side::Client => (&mut self.client, &self.server),
            Side::Server => (&mut self.server, &self.client),
        };
        let there = &sender.out[socket.read..stop];
        if there.is_empty() {
            if socket.fin_arrived {
                return Ok(0);
            }
            return match (socket.error.take(), socket.state) {
                (Some(errno), _) => Err(errno),
                (None, SocketState::Open) => Err(EAGAIN),
                (None, _) => Ok(0),
            };
        }
        let count = there.len().min(first.len() + second.len());
        let in_first = count.min(first.len());
        first[..in_first].copy_from_slice(&there[..in_first]);
        second[..count - in_first].copy_from_slice(&there[in_first..count]);
        socket.read += count;
        let opened = socket.read + socket.receive_buffer - socket.advertised;
        if opened * 2 >= socket.receive_buffer && socket.state == SocketState::Open {
            self.send_packet(side, self.bare_packet(side), now);
        }
        Ok(count)
    }

    /// Where in the stream a receive stops: in front of urgent data, unless it begins there
    /// (`tcp(7)`, SO_OOBINLINE).
    fn receive_stop(&self, side: Side) -> usize {
        let socket = self.socket(side);
        let is_ahead = |at: &&usize| side == Side::Server && **at > socket.read;
        let urgent = self.urgent.iter().find(is_ahead).copied();
        urgent.unwrap_or(usize::MAX).min(socket.arrived)
    }

    /// Lets a call of the server be interrupted, or return EAGAIN although it need not.
    fn disturb_call(&mut self) -> Result<(), i32> {
        if self.faults.one_in(self.script.interrupt_one_in) {
            return Err(EINTR);
        }
        let is_refused = self.faults.one_in(self.script.would_block_one_in);
        self.was_refused = is_refused && !self.was_refused;
        if self.was_refused { Err(EAGAIN) } else { Ok(()) }
    }

    fn is_short_of_memory(&self, now: Duration) -> bool {
        let shortage = self.script.shortage;
        shortage.is_some_and(|it| it.at <= now && now < it.at + it.length)
    }

    /// shutdown(2) with SHUT_WR.
    pub fn shutdown_send(&mut self, side: Side, now: Duration) {
        let socket = self.socket_mut(side);
        if socket.state == SocketState::Open && !socket.fin_written {
            socket.fin_written = true;
            self.transmit(side, now);
        }
    }

    /// close(2), with RST if `reset` or if bytes are unread (RFC 1122, section 4.2.2.13).
    pub fn close(&mut self, side: Side, reset: bool, now: Duration) {
        let has_unread = self.unread(side) > 0;
        let socket = self.socket_mut(side);
        match socket.state {
            SocketState::Orphan | SocketState::Gone => {}
            SocketState::Dead => socket.state = SocketState::Gone,
            SocketState::Open if reset || has_unread => {
                socket.state = SocketState::Gone;
                let packet = Packet { rst: true, ..self.bare_packet(side) };
                self.send_packet(side, packet, now);
            }
            SocketState::Open => {
                socket.state = SocketState::Orphan;
                socket.fin_written = true;
                self.transmit(side, now);
            }
        }
    }

    /// The client's host is switched off.
    pub fn silence_client(&mut self) {
        self.client_host = Host::Silent;
    }

    /// The client's host is up again, with no memory of the connection.
    pub fn reboot_client(&mut self) {
        self.client_host = Host::Rebooted;
        self.client.state = SocketState::Gone;
    }

    /// Loses everything until `until`; if `unreachable`, a router reports it. Happens at most once
    /// per path: several outages in a row would be more than TCP promises to survive.
    pub fn cut(&mut self, until: Duration, unreachable: bool) {
        if std::mem::replace(&mut self.was_cut, true) {
            return;
        }
        self.outage = Some((until, unreachable));
        self.events.push((until, PathEvent::Restored));
    }

    /// Handles a scheduled event.
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
            PathEvent::Restored | PathEvent::Ready(_) | PathEvent::Asked => {}
        }
    }

    fn socket(&self, side: Side) -> &KernelSocket {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    fn socket_mut(&mut self, side: Side) -> &mut KernelSocket {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}
