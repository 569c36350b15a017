//! Sockets that listen, and whom they accept.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::address::{Address, Family, Peer, UnixName};
use crate::errno::{self, ErrorClass, Operation};
use crate::socket::{self, AcceptedOptions};
use crate::socket_file::SocketFile;
use crate::sys;

pub use crate::socket_file::Obstacle;

/// Clients that may wait to be accepted. std's 128 overflows under a burst of connects, which costs
/// those clients SYN retries of a second and more; the kernel lowers this to `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// Ports that are tried until one is free on all addresses.
const FREE_PORT_TRIES: u32 = 16;

/// What an accepted socket is from the start.
const ACCEPT_FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// A socket that listens, on TCP or on a unix socket.
#[derive(Debug)]
pub struct ListeningSocket {
    /// Goes first, so that no client finds the file without a server.
    _file: Option<SocketFile>,
    descriptor: OwnedFd,
    address: Address,
}

/// What kept a server from listening.
#[derive(Debug)]
pub struct BindError {
    /// On which address; `None`: on none in particular.
    pub address: Option<Address>,
    /// What the system says.
    pub error: io::Error,
    /// What is in the way on a unix socket's path, if that is known.
    pub obstacle: Option<Obstacle>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = &self.address {
            write!(f, "cannot listen on {address}: ")?;
        }
        match &self.obstacle {
            Some(obstacle) => obstacle.fmt(f),
            None => self.error.fmt(f),
        }
    }
}

