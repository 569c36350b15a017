//! Standard output and standard error, and how failures to write are collected.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;

use crate::exit_code::{ExitCode, Failure};
use crate::sys;
use crate::text::reason;

/// Failures to write. Every output is tried, whatever happened to the others.
#[derive(Clone, Debug, Default)]
pub struct Unwritten(Option<Failure>);

impl Unwritten {
    /// Records a failure, after earlier ones.
    pub fn keep<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        match (result, &mut self.0) {
            (Ok(value), _) => return Some(value),
            (Err(failure), None) => self.0 = Some(failure),
            (Err(failure), Some(first)) => {
                first.message = format!("{}; {}", first.message, failure.message);
            }
        }
        None
    }

    /// The failure; `None` if everything was written.
    pub fn failure(&self) -> Option<&Failure> {
        self.0.as_ref()
    }

    /// The failure as the result of a command.
    ///
    /// # Errors
    ///
    /// All failures on one line, with the exit code of the first.
    pub fn into_result(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}

/// A document as printed by `--json`: indented, with a newline at the end.
///
/// # Panics
///
/// If it has a map with keys that are not strings.
pub fn document(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).expect("all keys are texts") + "\n"
}

/// Whether stdout still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdout {
    /// It took everything.
    Open,
    /// The reader went away (EPIPE), as `head` does: end quietly and successfully.
    Gone,
}

/// Writes to stdout without buffering.
///
/// # Errors
///
/// 74 for any error except EPIPE.
pub fn print(bytes: &[u8]) -> Result<Stdout, Failure> {
    let written = match sys::stdout_was_closed() && !bytes.is_empty() {
        true => Err(Errno::BADF),
        false => write_all(rustix::stdio::stdout(), bytes),
    };
    match written {
        Ok(()) => Ok(Stdout::Open),
        Err(Errno::PIPE) => Ok(Stdout::Gone),
        Err(error) => {
            let message =
                format!("cannot write to standard output: {}", reason(&io::Error::from(error)));
            Err(Failure::new(ExitCode::Io, message))
        }
    }
}

/// Writes a line to stderr for the user. It does not matter if that fails.
pub fn tell(line: &str) {
    let _ = write_all(rustix::stdio::stderr(), format!("{line}\n").as_bytes());
}

/// Writes everything, however long the reader takes. The other end of a standard stream may be
/// shared with a program that has made it non-blocking for both (O_NONBLOCK, `fcntl(2)`), as CI
/// runners do; this waits for it all the same.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // An interrupting signal or an error will show in the next write.
                let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::thread;

    use rustix::fs::OFlags;

    use super::*;

    #[test]
    fn a_reader_that_is_slow_is_waited_for_also_where_a_write_does_not_wait() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let bytes: Vec<u8> = (0..500_000).map(|index| (index / 1000) as u8).collect();
        let read = thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut first = [0; 1];
                reader.read_exact(&mut first).unwrap();
                let mut read = first.to_vec();
                reader.read_to_end(&mut read).unwrap();
                read
            });
            assert_eq!(write_all(writer.as_fd(), &bytes), Ok(()));
            drop(writer);
            reading.join().unwrap()
        });
        assert!(read == bytes, "{} bytes", read.len());
    }

    #[test]
    fn a_reader_that_has_left_ends_the_wait_for_it() {
        let (reader, writer) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
        thread::scope(|scope| {
            scope.spawn(|| drop(reader));
            assert_eq!(write_all(writer.as_fd(), b"x"), Err(Errno::PIPE));
        });
    }
}
