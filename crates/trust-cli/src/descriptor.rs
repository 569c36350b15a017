//! Descriptors: how many there may be, and what an inherited one is, in words for users who passed
//! the wrong one.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Type};

/// Raises the soft limit on descriptors to the hard limit; returns the new limit.
pub fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if let Some(maximum) = limit.maximum {
        // Fails only if the hard limit has been lowered meanwhile.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), ..limit });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What a descriptor refers to, as far as it matters to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A socket of TCP, or a unix socket, that accepts connections.
    Listener,
    /// A socket of TCP, or a unix socket, with a peer.
    Connection,
    /// A TCP socket whose peer is gone: it has an error pending, and `getpeername(2)` fails.
    Gone,
    /// Anything else.
    Other(&'static str),
}

impl Kind {
    /// Determines a descriptor's kind without changing it: the error of a [`Kind::Gone`] stays
    /// pending.
    pub fn of(descriptor: BorrowedFd<'_>) -> Kind {
        // A descriptor that cannot be queried is no use at all.
        kind(descriptor).unwrap_or(Kind::Other("something that cannot be looked at"))
    }

    /// The kind in words, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Listener => "a listening socket",
            Kind::Connection => "a connected socket",
            Kind::Gone => "a socket whose peer is gone",
            Kind::Other(name) => name,
        }
    }
}

fn kind(descriptor: BorrowedFd<'_>) -> io::Result<Kind> {
    let name = match FileType::from_raw_mode(fstat(descriptor)?.st_mode) {
        FileType::Socket => return socket_kind(descriptor),
        FileType::CharacterDevice if descriptor.is_terminal() => "a terminal",
        FileType::CharacterDevice => "a device, as /dev/null, or was closed",
        FileType::Fifo => "a pipe",
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        _ => "no socket",
    };
    Ok(Kind::Other(name))
}

fn socket_kind(descriptor: BorrowedFd<'_>) -> io::Result<Kind> {
    let socket = SockRef::from(&descriptor);
    let name = match (socket.domain()?, socket.r#type()?) {
        (Domain::UNIX, Type::STREAM) if socket.is_listener()? => return Ok(Kind::Listener),
        (Domain::UNIX, Type::STREAM) if socket.peer_addr().is_ok() => return Ok(Kind::Connection),
        (Domain::UNIX, Type::STREAM) => "a socket that is not connected",
        (Domain::UNIX | Domain::IPV4 | Domain::IPV6, Type::DGRAM) => "a datagram socket",
        (Domain::UNIX, _) => "a unix socket, but no stream",
        (Domain::IPV4 | Domain::IPV6, Type::STREAM) => match socket.protocol()? {
            Some(Protocol::TCP) if socket.is_listener()? => return Ok(Kind::Listener),
            Some(Protocol::TCP) if socket.peer_addr().is_ok() => return Ok(Kind::Connection),
            Some(Protocol::TCP) if has_error(descriptor)? => return Ok(Kind::Gone),
            Some(Protocol::TCP) => "a socket that is not connected",
            _ => "a stream socket, but not of TCP",
        },
        _ => "a socket, but not of TCP",
    };
    Ok(Kind::Other(name))
}

/// Whether the socket has an error pending. Reading SO_ERROR would clear it.
fn has_error(socket: impl AsFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(&socket, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&at_once)))?;
    Ok(polled[0].revents().contains(PollFlags::ERR))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::time::Duration;

    use socket2::Socket;

    use super::*;

    #[test]
    fn every_kind_of_descriptor_has_its_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let fresh = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let (pipe, _writer) = io::pipe().unwrap();
        let (stream, _other) = UnixStream::pair().unwrap();
        let (datagram, _another) = UnixDatagram::pair().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (null, file) = (File::open("/dev/null").unwrap(), tempfile::tempfile().unwrap());
        let directory = File::open("/").unwrap();
        let unix = UnixListener::bind(tempfile::tempdir().unwrap().path().join("socket")).unwrap();
        let fresh_unix = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let kinds = [
            (listener.as_fd(), Kind::Listener),
            (connected.as_fd(), Kind::Connection),
            (fresh.as_fd(), Kind::Other("a socket that is not connected")),
            (pipe.as_fd(), Kind::Other("a pipe")),
            (stream.as_fd(), Kind::Connection),
            (unix.as_fd(), Kind::Listener),
            (fresh_unix.as_fd(), Kind::Other("a socket that is not connected")),
            (packets.as_fd(), Kind::Other("a unix socket, but no stream")),
            (datagram.as_fd(), Kind::Other("a datagram socket")),
            (udp.as_fd(), Kind::Other("a datagram socket")),
            (null.as_fd(), Kind::Other("a device, as /dev/null, or was closed")),
            (file.as_fd(), Kind::Other("a file")),
            (directory.as_fd(), Kind::Other("a directory")),
        ];
        for (descriptor, kind) in kinds {
            assert_eq!(Kind::of(descriptor), kind);
        }
    }

    #[test]
    fn a_peer_that_has_reset_is_gone_and_its_error_is_still_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert_eq!(Kind::of(stream.as_fd()), Kind::Gone);
        assert_eq!(Kind::of(stream.as_fd()), Kind::Gone);
        let error = SockRef::from(&stream).take_error().unwrap();
        assert_eq!(error.and_then(|error| error.raw_os_error()), Some(104));
    }
}
