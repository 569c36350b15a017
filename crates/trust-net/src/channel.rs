//! What a server and the child that serves one of its clients say to each other, over a stream of
//! AF_UNIX (`unix(7)`).
//!
//! First the server sends the connection itself (SCM_RIGHTS) with what the child has to know about
//! it, then orders of one byte each. The child sends one report once its connection has ended, and
//! before that the client that a PROXY header names, if there is one. Both run the same executable,
//! so there is no version to agree on.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use trust_wire::{Disconnect, Mode, Reason, Totals};

use crate::observer::{ClientInfo, Event, Observer};
use crate::socket::PathInfo;

mod last_words;

pub use self::last_words::Introduced;
pub(crate) use self::last_words::LastWords;
pub use crate::observer::Unlogged;

/// The most bytes about its connection that a child may be given: several times what the longest
/// path and identity need, and less than an empty socket takes at once.
pub const HAND_OVER_BYTES_MAX: usize = 64 * 1024;

/// Nothing on a channel is waited for, nor does it end anybody by SIGPIPE.
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
const RECEIVE_FLAGS: RecvFlags = RecvFlags::DONTWAIT.union(RecvFlags::CMSG_CLOEXEC);

const MODES: [Mode; 3] = [Mode::Auto, Mode::Framed, Mode::Raw];

/// What a server asks of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As [`crate::Handle::drain`].
    Drain,
    /// As [`crate::Handle::cut`].
    Cut,
    /// The log file is another one now.
    ReopenLog,
}

/// What a child finds on its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To do something.
    Order(Order),
    /// Nothing new.
    Nothing,
    /// That the server is gone.
    Alone,
}

/// How a connection ended that a child has served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Why; details are zero on the other side of the channel, as they are in [`Reason::KINDS`].
    pub reason: Reason,
    /// It was cut while the server was stopping.
    pub was_cut: bool,
    /// How its bytes were understood.
    pub mode: Mode,
    /// Bytes and frames.
    pub totals: Totals,
    /// From accept to close.
    pub lifetime: Duration,
    /// What the kernel knew about the path.
    pub path: Option<PathInfo>,
    /// Lines of its log that it could not write, which the server is to tell of.
    pub unlogged: Unlogged,
}

/// How often to try a call that has no reason to fail: the kernel may be short of memory for a
/// moment.
const TRIES: u32 = 10;

/// Calls again after a signal, and where the kernel would have it waited for what is there.
fn insist<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..TRIES {
        match call() {
            Err(Errno::INTR | Errno::AGAIN) => {}
            outcome => return outcome,
        }
    }
    call()
}

/// Sends the connection, and what the child has to know about it. The child need not have been
/// started yet.
pub(crate) fn hand_over(
    channel: BorrowedFd<'_>,
    connection: BorrowedFd<'_>,
    words: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(words.len()).ok().filter(|_| words.len() <= HAND_OVER_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?.to_be_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let connections = [connection];
    // There is room for one, which is what `space` was made for.
    ancillary.push(SendAncillaryMessage::ScmRights(&connections));
    let parts = [IoSlice::new(&length), IoSlice::new(words)];
    let send = || rustix::net::sendmsg(channel, &parts, &mut ancillary, SEND_FLAGS);
    let sent = insist(send)?;
    // An empty socket takes more than that.
    if sent == length.len() + words.len() { Ok(()) } else { Err(Errno::NOBUFS.into()) }
}

/// The child's connection and what it is told about it, which are there when it starts.
///
/// # Errors
///
/// EAGAIN, ENOTSOCK and others if nothing was handed over on this descriptor, `InvalidData` if it
/// was something else.
pub fn take_over(channel: BorrowedFd<'_>) -> io::Result<(OwnedFd, Vec<u8>)> {
    let mut header = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut header)];
    let receive = || rustix::net::recvmsg(channel, &mut parts, &mut ancillary, RECEIVE_FLAGS);
    let received = retry_on_intr(receive)?.bytes;
    let connection = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let length = u32::from_be_bytes(header) as usize;
    let Some(connection) = connection else { return Err(ErrorKind::InvalidData.into()) };
    if received != header.len() || length > HAND_OVER_BYTES_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut words = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match retry_on_intr(|| rustix::net::recv(channel, &mut words[filled..], RECEIVE_FLAGS))? {
            (_, 0) => return Err(ErrorKind::UnexpectedEof.into()),
            (_, count) => filled += count,
        }
    }
    Ok((connection, words))
}

