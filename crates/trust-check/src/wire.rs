//! One connection to the server under test. Every byte of a conversation is recorded, no call waits
//! for ever, and a connection ends with an orderly close unless the case is about a RST.

mod expect;
mod flow;
mod leave;
mod pace;
mod unasked;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use socket2::{SockRef, Socket};
use trust_cli::connect::refusal;
use trust_cli::text::{reason, seconds};
use trust_net::errno::{self, ErrorClass, Operation};
use trust_net::preface::ProxyPreface;
use trust_net::socket;
use trust_net::stream::{ClientStream, Incoming};
use trust_net::wire::EncodedProxyHeader;

use crate::delivery::{Delivery, DeliveryStep};
use crate::exchange::learned::{Learned, shown};
use crate::request::Request;
use crate::setup::{CONNECT_SLOW, Setup};
use crate::transcript::{Excerpt, Transcript, What};
use crate::verdict::{Evidence, Finding, Judged, Verdict};

pub use flow::{STALL, StopReason, Unread};
pub use pace::Pace;
use unasked::WithoutUnasked;

/// Bytes received with one call.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Interval between checks whether the kernel of the first hop has acknowledged everything.
const LOOK: Duration = Duration::from_millis(1);

/// Longest wait for a place in a full accept queue: kernels send again after 0.2, 0.6, 1.4, 3, 6.2
/// and 12.6 seconds (RFC 6298, 5.5).
const ADMISSION_MAX: Duration = Duration::from_secs(15);

/// Interval between checks whether a place has become free.
const ADMISSION_LOOK: Duration = Duration::from_millis(5);

/// Payload of a segment over a narrow path, in bytes: that of an Ethernet.
const NARROW_SEGMENT: u32 = 1460;

/// Size of the receive buffer over a narrow path, in bytes, which our kernel doubles (`socket(7)`):
/// several segments, so that the path is not slow.
const NARROW_WINDOW: usize = 16 * 1024;

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

/// What the path to the server lets through at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Whatever the path does by itself.
    AsItIs,
    /// Small segments and a small window. A kernel sizes the send buffer of a connection for a
    /// number of segments, so that a server has to wait for its client much sooner than over
    /// loopback, where segments have 64 KiB.
    Narrow,
}

/// Whether it could be shown that a piece stood alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Apart {
    /// Its bytes were acknowledged before anything else was sent, or read from a unix socket. That
    /// does not cover what a proxy passes on.
    Shown,
    /// They were not, in all the time available.
    NotShown,
    /// The server ended the connection meanwhile. Its answers until then decide the verdict.
    Ended,
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
    /// Whether a byte came.
    has_received: bool,
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

