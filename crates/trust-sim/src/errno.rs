//! The errors that the simulated network reports, with Linux's numbers (`errno(3)`).

use trust_wire::ErrnoClass;

/// Interrupted by a signal.
pub const EINTR: i32 = 4;
/// The call would block.
pub const EAGAIN: i32 = 11;
/// Sent on a connection that is over.
pub const EPIPE: i32 = 32;
/// RST received.
pub const ECONNRESET: i32 = 104;
/// No acknowledgement until the kernel gave up.
pub const ETIMEDOUT: i32 = 110;
/// A router reports that there is no route.
pub const EHOSTUNREACH: i32 = 113;

/// The class of an error.
pub fn classify(errno: i32) -> ErrnoClass {
    match errno {
        ECONNRESET => ErrnoClass::Reset,
        EPIPE => ErrnoClass::BrokenPipe,
        ETIMEDOUT | EHOSTUNREACH => ErrnoClass::Unreachable,
        _ => ErrnoClass::Other,
    }
}
