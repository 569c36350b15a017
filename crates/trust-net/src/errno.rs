//! What an errno means, by what was being done. Numbers are Linux's (`errno(3)`).

use std::io;

use rustix::io::Errno;
use trust_wire::{During, ErrnoClass};

/// What was being done when an error came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `recv(2)`, or waiting for bytes.
    Receive,
    /// `send(2)`, or waiting for acknowledgements.
    Send,
    /// `accept(2)`.
    Accept,
    /// `connect(2)`.
    Connect,
    /// `bind(2)`, `listen(2)`.
    Listen,
}

/// What an error means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Nothing can be moved or accepted now; of a connection: it is under way.
    WouldBlock,
    /// A signal came first.
    Interrupted,
    /// RST from the peer.
    Reset,
    /// Sent after the peer had reset the connection.
    BrokenPipe,
    /// The peer's host acknowledges nothing.
    TimedOut,
    /// No way leads to the peer's host.
    Unreachable,
    /// The peer's host does not take the connection.
    Refused,
    /// There is no unix socket of that name.
    Missing,
    /// This host does not have the address, or no port is free.
    NoAddress,
    /// Somebody else has the address.
    AddressInUse,
    /// Forbidden, as low ports are.
    NotPermitted,
    /// This one client is gone, or the network had a hiccup; the next call may succeed. `accept(2)`
    /// asks for these to be treated like EAGAIN.
    Transient,
    /// Descriptors or memory have run out; of a client: it stays in the queue.
    Exhausted,
    /// The listening socket itself is unusable.
    Fatal,
    /// Nothing that is documented.
    Other,
}

/// What an errno means. On a connection the number decides, whichever of its two calls reported it.
///
/// ```
/// use trust_net::errno::{ErrorClass, Operation, classify};
///
/// const ECONNRESET: i32 = 104;
/// const EMFILE: i32 = 24;
/// assert_eq!(classify(ECONNRESET, Operation::Send), ErrorClass::Reset);
/// assert_eq!(classify(ECONNRESET, Operation::Connect), ErrorClass::Refused);
/// assert_eq!(classify(EMFILE, Operation::Accept), ErrorClass::Exhausted);
/// ```
pub fn classify(errno: i32, operation: Operation) -> ErrorClass {
    let errno = Errno::from_raw_os_error(errno);
    match operation {
        _ if errno == Errno::INTR => ErrorClass::Interrupted,
        Operation::Receive | Operation::Send => match errno {
            Errno::AGAIN => ErrorClass::WouldBlock,
            Errno::CONNRESET => ErrorClass::Reset,
            Errno::PIPE => ErrorClass::BrokenPipe,
            Errno::TIMEDOUT => ErrorClass::TimedOut,
            Errno::HOSTUNREACH | Errno::NETUNREACH => ErrorClass::Unreachable,
            _ => ErrorClass::Other,
        },
        Operation::Accept => match errno {
            Errno::AGAIN => ErrorClass::WouldBlock,
            Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::PERM => ErrorClass::Transient,
            Errno::BADF | Errno::INVAL | Errno::NOTSOCK => ErrorClass::Fatal,
            _ => exhausted_or_other(errno),
        },
        Operation::Connect | Operation::Listen => match errno {
            Errno::INPROGRESS => ErrorClass::WouldBlock,
            Errno::CONNREFUSED | Errno::CONNRESET => ErrorClass::Refused,
            Errno::NOENT if operation == Operation::Connect => ErrorClass::Missing,
            Errno::TIMEDOUT | Errno::AGAIN if operation == Operation::Connect => {
                ErrorClass::TimedOut
            }
            Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN => {
                ErrorClass::Unreachable
            }
            Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => ErrorClass::NoAddress,
            Errno::ADDRINUSE => ErrorClass::AddressInUse,
            Errno::ACCESS | Errno::PERM => ErrorClass::NotPermitted,
            _ => exhausted_or_other(errno),
        },
    }
}

fn exhausted_or_other(errno: Errno) -> ErrorClass {
    match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => ErrorClass::Exhausted,
        _ => ErrorClass::Other,
    }
}

/// Whether `epoll_ctl(2)` may succeed later. ENOSPC is the limit of watches per user
/// (max_user_watches, `epoll(7)`).
pub(crate) fn is_shortage_of_watches(errno: i32) -> bool {
    matches!(Errno::from_raw_os_error(errno), Errno::NOSPC | Errno::NOMEM)
}

/// Whether `fork(2)` may succeed later: descriptors, memory or processes have run out.
pub(crate) fn is_shortage_of_processes(errno: i32) -> bool {
    errno == WOULD_BLOCK || exhausted_or_other(Errno::from_raw_os_error(errno)) != ErrorClass::Other
}

impl From<ErrorClass> for ErrnoClass {
    /// What makes a difference to a connection.
    fn from(class: ErrorClass) -> ErrnoClass {
        match class {
            ErrorClass::Reset => ErrnoClass::Reset,
            ErrorClass::BrokenPipe => ErrnoClass::BrokenPipe,
            ErrorClass::TimedOut | ErrorClass::Unreachable => ErrnoClass::Unreachable,
            _ => ErrnoClass::Other,
        }
    }
}

impl From<During> for Operation {
    fn from(during: During) -> Operation {
        match during {
            During::Receive => Operation::Receive,
            During::Send => Operation::Send,
        }
    }
}

/// The raw errno of an error that a socket call reported; EIO for one that carries none.
pub fn of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())
}

/// EAGAIN (EWOULDBLOCK is the same number on Linux).
pub const WOULD_BLOCK: i32 = Errno::AGAIN.raw_os_error();

/// EINTR.
pub const INTERRUPTED: i32 = Errno::INTR.raw_os_error();
