//! What happens in a server, as typed events.

use std::net::SocketAddr;
use std::time::Duration;

use trust_wire::connection::Totals;
use trust_wire::{Disconnect, During, Mode};

/// Which connection an event is about.
#[derive(Clone, Copy, Debug)]
pub struct ClientInfo {
    /// 1, 2, 3, … in the order of acceptance; never reused.
    pub id: u64,
    /// The descriptor of the server's end.
    pub fd: i32,
    /// The client's address.
    pub peer: SocketAddr,
}

/// Something that happened in a server.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A client was accepted.
    Connected(&'a ClientInfo),
    /// A whole frame came; only for observers that ask for frames.
    FrameReceived {
        /// From whom.
        client: &'a ClientInfo,
        /// Length of its payload in bytes.
        payload_len: usize,
    },
    /// A frame of an answer was handed to the kernel or is owed; only for observers that ask for frames.
    FrameSent {
        /// To whom.
        client: &'a ClientInfo,
        /// Length of its payload in bytes.
        payload_len: usize,
    },
    /// The end of a connection is decided, or its cause was replaced by a failure.
    Ending {
        /// Whose.
        client: &'a ClientInfo,
        /// Why.
        cause: &'a Disconnect,
    },
    /// A connection is closed. Comes exactly once for every [`Event::Connected`].
    Closed {
        /// Whose.
        client: &'a ClientInfo,
        /// Why.
        cause: &'a Disconnect,
        /// How its bytes were understood; [`Mode::Auto`] if none came.
        mode: Mode,
        /// Bytes and frames.
        totals: Totals,
        /// From accept to close.
        lifetime: Duration,
    },
    /// All places are taken: a client was ended without being served. At most once a second.
    Rejected {
        /// Whom.
        peer: SocketAddr,
        /// How many more there were since the last such event.
        suppressed: u64,
    },
    /// A signal interrupted a call, which is repeated.
    Interrupted {
        /// What was being done; `None` while waiting for readiness.
        during: Option<During>,
    },
    /// `accept(2)` failed in a way that concerns one client. At most once a second.
    AcceptFailed {
        /// The raw errno.
        errno: i32,
        /// How many more there were since the last such event.
        suppressed: u64,
    },
    /// Descriptors or memory have run out: accepting pauses.
    AcceptPaused {
        /// The raw errno.
        errno: i32,
    },
    /// Accepting goes on.
    AcceptResumed,
    /// The listening socket failed; the server drains and stops.
    ListenerFailed {
        /// The raw errno.
        errno: i32,
    },
    /// The server has stopped accepting and ends its connections.
    DrainStarted {
        /// How many there are.
        active: u64,
    },
    /// All connections have ended.
    DrainDone {
        /// How many of them in the orderly way or by themselves.
        drained: u64,
        /// How many were cut.
        cut: u64,
    },
}

/// Somebody who is told what happens. Calls come from all worker threads and must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &Event<'_>);

    /// Whether to be told of single frames, which costs time for each.
    fn wants_frames(&self) -> bool {
        false
    }
}

/// Nobody looks.
impl Observer for () {
    fn observe(&self, _event: &Event<'_>) {}
}