impl<'s> Wire<'s> {
    /// Connects; `number` is its name in the transcript.
    ///
    /// # Errors
    ///
    /// A failure if the server does not take the connection in time.
    pub fn connect(setup: &'s Setup, number: u32, transcript: &Transcript) -> Judged<Wire<'s>> {
        Wire::connect_over(setup, number, transcript, PathKind::AsItIs)
    }

    /// The same without the preface that all others have.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect_without_preface(
        setup: &'s Setup,
        number: u32,
        transcript: &Transcript,
    ) -> Judged<Wire<'s>> {
        Wire::begin(setup, number, transcript, PathKind::AsItIs, None)
    }

    /// The same, with the preface that the others have sent, to be sent with what follows it; none
    /// if they have none.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect_before_preface(
        setup: &'s Setup,
        number: u32,
        transcript: &Transcript,
    ) -> Judged<(Wire<'s>, Vec<u8>)> {
        let wire = Wire::connect_without_preface(setup, number, transcript)?;
        let header = setup.preface.as_ref().map(|preface| wire.stream.preface_header(preface));
        Ok((wire, header.map_or_else(Vec::new, |header| header.to_vec())))
    }

    /// The same over a path that may be made narrow.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect_over(
        setup: &'s Setup,
        number: u32,
        transcript: &Transcript,
        path: PathKind,
    ) -> Judged<Wire<'s>> {
        Wire::begin(setup, number, transcript, path, setup.preface.as_ref())
    }

    fn begin(
        setup: &'s Setup,
        number: u32,
        transcript: &Transcript,
        path: PathKind,
        preface: Option<&ProxyPreface>,
    ) -> Judged<Wire<'s>> {
        let failed = |error: io::Error| {
            if finds_nothing(&error) {
                setup.rate.count_refused_connect();
            }
            let evidence = match error.kind() {
                ErrorKind::TimedOut => Evidence::Time,
                _ => Evidence::Refusal { beside: setup.rate.open() },
            };
            let got = format!("connect: {}", refusal(&setup.address, &error));
            Verdict::fail_by(evidence, "the server accepts a connection", got)
        };
        pause(setup, setup.rate.take_turn())?;
        let since = Instant::now();
        let opened = open(setup, path, preface, setup.patience)?.map_err(failed)?;
        let Opened { stream, connected_at, header } = opened;
        transcript.add(number, What::Connected);
        if let Some(header) = &header {
            transcript.add(number, What::SentPreface(Excerpt::of(header)));
        }
        let connected_in = connected_at - since;
        let beside = setup.rate.count_opened(connected_in);
        Ok(Wire {
            since,
            connected_in,
            setup,
            stream,
            number,
            transcript: transcript.clone(),
            end: None,
            patience: setup.patience,
            has_sent_preface_alone: header.is_some(),
            has_received: false,
            is_hidden: setup.exchanges.as_ref().is_some_and(Learned::has_secret),
            delivery: Delivery::default(),
            is_last: false,
            answered: 0,
            kept: vec![],
            without_unasked: setup.exchanges.as_ref().and_then(WithoutUnasked::new),
            has_finished: false,
            beside,
            leaves_at_once: false,
        })
    }

    /// Does this and shows none of what it sends, if it is secret.
    pub fn sending_secret<T>(&mut self, is_secret: bool, work: impl FnOnce(&mut Self) -> T) -> T {
        let was_hidden = self.is_hidden;
        self.is_hidden |= is_secret;
        let done = work(self);
        self.is_hidden = was_hidden;
        done
    }

    /// Exchanges what each connection of the protocol begins with.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`] and [`Wire::expect_answers`].
    pub fn exchange_beginning(&mut self) -> Judged<()> {
        self.exchange_beginning_from(0)
    }

    /// The same without the first of these exchanges.
    ///
    /// # Errors
    ///
    /// As [`Wire::exchange_beginning`].
    pub fn exchange_beginning_from(&mut self, first: usize) -> Judged<()> {
        let Some(learned) = &self.setup.exchanges else { return Ok(()) };
        for exchange in learned.before.iter().skip(first) {
            let message = Request::copy_of(exchange, learned);
            self.send_request(&message)?;
            let sent = self.delivery.clone();
            if exchange.is_greeting() {
                self.await_greeting()?;
            }
            // It was asked in one piece, so that another answer may be that of a server that has no
            // room for one more client.
            self.expect_answers(&[&message]).map_err(|why| match &why {
                Verdict::Fail(Finding { evidence: Evidence::Bytes, .. }) => {
                    let refusal = self.refusal();
                    why.shown_by(refusal)
                }
                _ => why,
            })?;
            self.answered = 0;
            self.delivery = sent;
            self.delivery.end_beginning();
        }
        Ok(())
    }

    /// Waits for a byte of a server that speaks first. As long as its accept queue is full it does
    /// not know of us, and no byte of ours shows it.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn await_greeting(&self) -> Judged<()> {
        if self.setup.is_tcp() {
            self.wait(PollFlags::IN, ADMISSION_MAX.min(self.patience))?;
        }
        Ok(())
    }

    /// Sends a request, whose bytes are not shown if they are secret.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`].
    pub fn send_request(&mut self, request: &Request) -> Judged<()> {
        self.sending_secret(request.is_secret(), |wire| wire.send(&request.bytes))
    }

    /// Sends all of it; the server has to take it within the patience.
    ///
    /// # Errors
    ///
    /// A failure if the server ended the connection, or took nothing for that long.
    pub fn send(&mut self, bytes: &[u8]) -> Judged<()> {
        let expected = "the server reads what is sent";
        match self.try_send(bytes, self.setup.patience)? {
            sent if sent == bytes.len() => Ok(()),
            sent => Err(Verdict::fail_by(
                self.evidence(),
                expected,
                match self.is_over() {
                    true => {
                        format!("it ended the connection after {sent} of {} bytes", bytes.len())
                    }
                    false => format!(
                        "it took {sent} of {} bytes and nothing more for {}",
                        bytes.len(),
                        seconds(self.setup.patience)
                    ),
                },
            )),
        }
    }

    /// Sends as much as the server takes without a pause longer than `patience`, and returns the
    /// number of bytes. An end of the connection stops it too, and is remembered.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn try_send(&mut self, bytes: &[u8], patience: Duration) -> Judged<usize> {
        let mut sent = 0;
        while sent < bytes.len() && !self.is_over() {
            let count = self.send_once(&bytes[sent..]);
            sent += count;
            if count == 0 && !self.is_over() && !self.wait(PollFlags::OUT, patience)? {
                break;
            }
        }
        Ok(sent)
    }

    /// Waits until the server's kernel has acknowledged a byte of what was sent, or something came.
    /// Until then the server may not know of the connection: if its accept queue is full, its
    /// kernel drops the last segment of the handshake and everything after it, although our kernel
    /// considers the connection established. Over a unix socket an established connection has its
    /// place in the queue.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn await_admission(&self) -> Judged<()> {
        if !self.setup.is_tcp() {
            return Ok(());
        }
        let unacknowledged = || socket::path_info(self.stream.as_fd()).unacknowledged;
        let (sent, until) = (unacknowledged(), Instant::now() + ADMISSION_MAX);
        while sent > 0
            && unacknowledged() == sent
            && Instant::now() < until
            && !self.wait(PollFlags::IN, ADMISSION_LOOK)?
        {}
        let is_sent_again = socket::path_info(self.stream.as_fd()).retransmits > 0;
        let is_slow = self.connected_in < CONNECT_SLOW && self.since.elapsed() >= CONNECT_SLOW;
        if is_slow && is_sent_again {
            self.note("the handshake met a full accept queue");
            self.setup.rate.count_slow_connect();
        }
        Ok(())
    }

    /// Sends all of it and a FIN that goes with the last byte: the server learns of both at once.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`].
    pub fn send_and_finish(&mut self, bytes: &[u8]) -> Judged<()> {
        // Without it the FIN goes a little later, which is the same to any server but a fast one.
        if self.setup.is_tcp() {
            let _ = SockRef::from(&self.stream).set_tcp_cork(true);
        }
        self.send(bytes)?;
        self.finish();
        Ok(())
    }

    /// Sends a piece and waits until the kernel of the first hop (the server's, or that of a proxy
    /// in front of it) has acknowledged all of it. Then leaves the server alone for the settle
    /// time, so that one receive there can have brought this piece and no more. A preface is a
    /// piece of its own. On a unix socket the same counter (SIOCOUTQ) is the memory of what the
    /// peer has not read, so there the peer itself has read all of it.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`].
    pub fn send_piece(&mut self, bytes: &[u8]) -> Judged<Apart> {
        if self.has_sent_preface_alone && self.leave_alone()? == Apart::Ended {
            return Ok(Apart::Ended);
        }
        self.send(bytes)?;
        self.leave_alone()
    }

    /// Waits until all that was sent is acknowledged, and then for the settle time.
    fn leave_alone(&mut self) -> Judged<Apart> {
        let until = Instant::now() + self.setup.patience;
        while socket::path_info(self.stream.as_fd()).unacknowledged > 0 {
            if Instant::now() >= until {
                let done = self.taken();
                self.note(&format!("not {done}: it cannot be shown that this piece stood alone"));
                return Ok(Apart::NotShown);
            }
            // Without flags `poll(2)` reports only a RST, after which nothing is acknowledged.
            if self.wait(PollFlags::empty(), LOOK)? {
                return Ok(Apart::Ended);
            }
        }
        if self.wait(PollFlags::empty(), self.setup.settle)? {
            return Ok(Apart::Ended);
        }
        let settle = self.setup.settle;
        self.delivery.add(DeliveryStep::Pause(settle));
        self.record(match self.setup.is_tcp() {
            true => What::LeftAlone(settle),
            false => What::ReadAndLeftAlone(settle),
        });
        Ok(Apart::Shown)
    }

    /// Sends the pieces one by one. What follows is judged only if they are shown to have stood
    /// apart.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`]; inconclusive if they may have come together.
    pub fn send_apart<'b>(&mut self, pieces: impl IntoIterator<Item = &'b [u8]>) -> Judged<()> {
        let mut pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).peekable();
        while let Some(piece) = pieces.next() {
            let is_last = pieces.peek().is_none();
            match is_last {
                true => self.send(piece)?,
                false => match self.send_piece(piece)? {
                    Apart::Shown => {}
                    Apart::Ended => return Ok(()),
                    Apart::NotShown => {
                        return Err(Verdict::inconclusive(format!(
                            "a piece was not {} in time, so the pieces may have come together",
                            self.taken()
                        )));
                    }
                },
            }
        }
        Ok(())
    }

    /// What happens to bytes that leave our send queue.
    fn taken(&self) -> &'static str {
        if self.setup.is_tcp() { "acknowledged" } else { "read" }
    }

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

    /// How long ago the connection was begun.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
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

    /// Sends FIN and goes on receiving (`shutdown(2)`).
    pub fn finish(&mut self) {
        self.stream.half_close();
        self.has_finished = true;
        self.delivery.add(DeliveryStep::Finish);
        self.record(What::SentFin);
    }

    /// Says something in the transcript.
    pub fn note(&self, text: &str) {
        self.record(What::Note(text.to_owned()));
    }

    /// Hands to our kernel what it takes now; how many bytes.
    fn send_once(&mut self, bytes: &[u8]) -> usize {
        if self.stream.send_error().is_some() {
            return 0;
        }
        let count = self.stream.send(bytes);
        if count > 0 {
            self.has_sent_preface_alone = false;
            self.delivery.add_sent(&bytes[..count], self.is_hidden);
            self.record(What::Sent(match self.is_hidden {
                true => Excerpt::of_secret(count),
                false => Excerpt::of(&bytes[..count]),
            }));
        } else if let Some(errno) = self.stream.send_error() {
            let error = io::Error::from_raw_os_error(errno);
            self.note(&format!("sending fails: {}", reason(&error)));
        }
        count
    }

    /// Receives what is there; `None` if that is nothing. An end is remembered.
    fn receive_once(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if !self.kept.is_empty() {
            return self.receive_kept(buffer);
        }
        match self.stream.receive(buffer) {
            Incoming::Bytes(count) => {
                self.has_received = true;
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

/// Whether that is the error of a connect where nothing listens.
pub fn finds_nothing(error: &io::Error) -> bool {
    let class = errno::classify(errno::of(error), Operation::Connect);
    matches!(class, ErrorClass::Refused | ErrorClass::Missing)
}

/// A connection that has just been made.
pub struct Opened {
    stream: ClientStream,
    connected_at: Instant,
    /// What was sent of its preface, if it has one.
    header: Option<EncodedProxyHeader>,
}

/// Connects, within the patience, and sends the preface.
///
/// # Errors
///
/// Only when the run is to end. Inside of it, as `connect(2)`.
pub fn open(
    setup: &Setup,
    path: PathKind,
    preface: Option<&ProxyPreface>,
    patience: Duration,
) -> Judged<io::Result<Opened>> {
    let configure = |socket: &Socket| {
        if path == PathKind::Narrow && setup.is_tcp() {
            // Both must be set before the first segment, which announces them to the server's
            // kernel. Otherwise it takes more to fill it.
            let _ = socket.set_tcp_mss(NARROW_SEGMENT);
            let _ = socket.set_recv_buffer_size(NARROW_WINDOW);
        }
    };
    let address = &setup.address;
    let since = Instant::now();
    let mut stream = loop {
        match ClientStream::begin_connecting(address, configure) {
            Ok(stream) => break stream,
            Err(error)
                if ClientStream::is_queue_full(address, &error) && since.elapsed() < patience =>
            {
                pause(setup, ClientStream::queue_pause(since.elapsed()))?;
            }
            Err(error) if ClientStream::is_queue_full(address, &error) => {
                return Ok(Err(ErrorKind::TimedOut.into()));
            }
            Err(error) => return Ok(Err(error)),
        }
    };
    if !wait(setup, Some((stream.as_fd(), PollFlags::OUT)), patience)? {
        return Ok(Err(ErrorKind::TimedOut.into()));
    }
    if let Err(error) = stream.finish_connecting() {
        return Ok(Err(error));
    }
    let connected_at = Instant::now();
    let header = preface.map(|preface| stream.send_preface(preface));
    // Only a kernel that is out of memory does not take it at once.
    while !stream.flush_preface() && stream.send_error().is_none() {
        if !wait(setup, Some((stream.as_fd(), PollFlags::OUT)), patience)? {
            return Ok(Err(ErrorKind::TimedOut.into()));
        }
    }
    Ok(Ok(Opened { stream, connected_at, header }))
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
