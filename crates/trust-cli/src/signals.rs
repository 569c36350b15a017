//! SIGINT, SIGTERM and SIGHUP in a form that can be waited for together with sockets.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

use crate::exit_code::{ExitCode, Failure};

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: the terminal went away.
    Hangup,
    /// SIGINT: control-C.
    Interrupt,
    /// SIGTERM: a request to end.
    Terminate,
}

impl Signal {
    const ALL: [Signal; 3] = [Signal::Terminate, Signal::Interrupt, Signal::Hangup];

    /// Its number, as for kill(1).
    pub const fn number(self) -> i32 {
        match self {
            Signal::Hangup => SIGHUP,
            Signal::Interrupt => SIGINT,
            Signal::Terminate => SIGTERM,
        }
    }

    /// Its name, including `SIG`.
    pub const fn name(self) -> &'static str {
        match self {
            Signal::Hangup => "SIGHUP",
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
        }
    }

    /// The exit code of a command stopped by this signal: 128 plus its number.
    pub const fn exit_code(self) -> ExitCode {
        match self {
            Signal::Hangup => ExitCode::Hangup,
            Signal::Interrupt => ExitCode::Interrupted,
            Signal::Terminate => ExitCode::Terminated,
        }
    }
}

/// Why a command ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// A signal was received.
    Signal(Signal),
    /// Something failed.
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Failed(failure)
    }
}

/// One kind of signal, as a self-pipe that its handler writes a byte to. Every delivery counts.
#[derive(Debug)]
pub struct SignalPipe(OwnedFd);

impl SignalPipe {
    /// Handles SIGUSR1.
    ///
    /// # Errors
    /// If there are no descriptors left, or the handler is refused.
    /// No descriptors left, or the handler was refused.
    pub fn user1() -> io::Result<SignalPipe> {
        SignalPipe::handle(SIGUSR1)
    }

    /// Handles SIGCHLD.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left, or the handler is refused.
    pub fn child() -> io::Result<SignalPipe> {
        SignalPipe::handle(SIGCHLD)
    }

    /// Whether the signal came; call it once per delivery.
    pub fn take(&self) -> bool {
        let mut byte = [0];
        matches!(rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut byte)), Ok(1))
    }

    fn handle(number: i32) -> io::Result<SignalPipe> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        signal_hook::low_level::pipe::register(number, write)?;
        // Programs that use signalfd(2) leave these signals blocked for the programs they start.
        let _ = set_of(number).map(|set| set.thread_unblock());
        Ok(SignalPipe(read))
    }

    /// A signal that is not handled and so never comes.
    fn never() -> io::Result<SignalPipe> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Closing the write end would make the pipe readable forever.
        std::mem::forget(write);
        Ok(SignalPipe(read))
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What to do about an inherited, ignored SIGHUP: nohup(1) starts programs that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoredHangup {
    /// It stays ignored, as the user wanted.
    Keep,
    /// It is handled: for a service it need not mean the end.
    Handle,
}

/// The signals received and not yet taken, with one self-pipe per kind.
///
/// There is one pipe per kind because a handler can only write one fixed byte. So every delivery
/// counts (a second SIGTERM is not merged with the first), but the order of different signals
/// between two looks is lost.
pub struct Signals {
    pipes: [SignalPipe; 3],
}

impl Signals {
    /// Installs the handlers, even for signals inherited as ignored: shells start background jobs
    /// of scripts with SIGINT ignored, and those must be stoppable too.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left, or a handler is refused.
    pub fn install(ignored_hangup: IgnoredHangup) -> io::Result<Signals> {
        let [terminate, interrupt, hangup] = Signal::ALL;
        let keep = ignored_hangup == IgnoredHangup::Keep && is_inherited_as_ignored(hangup);
        let pipes = [
            SignalPipe::handle(terminate.number())?,
            SignalPipe::handle(interrupt.number())?,
            if keep { SignalPipe::never()? } else { SignalPipe::handle(hangup.number())? },
        ];
        Ok(Signals { pipes })
    }

    /// Signals that never come, for tests: real ones reach every test of the process.
    ///
    /// # Panics
    ///
    /// If there are no descriptors left.
    pub fn never() -> Signals {
        Signals { pipes: [(); 3].map(|()| SignalPipe::never().expect("a pipe can be made")) }
    }

