//! Why a connection ended.

use crate::proxy_header::BadProxyHeader;

/// The cause of a connection's end, with what there is to say about it.
///
/// ```
/// use std::sync::Arc;
/// use trust_wire::{Connection, During, Limits, Reason, Timestamp};
///
/// let now = Timestamp::default();
/// let mut connection = Connection::new(Arc::new(Limits::default()), now);
/// connection.handle_received(0, b"\0\0\0\x05hel", now);
/// connection.handle_end_of_stream();
///
/// let cause = connection.cause().expect("the end is decided");
/// assert_eq!(cause.reason, Reason::TruncatedFrame { have: 7, need: 9 });
/// assert_eq!((cause.during, cause.errno), (During::Receive, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// The cause.
    pub reason: Reason,
    /// What was being done; of an end that the server chose, what it was waiting for.
    pub during: During,
    /// The raw errno (`errno(3)`), where a system call or the socket reported one.
    pub errno: Option<i32>,
}

impl Disconnect {
    pub(crate) const fn new(reason: Reason, during: During) -> Disconnect {
        Disconnect { reason, during, errno: None }
    }
}

/// Why a connection ended. The first cause counts: what happens while an orderly close waits for
/// the peer does not replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// FIN between frames: the normal end.
    PeerFin,
    /// FIN inside a frame.
    TruncatedFrame {
        /// Bytes of the frame that had arrived, header included.
        have: u64,
        /// Bytes that the frame has when whole; while the header is not whole, those of the header.
        need: u64,
    },
    /// A header declared a payload above the limit.
    FrameTooLarge {
        /// The declared length in bytes.
        declared: u32,
    },
    /// No byte came for as long as the limit allows.
    RecvTimeout,
    /// The connection reached the longest life that it may have.
    MaxLifetime,
    /// The server is stopping.
    Drain,
    /// Nothing that was sent was acknowledged for as long as the limit allows. During a receive if
    /// that is the limit on waiting for the peer's FIN.
    SendTimeout,
    /// A frame took longer from its first byte to its last than the limit allows.
    FrameTimeout,
    /// The server is stopping and the time for that is over.
    DrainTimeout,
    /// The server was told a second time to stop.
    SecondSignal,
    /// RST from the peer (ECONNRESET).
    ClientReset,
    /// Sent to a connection that the peer had already reset (EPIPE).
    BrokenPipe,
    /// The path to the peer or the peer itself is gone (ETIMEDOUT, EHOSTUNREACH, ENETUNREACH).
    ClientUnreachable,
    /// Any other error of the socket.
    IoError,
    /// The connection came when all places were taken; it was not served.
    AtCapacity,
    /// The process that served the connection ended without a word.
    ChildDied,
    /// The PROXY header with which the connection had to begin is wrong, or not there.
    ProxyHeaderInvalid(BadProxyHeader),
    /// The PROXY header was not whole for as long as the limit allows.
    ProxyHeaderTimeout,
}

impl Reason {
    /// One of each kind, for tables that are kept by kind; details mean nothing.
    pub const KINDS: [Reason; 18] = [
        Reason::PeerFin,
        Reason::TruncatedFrame { have: 0, need: 0 },
        Reason::FrameTooLarge { declared: 0 },
        Reason::RecvTimeout,
        Reason::MaxLifetime,
        Reason::Drain,
        Reason::SendTimeout,
        Reason::FrameTimeout,
        Reason::DrainTimeout,
        Reason::SecondSignal,
        Reason::ClientReset,
        Reason::BrokenPipe,
        Reason::ClientUnreachable,
        Reason::IoError,
        Reason::AtCapacity,
        Reason::ChildDied,
        Reason::ProxyHeaderInvalid(BadProxyHeader::Missing),
        Reason::ProxyHeaderTimeout,
    ];

    /// Where in [`Reason::KINDS`] this kind is.
    ///
    /// ```
    /// use trust_wire::Reason;
    ///
    /// let mut ended = [0; Reason::KINDS.len()];
    /// for reason in [Reason::PeerFin, Reason::RecvTimeout, Reason::PeerFin] {
    ///     ended[reason.kind()] += 1;
    /// }
    /// assert_eq!(ended[Reason::PeerFin.kind()], 2);
    /// ```
    pub fn kind(&self) -> usize {
        let same = |kind: &Reason| core::mem::discriminant(kind) == core::mem::discriminant(self);
        Reason::KINDS.iter().position(same).expect("every kind is in the table")
    }
}

/// What was being done with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// Receiving, or waiting for bytes to receive.
    Receive,
    /// Sending, or waiting for acknowledgements.
    Send,
}

/// The classes of errno that make a difference to a connection. The number decides, not the call
/// that reported it: the first send after an RST reports ECONNRESET, the next one EPIPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrnoClass {
    /// ECONNRESET
    Reset,
    /// EPIPE
    BrokenPipe,
    /// ETIMEDOUT, EHOSTUNREACH, ENETUNREACH
    Unreachable,
    /// Everything else that is not "try again".
    Other,
}

impl From<ErrnoClass> for Reason {
    fn from(class: ErrnoClass) -> Reason {
        match class {
            ErrnoClass::Reset => Reason::ClientReset,
            ErrnoClass::BrokenPipe => Reason::BrokenPipe,
            ErrnoClass::Unreachable => Reason::ClientUnreachable,
            ErrnoClass::Other => Reason::IoError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_reason_is_in_the_table_once() {
        for (index, reason) in Reason::KINDS.iter().enumerate() {
            assert_eq!(reason.kind(), index);
        }
        assert_eq!(Reason::TruncatedFrame { have: 3, need: 4 }.kind(), 1);
    }
}
