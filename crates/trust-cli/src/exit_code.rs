//! Exit codes, based on sysexits(3), and the reason why a command ends with one.

/// How a run ended, as seen by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything asked for was done.
    Success = 0,
    /// It ran, and the answer is no.
    Negative = 1,
    /// The flags of a command that takes the place of a program in Go are wrong.
    WrongFlags = 2,
    /// The command line or a variable is wrong.
    Usage = 64,
    /// The input data is wrong.
    DataError = 65,
    /// The host name is unknown.
    NoHost = 68,
    /// The peer or the address is not available.
    Unavailable = 69,
    /// A bug.
    Internal = 70,
    /// The operating system refused a resource.
    OsLimit = 71,
    /// A file or directory cannot be created.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// A time limit passed.
    TimedOut = 75,
    /// The peer broke the protocol.
    Protocol = 76,
    /// The permission is missing.
    NotPermitted = 77,
    /// The configuration file is wrong.
    Config = 78,
    /// Stopped by SIGHUP.
    Hangup = 129,
    /// Stopped by SIGINT.
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

impl ExitCode {
    /// Every code, in the order of the numbers.
    pub const ALL: [ExitCode; 18] = [
        ExitCode::Success,
        ExitCode::Negative,
        ExitCode::WrongFlags,
        ExitCode::Usage,
        ExitCode::DataError,
        ExitCode::NoHost,
        ExitCode::Unavailable,
        ExitCode::Internal,
        ExitCode::OsLimit,
        ExitCode::CannotCreate,
        ExitCode::Io,
        ExitCode::TimedOut,
        ExitCode::Protocol,
        ExitCode::NotPermitted,
        ExitCode::Config,
        ExitCode::Hangup,
        ExitCode::Interrupted,
        ExitCode::Terminated,
    ];

    /// The process's exit status.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// When a run ends with this code, as one line for `--help` and the documentation.
    pub const fn meaning(self) -> &'static str {
        match self {
            ExitCode::Success => "success; a server: SIGTERM, and every connection drained",
            ExitCode::Negative => {
                "it ran, and the answer is no: failed echoes or cases, missing shards, \
                 a drain cut short"
            }
            ExitCode::WrongFlags => "toxiproxy-server: a bad flag",
            ExitCode::Usage => "usage: a bad flag, argument, variable or command",
            ExitCode::DataError => "bad input data",
            ExitCode::NoHost => "host name unknown",
            ExitCode::Unavailable => "peer or address unavailable: refused, unreachable, in use",
            ExitCode::Internal => "internal error: a bug",
            ExitCode::OsLimit => "operating system limit",
            ExitCode::CannotCreate => "cannot create a file or directory",
            ExitCode::Io => "input or output error",
            ExitCode::TimedOut => "timed out",
            ExitCode::Protocol => "the peer broke the protocol",
            ExitCode::NotPermitted => "not permitted",
            ExitCode::Config => "bad configuration",
            ExitCode::Hangup => "ended by SIGHUP",
            ExitCode::Interrupted => "ended by SIGINT",
            ExitCode::Terminated => "ended by SIGTERM",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(exit: ExitCode) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command fails: the message for stderr, and the exit code.
///
/// Message and hint have no final stop; on stderr they follow `error: ` and, on the next line,
/// `hint: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The process's exit code.
    pub exit: ExitCode,
    /// What went wrong, where, with which value, and what is expected; one line.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with its exit code and its line for stderr.
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hint: None }
    }

    /// The same with a hint.
    pub fn with_hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// What stderr gets.
    pub fn shown(&self) -> String {
        let error = format!("error: {}", self.message);
        match &self.hint {
            Some(hint) => format!("{error}\nhint: {hint}"),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_listed_once_and_in_order() {
        let codes: Vec<u8> = ExitCode::ALL.iter().map(|exit| exit.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
    }
}
