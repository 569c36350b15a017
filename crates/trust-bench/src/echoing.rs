//! A socket whose bytes are sent back, with nothing else around it: of a bare server, and of the
//! server that a relay leads to.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// A connection that sends back what it receives.
pub struct EchoingSocket {
    socket: OwnedFd,
    /// Bytes that the kernel has not taken: a server that loses bytes is useless.
    owed: Vec<u8>,
}

impl EchoingSocket {
    /// One that owes nothing yet. The socket must not block.
    pub fn new(socket: OwnedFd) -> EchoingSocket {
        EchoingSocket { socket, owed: vec![] }
    }

    /// Does everything that the socket is ready for; returns how many bytes came, or `None` if the
    /// connection is over. With a FIN announced, it receives until it has seen that.
    pub fn turn(&mut self, is_ending: bool, buffer: &mut [u8]) -> Option<usize> {
        let mut came = 0;
        loop {
            if !self.owed.is_empty() {
                let owed = std::mem::take(&mut self.owed);
                self.send(&owed).ok()?;
                if !self.owed.is_empty() {
                    return Some(came);
                }
            }
            let received = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return None,
                Ok((received, _)) => received,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Some(came),
                Err(_) => return None,
            };
            came += received;
            self.send(&buffer[..received]).ok()?;
            if received < buffer.len() && !is_ending {
                return Some(came);
            }
        }
    }

    /// Sends bytes, and keeps those that the kernel does not take.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let sent = match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error),
        };
        self.owed.extend_from_slice(&bytes[sent..]);
        Ok(())
    }
}
