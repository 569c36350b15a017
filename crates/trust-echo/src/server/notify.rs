//! What a service manager is told: that the server is ready, that it stops, and that it is alive
//! (`sd_notify(3)`).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, io};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};
use trust_cli::error_map::errno_name;
use trust_cli::event_log::EventLog;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::level::Level;
use trust_cli::values::quoted;
use trust_net::{Event, Observer, errno};

/// The shortest time between two signs of life. A manager that asks for more is given this, which
/// costs no more than the kernel's clock.
const SIGN_OF_LIFE_MIN: Duration = Duration::from_millis(1);

/// The socket of a service manager, if there is one.
pub(crate) struct Notifier {
    /// Of the datagram socket that messages are sent from, and where to.
    manager: Option<(OwnedFd, SocketAddrUnix)>,
    log: EventLog,
    /// The last message did not arrive, and that was logged.
    failing: AtomicBool,
    sign_of_life: Option<Duration>,
}

impl Notifier {
    /// Finds the manager by NOTIFY_SOCKET, and by WATCHDOG_USEC how often it wants a sign of life.
    /// A manager that cannot be reached is no reason not to serve: it is logged as `notify_failed`.
    ///
    /// # Errors
    ///
    /// 64 for a WATCHDOG_USEC or WATCHDOG_PID that is not a number.
    pub(crate) fn from_environment(log: &EventLog) -> Result<Notifier, Failure> {
        let text = |name: &str| env::var_os(name).filter(|text| !text.is_empty());
        let sign_of_life = sign_of_life(
            text("WATCHDOG_USEC").as_deref(),
            text("WATCHDOG_PID").as_deref(),
            std::process::id(),
        )?;
        let mut notifier =
            Notifier { manager: None, log: log.clone(), failing: false.into(), sign_of_life };
        if let Some(place) = text("NOTIFY_SOCKET") {
            match connection(&place) {
                Ok(manager) => notifier.manager = Some(manager),
                Err(error) => notifier.note_failure(errno::of(&error)),
            }
        }
        Ok(notifier)
    }

    /// Longest time between two signs of life; `None` if no one waits for one.
    pub(crate) fn sign_of_life(&self) -> Option<Duration> {
        self.manager.as_ref().and(self.sign_of_life)
    }

    /// Tries once, without waiting.
    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.manager else { return };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendto(socket, message.as_bytes(), flags, address) {
            Ok(_) => self.failing.store(false, Ordering::Relaxed),
            Err(error) => self.note_failure(error.raw_os_error()),
        }
    }

    /// Logs the first failure in a row.
    fn note_failure(&self, errno: i32) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            let event = self.log.event(Level::Warn, "notify_failed").field("errno", &errno);
            event.field("errno_name", &errno_name(errno)).write();
        }
    }
}

/// Passes what concerns the manager on to it, and everything to another observer.
pub(crate) struct Notified<O> {
    pub(crate) notifier: Notifier,
    pub(crate) others: O,
}

impl<O: Observer> Observer for Notified<O> {
    fn wants_frames(&self) -> bool {
        self.others.wants_frames()
    }

    fn wants_paths(&self) -> bool {
        self.others.wants_paths()
    }

    fn observe(&self, event: &Event<'_>) {
        // A manager that hears that the server is ready finds `server_start` in the log.
        if let Event::Started { addresses, .. } = event {
            self.others.observe(event);
            let pid = std::process::id();
            let address = &addresses[0];
            let message = format!("READY=1\nSTATUS=Serving on {address}\nMAINPID={pid}");
            return self.notifier.send(&message);
        }
        match event {
            Event::DrainStarted { active } => self.notifier.send(&format!(
                "STOPPING=1\nSTATUS=Stopping, {active} connections may finish what they have begun"
            )),
            Event::Alive => self.notifier.send("WATCHDOG=1"),
            _ => {}
        }
        self.others.observe(event);
    }
}

/// A socket without a name, and the manager's address: a path, or after an `@` an abstract name
/// (`unix(7)`).
fn connection(place: &OsStr) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let address = match place.as_bytes() {
        [b'/', ..] => SocketAddrUnix::new(place)?,
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        _ => return Err(Errno::AFNOSUPPORT.into()),
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok((socket, address))
}

/// Half of the time after which the manager gives the process with the number `own_pid` up.
fn sign_of_life(
    micros: Option<&OsStr>,
    pid: Option<&OsStr>,
    own_pid: u32,
) -> Result<Option<Duration>, Failure> {
    let number = |text: &OsStr| {
        let text = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        text.parse::<u64>().ok()
    };
    let bad = |name: &str, text: &OsStr, allowed: &str| {
        Failure::new(
            ExitCode::Usage,
            format!("invalid value {} for {name}: expected {allowed}", quoted(text)),
        )
    };
    if let Some(pid) = pid {
        let allowed = "the number of a process";
        let pid = number(pid).ok_or_else(|| bad("WATCHDOG_PID", pid, allowed))?;
        if pid != u64::from(own_pid) {
            return Ok(None);
        }
    }
    let Some(micros) = micros else { return Ok(None) };
    let allowed = "a whole number of microseconds from 1";
    let timeout = number(micros).filter(|micros| *micros > 0);
    let timeout = timeout.ok_or_else(|| bad("WATCHDOG_USEC", micros, allowed))?;
    Ok(Some((Duration::from_micros(timeout) / 2).max(SIGN_OF_LIFE_MIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 77;

    fn interval(micros: &str, pid: Option<&str>) -> Result<Option<Duration>, String> {
        let texts = (Some(OsStr::new(micros)), pid.map(OsStr::new));
        sign_of_life(texts.0, texts.1, OWN).map_err(|failure| failure.message)
    }

    #[test]
    fn a_sign_of_life_is_due_after_half_of_the_manager_s_patience() {
        assert_eq!(interval("30000000", None), Ok(Some(Duration::from_secs(15))));
        assert_eq!(interval("30000000", Some("77")), Ok(Some(Duration::from_secs(15))));
        assert_eq!(interval("1", None), Ok(Some(SIGN_OF_LIFE_MIN)));
        assert_eq!(interval("30000000", Some("78")), Ok(None));
        assert_eq!(sign_of_life(None, None, OWN), Ok(None));
    }

    #[test]
    fn what_is_no_number_is_refused_with_what_is_allowed() {
        for micros in ["0", "-1", "1s", "99999999999999999999"] {
            let allowed = "a whole number of microseconds from 1";
            let message = format!("invalid value '{micros}' for WATCHDOG_USEC: expected {allowed}");
            assert_eq!(interval(micros, None), Err(message));
        }
        let message = "invalid value 'me' for WATCHDOG_PID: expected the number of a process";
        assert_eq!(interval("1", Some("me")), Err(message.to_owned()));
    }

    #[test]
    fn the_manager_is_named_by_a_path_or_an_abstract_name() {
        let errno = |place: &str| connection(place.as_ref()).err().map(|error| errno::of(&error));
        for place in ["/run/notify", "@notify"] {
            assert_eq!(errno(place), None, "{place}");
        }
        for place in ["run/notify", "vsock:2:1234", " "] {
            assert_eq!(errno(place), Some(Errno::AFNOSUPPORT.raw_os_error()), "{place}");
        }
        assert_eq!(errno(&format!("/{}", "x".repeat(108))), Some(36), "ENAMETOOLONG");
    }
}
