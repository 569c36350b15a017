//! What every errno leads to: event, level, action and exit code. One table; the documentation is
//! checked against it.

use std::io;

use nix::errno::Errno;
use trust_net::errno;

use crate::exit_code::ExitCode;
use crate::level::Level;

/// What was being done when the error came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// `recv(2)`, or waiting for bytes.
    Receive,
    /// `send(2)`, or waiting for acknowledgements.
    Send,
    /// `accept(2)`.
    Accept,
    /// `connect(2)`.
    Connect,
    /// `bind(2)`, `listen(2)`.
    Listen,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The server closes this client's connection; a client ends.
    CloseClient,
    /// The call is repeated.
    Retry,
    /// Accepting pauses.
    PauseAccept,
    /// The server finishes what has begun and stops.
    DrainAndStop,
    /// The command ends.
    End,
}

impl Action {
    /// The words of the documentation.
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

/// One row: what these errnos lead to.
#[derive(Debug)]
pub struct Row {
    /// The numbers; none means "any other".
    pub errnos: &'static [Errno],
    /// What was being done.
    pub during: &'static [During],
    /// The event of a server.
    pub event: &'static str,
    /// Its level.
    pub level: Level,
    /// What a server does.
    pub action: Action,
    /// What a client command, or a server that ends because of it, exits with; `None` where nothing
    /// ends.
    pub exit: Option<ExitCode>,
}

use During::{Accept, Connect, Listen, Receive, Send};

const ANY: &[During] = &[Receive, Send, Accept, Connect, Listen];
const TRANSFER: &[During] = &[Receive, Send];

/// The table; the first row that fits counts.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row(&[Errno::EAGAIN], &[Receive], "recv_timeout", Level::Warn, Action::CloseClient, Some(ExitCode::TimedOut)),
    row(&[Errno::EAGAIN], &[Send], "send_timeout", Level::Warn, Action::CloseClient, Some(ExitCode::TimedOut)),
    row(&[Errno::ECONNRESET], TRANSFER, "client_reset", Level::Warn, Action::CloseClient, Some(ExitCode::Protocol)),
    row(&[Errno::EPIPE], &[Send], "broken_pipe", Level::Warn, Action::CloseClient, Some(ExitCode::Protocol)),
    row(&[Errno::ETIMEDOUT], TRANSFER, "client_unreachable", Level::Warn, Action::CloseClient, Some(ExitCode::TimedOut)),
    row(&[Errno::EHOSTUNREACH, Errno::ENETUNREACH], TRANSFER, "client_unreachable", Level::Warn, Action::CloseClient, Some(ExitCode::Unavailable)),
    row(&[Errno::EINTR], ANY, "interrupted", Level::Debug, Action::Retry, None),
    row(&[
        Errno::ECONNABORTED, Errno::EPROTO, Errno::ENETDOWN, Errno::ENOPROTOOPT, Errno::EHOSTDOWN,
        Errno::ENONET, Errno::EHOSTUNREACH, Errno::EOPNOTSUPP, Errno::ENETUNREACH, Errno::EPERM,
    ], &[Accept], "accept_error", Level::Warn, Action::Retry, None),
    row(&[Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM], &[Accept], "accept_paused", Level::Error, Action::PauseAccept, None),
    row(&[Errno::EBADF, Errno::EINVAL, Errno::ENOTSOCK], &[Accept], "io_error", Level::Error, Action::DrainAndStop, Some(ExitCode::OsLimit)),
    row(&[], &[Accept], "io_error", Level::Error, Action::Retry, None),
    row(&[
        Errno::ECONNREFUSED, Errno::ECONNRESET, Errno::EHOSTUNREACH, Errno::ENETUNREACH, Errno::ENETDOWN, Errno::EHOSTDOWN,
        Errno::EADDRINUSE, Errno::EADDRNOTAVAIL, Errno::EAFNOSUPPORT,
    ], &[Connect, Listen], "error", Level::Error, Action::End, Some(ExitCode::Unavailable)),
    row(&[Errno::ETIMEDOUT, Errno::EAGAIN], &[Connect], "error", Level::Error, Action::End, Some(ExitCode::TimedOut)),
    row(&[Errno::EACCES, Errno::EPERM], &[Connect, Listen], "error", Level::Error, Action::End, Some(ExitCode::NotPermitted)),
    row(&[Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM], &[Connect, Listen], "error", Level::Error, Action::End, Some(ExitCode::OsLimit)),
    row(&[], &[Connect, Listen], "error", Level::Error, Action::End, Some(ExitCode::Io)),
    row(&[], TRANSFER, "io_error", Level::Error, Action::CloseClient, Some(ExitCode::Io)),
];

const fn row(
    errnos: &'static [Errno],
    during: &'static [During],
    event: &'static str,
    level: Level,
    action: Action,
    exit: Option<ExitCode>,
) -> Row {
    Row { errnos, during, event, level, action, exit }
}

/// The row for an errno.
pub fn find(errno: i32, during: During) -> &'static Row {
    let errno = Errno::from_raw(errno);
    TABLE
        .iter()
        .filter(|row| row.during.contains(&during))
        .find(|row| row.errnos.is_empty() || row.errnos.contains(&errno))
        .expect("every kind of call has a row for any other errno")
}

/// What a command exits with that ends because of this error; 74 if the table says that nothing ends.
pub fn exit_code(error: &io::Error, during: During) -> ExitCode {
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
    use trust_net::errno::{AcceptErrorClass, classify, classify_accept};
    use trust_net::wire::ErrnoClass;

    /// Numbers that Linux knows, and one that it does not.
    fn errnos() -> impl Iterator<Item = i32> {
        1..=134
    }

    #[test]
    fn the_table_says_what_the_server_does_with_a_connection() {
        for errno in errnos().filter(|errno| ![4, 11].contains(errno)) {
            let event = match classify(errno) {
                ErrnoClass::Reset => "client_reset",
                ErrnoClass::BrokenPipe => "broken_pipe",
                ErrnoClass::Unreachable => "client_unreachable",
                ErrnoClass::Other => "io_error",
            };
            assert_eq!(find(errno, Send).event, event, "{}", errno_name(errno));
            assert_eq!(find(errno, Send).action, Action::CloseClient);
        }
    }

    #[test]
    fn the_table_says_what_the_server_does_with_accept() {
        for errno in errnos().filter(|errno| *errno != 11) {
            let action = match classify_accept(errno) {
                AcceptErrorClass::Exhausted => Action::PauseAccept,
                AcceptErrorClass::Fatal => Action::DrainAndStop,
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
