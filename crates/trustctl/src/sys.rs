//! The one thing that no safe function does: taking over a descriptor that is known by its number.
#![allow(unsafe_code, reason = "two calls, see each SAFETY line")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};

/// Takes over a descriptor that this process was started with. It will not be passed on to children.
///
/// Whatever this program opens is closed by `exec(2)` (FD_CLOEXEC), and what `exec(2)` has left open is not: so a
/// descriptor without that flag is nobody's yet. Taking it sets the flag, and it is not taken twice.
///
/// # Errors
///
/// EBADF for a number that is not open, or that is this program's own.
pub(crate) fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer, and every number is an argument that it knows an answer to.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: it is open, and nobody in this process owns it, as it was inherited and not taken before.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, fcntl_getfd(&descriptor)? | FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn only_what_was_inherited_is_taken_and_only_once() {
        let (own, _writer) = io::pipe().unwrap();
        assert_eq!(take_inherited(own.as_raw_fd()).unwrap_err().raw_os_error(), Some(9));
        fcntl_setfd(&own, FdFlags::empty()).unwrap();
        // From here on it is nobody's, as after exec.
        let number = own.into_raw_fd();
        let taken = take_inherited(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
        assert!(take_inherited(number).is_err());
        assert!(take_inherited(-1).is_err());
        assert!(take_inherited(RawFd::MAX).is_err());
    }
}
