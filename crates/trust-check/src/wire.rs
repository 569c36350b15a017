//! One connection to the server under test. Every byte of a conversation is recorded, no call waits
//! for ever, and a connection ends with an orderly close unless the case is about a RST.

mod connect;
mod expect;
mod flow;
mod leave;
mod pace;
mod send;
mod unasked;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use socket2::SockRef;
use trust_net::socket;
use trust_net::stream::{ClientStream, Incoming};

use crate::delivery::Delivery;
use crate::exchange::difference::shown;
use crate::setup::Setup;
use crate::transcript::{Excerpt, Transcript, What};
use crate::verdict::{Judged, Verdict};

pub use connect::{PathKind, finds_nothing, open};
pub use flow::{STALL, StopReason, UNREAD_ANSWERS_MAX, Unread};
pub use pace::Pace;
pub use send::Apart;
use unasked::WithoutUnasked;

/// Bytes received with one call.
const RECEIVE_BYTES: usize = 64 * 1024;

/// How a connection ended, as far as we waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The server's FIN came.
    Fin,
    /// The server's RST came.
    Reset,
    /// Neither came in time.
    Open,
}

// Many fields: what is known of the connection, and what it may do.
/// One connection.
#[derive(Debug)]
pub struct Wire<'s> {
    setup: &'s Setup,
    /// When connecting began, and how long it took by our kernel.
    since: Instant,
    connected_in: Duration,
    stream: ClientStream,
    number: u32,
    transcript: Transcript,
    end: Option<ConnectionEnd>,
    /// How long an answer is waited for without any progress.
    patience: Duration,
    /// Whether the preface is all that was sent.
    has_sent_preface_alone: bool,
    /// When bytes last came, if any did.
    received: Option<Instant>,
    /// Whether what is sent is not to be shown.
    is_hidden: bool,
    /// What was done, to be done again if it goes wrong.
    delivery: Delivery,
    /// The server has said that it will answer nothing more.
    is_last: bool,
    /// Right answers that came after the beginning of the connection.
    answered: usize,
    /// What came after the answers that were waited for, to be received again.
    kept: Vec<u8>,
    /// What has to be taken out of what is received.
    without_unasked: Option<WithoutUnasked<'s>>,
    /// Whether our FIN was sent.
    has_finished: bool,
    /// Other connections of the check that were open when this one began.
    beside: u64,
    /// Whether dropping it closes without another look, also where that is a RST.
    leaves_at_once: bool,
}