impl Error for BindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> BindError {
        BindError { address: None, error, obstacle: None }
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> io::Error {
        error.error
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl ListeningSocket {
    /// A socket that somebody else has made listen.
    ///
    /// # Errors
    ///
    /// As `getsockname(2)`.
    pub fn inherited(descriptor: OwnedFd) -> io::Result<ListeningSocket> {
        let address = socket::local_address(descriptor.as_fd())?;
        Ok(ListeningSocket { _file: None, descriptor, address })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Has accepting never wait.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        SockRef::from(&self.descriptor).set_nonblocking(true)
    }

    /// A client, on a socket that is non-blocking.
    ///
    /// std and mio accept TCP alone: they want an address of the client's.
    ///
    /// # Errors
    ///
    /// As `accept(2)`.
    pub fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        match self.address.family() {
            Family::Ip => {
                let (stream, address) = acceptfrom_with(&self.descriptor, ACCEPT_FLAGS)?;
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                let address = address.ok_or(io::ErrorKind::InvalidData)?;
                Ok((stream, Peer::Ip(socket::canonical(address))))
            }
            Family::Unix => {
                let stream = accept_with(&self.descriptor, ACCEPT_FLAGS)?;
                // It has not inherited this one. Otherwise a byte that was sent as urgent would be
                // lost.
                SockRef::from(&stream).set_out_of_band_inline(true)?;
                let peer = socket::unix_peer(stream.as_fd())?;
                Ok((stream, peer))
            }
        }
    }

    /// Clients that may wait to be accepted: as many as were asked for, or `net.core.somaxconn` of
    /// the network namespace, if that was less. `None` if the kernel does not say, as of a unix
    /// socket.
    pub fn granted_backlog(&self) -> Option<u32> {
        match self.address.family() {
            Family::Ip => sys::tcp_info(&self.descriptor).ok().map(|info| info.backlog),
            Family::Unix => None,
        }
    }
}

/// Listening sockets on all of these addresses. Where the port is 0 they get a free one, the same
/// for all of them.
///
/// Those of TCP have SO_REUSEADDR, so that a restart need not wait for old connections in
/// TIME_WAIT; a second listener on the same port still fails. Accepted sockets have TCP_NODELAY and
/// SO_OOBINLINE.
///
/// A unix socket's file replaces one on which no process listens. It has the permissions
/// `socket_mode` before anybody can connect, those that the umask leaves if that is `None`, and is
/// removed when the socket is dropped.
///
/// ```
/// use std::io::ErrorKind;
/// use std::net::Ipv4Addr;
/// use trust_net::listening::listen;
/// use trust_net::socket::AcceptedOptions;
///
/// let addresses = [1, 2].map(|host| (Ipv4Addr::new(127, 0, 0, host), 0).into());
/// let listeners = listen(&addresses, AcceptedOptions::default(), None, |_socket| Ok(()))?;
/// let ports = [0, 1].map(|index: usize| listeners[index].address().ip().map(|ip| ip.port()));
/// assert_eq!(ports[0], ports[1]);
///
/// // A second server cannot have the same port.
/// let taken = [listeners[0].address().clone()];
/// let outcome = listen(&taken, AcceptedOptions::default(), None, |_socket| Ok(()));
/// let error = outcome.expect_err("the port is taken");
/// assert_eq!(error.error.kind(), ErrorKind::AddrInUse);
/// assert_eq!(error.address.as_ref(), Some(&taken[0]));
/// # Ok::<(), trust_net::listening::BindError>(())
/// ```
///
/// # Errors
///
/// The first address that cannot be had. An IPv6 address on a host without IPv6 is left out, as
/// names have some there too, unless there is no other.
///
/// # Panics
///
/// If there is no address.
pub fn listen(
    addresses: &[Address],
    options: AcceptedOptions,
    socket_mode: Option<u32>,
    configure: impl Fn(&Socket) -> io::Result<()>,
) -> Result<Vec<ListeningSocket>, BindError> {
    let listener = Listening { options, socket_mode, configure };
    let takes_free_port = matches!(addresses[0], Address::Ip(first) if first.port() == 0);
    for _ in 1..FREE_PORT_TRIES {
        match listener.listen_on_all(addresses) {
            // The port that was free on the first address.
            Err(taken) if takes_free_port && taken.error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
    listener.listen_on_all(addresses)
}

/// How sockets are to listen.
struct Listening<F> {
    options: AcceptedOptions,
    socket_mode: Option<u32>,
    configure: F,
}

impl<F: Fn(&Socket) -> io::Result<()>> Listening<F> {
    fn listen_on_all(&self, addresses: &[Address]) -> Result<Vec<ListeningSocket>, BindError> {
        let mut listeners: Vec<ListeningSocket> = vec![];
        let mut left_out = None;
        for address in addresses {
            let first = listeners.first().and_then(|listener| listener.address.ip());
            let outcome = match (address, first) {
                (Address::Unix(name), _) => self.listen_on_unix(name),
                (Address::Ip(address), Some(first)) if address.port() == 0 => {
                    self.listen_on_ip(SocketAddr::new(address.ip(), first.port()))
                }
                (Address::Ip(address), _) => self.listen_on_ip(*address),
            };
            match outcome {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    let is_ipv6 = address.ip().is_some_and(|address| address.is_ipv6());
                    if !(is_ipv6 && is_foreign(&error.error) && !has_ipv6()) {
                        return Err(error);
                    }
                    left_out = Some(error);
                }
            }
        }
        match left_out {
            Some(error) if listeners.is_empty() => Err(error),
            _ => Ok(listeners),
        }
    }

    fn listen_on_ip(&self, address: SocketAddr) -> Result<ListeningSocket, BindError> {
        let outcome = match self.bind_ip(address) {
            Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_foreign(&error) => {
                self.bind_ip(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
            }
            outcome => outcome,
        };
        let named = |error| BindError { address: Some(address.into()), error, obstacle: None };
        outcome.map_err(named)
    }

    fn bind_ip(&self, address: SocketAddr) -> io::Result<ListeningSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
        }
        socket.set_reuse_address(true)?;
        socket::prepare(SockRef::from(&socket), self.options)?;
        (self.configure)(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        ListeningSocket::inherited(socket.into())
    }

    fn listen_on_unix(&self, name: &UnixName) -> Result<ListeningSocket, BindError> {
        let address = Address::Unix(name.clone());
        let failed = |error, obstacle| BindError {
            address: Some(Address::Unix(name.clone())),
            error,
            obstacle,
        };
        let plainly = |error| failed(error, None);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(plainly)?;
        (self.configure)(&socket).map_err(plainly)?;
        let own = address.to_socket_address().map_err(plainly)?;
        let file = match name {
            UnixName::Path(path) => {
                let file = SocketFile::bind(&socket, path, &own);
                Some(file.map_err(|refused| failed(refused.error, refused.obstacle))?)
            }
            UnixName::Abstract(_) => {
                let bound = socket.bind(&own);
                bound.map_err(|error| failed(error, Obstacle::listener_at(&own)))?;
                None
            }
        };
        // Until it listens no client can connect, whatever the permissions.
        if let (Some(file), Some(mode)) = (&file, self.socket_mode) {
            file.set_mode(mode).map_err(plainly)?;
        }
        socket.listen(BACKLOG).map_err(plainly)?;
        Ok(ListeningSocket { _file: file, descriptor: socket.into(), address })
    }
}

/// Whether the host does not have the address, or not even its family.
fn is_foreign(error: &io::Error) -> bool {
    errno::classify(errno::of(error), Operation::Listen) == ErrorClass::NoAddress
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
