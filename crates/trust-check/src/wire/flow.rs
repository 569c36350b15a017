//! Sending while receiving, and sending without.

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::ioctl_fionread;
use socket2::SockRef;
use trust_cli::text::{grouped, seconds};
use trust_net::socket;

use super::{RECEIVE_BYTES, Wire, pause};
use crate::request::{Answers, Request};
use crate::setup::{LARGE_MAX, Setup};
use crate::transcript::What;
use crate::verdict::{Judged, Verdict};

/// A server that takes nothing for that long waits for the client.
pub const STALL: Duration = Duration::from_millis(500);

/// Longest time for which a client sends without reading. It is a limit of the check itself:
/// reaching it says nothing about the server.
const UNREAD_TIME: Duration = Duration::from_secs(5);

/// Bytes that kernels may hold of a connection to another host: more than is usually configured.
const FAR_ROOM: u64 = 256 * 1024 * 1024;

/// Bytes of answers that are asked for and not read: more than kernels hold, and no more than a
/// machine has if the server keeps them in memory.
pub const UNREAD_ANSWERS_MAX: u64 = 256 * 1024 * 1024;

/// How often a connection may be buffered on its way: a proxy in front of the server holds as much
/// again.
const HOPS: u64 = 2;

/// Most messages for whose time the check waits before a server counts as waiting: one that
/// receives many short messages at once may take no longer for them than for one.
const HELD_MAX: u64 = 256;

/// A server that has answered nothing for so long is too slow, or it does not answer.
const UNANSWERED: Duration = Duration::from_secs(1);

/// How much longer than for those before a server may take for a message.
const MARGIN: f64 = 1.5;

/// Interval between checks whether anything moves.
const STALL_LOOK: Duration = Duration::from_millis(10);

/// What became of sending without reading.
#[derive(Clone, Copy, Debug)]
pub struct Unread {
    /// Bytes that our kernel took.
    pub taken: u64,
    /// Why no more were sent.
    pub stop: StopReason,
    /// Time that the server took per answer that came.
    pub service_time: Option<Duration>,
}

/// Why a client that reads nothing stopped sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Nothing moves: the server waits for the client to read.
    Waiting,
    /// The connection ended.
    Ended,
    /// Everything was sent. The server, or the kernels, had room for it.
    All,
    /// As many answers were asked for as may be, which are more than kernels hold, and nothing
    /// moves: the server waits, or has them in its memory.
    Asked,
    /// Bytes were still moving when the check's own time was over, which says nothing about the
    /// server.
    OutOfTime,
}

impl Unread {
    /// Wants the server to have been made to wait for the client, or to have ended the connection.
    ///
    /// # Errors
    ///
    /// Inconclusive if it was not: nothing was shown about a server that waits.
    pub fn expect_waiting(&self) -> Judged<()> {
        let taken = grouped(self.taken);
        match self.stop {
            StopReason::Waiting | StopReason::Asked | StopReason::Ended => Ok(()),
            StopReason::All => Err(Verdict::inconclusive(format!(
                "it took {taken} bytes and never waited for the client to read"
            ))),
            StopReason::OutOfTime => Err(Verdict::inconclusive(match self.service_time {
                Some(time) => format!(
                    "too slow to be made to wait, unless it reads on and keeps the answers: it \
                     took {taken} bytes and answered {:.1} messages per second",
                    time.as_secs_f64().max(1e-6).recip()
                ),
                None => format!(
                    "too slow to be made to wait: it took {taken} bytes and answered nothing \
                     within {}",
                    seconds(UNANSWERED)
                ),
            })),
        }
    }
}