/// Gives an order; returns whether the channel had room for it. A child that has ended needs none.
#[must_use]
pub(crate) fn give_order(channel: BorrowedFd<'_>, order: Order) -> bool {
    let byte = match order {
        Order::Drain => b'd',
        Order::Cut => b'c',
        Order::ReopenLog => b'r',
    };
    let sent = retry_on_intr(|| rustix::net::send(channel, &[byte], SEND_FLAGS));
    !matches!(sent, Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM))
}

/// The next order, without waiting.
pub fn next_order(channel: BorrowedFd<'_>) -> Told {
    let mut byte = [0];
    match retry_on_intr(|| rustix::net::recv(channel, &mut byte, RECEIVE_FLAGS)) {
        Ok((_, 0)) => Told::Alone,
        Ok(_) => match &byte {
            b"d" => Told::Order(Order::Drain),
            b"c" => Told::Order(Order::Cut),
            b"r" => Told::Order(Order::ReopenLog),
            _ => Told::Nothing,
        },
        Err(Errno::AGAIN) => Told::Nothing,
        Err(_) => Told::Alone,
    }
}

impl Report {
    const NUMBERS: usize = 10;
    const BYTES: usize = 8 * Report::NUMBERS + 4;

    /// A connection of which nothing more is known.
    pub(crate) fn only(reason: Reason, mode: Mode, lifetime: Duration) -> Report {
        let totals = Totals::default();
        let unlogged = Unlogged::default();
        Report { reason, was_cut: true, mode, totals, lifetime, path: None, unlogged }
    }

    /// Sends the report to the server.
    ///
    /// # Errors
    ///
    /// EPIPE if it is gone.
    pub fn send(&self, channel: BorrowedFd<'_>) -> io::Result<()> {
        let bytes = self.to_bytes();
        match insist(|| rustix::net::send(channel, &bytes, SEND_FLAGS))? {
            Report::BYTES => Ok(()),
            _ => Err(Errno::NOBUFS.into()),
        }
    }

    /// Reports to the observer that the connection is closed.
    pub fn tell(&self, client: &ClientInfo, cause: &Disconnect, observer: &dyn Observer) {
        let Report { mode, totals, lifetime, path, .. } = *self;
        observer.observe(&Event::Closed { client, cause, mode, totals, lifetime, path });
    }

