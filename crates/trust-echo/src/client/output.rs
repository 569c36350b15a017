//! Standard output, written without ever blocking on a reader that does not read.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;
use rustix::io::Errno;

/// Bytes that wait to be written; more are not asked for. Enough for a few large reads and writes.
const HELD_MAX: usize = 256 * 1024;

/// Bytes that a pipe takes without blocking when poll(2) calls it writable: PIPE_BUF, see pipe(7).
/// The descriptor itself is not set to non-blocking, as it is shared with other processes.
const PIECE: usize = 4096;

/// Bytes on their way to a descriptor.
#[derive(Debug)]
pub struct Output<'fd> {
    descriptor: BorrowedFd<'fd>,
    /// What one write may carry.
    piece: usize,
    held: Vec<u8>,
    written: usize,
}

impl<'fd> Output<'fd> {
    /// An output to which nothing was written yet.
    pub fn new(descriptor: BorrowedFd<'fd>) -> Output<'fd> {
        let stat = rustix::fs::fstat(descriptor);
        let is_file = stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        let piece = if is_file { HELD_MAX } else { PIECE };
        Output { descriptor, piece, held: Vec::new(), written: 0 }
    }

    /// Bytes that [`Output::push`] should be given at most.
    pub fn room(&self) -> usize {
        HELD_MAX.saturating_sub(self.held.len())
    }

    /// Whether everything was written.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// What to poll for; `None` if there is nothing to write.
    pub fn interest(&self) -> Option<(BorrowedFd<'fd>, PollFlags)> {
        (!self.is_empty()).then_some((self.descriptor, PollFlags::OUT))
    }

    /// Writes what the descriptor, which poll(2) called writable, takes without blocking.
    ///
    /// # Errors
    ///
    /// What write(2) reports, for instance EPIPE: there is no reader left.
    pub fn write(&mut self) -> io::Result<()> {
        while !self.is_empty() {
            let rest = &self.held[self.written..];
            let piece = &rest[..rest.len().min(self.piece)];
            match rustix::io::write(self.descriptor, piece) {
                Ok(count) => self.written += count,
                Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.written == self.held.len() {
                self.held.clear();
                self.written = 0;
            } else if !self.is_writable() {
                break;
            }
        }
        Ok(())
    }

    fn is_writable(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.descriptor, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&at_once)) == Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn a_full_pipe_does_not_block() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut output = Output::new(writer.as_fd());
        let bytes: Vec<u8> = (0..HELD_MAX).map(|index| (index / 1000) as u8).collect();
        output.push(&bytes);
        assert_eq!(output.room(), 0);
        output.write().unwrap();
        assert!(!output.is_empty(), "a pipe does not take that much");
        let mut read = vec![];
        let mut buffer = [0; 5000];
        while read.len() < bytes.len() {
            let count = reader.read(&mut buffer).unwrap();
            read.extend_from_slice(&buffer[..count]);
            if output.is_writable() {
                output.write().unwrap();
            }
        }
        assert!(output.is_empty());
        assert_eq!(output.room(), HELD_MAX);
        assert_eq!(read, bytes);
    }

    #[test]
    fn a_reader_that_left_is_an_error_and_no_signal() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut output = Output::new(writer.as_fd());
        output.push(b"x");
        assert_eq!(output.write().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
