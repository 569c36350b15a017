//! The system calls that no well-kept crate wraps in safe functions.
#![allow(unsafe_code, reason = "two calls with arguments of fixed types, see each SAFETY line")]

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use rustix::ioctl::{Getter, Opcode, ioctl};

/// SIOCOUTQ of `<linux/sockios.h>`, the number of TIOCOUTQ.
const SIOCOUTQ: Opcode = 0x5411;

/// Bytes that were sent and that the peer has not acknowledged; a FIN counts as one (`tcp(7)`).
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    // SAFETY: SIOCOUTQ writes one int through its argument, which is what `Getter` passes.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// What is taken from TCP_INFO (`tcp(7)`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TcpInfo {
    pub(crate) round_trip_us: u32,
    pub(crate) retransmits: u32,
    /// Of a listening socket: clients that may wait to be accepted.
    pub(crate) backlog: u32,
    /// The connection is over: nothing is sent or acknowledged from now on.
    pub(crate) is_closed: bool,
}

/// TCP_CLOSE of `<linux/tcp_states.h>`.
const TCP_CLOSE: u8 = 7;

pub(crate) fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    let mut len = mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: all fields of tcp_info are integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most `len` bytes to `info`, which has that size, and both
    // pointers are to live locals.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    match outcome {
        0 => Ok(TcpInfo {
            round_trip_us: info.tcpi_rtt,
            retransmits: info.tcpi_total_retrans,
            // What a connection counts there is not (tcp_get_info of the kernel).
            backlog: info.tcpi_sacked,
            is_closed: info.tcpi_state == TCP_CLOSE,
        }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_listening_socket_has_the_backlog_that_it_was_granted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 7).unwrap();
        assert_eq!(tcp_info(&listener).unwrap().backlog, 7);
        rustix::net::listen(&listener, i32::MAX).unwrap();
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        assert_eq!(tcp_info(&listener).unwrap().backlog.to_string(), most.trim());
    }

    #[test]
    fn a_connection_that_was_used_has_a_round_trip_time_and_nothing_outstanding() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
        far.write_all(b"y").unwrap();
        near.read_exact(&mut [0]).unwrap();
        assert!(tcp_info(&near).unwrap().round_trip_us > 0);
        assert_eq!(unacknowledged(&near).unwrap(), 0);
        assert!(tcp_info(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
