//! A connection to an echo server, and the conversation on it.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use trust_net::Address;
use trust_net::errno::{ErrorClass, Operation, classify};
use trust_net::preface::ProxyPreface;
use trust_net::socket::probe;
use trust_net::stream::{ClientStream, Incoming};
use trust_net::wire::{LengthFormat, Opening};

use crate::echo::conversation::{Conversation, Framing, WrongEcho};
use crate::error_map::exit_code;
use crate::exit_code::{ExitCode, Failure};
use crate::foreign;
use crate::own_host::is_on_this_host;
use crate::send_proxy;
use crate::target::Target;
use crate::text::{reason, seconds};

/// How often to look whether the server acknowledged more while it owes an answer: the most that a
/// timeout can be late.
const ACKNOWLEDGEMENT_CHECK: Duration = Duration::from_millis(50);

/// Idle times below this are not worth mentioning when the server goes away.
const IDLE_WORTH_TELLING: Duration = Duration::from_millis(500);

/// A connection and what was said on it.
#[derive(Debug)]
pub struct Link {
    stream: ClientStream,
    /// What the stream began with, if with a PROXY header.
    preface: Option<ProxyPreface>,
    /// What was sent and what is owed.
    pub conversation: Conversation,
    is_half_closed: bool,
    /// The peer that was told so, as long as the kernel knew it.
    half_closed_to: Option<Address>,
    /// An ICMP "unreachable" since the last progress: the connection may survive it.
    soft_error: Option<i32>,
    /// When something was last sent, received or acknowledged.
    progress: Instant,
    /// Bytes that were sent, and how many of them were acknowledged when that was last looked at.
    sent: u64,
    acknowledged: u64,
    /// What the kernel held then of what was sent: bytes that are not acknowledged, or the memory
    /// of what the peer of a unix socket has not read.
    held: u64,
    /// How the server's stream began, if not with an echo.
    opening: Option<Box<Opening>>,
}

/// What [`Link::receive`] found.
#[derive(Debug)]
pub enum LinkInput {
    /// Nothing yet.
    Nothing,
    /// Bytes that are an echo.
    Echo,
    /// Bytes that are none; those in this range of the buffer did not match.
    Wrong(WrongEcho, Range<usize>),
    /// The connection is over.
    End(LinkEnd),
}

/// How a connection ended, told apart as the user needs it.
#[derive(Debug)]
pub enum LinkEnd {
    /// The server's FIN.
    Closed,
    /// The server's RST.
    Reset,
    /// Nothing came for so long; with the error that the network reported meanwhile.
    TimedOut(Duration, Option<io::Error>),
    /// Any other error.
    Failed(io::Error),
}

impl Link {
    /// A fresh connection.
    pub fn new(stream: ClientStream, conversation: Conversation) -> Link {
        Link {
            stream,
            preface: None,
            conversation,
            is_half_closed: false,
            half_closed_to: None,
            soft_error: None,
            progress: Instant::now(),
            sent: 0,
            acknowledged: 0,
            held: 0,
            opening: None,
        }
    }

    /// The same of a connection that began with this PROXY header, if with one.
    pub fn with_preface(self, preface: Option<ProxyPreface>) -> Link {
        Link { preface, ..self }
    }