    fn to_bytes(self) -> [u8; Report::BYTES] {
        let path = self.path.unwrap_or_default();
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let numbers: [u64; Report::NUMBERS] = [
            self.totals.bytes_in,
            self.totals.bytes_out,
            self.totals.frames_in,
            self.totals.frames_out,
            nanoseconds(self.lifetime),
            nanoseconds(path.round_trip),
            u64::from(path.retransmits),
            path.unacknowledged,
            self.unlogged.file,
            self.unlogged.stdout,
        ];
        let mode = MODES.iter().position(|mode| *mode == self.mode);
        let words = [
            self.reason.kind() as u8,
            mode.expect("every mode is in the table") as u8,
            u8::from(self.was_cut),
            u8::from(self.path.is_some()),
        ];
        let mut bytes = [0; Report::BYTES];
        let (of_numbers, of_words) = bytes.split_at_mut(8 * Report::NUMBERS);
        of_words.copy_from_slice(&words);
        let places = of_numbers.chunks_exact_mut(8).zip(numbers);
        places.for_each(|(place, number)| place.copy_from_slice(&number.to_be_bytes()));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Report> {
        let bytes: &[u8; Report::BYTES] = bytes.try_into().ok()?;
        let (numbers, words) = bytes.split_at(8 * Report::NUMBERS);
        let mut numbers =
            numbers.as_chunks::<8>().0.iter().map(|number| u64::from_be_bytes(*number));
        let mut next = || numbers.next();
        let totals = Totals {
            bytes_in: next()?,
            bytes_out: next()?,
            frames_in: next()?,
            frames_out: next()?,
        };
        let lifetime = Duration::from_nanos(next()?);
        let path = PathInfo {
            round_trip: Duration::from_nanos(next()?),
            retransmits: u32::try_from(next()?).ok()?,
            unacknowledged: next()?,
        };
        let unlogged = Unlogged { file: next()?, stdout: next()? };
        let [kind, mode, was_cut, has_path] = *words else { return None };
        Some(Report {
            reason: *Reason::KINDS.get(usize::from(kind))?,
            was_cut: was_cut != 0,
            mode: *MODES.get(usize::from(mode))?,
            totals,
            lifetime,
            path: (has_path != 0).then_some(path),
            unlogged,
        })
    }
}

/// Both ends of a new channel, the server's first.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    pub(super) fn report() -> Report {
        Report {
            reason: Reason::FrameTimeout,
            was_cut: true,
            mode: Mode::Raw,
            totals: Totals { bytes_in: u64::MAX, bytes_out: 2, frames_in: 3, frames_out: 4 },
            lifetime: Duration::from_nanos(5),
            path: Some(PathInfo {
                round_trip: Duration::from_micros(6),
                retransmits: 7,
                unacknowledged: 8,
            }),
            unlogged: Unlogged { file: 9, stdout: 10 },
        }
    }

    #[test]
    fn a_child_takes_over_the_connection_with_the_words_and_then_its_orders() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut peer =
            TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
        let (ours, _) = listener.accept().expect("a client");
        let (server, child) = pair().expect("two descriptors");
        let words = vec![b'w'; HAND_OVER_BYTES_MAX];
        hand_over(server.as_fd(), ours.as_fd(), &words).expect("an empty socket takes it");
        drop(ours);
        assert!(give_order(server.as_fd(), Order::Drain));
        assert!(give_order(server.as_fd(), Order::ReopenLog));

        let (connection, told) = take_over(child.as_fd()).expect("it was handed over");
        let mut connection = TcpStream::from(connection);
        assert!(told == words);
        assert_eq!(next_order(child.as_fd()), Told::Order(Order::Drain));
        assert_eq!(next_order(child.as_fd()), Told::Order(Order::ReopenLog));
        assert_eq!(next_order(child.as_fd()), Told::Nothing);
        connection.write_all(b"yours").expect("it is connected");
        drop(connection);
        let mut text = String::new();
        peer.read_to_string(&mut text).expect("no one else has it");
        assert_eq!(text, "yours");

        report().send(child.as_fd()).expect("there is room");
        drop(child);
        assert_eq!(LastWords::receive(server.as_fd()).report, Some(report()));
        assert_eq!(LastWords::receive(server.as_fd()).report, None, "one report");
    }

    #[test]
    fn what_was_not_handed_over_is_not_taken() {
        let (server, child) = pair().expect("two descriptors");
        let nothing = take_over(child.as_fd()).expect_err("nothing is there");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        rustix::net::send(&server, &[0, 0, 0, 0], SendFlags::empty()).expect("there is room");
        let foreign = take_over(child.as_fd()).expect_err("no connection came with it");
        assert_eq!(foreign.kind(), ErrorKind::InvalidData);
        drop(server);
        assert_eq!(next_order(child.as_fd()), Told::Alone);
        let gone = report().send(child.as_fd()).expect_err("no one listens");
        assert_eq!(gone.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_report_that_is_none_is_not_believed() {
        let whole = report().to_bytes();
        assert_eq!(Report::from_bytes(&whole), Some(report()));
        assert_eq!(Report::from_bytes(&whole[1..]), None);
        for (at, wrong) in [(80, Reason::KINDS.len() as u8), (81, 3)] {
            let mut bytes = whole;
            bytes[at] = wrong;
            assert_eq!(Report::from_bytes(&bytes), None, "byte {at}");
        }
    }
}
