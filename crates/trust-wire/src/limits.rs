//! What a server allows its connections.

use core::time::Duration;

use crate::frame::DEFAULT_MAX_PAYLOAD;

/// How the bytes of a connection are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// The first byte decides: a header of a frame below 16 MiB starts with 0x00, text does not.
    #[default]
    Auto,
    /// Frames only.
    Framed,
    /// Bytes as they come (RFC 862).
    Raw,
}

/// How long an end may take once the longest life of a connection is over: finishing and answering
/// a frame that has begun, waiting for acknowledgements, and lingering. Whatever is left then is
/// cut. Equals the default limit on a client's silence.
pub const LIFETIME_GRACE: Duration = Duration::from_secs(5);

/// What a server allows its connections. `None` turns a limit off.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use trust_wire::{Connection, Limits, Mode, Probe, Reason, Timestamp};
///
/// let limits = Limits {
///     mode: Mode::Framed,
///     timeout: Some(Duration::from_secs(60)),
///     frame_timeout: None,
///     ..Limits::default()
/// };
/// let accepted_at = Timestamp::default();
/// let mut connection = Connection::new(Arc::new(limits), accepted_at);
///
/// // The peer stays silent for a minute.
/// let deadline = connection.poll_deadline();
/// assert_eq!(deadline, accepted_at + Duration::from_secs(60));
/// connection.handle_deadline(deadline, Probe { asked_at: deadline, ..Probe::default() });
/// assert_eq!(connection.cause().map(|cause| cause.reason), Some(Reason::RecvTimeout));
/// ```
#[derive(Clone, Debug)]
pub struct Limits {
    /// How bytes are understood.
    pub mode: Mode,
    /// Largest payload of a frame in bytes, inclusive.
    pub max_payload: u32,
    /// Idle timeout: longest time waiting for a byte, or for an acknowledgement of bytes sent.
    pub timeout: Option<Duration>,
    /// Longest time from a frame's first byte to its last; it runs only while the connection is
    /// read.
    pub frame_timeout: Option<Duration>,
    /// Longest time without a sign of life from the peer in the orderly close. Zero waits for
    /// acknowledgements only, and not for the peer's FIN.
    pub linger_timeout: Duration,
    /// Age at which a connection is closed cleanly; [`LIFETIME_GRACE`] later it is cut.
    pub max_lifetime: Option<Duration>,
    /// Longest time from accept to the last byte of the PROXY header with which every connection
    /// then has to begin; `Duration::MAX` is no limit. `None`: there is no such header.
    pub proxy_header: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            mode: Mode::Auto,
            max_payload: DEFAULT_MAX_PAYLOAD,
            timeout: Some(Duration::from_secs(5)),
            frame_timeout: Some(Duration::from_secs(30)),
            linger_timeout: Duration::from_secs(2),
            max_lifetime: None,
            proxy_header: None,
        }
    }
}
