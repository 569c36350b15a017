//! What a connection and its caller tell each other.

use crate::disconnect::ErrnoClass;
use crate::time::Timestamp;

/// What the caller does next to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseStep {
    /// Shut down the sending side (`shutdown(2)` with SHUT_WR) and go on reading.
    ShutdownSend,
    /// Close. All that was sent is acknowledged, or the connection is gone already.
    Close,
    /// Close with RST (SO_LINGER with a time of zero, `socket(7)`).
    Reset,
}

/// What the socket says about itself when a deadline is due, or when nothing but acknowledgements
/// is missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe {
    /// When the socket was asked. Acknowledgements count from then, and not from the moment being
    /// judged, which is earlier: much earlier if the process was stopped in between.
    pub asked_at: Timestamp,
    /// Sent bytes that the peer has not acknowledged (SIOCOUTQ, `tcp(7)`).
    pub unacknowledged: u64,
    /// `unacknowledged` is the memory that holds what the peer has not read, as SIOCOUTQ of a unix
    /// socket is; a FIN takes none.
    pub is_memory: bool,
    /// Received bytes that were not read yet (FIONREAD, `tcp(7)`).
    pub unread: u64,
    /// The pending error (SO_ERROR, `socket(7)`), which reading it clears.
    pub error: Option<(i32, ErrnoClass)>,
    /// The kernel has given the connection up, so that nothing more will be acknowledged
    /// (TCP_CLOSE, `tcp(7)`).
    pub is_over: bool,
}

/// What one connection did, in bytes and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes received, discarded ones included.
    pub bytes_in: u64,
    /// Bytes handed to the kernel.
    pub bytes_out: u64,
    /// Whole frames received.
    pub frames_in: u64,
    /// Frames of which the last byte was handed to the kernel.
    pub frames_out: u64,
}

impl Totals {
    /// Adds what another connection did.
    pub fn add(&mut self, other: Totals) {
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.frames_in += other.frames_in;
        self.frames_out += other.frames_out;
    }
}

/// The states of the contract, as an observer from outside tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has been received yet.
    Connected,
    /// Frames or bytes are answered.
    Open,
    /// The end is decided; the orderly close is under way.
    Lingering,
    /// Over.
    Closed,
}
