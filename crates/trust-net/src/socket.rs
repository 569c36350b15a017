//! Sockets as everybody here treats them.

use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use trust_wire::{CloseStep, Limits, Probe};

use crate::errno::{self, ErrorClass, Operation};
use crate::sys;

/// Clients that may wait to be accepted. std's 128 overflows under a burst of connects, which costs
/// those clients SYN retries of a second and more; the kernel lowers this to `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// Ports that are tried until one is free on all addresses.
const FREE_PORT_TRIES: u32 = 16;

/// Unsent bytes in the kernel's send queue above which a socket counts as not writable
/// (TCP_NOTSENT_LOWAT, `tcp(7)`). It bounds what a peer that never reads piles up there: 0.15 MB instead
/// of 4.2 MB. Bytes in flight do not count, so it costs a long path nothing.
const UNSENT_LIMIT: u32 = 64 * 1024;

/// Silence after which keepalive begins to ask, and the interval and number of its questions: a peer
/// that vanished is found after two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// What accepted sockets inherit from the listening one (Linux copies these options when the connection is made).
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptedOptions {
    /// Let keepalive find peers that vanished, for want of any other limit.
    pub keepalive: bool,
}

impl AcceptedOptions {
    pub(crate) fn new(limits: &Limits) -> AcceptedOptions {
        AcceptedOptions { keepalive: limits.timeout.is_none() }
    }
}

/// What kept a server from listening.
#[derive(Debug)]
pub struct BindError {
    /// On which address; `None`: on none in particular.
    pub address: Option<SocketAddr>,
    /// What the system says.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "cannot listen on {address}: {}", self.error),
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
        BindError { address: None, error }
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> io::Error {
        error.error
    }
}

