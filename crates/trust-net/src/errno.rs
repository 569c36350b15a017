//! What an errno means to a connection, and to a listening socket.
//!
//! The number decides, not the call that reported it. Numbers are Linux's (`errno(3)`).

use std::io;

use rustix::io::Errno;
use trust_wire::ErrnoClass;

/// What an error of `accept(2)` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptErrorClass {
    /// Nobody is waiting any more.
    WouldBlock,
    /// A signal came first.
    Interrupted,
    /// This one client is gone, or the network had a hiccup; the next call may succeed. `accept(2)`
    /// asks for these to be treated like EAGAIN.
    Transient,
    /// Descriptors or memory have run out; the client stays in the queue.
    Exhausted,
    /// The listening socket itself is unusable.
    Fatal,
    /// Nothing that is documented.
    Unknown,
}

/// The class of an error that a receive or a send reported.
pub fn classify(errno: i32) -> ErrnoClass {
    match Errno::from_raw_os_error(errno) {
        Errno::CONNRESET => ErrnoClass::Reset,
        Errno::PIPE => ErrnoClass::BrokenPipe,
        Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => ErrnoClass::Unreachable,
        _ => ErrnoClass::Other,
    }
}

/// The class of an error that `accept(2)` reported.
pub fn classify_accept(errno: i32) -> AcceptErrorClass {
    match Errno::from_raw_os_error(errno) {
        Errno::AGAIN => AcceptErrorClass::WouldBlock,
        Errno::INTR => AcceptErrorClass::Interrupted,
        Errno::CONNABORTED
        | Errno::PROTO
        | Errno::NETDOWN
        | Errno::NOPROTOOPT
        | Errno::HOSTDOWN
        | Errno::NONET
        | Errno::HOSTUNREACH
        | Errno::OPNOTSUPP
        | Errno::NETUNREACH
        | Errno::PERM => AcceptErrorClass::Transient,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => AcceptErrorClass::Exhausted,
        Errno::BADF | Errno::INVAL | Errno::NOTSOCK => AcceptErrorClass::Fatal,
        _ => AcceptErrorClass::Unknown,
    }
}

/// Whether `epoll_ctl(2)` may succeed later: ENOSPC is the limit of watches for each user (max_user_watches, `epoll(7)`).
pub(crate) fn is_shortage_of_watches(errno: i32) -> bool {
    matches!(Errno::from_raw_os_error(errno), Errno::NOSPC | Errno::NOMEM)
}

/// The raw errno of an error that a socket call reported; EIO for one that carries none.
pub fn of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())
}

/// EAGAIN (EWOULDBLOCK is the same number on Linux).
pub const WOULD_BLOCK: i32 = Errno::AGAIN.raw_os_error();

/// EINTR.
pub const INTERRUPTED: i32 = Errno::INTR.raw_os_error();
