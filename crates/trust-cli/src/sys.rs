//! Operations without a safe function: taking over a descriptor by its number, and checking one
//! before Rust's runtime changes it.
#![allow(unsafe_code, reason = "two calls and a place in a table, see each SAFETY line")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};

/// Takes over a descriptor that this process was started with. It will not be inherited by
/// children.
///
/// Everything that this program opens is closed by `exec(2)` (FD_CLOEXEC), and everything inherited
/// through `exec(2)` is not: so a descriptor without that flag has no owner yet. Taking it sets the
/// flag, so it cannot be taken twice.
///
/// # Errors
///
/// EBADF for a number that is not open, or that belongs to this program.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer, and returns an error for any invalid number.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: it is open, and has no owner in this process, as it was inherited and not taken
    // before.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, fcntl_getfd(&descriptor)? | FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// Whether this process was started without a standard output (`>&-`).
///
/// Rust's runtime opens `/dev/null` in place of a closed standard stream, so that no file gets its
/// number. After that a write succeeds and its bytes are lost, as if they had been sent to
/// `/dev/null` on purpose.
pub(crate) fn stdout_was_closed() -> bool {
    STDOUT_WAS_CLOSED.load(Ordering::Relaxed)
}

static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

// SAFETY: the section holds pointers to functions of this type, which the C library calls one by
// one before `main` (elf(5)). This one does not depend on Rust's runtime: it makes a system call
// and stores a flag.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look_at_stdout;

extern "C" fn look_at_stdout() {
    let is_closed = fcntl_getfd(rustix::stdio::stdout()) == Err(Errno::BADF);
    STDOUT_WAS_CLOSED.store(is_closed, Ordering::Relaxed);
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
        // From here on it has no owner, as after exec.
        let number = own.into_raw_fd();
        let taken = take_inherited(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
        assert!(take_inherited(number).is_err());
        assert!(take_inherited(-1).is_err());
        assert!(take_inherited(RawFd::MAX).is_err());
    }
}
