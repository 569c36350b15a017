//! What the two kernels of a path do with packets: send, acknowledge, retransmit and give up.

use std::time::Duration;

use crate::errno::{ECONNRESET, EHOSTUNREACH, EPIPE, ETIMEDOUT};

use super::{Host, Packet, Path, PathEvent, Side, SocketState};

/// The first and the longest wait before a retransmission (tcp(7), RFC 6298).
pub(super) const FIRST_RETRANSMIT: Duration = Duration::from_millis(200);
const LAST_RETRANSMIT: Duration = Duration::from_secs(60);

/// Keepalive: idle time before the first probe, time between probes, and their number.
pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_QUESTIONS: u32 = 6;

impl Path {
    pub(super) fn handle_arrival(&mut self, side: Side, packet: Packet, now: Duration) {
        if let Some((_, unreachable)) = self.outage {
            if unreachable && side == Side::Client && self.server.state == SocketState::Open {
                self.server.soft_error = Some(EHOSTUNREACH);
            }
            return;
        }
        if side == Side::Client && self.client_host == Host::Silent {
            return;
        }
        let socket = self.socket_mut(side);
        if socket.state == SocketState::Gone || socket.state == SocketState::Dead {
            if !packet.rst && socket.state == SocketState::Gone {
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
        // The arrival of the last acknowledgement is a change of state, which Linux reports on both
        // sides.
        let is_settled = packet.ack_fin && !socket.fin_acked;
        socket.fin_acked |= packet.ack_fin;
        if is_settled {
            self.events.push((now, PathEvent::Ready(side)));
        }
        let socket = self.socket_mut(side);
        let has_finished = socket.fin_written;
        if packet.ack > socket.acked {
            socket.acked = packet.ack;
            socket.sent = socket.sent.max(packet.ack);
            socket.retransmit_after = FIRST_RETRANSMIT;
            socket.soft_error = None;
            if side == Side::Server {
                self.acked_at = now;
            }
            let gives_room = match side {
                Side::Client => true,
                Side::Server => std::mem::take(&mut self.server.lacks_room),
            };
            // A side that has finished sending does not care about more room.
            if !has_finished && gives_room {
                self.events.push((now, PathEvent::Ready(side)));
            }
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
        if brings_bytes && socket.state == SocketState::Orphan {
            socket.state = SocketState::Gone;
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
            SocketState::Open => {
                socket.state = SocketState::Dead;
                socket.error = Some(errno);
                self.events.push((now, PathEvent::Ready(side)));
            }
            _ => socket.state = SocketState::Gone,
        }
    }

    /// Sends what the window allows.
    pub(super) fn transmit(&mut self, side: Side, now: Duration) {
        let segment = self.script.segment;
        loop {
            let socket = self.socket_mut(side);
            if !matches!(socket.state, SocketState::Open | SocketState::Orphan) {
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

    pub(super) fn look_at_outstanding(&mut self, side: Side, now: Duration) {
        let give_up_after = self.script.give_up_after;
        let is_down = side == Side::Client && self.client_host != Host::Up;
        let socket = self.socket_mut(side);
        socket.retransmit_scheduled = false;
        let is_alive = matches!(socket.state, SocketState::Open | SocketState::Orphan);
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

    pub(super) fn schedule_keepalive(&mut self, at: Duration) {
        if !std::mem::replace(&mut self.keepalive_scheduled, true) {
            self.events.push((at, PathEvent::KeepAlive));
        }
    }

    pub(super) fn keep_alive(&mut self, now: Duration) {
        self.keepalive_scheduled = false;
        let server = &self.server;
        if server.state != SocketState::Open {
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

    /// A packet that carries only an acknowledgement.
    pub(super) fn bare_packet(&self, side: Side) -> Packet {
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

    pub(super) fn send_packet(&mut self, from: Side, packet: Packet, now: Duration) {
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
}
