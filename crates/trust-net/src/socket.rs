//! Sockets as everybody here treats them.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::{SockRef, Socket, TcpKeepalive};
use trust_wire::{CloseStep, Limits, Probe};

use crate::address::{Address, Family, Peer, UnixName};
use crate::errno::{self, Operation};
use crate::sys;

/// Unsent bytes in the kernel's send queue above which a socket counts as not writable
/// (TCP_NOTSENT_LOWAT, `tcp(7)`). It bounds what a peer that never reads piles up there: 0.15 MB
/// instead of 4.2 MB. Bytes in flight do not count, so it costs a long path nothing.
const UNSENT_LIMIT: u32 = 64 * 1024;

/// Silence after which keepalive begins to ask, and the interval and number of its questions: a
/// peer that vanished is found after two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// What accepted sockets of TCP inherit from the listening one (Linux copies these options when the
/// connection is made).
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

/// All addresses of this host: IPv6 and IPv4 on one socket, or IPv4 where there is no IPv6.
pub fn any_address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

/// Sets what every connection of a server has, on itself or on the listening socket that it
/// inherits from.
///
/// # Errors
///
/// As `setsockopt(2)`.
pub fn prepare(socket: SockRef<'_>, options: AcceptedOptions) -> io::Result<()> {
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

/// Where a socket is bound; a unix socket that is bound to nothing has an empty path.
///
/// # Errors
///
/// As `getsockname(2)`, and InvalidInput for a socket of another family.
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<Address> {
    let address = SockRef::from(&socket).local_addr()?;
    match Address::of_socket_address(&address) {
        Some(address) => Ok(address),
        None if address.is_unix() => Ok(Address::Unix(UnixName::Path("".into()))),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Who is at the other end of a connection. A peer on TCP that has reset it no longer has an
/// address: it is the unspecified one then.
///
/// # Errors
///
/// As [`local_address`] and [`unix_peer`].
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let unspecified: IpAddr = match local_address(socket)? {
        Address::Unix(_) => return unix_peer(socket),
        Address::Ip(own) if own.ip().to_canonical().is_ipv4() => Ipv4Addr::UNSPECIFIED.into(),
        Address::Ip(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let address = SockRef::from(&socket).peer_addr().ok().and_then(|peer| peer.as_socket());
    Ok(Peer::Ip(address.map_or(SocketAddr::new(unspecified, 0), canonical)))
}

/// The process at the other end of a unix socket (SO_PEERCRED, `unix(7)`): the one that connected,
/// or that began to listen.
///
/// # Errors
///
/// As `getsockopt(2)`.
pub fn unix_peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let credentials = getsockopt(&socket, PeerCredentials)?;
    Ok(Peer::Unix { pid: credentials.pid(), uid: credentials.uid() })
}

/// An address as people write it: IPv4 never in the form `::ffff:192.0.2.1`.
///
/// ```
/// let mapped = "[::ffff:192.0.2.1]:9900".parse()?;
/// assert_eq!(trust_net::socket::canonical(mapped).to_string(), "192.0.2.1:9900");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
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
/// for a process that has died, whose connections it would try to finish for minutes. Of a unix
/// socket there is nothing to finish: what was sent is there.
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

/// Ends a connection also where somebody else has its socket, which a close would leave open: with
/// FIN, or with RST and without what is queued (`connect(2)` to AF_UNSPEC, which ends it as a
/// whole). A unix socket knows no RST.
pub(crate) fn end_for_everybody(socket: BorrowedFd<'_>, family: Family, step: CloseStep) {
    // Each fails only if it has ended already.
    match (step, family) {
        (CloseStep::Reset, Family::Ip) => drop(rustix::net::connect_unspec(socket)),
        (CloseStep::Reset, Family::Unix) => {
            drop(SockRef::from(&socket).shutdown(Shutdown::Both));
        }
        (CloseStep::ShutdownSend | CloseStep::Close, _) => shutdown_send(socket, None),
    }
}

/// What the socket says about itself; when, is for the caller to say. Calls that fail count as
/// "nothing".
pub fn probe(socket: BorrowedFd<'_>) -> Probe {
    probe_of(socket, Family::Ip)
}

/// The same of a socket whose family is known.
pub(crate) fn probe_of(socket: BorrowedFd<'_>, family: Family) -> Probe {
    Probe { unread: unread(socket), ..probe_sent(socket, family) }
}

/// What the socket says about what it has sent. Calls that fail count as "nothing".
pub(crate) fn probe_sent(socket: BorrowedFd<'_>, family: Family) -> Probe {
    let unacknowledged = sys::unacknowledged(socket).unwrap_or(0);
    if family == Family::Unix {
        // The kernel reports that a buffer was read before it takes off its last byte (sock_wfree).
        // There is no error as long as there is something, because a peer that closes leaves
        // nothing unread.
        let unacknowledged = if unacknowledged == 1 { 0 } else { unacknowledged };
        return Probe { unacknowledged, is_memory: true, ..Probe::default() };
    }
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

/// Sent bytes that the peer of a TCP connection has not acknowledged; a FIN counts as one
/// (SIOCOUTQ, `tcp(7)`); 0 if the call fails.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> u64 {
    sys::unacknowledged(socket).unwrap_or(0)
}

/// Takes the pending error of a socket (SO_ERROR, `socket(7)`): its errno and what that means to a
/// connection. Calls that fail count as "none".
pub fn take_error(socket: BorrowedFd<'_>) -> Option<(i32, trust_wire::ErrnoClass)> {
    pending_error(socket)
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