    /// What to poll for; `None` if nothing.
    pub fn interest(&self, is_reading: bool) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, is_reading);
        flags.set(PollFlags::OUT, self.wants_to_send());
        (!flags.is_empty()).then(|| (self.stream.as_fd(), flags))
    }

    /// Bytes that were sent and echoes that were received so far, together.
    pub fn bytes_moved(&self) -> u64 {
        self.sent + self.conversation.bytes_echoed()
    }

    /// Whether the kernel has taken all that was to be sent so far.
    pub fn has_sent_all(&self) -> bool {
        !self.stream.has_unsent_preface() && self.conversation.unsent().is_empty()
    }

    /// Whether sending failed: [`Link::receive`] has to say how the connection ended.
    pub fn is_broken(&self) -> bool {
        self.stream.send_error().is_some()
    }

    /// Sends what the socket takes now.
    pub fn send(&mut self) {
        while self.wants_to_send() {
            let count = self.stream.send(self.conversation.unsent());
            if count == 0 {
                return;
            }
            self.conversation.handle_sent(count);
            self.sent += count as u64;
            self.progress = Instant::now();
        }
    }

    /// Signals to the server, once, that nothing more will come. What it owes can still be
    /// received.
    pub fn half_close(&mut self) {
        if self.is_half_closed || self.is_broken() {
            return;
        }
        self.is_half_closed = true;
        self.half_closed_to = self.stream.peer_addr().ok();
        self.progress = Instant::now();
        self.stream.half_close();
    }

    /// Receives once and compares.
    pub fn receive(&mut self, buffer: &mut [u8]) -> LinkInput {
        match self.stream.receive(buffer) {
            Incoming::Nothing => LinkInput::Nothing,
            Incoming::End => LinkInput::End(LinkEnd::Closed),
            Incoming::Failed(errno) => LinkInput::End(LinkEnd::of(errno)),
            Incoming::Bytes(count) => {
                self.progress = Instant::now();
                self.soft_error = None;
                let before = self.conversation.bytes_echoed();
                let begun = self.conversation.begun_header().to_vec();
                match self.conversation.handle_received(&buffer[..count]) {
                    Ok(()) => LinkInput::Echo,
                    Err(wrong) => {
                        let matched = (self.conversation.bytes_echoed() - before) as usize;
                        if before == 0 && matched == 0 {
                            self.note_opening(&[&begun, &buffer[..count]].concat());
                        }
                        LinkInput::Wrong(wrong, matched..count)
                    }
                }
            }
        }
    }

    /// Counts as progress: for the time in which the answer is not asked for.
    pub fn touch(&mut self) {
        self.progress = Instant::now();
    }

    /// When to call [`Link::check_patience`] if nothing happens before; `None` while nothing is
    /// owed.
    pub fn patience_end(&self, limit: Option<Duration>) -> Option<Instant> {
        let limit = limit.filter(|_| self.is_owed_something())?;
        let now = Instant::now();
        let end = self.progress + limit;
        match self.acknowledged < self.sent {
            true => Some(end.min(now + ACKNOWLEDGEMENT_CHECK)),
            false => Some(end),
        }
    }

    /// Whether the wait for an answer has been too long: nothing was sent, received or acknowledged
    /// for that time.
    ///
    /// Acknowledged bytes count, as on a slow link the kernel still sends what it took long ago,
    /// and so do bytes that the peer of a unix socket has read.
    pub fn check_patience(&mut self, limit: Duration) -> Option<LinkEnd> {
        if !self.is_owed_something() {
            return None;
        }
        let probe = probe(self.stream.as_fd());
        let acknowledged = self.sent.saturating_sub(probe.unacknowledged);
        let held = std::mem::replace(&mut self.held, probe.unacknowledged);
        // Memory may fall while it is still more than all that was sent.
        if acknowledged > self.acknowledged || probe.unacknowledged < held {
            self.acknowledged = acknowledged.max(self.acknowledged);
            self.progress = Instant::now();
            self.soft_error = None;
        }
        // An ICMP "unreachable" stays in the socket, and an established connection does not report
        // it by itself. The probe has taken it, or what the next receive would have failed with.
        if let Some((errno, _)) = probe.error {
            match classify(errno, Operation::Send) {
                ErrorClass::Unreachable => self.soft_error = Some(errno),
                _ => self.stream.handle_error(errno),
            }
        }
        let is_over = !self.is_broken() && self.progress.elapsed() >= limit;
        let soft = self.soft_error.map(io::Error::from_raw_os_error);
        is_over.then_some(LinkEnd::TimedOut(limit, soft))
    }

    /// What is wrong with what came in place of an echo and, if the server never sent an echo, what
    /// it sent instead.
    pub fn wrong_echo(&self, target: &Target, wrong: &WrongEcho) -> Failure {
        let message = match self.opening.as_deref() {
            None => wrong.to_string(),
            Some(opening) => {
                let began = foreign::answer_began(opening);
                format!("{wrong}; the answer {began} (trustctl check {target} finds out more)")
            }
        };
        self.hinted(Failure::new(ExitCode::Protocol, message))
    }

    fn note_opening(&mut self, start: &[u8]) {
        let expected = match self.conversation.framing() {
            Framing::Framed => Some(LengthFormat::U32_BE),
            Framing::Raw => None,
        };
        self.opening = Some(Box::new(Opening::new(start, expected)));
    }

    /// What the end of the connection means for the user: the exit code and the message.
    pub fn failure(&self, target: &Target, end: &LinkEnd) -> Failure {
        let owed = self.conversation.owed();
        let (exit, what) = end.describe(owed.is_some());
        let idle = self.progress.elapsed();
        let message = match (owed, end) {
            (Some(owed), LinkEnd::Closed | LinkEnd::Reset) if self.may_be_a_box() => format!(
                "{target}, or a box between, {what} after the end of the input while an answer was \
                 owed ({owed})"
            ),
            (Some(owed), _) => format!("{target} {what} while an answer was owed ({owed})"),
            (None, LinkEnd::TimedOut(limit, _)) => {
                let limit = seconds(*limit);
                format!("{target} kept the connection open for {limit} after the end of the input")
            }
            (None, _) if idle >= IDLE_WORTH_TELLING => {
                let idle = seconds(idle);
                format!("{target} {what} while nothing was owed ({idle} after the last byte)")
            }
            (None, _) => format!("{target} {what} while nothing was owed"),
        };
        self.hinted(Failure::new(exit, message))
    }

    /// With a hint at the likely cause if not even a part of an echo came.
    fn hinted(&self, failure: Failure) -> Failure {
        match &self.preface {
            Some(preface) if self.conversation.bytes_echoed() == 0 => {
                failure.with_hint(send_proxy::hint(preface))
            }
            _ => failure,
        }
    }

    /// Whether the end may be that of a box which ends a connection when one side has finished
    /// sending, as some proxies and firewalls do.
    fn may_be_a_box(&self) -> bool {
        self.half_closed_to.as_ref().is_some_and(|peer| !is_on_this_host(peer))
    }

    fn is_owed_something(&self) -> bool {
        self.is_half_closed || self.conversation.owed().is_some()
    }

    fn wants_to_send(&self) -> bool {
        !self.is_broken() && !self.has_sent_all()
    }
}

