//! The one system call that no well-kept crate wraps in a safe function.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// SIOCOUTQ of `<linux/sockios.h>`, the number of TIOCOUTQ.
const SIOCOUTQ: Opcode = 0x5411;

/// Bytes that were sent and that the peer has not acknowledged; a FIN counts as one (`tcp(7)`).
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    // SAFETY: SIOCOUTQ writes one int through its argument, which is what `Getter` passes.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
