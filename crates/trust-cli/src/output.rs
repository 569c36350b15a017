//! Standard output, and what becomes of outputs that cannot be written.

use std::io::{self, Write};

use rustix::io::Errno;
use serde::Serialize;

use crate::exit_code::{ExitCode, Failure};
use crate::sys;
use crate::text::reason;

/// What could not be written: every output is tried, whatever became of the others.
#[derive(Clone, Debug, Default)]
pub struct Unwritten(Option<Failure>);

impl Unwritten {
    /// Keeps what went wrong, behind what did before.
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

    /// What went wrong; `None`: nothing did.
    pub fn failure(&self) -> Option<&Failure> {
        self.0.as_ref()
    }

    /// What went wrong, as how the command ends.
    ///
    /// # Errors
    ///
    /// All of it in one line, with the exit code of the first.
    pub fn into_result(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}

/// A document as `--json` prints it: indented, with a newline at its end.
///
/// # Panics
///
/// If it has a map whose keys are no texts.
pub fn document(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).expect("all keys are texts") + "\n"
}

/// Whether stdout still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdout {
    /// It took everything.
    Open,
    /// The reader went away (EPIPE), as `head` does: end quietly, with success.
    Gone,
}

/// Writes to stdout at once.
///
/// # Errors
///
/// 74 for anything but EPIPE.
pub fn print(bytes: &[u8]) -> Result<Stdout, Failure> {
    let mut stdout = io::stdout().lock();
    let written = match sys::stdout_was_closed() && !bytes.is_empty() {
        true => Err(Errno::BADF.into()),
        false => stdout.write_all(bytes).and_then(|()| stdout.flush()),
    };
    match written {
        Ok(()) => Ok(Stdout::Open),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Stdout::Gone),
        Err(error) => {
            let message = format!("cannot write to standard output: {}", reason(&error));
            Err(Failure::new(ExitCode::Io, message))
        }
    }
}
