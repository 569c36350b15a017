//! What every errno leads to: event, level, action and exit code. It is a single table, and the
//! documentation is made from it.

use std::io;

use nix::errno::Errno;
use trust_net::errno::{self, ErrorClass, Operation};

use crate::exit_code::ExitCode;
use crate::level::Level;

/// How an error is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The server closes this client's connection; a client command ends.
    CloseClient,
    /// The call is repeated.
    Retry,
    /// Accepting connections pauses.
    PauseAccept,
    /// The server finishes its open connections and stops.
    DrainAndStop,
    /// The command ends.
    End,
}

impl Action {
    /// The action's name in the documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Action::CloseClient => "close client",
            Action::Retry => "retry",
            Action::PauseAccept => "pause accepting",
            Action::DrainAndStop => "drain and stop",
            Action::End => "end",
        }
    }
}

/// One row: what these errors lead to.
#[derive(Debug)]
pub struct Row {
    /// Their classes; empty for "any other".
    pub classes: &'static [ErrorClass],
    /// The operations that failed.
    pub during: &'static [Operation],
    /// The event that a server logs.
    pub event: &'static str,
    /// Its level.
    pub level: Level,
    /// What a server does.
    pub action: Action,
    /// The exit code of a client command, or of a server that ends because of it; `None` if nothing
    /// ends.
    pub exit: Option<ExitCode>,
}

use ErrorClass as Class;
use Operation::{Accept, Connect, Listen, Receive, Send};

const ANY: &[Operation] = &[Receive, Send, Accept, Connect, Listen];
const TRANSFER: &[Operation] = &[Receive, Send];

/// Linux's numbers begin with 1; the last is EHWPOISON.
const ERRNO_MAX: i32 = 133;

/// The table; the first matching row wins.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row(&[Class::WouldBlock], &[Receive], "recv_timeout", Level::Warn, Action::CloseClient, Some(ExitCode::TimedOut)),
    row(&[Class::WouldBlock], &[Send], "send_timeout", Level::Warn, Action::CloseClient, Some(ExitCode::TimedOut)),
    row(&[Class::Reset], TRANSFER, "client_reset", Level::Warn, Action::CloseClient, Some(ExitCode::Protocol)),
    row(&[Class::BrokenPipe], TRANSFER, "broken_pipe", Level::Warn, Action::CloseClient, Some(ExitCode::Protocol)),
    row(&[Class::TimedOut], TRANSFER, "client_unreachable", Level::Warn, Action::CloseClient, Some(ExitCode::TimedOut)),
    row(&[Class::Unreachable], TRANSFER, "client_unreachable", Level::Warn, Action::CloseClient, Some(ExitCode::Unavailable)),
    row(&[Class::Interrupted], ANY, "interrupted", Level::Debug, Action::Retry, None),
    row(&[Class::Transient], &[Accept], "accept_error", Level::Warn, Action::Retry, None),
    row(&[Class::Exhausted], &[Accept], "accept_paused", Level::Error, Action::PauseAccept, None),
    row(&[Class::Fatal], &[Accept], "io_error", Level::Error, Action::DrainAndStop, Some(ExitCode::OsLimit)),
    row(&[], &[Accept], "io_error", Level::Error, Action::Retry, None),
    row(&[Class::Refused, Class::Unreachable, Class::AddressInUse, Class::NoAddress], &[Connect, Listen], "error", Level::Error, Action::End, Some(ExitCode::Unavailable)),
    row(&[Class::Missing], &[Connect], "error", Level::Error, Action::End, Some(ExitCode::Unavailable)),
    row(&[Class::TimedOut], &[Connect], "error", Level::Error, Action::End, Some(ExitCode::TimedOut)),
    row(&[Class::NotPermitted], &[Connect, Listen], "error", Level::Error, Action::End, Some(ExitCode::NotPermitted)),
    row(&[Class::Exhausted], &[Connect, Listen], "error", Level::Error, Action::End, Some(ExitCode::OsLimit)),
    row(&[], &[Connect, Listen], "error", Level::Error, Action::End, Some(ExitCode::Io)),
    row(&[], TRANSFER, "io_error", Level::Error, Action::CloseClient, Some(ExitCode::Io)),
];

const fn row(
    classes: &'static [ErrorClass],
    during: &'static [Operation],
    event: &'static str,
    level: Level,
    action: Action,
    exit: Option<ExitCode>,
) -> Row {
    Row { classes, during, event, level, action, exit }
}

impl Row {
    /// The errnos of a row, class by class; empty for "any other".
    pub fn errnos(&self) -> impl Iterator<Item = Errno> {
        let is_of =
            |class, errno| self.during.iter().any(|at| errno::classify(errno, *at) == class);
        let of = move |class| (1..=ERRNO_MAX).filter(move |errno| is_of(class, *errno));
        self.classes.iter().flat_map(move |class| of(*class)).map(Errno::from_raw)
    }
}

/// The row for an errno.
pub fn find(errno: i32, during: impl Into<Operation>) -> &'static Row {
    let during = during.into();
    let class = errno::classify(errno, during);
    TABLE
        .iter()
        .filter(|row| row.during.contains(&during))
        .find(|row| row.classes.is_empty() || row.classes.contains(&class))
        .expect("every kind of call has a row for any other errno")
}

/// The exit code of a command that ends because of this error; 74 if the table has none.
pub fn exit_code(error: &io::Error, during: Operation) -> ExitCode {
    find(errno::of(error), during).exit.unwrap_or(ExitCode::Io)
}

/// The name of an errno: `ECONNRESET`.
pub fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("errno {errno}"),
        known => format!("{known:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trust_net::wire::ErrnoClass;

    #[test]
    fn the_table_says_what_the_server_does_with_a_connection() {
        for errno in (1..=ERRNO_MAX).filter(|errno| ![4, 11].contains(errno)) {
            let event = match errno::classify(errno, Send).into() {
                ErrnoClass::Reset => "client_reset",
                ErrnoClass::BrokenPipe => "broken_pipe",
                ErrnoClass::Unreachable => "client_unreachable",
                ErrnoClass::Other => "io_error",
            };
            for during in [Receive, Send] {
                assert_eq!(find(errno, during).event, event, "{}", errno_name(errno));
                assert_eq!(find(errno, during).action, Action::CloseClient);
            }
        }
    }

    #[test]
    fn the_table_says_what_the_server_does_with_accept() {
        for errno in 1..=ERRNO_MAX {
            let action = match errno::classify(errno, Accept) {
                ErrorClass::Exhausted => Action::PauseAccept,
                ErrorClass::Fatal => Action::DrainAndStop,
                _ => Action::Retry,
            };
            assert_eq!(find(errno, Accept).action, action, "{}", errno_name(errno));
        }
    }

    #[test]
    fn an_errno_has_its_name() {
        assert_eq!(errno_name(104), "ECONNRESET");
        assert_eq!(errno_name(9999), "errno 9999");
    }
}