impl Wire<'_> {
    /// Sends these messages and waits for their answers at the same time, so that neither side
    /// waits for the other to read, until all are there or `until` is over. Returns how many came
    /// right. Their first `sent` bytes count as sent; `slowness` is a pause before each receive.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`] and [`Wire::expect_answers`].
    pub(super) fn exchange_until(
        &mut self,
        messages: &[&Request],
        mut sent: usize,
        slowness: Duration,
        until: Instant,
    ) -> Judged<usize> {
        let all: Vec<u8> = messages.iter().flat_map(|message| &message.bytes).copied().collect();
        let mut answers = Answers::to(messages);
        let mut buffer = vec![0; RECEIVE_BYTES];
        while answers.are_awaited() && self.end.is_none() {
            if sent < all.len() {
                sent += self.send_once(&all[sent..]);
            }
            pause(self.setup, slowness)?;
            let Some(count) = self.receive_once(&mut buffer) else {
                let wanted = if sent < all.len() { PollFlags::OUT } else { PollFlags::empty() };
                if self.end.is_none() && !self.wait(PollFlags::IN | wanted, self.setup.patience)? {
                    self.record(What::Silence(self.setup.patience));
                    break;
                }
                continue;
            };
            answers.add(&buffer[..count]);
            if answers.are_awaited() && Instant::now() >= until {
                return Ok(answers.count());
            }
        }
        if sent < all.len() && self.end.is_none() && answers.are_awaited() {
            let got = format!(
                "it took {} of {} bytes, of which it had answered {}, and nothing more for {}",
                grouped(sent as u64),
                grouped(all.len() as u64),
                grouped(answers.right()),
                seconds(self.setup.patience)
            );
            return Err(Verdict::fail("the server reads on while its answers are read", got));
        }
        self.judge_answers(messages, answers).map(|()| messages.len())
    }

    /// Sends as much as the server takes without a pause longer than `patience`. While it takes
    /// nothing, receives and appends to `got`, as a client must that has to read in order to be
    /// read. Returns the number of bytes sent.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn send_receiving(
        &mut self,
        bytes: &[u8],
        got: &mut Vec<u8>,
        patience: Duration,
    ) -> Judged<usize> {
        let limit = got.len() + LARGE_MAX as usize * 2;
        let mut sent = self.try_send(bytes, Duration::ZERO)?;
        let mut until = Instant::now() + patience;
        while sent < bytes.len() && self.end.is_none() && Instant::now() < until {
            let before = (sent, got.len());
            if self.wait(
                PollFlags::IN | PollFlags::OUT,
                until.saturating_duration_since(Instant::now()),
            )? {
                self.receive_into(got, limit, Duration::ZERO)?;
                sent += self.try_send(&bytes[sent..], Duration::ZERO)?;
            }
            if before != (sent, got.len()) {
                until = Instant::now() + patience;
            }
        }
        Ok(sent)
    }

    /// Sends this message again and again and reads no answer, until nothing has moved in either
    /// direction for `stall`, or more has been sent than kernels can hold. The stall is longer for
    /// a slow server. Over a narrow path it takes much less to make a server wait.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn send_unread(&mut self, request: &Request, stall: Duration) -> Judged<Unread> {
        let message = &request.bytes[..];
        // Our receive buffer stays as it is: shrinking it now would drop segments, and their
        // retransmission would slow down the reading that follows.
        let _ = SockRef::from(&self.stream).set_send_buffer_size(1);
        self.note("our send buffer is small");
        // Large sends, so that short messages take no longer.
        let many = message.repeat((RECEIVE_BYTES / message.len().max(1)).max(1));
        let room = kernel_room(self.setup);
        let asked = UNREAD_ANSWERS_MAX / request.answer_len().max(1) as u64 * message.len() as u64;
        let (since, most) = (Instant::now(), room.min(asked));
        let (mut taken, mut moved, mut queued) = (0, since, self.queued());
        let mut service_time = None;
        let stop = loop {
            let at = (taken % many.len() as u64) as usize;
            let left = most.saturating_sub(taken).min((many.len() - at) as u64) as usize;
            let sent = self.try_send(&many[at..at + left], Duration::ZERO)?;
            taken += sent as u64;
            let now = self.queued();
            if now.1 > queued.1 {
                let answers = (now.1 / message.len().max(1) as u64).max(1);
                service_time = Some(since.elapsed() / answers as u32);
            }
            if sent > 0 || now != queued {
                (moved, queued) = (Instant::now(), now);
            }
            // Kernels may announce no window before the server has received all that they hold for
            // it.
            let held = taken.saturating_sub(now.1) / message.len().max(1) as u64;
            let busy = service_time.map(|time| time * held.min(HELD_MAX) as u32);
            let is_too_slow = match busy {
                Some(busy) => busy.max(moved.duration_since(since)) >= UNREAD_TIME,
                None => since.elapsed() >= UNANSWERED,
            };
            if self.is_over() {
                break StopReason::Ended;
            } else if taken >= room {
                break StopReason::All;
            } else if is_too_slow {
                break StopReason::OutOfTime;
            } else if taken >= most && moved.elapsed() >= stall {
                break StopReason::Asked;
            } else if busy.is_some_and(|busy| moved.elapsed() >= stall.max(busy.mul_f64(MARGIN))) {
                break StopReason::Waiting;
            }
            let first = if service_time.is_none() { PollFlags::IN } else { PollFlags::empty() };
            // Once all is asked for there may be room all the time.
            let next = if taken < most { PollFlags::OUT } else { PollFlags::empty() };
            self.wait(next | first, STALL_LOOK)?;
        };
        let time = since.elapsed();
        self.note(&format!("{} bytes taken in {}", grouped(taken), seconds(time)));
        Ok(Unread { taken, stop, service_time })
    }

    /// Bytes that wait in our kernel for the server, and bytes that wait there for us. Neither
    /// changes while the server waits for us to read.
    pub fn queued(&self) -> (u64, u64) {
        let towards = socket::path_info(self.stream.as_fd()).unacknowledged;
        (towards, ioctl_fionread(&self.stream).unwrap_or(0))
    }

    /// Waits for a RST without receiving, for at most `patience`, and returns whether it came. What
    /// had arrived before can still be received, and so can the end.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn await_reset_unread(&self, patience: Duration) -> Judged<bool> {
        // Without flags `poll(2)` reports only errors and the end of both directions.
        self.wait(PollFlags::empty(), patience)
    }

    /// Makes our kernel take about this many bytes from the server before we read them, or as few
    /// as it can. Much less than a segment makes a path slow: the server's kernel waits for room
    /// before it sends (RFC 9293, 3.8.6.2.1).
    pub fn receive_at_most(&self, bytes: usize) {
        if !self.setup.is_tcp() {
            return self.note("over a unix socket the server's send buffer alone limits it");
        }
        let _ = SockRef::from(&self.stream).set_recv_buffer_size(bytes);
        self.note("our receive buffer is small");
    }
}

/// Bytes that kernels may hold of a connection in which neither side reads: the configured maximum
/// (tcp(7)), on both sides of each hop.
fn kernel_room(setup: &Setup) -> u64 {
    let largest = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
        text.split_ascii_whitespace().last()?.parse::<u64>().ok()
    };
    let is_near = setup.address.ip().is_none_or(|address| address.ip().is_loopback());
    match (is_near, largest("tcp_rmem"), largest("tcp_wmem")) {
        (true, Some(receive), Some(send)) => (HOPS * (receive + send)).min(FAR_ROOM),
        _ => FAR_ROOM,
    }
}
