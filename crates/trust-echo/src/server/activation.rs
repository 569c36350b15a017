//! Listening sockets that another process opened: socket activation, as systemd does it
//! (`sd_listen_fds(3)`).

use std::env;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use trust_cli::descriptor::Kind;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::layers::{Layers, Source};
use trust_cli::listening::LISTENERS_MAX;
use trust_cli::settings::AnySetting;
use trust_cli::sys;
use trust_cli::values::quoted;

/// Variables that a super-server sets for a process. They are meant for that process alone, so code
/// that starts children removes them.
pub(crate) const VARIABLES: [&str; 7] = [
    LISTEN_FDS,
    LISTEN_PID,
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

const LISTEN_FDS: &str = "LISTEN_FDS";
const LISTEN_PID: &str = "LISTEN_PID";

/// The first descriptor that is handed over (SD_LISTEN_FDS_START).
const FIRST_DESCRIPTOR: RawFd = 3;

/// The sockets that were handed over to this process, in their order; none if none were.
///
/// # Errors
///
/// 64 for variables that are not numbers or are too large, and for a descriptor that is not a
/// listening socket, TCP or unix.
pub(crate) fn listeners() -> Result<Vec<OwnedFd>, Failure> {
    let count = handed_over(|name| env::var_os(name), std::process::id())?;
    (FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + count).map(listener).collect()
}

/// Whether somebody hands sockets over to this process, right or wrong.
pub(crate) fn are_handed_over() -> bool {
    handed_over(|name| env::var_os(name), std::process::id()) != Ok(0)
}

/// Why there are no sockets although some may have been meant for this process, which now has to
/// listen by itself; `None` if nothing looks like that.
pub(crate) fn missed() -> Option<String> {
    let meant_for = env::var_os(LISTEN_PID).filter(|_| env::var_os(LISTEN_FDS).is_some());
    if let Some(pid) = meant_for {
        let own = std::process::id();
        let pid = pid.to_string_lossy();
        return Some(format!(
            "{LISTEN_FDS} is meant for process {pid}, this is {own}: start it with exec"
        ));
    }
    let is_connection = Kind::of(rustix::stdio::stdin()) == Kind::Connection;
    is_connection.then(|| "descriptor 0 is a connected socket: --inetd serves it".to_owned())
}

/// Refuses settings that were given for this run by a flag or a variable and are decided already.
/// Settings in the file are not meant for this run alone, and are ignored.
///
/// # Errors
///
/// 64, for the first one.
pub(crate) fn refuse_given(
    layers: &Layers,
    settings: &[&dyn AnySetting],
    reason: &str,
) -> Result<(), Failure> {
    let given = |setting: &&&dyn AnySetting| {
        matches!(layers.source(**setting), Source::Flag | Source::Environment)
    };
    let Some(setting) = settings.iter().find(given) else { return Ok(()) };
    let value = layers.text(*setting).0.unwrap_or_default();
    let message =
        format!("{} {} cannot be used with {reason}", layers.place(*setting), quoted(value));
    Err(Failure::new(ExitCode::Usage, message))
}

/// How many descriptors were handed over to the process with the number `own_pid`.
fn handed_over(
    variable: impl Fn(&str) -> Option<OsString>,
    own_pid: u32,
) -> Result<RawFd, Failure> {
    let (Some(pid), Some(count)) = (variable(LISTEN_PID), variable(LISTEN_FDS)) else {
        return Ok(0);
    };
    let allowed_pid = "the number of a process";
    let pid: u32 = number(&pid).ok_or_else(|| bad(LISTEN_PID, &pid, allowed_pid))?;
    if pid != own_pid {
        // They were meant for a process that has started this one, as a shell does.
        return Ok(0);
    }
    let in_range = |count: &RawFd| (1..=LISTENERS_MAX as RawFd).contains(count);
    let allowed_count = format!("a whole number from 1 to {LISTENERS_MAX}");
    number(&count).filter(in_range).ok_or_else(|| bad(LISTEN_FDS, &count, &allowed_count))
}

fn listener(number: RawFd) -> Result<OwnedFd, Failure> {
    let refused = |what: &str| {
        let message = format!(
            "descriptor {number} of {LISTEN_FDS} is {what}: expected a listening TCP or unix socket"
        );
        Failure::new(ExitCode::Usage, message)
    };
    let descriptor = sys::take_inherited(number).map_err(|_| refused("not open"))?;
    match Kind::of(descriptor.as_fd()) {
        Kind::Listener => Ok(descriptor),
        Kind::Connection => {
            Err(refused("a connected socket, as with Accept=yes of systemd, which --inetd serves"))
        }
        other => Err(refused(other.name())),
    }
}

fn number<T: std::str::FromStr>(text: &OsString) -> Option<T> {
    let text = text.to_str()?;
    // `parse` takes a sign too.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn bad(name: &str, value: &OsString, allowed: &str) -> Failure {
    Failure::new(
        ExitCode::Usage,
        format!("invalid value {} for {name}: expected {allowed}", quoted(value)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 77;

    fn count(pid: Option<&str>, fds: Option<&str>) -> Result<RawFd, String> {
        let variable = |name: &str| match name {
            LISTEN_PID => pid.map(Into::into),
            _ => fds.map(Into::into),
        };
        handed_over(variable, OWN).map_err(|failure| failure.message)
    }

    #[test]
    fn sockets_are_only_taken_by_the_process_that_they_are_for() {
        assert_eq!(count(Some("77"), Some("1")), Ok(1));
        assert_eq!(count(Some("77"), Some("16")), Ok(16));
        for (pid, fds) in [(Some("78"), Some("many")), (None, Some("1")), (Some("77"), None)] {
            assert_eq!(count(pid, fds), Ok(0), "{pid:?} {fds:?}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused_with_what_is_allowed() {
        for fds in ["0", "17", "99999999999999999999", "-1", "+1", "1 ", "", "one", "0x1"] {
            let expected = format!(
                "invalid value '{fds}' for LISTEN_FDS: expected a whole number from 1 to 16"
            );
            assert_eq!(count(Some("77"), Some(fds)), Err(expected));
        }
        for pid in ["", "-77", "seven", "77777777777777"] {
            let expected =
                format!("invalid value '{pid}' for LISTEN_PID: expected the number of a process");
            assert_eq!(count(Some(pid), Some("1")), Err(expected));
        }
    }
}