    /// Descriptors that become readable when a signal comes. Poll all of them, but do not read from
    /// them: call [`Signals::take`] until it returns `None`.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        self.pipes.each_ref().map(AsFd::as_fd)
    }

    /// The next signal received, without waiting.
    pub fn take(&self) -> Option<Signal> {
        let mut pipes = Signal::ALL.into_iter().zip(&self.pipes);
        pipes.find(|(_, pipe)| pipe.take()).map(|(signal, _)| signal)
    }

    /// Waits for the next signal, for at most `timeout` (`None`: indefinitely).
    pub fn wait(&self, timeout: Option<Duration>) -> Option<Signal> {
        let start = Instant::now();
        loop {
            if let Some(signal) = self.take() {
                return Some(signal);
            }
            let left = match timeout.map(|timeout| timeout.checked_sub(start.elapsed())) {
                None => None,
                Some(Some(left)) if !left.is_zero() => Timespec::try_from(left).ok(),
                Some(_) => return None,
            };
            let [a, b, c] = &self.pipes;
            let mut polled = [a, b, c].map(|pipe| PollFd::new(pipe, PollFlags::IN));
            // An interrupted poll means a signal, or nothing: look again either way.
            let _ = rustix::event::poll(&mut polled, left.as_ref());
        }
    }
}

/// Makes a write past the size limit of files (RLIMIT_FSIZE, `setrlimit(2)`) fail with EFBIG, as on
/// a full disk, instead of ending the process with SIGXFSZ.
///
/// The signal is handled, not ignored: `exec(2)` resets handled signals to their default, so
/// programs that we start behave as they would anywhere else. SIGPIPE, the other signal that ends a
/// process for a write, is ignored by Rust's runtime and reset by [`std::process::Command`].
/// runtime, and given its default back by [`std::process::Command`].
pub fn survive_file_size_limit() {
    // Fails only for an invalid signal number. The flag that the handler sets is not used.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Blocks a signal for this thread and those that it starts.
pub fn block(number: i32) {
    // Fails only for an invalid signal number.
    let _ = set_of(number).map(|set| set.thread_block());
}

fn set_of(number: i32) -> nix::Result<SigSet> {
    let mut set = SigSet::empty();
    set.add(nix::sys::signal::Signal::try_from(number)?);
    Ok(set)
}

/// Reads the signal dispositions from the kernel (proc_pid_status(5)).
fn is_inherited_as_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    mask >> (signal.number() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Raw, getpid, kill_process};

    use super::*;

    /// A single test, because signals belong to the whole process.
    #[test]
    fn every_signal_is_taken_once_and_wakes_who_waits() {
        let signals = Signals::install(IgnoredHangup::Keep).unwrap();
        assert_eq!(signals.take(), None);
        assert_eq!(signals.wait(Some(Duration::from_millis(1))), None);
        let numbers = [(Signal::Hangup, Raw::HUP), (Signal::Terminate, Raw::TERM)];
        // Under nohup(1) SIGHUP does not come.
        for (signal, raw) in numbers.into_iter().filter(|(s, _)| !is_inherited_as_ignored(*s)) {
            kill_process(getpid(), raw).unwrap();
            assert_eq!(signals.wait(Some(Duration::from_secs(10))), Some(signal));
            assert_eq!(signals.take(), None);
        }

        let [.., last] = numbers;
        for _ in 0..2 {
            kill_process(getpid(), last.1).unwrap();
            let mut polled =
                signals.descriptors().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
            while rustix::event::poll(&mut polled, Some(&limit)) == Err(rustix::io::Errno::INTR) {}
            assert!(polled.iter().any(|fd| fd.revents().contains(PollFlags::IN)));
        }
        let both = [(); 2].map(|()| signals.wait(Some(Duration::from_secs(10))));
        assert_eq!(both, [Some(Signal::Terminate); 2]);
    }

    #[test]
    fn exit_codes_are_128_and_the_number() {
        for signal in Signal::ALL {
            assert_eq!(i32::from(signal.exit_code().code()), 128 + signal.number());
        }
    }
}
