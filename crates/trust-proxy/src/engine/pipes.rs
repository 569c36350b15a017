//! Pipes through which many bytes go from socket to socket without being copied (`splice(2)`).

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use trust_wire::relay::SPLICE_MAX;

/// Most pipes there are at once. A connection has one only while its receiver has not taken what is
/// in it, so this also bounds what is held in them; others copy.
const PIPES_MAX: usize = 32;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// A pipe that is empty, or has bytes for one side of a connection.
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// The last call took less than was there.
    was_short: bool,
}

impl Pipe {
    fn new() -> Result<Pipe, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A page takes the room of one, however little of it is used, so this is more bytes than go
        // through. A small pipe would be slower than copying.
        fcntl_setpipe_size(&write, SPLICE_MAX)?;
        Ok(Pipe { read, write, was_short: false })
    }

    /// Moves bytes from a socket into it.
    pub(super) fn fill(&self, from: BorrowedFd<'_>, max: usize) -> Result<usize, Errno> {
        splice(from, None, &self.write, None, max, FLAGS)
    }

    /// Takes bytes out of it; `None`: there are none.
    pub(super) fn take(&self, buffer: &mut [u8]) -> Option<usize> {
        rustix::io::read(&self.read, buffer).ok().filter(|count| *count > 0)
    }

    /// Moves the `len` bytes that are in it to a socket.
    pub(super) fn empty(&mut self, to: BorrowedFd<'_>, len: usize) -> Result<usize, Errno> {
        let was_short = std::mem::take(&mut self.was_short);
        match splice(&self.read, None, to, None, len, FLAGS) {
            Ok(count) => {
                self.was_short = count < len;
                Ok(count)
            }
            // A call sends in several steps, and does not report why it stopped after the first. If
            // that was a RST, the next one only reports that nothing more can be sent.
            Err(Errno::PIPE) if was_short => Err(Errno::CONNRESET),
            Err(errno) => Err(errno),
        }
    }
}

/// The pipes that nothing is in.
pub(super) struct PipePool {
    free: Vec<Pipe>,
    /// How many more may be made.
    left: usize,
}

impl PipePool {
    pub(super) const fn new() -> PipePool {
        PipePool { free: vec![], left: PIPES_MAX }
    }

    /// A pipe, unless there are too many, or the kernel gives none.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        self.left = self.left.checked_sub(1)?;
        match Pipe::new() {
            Ok(pipe) => Some(pipe),
            Err(_) => {
                // Asking each time would cost more than a pipe saves.
                self.left = 0;
                None
            }
        }
    }

    pub(super) fn put(&mut self, pipe: Pipe) {
        self.free.push(pipe);
    }

    /// Closes pipes with what is in them.
    pub(super) fn discard(&mut self, pipes: impl IntoIterator<Item = Pipe>) {
        self.left += pipes.into_iter().count();
    }
}
