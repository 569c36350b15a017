//! The lower bound for many bytes: splice(2), which moves pages and copies nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::bare::{self, Carry};

/// Room of a pipe. A page of a socket takes the room of one of its own, however little of it is
/// used, so this is more bytes than a call moves.
const PIPE_BYTES: usize = 1024 * 1024;

/// One direction of a pair.
#[derive(Default)]
struct Splicing {
    /// There is one while there is something in it.
    pipe: Option<Pipe>,
    owed: usize,
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// Relays until an error.
///
/// # Errors
///
/// Errors of epoll(7) and of accept(2).
pub(super) fn relay(listener: &TcpListener, server: SocketAddr) -> io::Result<()> {
    bare::relay::<Splicing>(listener, server, vec![])
}

impl Carry for Splicing {
    /// Pipes that nothing is in.
    type Shared = Vec<Pipe>;

    fn is_owing(&self) -> bool {
        self.owed > 0
    }

    fn carry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        _is_ending: bool,
        free: &mut Vec<Pipe>,
    ) -> Result<bool, Errno> {
        let pipe = match self.pipe.take().or_else(|| free.pop()) {
            Some(pipe) => pipe,
            None => Pipe::new()?,
        };
        let outcome = self.carry_through(&pipe, from, to);
        if self.is_owing() {
            self.pipe = Some(pipe);
        } else {
            free.push(pipe);
        }
        outcome
    }
}

impl Splicing {
    /// Until there is nothing more, because how much was moved does not say whether that was all.
    fn carry_through(&mut self, pipe: &Pipe, from: &OwnedFd, to: &OwnedFd) -> Result<bool, Errno> {
        loop {
            while self.owed > 0 {
                match splice(&pipe.read, None, to, None, self.owed, FLAGS) {
                    Ok(moved) => self.owed -= moved,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            match splice(from, None, &pipe.write, None, PIPE_BYTES, FLAGS) {
                Ok(0) => return Ok(true),
                Ok(moved) => self.owed = moved,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Pipe {
    fn new() -> Result<Pipe, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Without the right to so much, it works with less.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Pipe { read, write })
    }
}
