//! The lower bound for small messages: recv(2) and send(2).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::bare::{self, Carry};

/// Bytes received per call.
const BUFFER_BYTES: usize = 64 * 1024;

/// One direction of a pair.
#[derive(Default)]
struct Copying {
    owed: Vec<u8>,
}

/// Relays until an error.
///
/// # Errors
///
/// Errors of epoll(7) and of accept(2).
pub(super) fn relay(listener: &TcpListener, server: SocketAddr) -> io::Result<()> {
    bare::relay::<Copying>(listener, server, vec![0; BUFFER_BYTES])
}

impl Carry for Copying {
    type Shared = Vec<u8>;

    fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }

    fn carry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        is_ending: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, Errno> {
        if self.is_owing() {
            let owed = std::mem::take(&mut self.owed);
            self.send(to, &owed)?;
        }
        while !self.is_owing() {
            let received = match recv(from, &mut buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return Ok(true),
                Ok((received, _)) => received,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            };
            self.send(to, &buffer[..received])?;
            if received < buffer.len() && !is_ending {
                break;
            }
        }
        Ok(false)
    }
}

impl Copying {
    fn send(&mut self, to: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
        let sent = match send(to, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error),
        };
        self.owed.extend_from_slice(&bytes[sent..]);
        Ok(())
    }
}