impl LinkEnd {
    fn of(errno: i32) -> LinkEnd {
        match classify(errno, Operation::Send) {
            ErrorClass::Reset | ErrorClass::BrokenPipe => LinkEnd::Reset,
            _ => LinkEnd::Failed(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The exit code, and what the server did, as the middle of a sentence.
    pub fn describe(&self, is_owed: bool) -> (ExitCode, String) {
        let gone = match is_owed {
            true => ExitCode::Protocol,
            false => ExitCode::Unavailable,
        };
        match self {
            LinkEnd::Closed => (gone, "closed the connection".into()),
            LinkEnd::Reset => (gone, "reset the connection".into()),
            LinkEnd::TimedOut(limit, soft) => {
                let limit = seconds(*limit);
                let what = match soft {
                    Some(soft) => format!("sent nothing for {limit} ({})", reason(soft)),
                    None => format!("sent nothing for {limit}"),
                };
                (ExitCode::TimedOut, what)
            }
            LinkEnd::Failed(error) => {
                let exit = exit_code(error, Operation::Send);
                let what = match exit {
                    ExitCode::TimedOut => "no longer answers",
                    ExitCode::Unavailable => "became unreachable",
                    _ => "got lost",
                };
                (exit, format!("{what} ({})", reason(error)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::conversation::{Framing, Window};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};

    use trust_net::UnixName;

    const WINDOW: Window = Window { bytes: 1 << 20, frames: u64::MAX };

    use trust_net::preface::PrefaceSource;
    use trust_net::wire::ProxyVersion;

    /// A link, and the server's side of it.
    fn link() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = ClientStream::begin_connecting(&address.into(), |_| ()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (Link::new(stream, Conversation::new(Framing::Framed, WINDOW)), server)
    }

    fn target() -> Target {
        Target::new("server", 7)
    }

    /// Receives until something happens.
    fn receive(link: &mut Link) -> LinkInput {
        let mut buffer = [0; 1000];
        loop {
            match link.receive(&mut buffer) {
                LinkInput::Nothing => std::thread::yield_now(),
                received => return received,
            }
        }
    }

    fn end(link: &mut Link) -> Failure {
        match receive(link) {
            LinkInput::End(end) => link.failure(&target(), &end),
            other => panic!("not an end: {other:?}"),
        }
    }

    #[test]
    fn a_fin_while_an_answer_is_owed_says_how_much_of_it_had_arrived() {
        let (mut link, mut server) = link();
        link.conversation.push_message(&[b'x'; 70_000]);
        link.send();
        server.write_all(&[0, 1]).unwrap();
        let mut frame = vec![0; 70_004];
        server.read_exact(&mut frame).unwrap();
        drop(server);
        assert!(matches!(receive(&mut link), LinkInput::Echo));
        let failure = end(&mut link);
        assert_eq!(failure.exit, ExitCode::Protocol);
        let expected = "server:7 closed the connection while an answer was owed \
                        (got 2 of 70,004 bytes of echo 1)";
        assert_eq!(failure.message, expected);
    }

    #[test]
    fn a_reset_is_told_apart_from_a_close() {
        let (mut link, server) = link();
        link.conversation.push_message(b"unread");
        link.send();
        // Closing with unread bytes sends RST.
        server.peek(&mut [0]).unwrap();
        drop(server);
        let failure = end(&mut link);
        assert_eq!(failure.exit, ExitCode::Protocol);
        assert!(failure.message.starts_with("server:7 reset the connection while an answer"));
    }

    #[test]
    fn a_preface_is_named_where_nothing_of_an_echo_ever_came() {
        let preface = ProxyPreface { version: ProxyVersion::V1, source: PrefaceSource::Own };
        let hint = "a PROXY header (v1) was sent first, and perhaps the server does not expect one";
        let (link_of, mut server) = link();
        let mut link_of = link_of.with_preface(Some(preface));
        link_of.conversation.push_message(b"abc");
        link_of.send();
        server.write_all(b"HTTP/1.1 400").unwrap();
        let LinkInput::Wrong(wrong, _) = receive(&mut link_of) else { panic!("no wrong echo") };
        assert_eq!(link_of.wrong_echo(&target(), &wrong).hint.as_deref(), Some(hint));
        drop(server);

        let (silent, server) = link();
        drop(server);
        assert_eq!(end(&mut silent.with_preface(Some(preface))).hint.as_deref(), Some(hint));

        let (served, mut server) = link();
        let mut served = served.with_preface(Some(preface));
        served.conversation.push_message(b"abc");
        served.send();
        server.write_all(b"\0\0\0\x03abc").unwrap();
        assert!(matches!(receive(&mut served), LinkInput::Echo));
        server.read_exact(&mut [0; 7]).unwrap();
        drop(server);
        assert_eq!(end(&mut served).hint, None);
    }

    #[test]
    fn a_close_while_nothing_is_owed_means_unavailable() {
        let (mut link, server) = link();
        drop(server);
        let failure = end(&mut link);
        assert_eq!(failure.exit, ExitCode::Unavailable);
        assert_eq!(failure.message, "server:7 closed the connection while nothing was owed");
    }

    #[test]
    fn patience_runs_only_while_an_answer_is_owed() {
        let (mut link, mut server) = link();
        let limit = Some(Duration::from_secs(5));
        assert_eq!(link.patience_end(limit), None);
        link.conversation.push_message(b"");
        link.send();
        assert!(link.patience_end(limit).is_some());
        assert_eq!(link.patience_end(None), None);
        server.write_all(&[0; 4]).unwrap();
        assert!(matches!(receive(&mut link), LinkInput::Echo));
        assert_eq!(link.patience_end(limit), None);
        link.half_close();
        assert!(link.patience_end(limit).is_some());
    }

    #[test]
    fn what_the_peer_of_a_unix_socket_has_read_is_progress() {
        let name = format!("trust-cli-link-{}", std::process::id());
        let address = UnixAddress::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let address = Address::Unix(UnixName::Abstract(name.into_bytes()));
        let stream = ClientStream::begin_connecting(&address, |_| ()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut link = Link::new(stream, Conversation::new(Framing::Framed, WINDOW));
        let limit = Duration::from_millis(20);
        for _ in 0..3 {
            link.conversation.push_message(b"some bytes");
            link.send();
        }
        assert!(link.check_patience(Duration::from_secs(60)).is_none());
        for _ in 0..3 {
            std::thread::sleep(limit);
            // All three take more memory than they have bytes, also when one of them is read.
            server.read_exact(&mut [0; 14]).unwrap();
            assert!(link.check_patience(limit).is_none());
        }
        std::thread::sleep(limit);
        assert!(matches!(link.check_patience(limit), Some(LinkEnd::TimedOut(..))));
    }

    /// What is said of an answer that comes in these pieces.
    fn complaint(pieces: &[&[u8]]) -> String {
        let (mut link, mut server) = link();
        link.conversation.push_message(b"hello");
        link.send();
        for (index, piece) in pieces.iter().enumerate() {
            server.write_all(piece).unwrap();
            match receive(&mut link) {
                LinkInput::Wrong(wrong, _) => return link.wrong_echo(&target(), &wrong).message,
                LinkInput::Echo if index + 1 < pieces.len() => {}
                other => panic!("a wrong echo went unnoticed: {other:?}"),
            }
        }
        panic!("nothing came");
    }

    #[test]
    fn an_answer_in_another_protocol_is_shown_and_named() {
        let http = complaint(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]);
        let expected = "wrong echo 1: its header declares 1,213,486,160 bytes, 5 were sent; the \
             answer began with \"HTTP/1.1 400 Bad Request\\r\\n\\r\\n\", which looks like an HTTP \
             response (trustctl check server:7 finds out more)";
        assert_eq!(http, expected);
        let in_pieces = complaint(&[b"SS", b"H-2.0-x\r\n"]);
        assert!(in_pieces.contains("began with \"SSH-2.0-x\\r\\n\", which looks like SSH ("));
        let little_endian = complaint(&[b"\x05\0\0\0hello"]);
        assert!(
            little_endian
                .contains("began with 05 00 00 00 68 65 6c 6c 6f, which looks like frames")
        );
        let later = complaint(&[b"\0\0\0\x05hel", b"GET / HTTP/1.1"]);
        assert!(!later.contains("began with"), "{later}");
    }

    #[test]
    fn bytes_that_do_not_match_are_pointed_out() {
        let (mut link, mut server) = link();
        link.conversation.push_message(b"abc");
        link.send();
        server.write_all(b"\0\0\0\x03abX").unwrap();
        let LinkInput::Wrong(wrong, unmatched) = receive(&mut link) else {
            panic!("a wrong byte went unnoticed");
        };
        assert_eq!(wrong, WrongEcho::Byte { echo: 1, offset: 2, expected: b'c', got: b'X' });
        assert_eq!(unmatched, 6..7);
    }
}