/// Listening sockets on all of these addresses. Where the port is 0 they get a free one, the same
/// for all of them.
///
/// With SO_REUSEADDR, so that a restart need not wait for old connections in TIME_WAIT; a second
/// listener on the same port still fails. Accepted sockets have TCP_NODELAY and SO_OOBINLINE.
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
    addresses: &[SocketAddr],
    options: AcceptedOptions,
    configure: impl Fn(&Socket) -> io::Result<()>,
) -> Result<Vec<TcpListener>, BindError> {
    for _ in 1..FREE_PORT_TRIES {
        match listen_on_all(addresses, options, &configure) {
            // The port that was free on the first address.
            Err(taken)
                if addresses[0].port() == 0 && taken.error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
    listen_on_all(addresses, options, &configure)
}

fn listen_on_all(
    addresses: &[SocketAddr],
    options: AcceptedOptions,
    configure: &impl Fn(&Socket) -> io::Result<()>,
) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners: Vec<TcpListener> = vec![];
    let mut left_out = None;
    for address in addresses {
        let mut address = *address;
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            address.set_port(first.local_addr()?.port());
        }
        match listen_on(address, options, configure) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                let is_missing = address.is_ipv6() && is_foreign(&error) && !has_ipv6();
                let error = BindError { address: Some(address), error };
                if !is_missing {
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

/// Whether the host does not have the address, or not even its family.
fn is_foreign(error: &io::Error) -> bool {
    errno::classify(errno::of(error), Operation::Listen) == ErrorClass::NoAddress
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// All addresses of this host: IPv6 and IPv4 on one socket, or IPv4 where there is no IPv6.
pub fn any_address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

fn listen_on(
    address: SocketAddr,
    options: AcceptedOptions,
    configure: &impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    match bind(address, options, configure) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_foreign(&error) => {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            bind(address, options, configure)
        }
        outcome => outcome,
    }
}

fn bind(
    address: SocketAddr,
    options: AcceptedOptions,
    configure: &impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    socket.set_reuse_address(true)?;
    prepare(SockRef::from(&socket), options)?;
    configure(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Clients that may wait to be accepted: as many as were asked for, or `net.core.somaxconn` of the
/// network namespace, if that was less. `None` if the kernel does not say.
pub(crate) fn granted_backlog(listener: &TcpListener) -> Option<u32> {
    sys::tcp_info(listener).ok().map(|info| info.backlog)
}

/// Sets what every connection of a server has, on itself or on the listening socket that it inherits from.
pub(crate) fn prepare(socket: SockRef<'_>, options: AcceptedOptions) -> io::Result<()> {
    prepare_stream(&socket)?;
    socket.set_tcp_notsent_lowat(UNSENT_LIMIT)?;
    if options.keepalive {
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// Sets what connections have on either side.
pub(crate) fn prepare_stream(socket: &Socket) -> io::Result<()> {
    // Small messages must not wait for the acknowledgement of earlier ones (RFC 896).
    socket.set_tcp_nodelay(true)?;
    // A byte that was sent as urgent is one of the stream's like any other (RFC 6093, section 5).
    socket.set_out_of_band_inline(true)
}

/// An address as people write it: IPv4 never in the form `::ffff:192.0.2.1`.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// No SIGPIPE; and no waiting, whether the socket is non-blocking or not.
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// Sends from several slices with one call, without waiting and without SIGPIPE.
///
/// # Errors
///
/// As `send(2)`.
pub fn send_parts(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut ancillary = SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(socket, parts, &mut ancillary, SEND_FLAGS)?)
}

/// Sends with one call, without waiting and without SIGPIPE.
///
/// # Errors
///
/// As `send(2)`.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, SEND_FLAGS)?)
}

/// Receives with one call, without waiting.
///
/// # Errors
///
/// As `recv(2)`.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (_, received) = rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT)?;
    Ok(received)
}

/// Receives with one call into several places, without waiting.
///
/// # Errors
///
/// As `recvmsg(2)`.
pub fn receive_parts(socket: BorrowedFd<'_>, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let mut ancillary = RecvAncillaryBuffer::default();
    let flags = RecvFlags::DONTWAIT;
    Ok(rustix::net::recvmsg(socket, parts, &mut ancillary, flags)?.bytes)
}

/// Sends FIN after what was sent before, and goes on receiving. The kernel ends the connection by
/// itself if nothing is acknowledged for `patience` (TCP_USER_TIMEOUT, `tcp(7)`): it does so also
/// for a process that has died, whose connections it would try to finish for minutes.
pub fn shutdown_send(socket: BorrowedFd<'_>, patience: Option<Duration>) {
    if patience.is_some() {
        let _ = SockRef::from(&socket).set_tcp_user_timeout(patience);
    }
    // ENOTCONN after an RST from the peer: the next receive says so.
    let _ = SockRef::from(&socket).shutdown(Shutdown::Write);
}

/// Makes the coming close send RST and drop what is queued (SO_LINGER, `socket(7)`).
pub fn reset_on_close(socket: BorrowedFd<'_>) {
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Ends a connection also where somebody else has its socket, which a close would leave open: with FIN, or with RST
/// and without what is queued (`connect(2)` to AF_UNSPEC, which ends it as a whole).
pub(crate) fn end_for_everybody(socket: BorrowedFd<'_>, step: CloseStep) {
    match step {
        // Fails only if it has ended already.
        CloseStep::Reset => drop(rustix::net::connect_unspec(socket)),
        CloseStep::ShutdownSend | CloseStep::Close => shutdown_send(socket, None),
    }
}

/// What the socket says about itself; when, is for the caller to say. Calls that fail count as "nothing".
pub fn probe(socket: BorrowedFd<'_>) -> Probe {
    Probe { unread: unread(socket), ..probe_sent(socket) }
}

/// What the socket says about what it has sent. Calls that fail count as "nothing".
pub fn probe_sent(socket: BorrowedFd<'_>) -> Probe {
    let unacknowledged = sys::unacknowledged(socket).unwrap_or(0);
    if unacknowledged == 0 {
        return Probe::default();
    }
    Probe {
        unacknowledged,
        // Only while something is unacknowledged: reading the error clears it.
        error: pending_error(socket),
        is_over: sys::tcp_info(socket).is_ok_and(|info| info.is_closed),
        ..Probe::default()
    }
}

/// Received bytes that were not read yet (FIONREAD, `tcp(7)`); 0 if the call fails.
pub fn unread(socket: BorrowedFd<'_>) -> u64 {
    rustix::io::ioctl_fionread(socket).unwrap_or(0)
}

/// What the kernel knows about the path to the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathInfo {
    /// Smoothed round-trip time; zero if none was measured.
    pub round_trip: Duration,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// Sent bytes that the peer has not acknowledged; a FIN counts as one.
    pub unacknowledged: u64,
}

/// What the kernel knows about the path (TCP_INFO and SIOCOUTQ, `tcp(7)`). Calls that fail count as
/// "nothing".
pub fn path_info(socket: BorrowedFd<'_>) -> PathInfo {
    let unacknowledged = sys::unacknowledged(socket).unwrap_or(0);
    PathInfo { unacknowledged, ..settled_path_info(socket) }
}

/// The same of a connection of which it is known that everything is acknowledged.
pub(crate) fn settled_path_info(socket: BorrowedFd<'_>) -> PathInfo {
    let info = sys::tcp_info(socket).unwrap_or_default();
    PathInfo {
        round_trip: Duration::from_micros(u64::from(info.round_trip_us)),
        retransmits: info.retransmits,
        unacknowledged: 0,
    }
}

fn pending_error(socket: BorrowedFd<'_>) -> Option<(i32, trust_wire::ErrnoClass)> {
    let error = SockRef::from(&socket.as_fd()).take_error().ok()??;
    let errno = errno::of(&error);
    Some((errno, errno::classify(errno, Operation::Send).into()))
}