impl Wire<'_> {
    /// Gives bytes back that were received, to be received again.
    pub fn keep(&mut self, bytes: Vec<u8>) {
        self.kept.splice(0..0, bytes);
    }

    /// Receives once, at most until `limit` bytes are there, and returns whether any bytes came.
    /// The end is remembered.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn receive_into(
        &mut self,
        got: &mut Vec<u8>,
        limit: usize,
        patience: Duration,
    ) -> Judged<bool> {
        let mut buffer = vec![0; RECEIVE_BYTES.min(limit.saturating_sub(got.len()))];
        let until = Instant::now() + patience;
        while (self.end.is_none() || !self.kept.is_empty()) && !buffer.is_empty() {
            if let Some(count) = self.receive_once(&mut buffer) {
                got.extend_from_slice(&buffer[..count]);
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if self.end.is_none() && (left.is_zero() || !self.wait(PollFlags::IN, left)?) {
                if !patience.is_zero() {
                    self.record(What::Silence(patience));
                }
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Makes our kernel delay acknowledgements, as it does by itself once a connection looks
    /// interactive (`tcp(7)`, TCP_QUICKACK). It may change its mind, so this holds for the next
    /// exchange.
    pub fn acknowledge_late(&self) {
        // Without it this is found a little less surely.
        let _ = sockopt::set_tcp_quickack(&self.stream, false);
    }

    /// The round trip that our kernel has measured so far; right after a connect, that of the path
    /// alone.
    pub fn round_trip(&self) -> Duration {
        socket::path_info(self.stream.as_fd()).round_trip
    }

    /// Bytes of a whole segment to the server (TCP_MAXSEG, `tcp(7)`).
    pub fn segment(&self) -> u64 {
        SockRef::from(&self.stream).tcp_mss().unwrap_or(0).into()
    }

    /// Its name in the transcript.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How long ago the connection was begun.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// How long nothing has come; if nothing ever has, since it was begun.
    pub fn silence(&self) -> Duration {
        self.received.unwrap_or(self.since).elapsed()
    }

    /// How long an answer is waited for.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Waits for answers no longer than that from now on.
    pub fn be_patient_for(&mut self, patience: Duration) {
        self.patience = patience.min(self.setup.patience);
    }

    /// How the connection ended, if it is known to have.
    pub fn end(&self) -> Option<ConnectionEnd> {
        self.end
    }

    /// Whether nothing can be sent now: the peer has ended the connection, or a send has failed.
    /// Bytes that arrived before may still be there to receive.
    fn is_over(&self) -> bool {
        self.end.is_some() || self.stream.send_error().is_some()
    }

    /// Says something in the transcript.
    pub fn note(&self, text: &str) {
        self.record(What::Note(text.to_owned()));
    }

    /// Receives what is there; `None` if that is nothing. An end is remembered.
    fn receive_once(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if !self.kept.is_empty() {
            return self.receive_kept(buffer);
        }
        match self.stream.receive(buffer) {
            Incoming::Bytes(count) => {
                self.received = Some(Instant::now());
                self.record(What::Received(Excerpt::of(&buffer[..count])));
                let Some(without) = &mut self.without_unasked else { return Some(count) };
                for message in without.take(&buffer[..count], &mut self.kept) {
                    self.note(&format!("said unasked, and left out: {}", shown(&message)));
                }
                self.receive_kept(buffer)
            }
            Incoming::Nothing => None,
            Incoming::End => self.note_end(ConnectionEnd::Fin),
            Incoming::Failed(_) => self.note_end(ConnectionEnd::Reset),
        }
    }

    fn receive_kept(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let count = self.kept.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.kept[..count]);
        self.kept.drain(..count);
        (count > 0).then_some(count)
    }

    fn note_end(&mut self, end: ConnectionEnd) -> Option<usize> {
        self.end = Some(end);
        if let Some(without) = &mut self.without_unasked {
            without.end(&mut self.kept);
        }
        self.record(match (end, self.setup.is_tcp()) {
            (ConnectionEnd::Fin, _) => What::ReceivedFin,
            (_, true) => What::ReceivedReset,
            (_, false) => What::Note("the server closed over unread bytes (ECONNRESET)".to_owned()),
        });
        None
    }

    fn record(&self, what: What) {
        self.transcript.add(self.number, what);
    }

    fn wait(&self, flags: PollFlags, patience: Duration) -> Judged<bool> {
        wait(self.setup, Some((self.stream.as_fd(), flags)), patience)
    }
}

/// Does nothing for that long.
///
/// # Errors
///
/// Only when the run is to end.
pub fn pause(setup: &Setup, time: Duration) -> Judged<()> {
    match time.is_zero() {
        true => Ok(()),
        false => wait(setup, None, time).map(drop),
    }
}

/// Waits until the socket is ready (true) or the time is over (false).
fn wait(
    setup: &Setup,
    socket: Option<(BorrowedFd<'_>, PollFlags)>,
    patience: Duration,
) -> Judged<bool> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut polled = vec![PollFd::new(&setup.stop, PollFlags::IN)];
        polled.extend(socket.map(|(socket, flags)| PollFd::from_borrowed_fd(socket, flags)));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) if !polled[0].revents().is_empty() => {
                return Err(Verdict::skipped("the run was stopped"));
            }
            Ok(_) => return Ok(true),
            Err(_) if left.is_zero() => return Ok(false),
            Err(_) => {}
        }
    }
}
