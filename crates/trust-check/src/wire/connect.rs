//! Connecting, and what each connection begins with.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::Socket;
use trust_cli::connect::refusal;
use trust_net::errno::{self, ErrorClass, Operation};
use trust_net::preface::ProxyPreface;
use trust_net::socket;
use trust_net::stream::ClientStream;
use trust_net::wire::EncodedProxyHeader;

use super::unasked::WithoutUnasked;
use super::{Wire, pause, wait};
use crate::delivery::Delivery;
use crate::exchange::learned::Learned;
use crate::request::Request;
use crate::setup::{CONNECT_SLOW, Setup};
use crate::transcript::{Excerpt, Transcript, What};
use crate::verdict::{Evidence, Judged, Verdict};

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
        pause(setup, setup.rate.take_turn())?;
        let since = Instant::now();
        let failed = |error: io::Error| {
            if finds_nothing(&error) {
                setup.rate.count_refused_connect();
            }
            let evidence = match error.kind() {
                ErrorKind::TimedOut => Evidence::Time,
                _ => Evidence::Refusal { beside: setup.rate.open_or_left_by(since) },
            };
            let got = format!("connect: {}", refusal(&setup.address, &error));
            Verdict::fail_by(evidence, "the server accepts a connection", got)
        };
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
            received: None,
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
            // It was asked in one piece, so that another answer, or none, may be that of a server
            // that has no room for one more client.
            self.expect_answers(&[&message]).map_err(|why| why.shown_by(self.refusal()))?;
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
