//! Runs a test with a deadline and reports the outcome.

use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::panic::{self, PanicHookInfo};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Completion, Failed};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::leftovers;

/// How long a hung test may take to end after its processes were killed, so that it can clean up.
const UNWIND_DEADLINE: Duration = Duration::from_secs(5);

/// The messages of all panics since the current test began, on any thread.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The outcome of a test.
#[derive(Debug)]
pub enum Outcome {
    /// It ended without a failure and left nothing behind.
    Passed,
    /// It failed, for these reasons.
    Failed(Vec<String>),
    /// It did not run, because something that it needs is missing.
    Skipped(String),
}

impl From<Outcome> for Result<Completion, Failed> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed => Ok(Completion::Completed),
            Outcome::Failed(reasons) => Err(reasons.join("\n").into()),
            Outcome::Skipped(needs) => Ok(Completion::ignored_with(format!("needs {needs}"))),
        }
    }
}

/// Ends the current test without a verdict, because something that it needs is missing. With `CI`
/// set nothing may be missing, and this is a failure.
pub fn skip(needs: &str) -> ! {
    panic::panic_any(Skip(needs.to_owned()))
}

struct Skip(String);

/// Reports that a test is left out because something is missing, for suites that cannot skip one.
/// With `CI` set this is a failure, too.
#[track_caller]
pub fn leave_out(needs: &str) {
    assert!(std::env::var_os("CI").is_none(), "it needs {needs}");
    // A closed stderr means that no one wants to know.
    drop(writeln!(std::io::stderr(), "left out: it needs {needs}"));
}

/// Makes SIGINT, SIGTERM and SIGHUP kill the processes that the tests started, remove what they
/// created, and end the process.
///
/// # Panics
///
/// If handlers cannot be installed.
pub fn clean_up_on_signals() {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let (mut reader, writer) = UnixStream::pair().expect("make a pair of sockets");
        signal_hook::low_level::pipe::register(signal, writer).expect("handle a signal");
        thread::spawn(move || {
            if reader.read_exact(&mut [0]).is_ok() {
                leftovers::remove_everything();
                std::process::exit(128 + signal);
            }
        });
    }
}

/// Runs one test, which fails by a panic and counts as hung after `deadline`. Call it for one test
/// at a time, so that leftovers belong to that test.
pub fn run_one(name: &str, deadline: Duration, body: impl FnOnce() + Send + 'static) -> Outcome {
    panic::set_hook(Box::new(note_panic));
    lock(&PANICS).clear();
    let (ended, end) = mpsc::channel();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        body();
        // The receiver is gone if this comes after the deadline.
        let _ = ended.send(());
    });
    let thread = thread.expect("start a thread");
    let mut reasons = Vec::new();
    let outcome = end.recv_timeout(deadline);
    if outcome == Err(RecvTimeoutError::Timeout) {
        reasons.push(format!("hung: no end within {deadline:?}; after its end:"));
        leftovers::end_children();
        let _ = end.recv_timeout(UNWIND_DEADLINE);
    }
    let mut skipped = None;
    // A thread that panics hangs up before it has finished.
    if (outcome != Err(RecvTimeoutError::Timeout) || thread.is_finished())
        && let Err(payload) = thread.join()
    {
        skipped = payload.downcast::<Skip>().ok().map(|skip| skip.0);
    }
    reasons.append(&mut lock(&PANICS));
    reasons.extend(leftovers::take_evidence());
    if outcome.is_err() && reasons.is_empty() && skipped.is_none() {
        reasons.push("ended without a result".to_owned());
    }
    reasons.extend(remaining_child());
    match skipped {
        Some(needs) if reasons.is_empty() && std::env::var_os("CI").is_none() => {
            Outcome::Skipped(needs)
        }
        Some(needs) => {
            reasons.push(format!("cannot run: needs {needs}"));
            Outcome::Failed(reasons)
        }
        None if reasons.is_empty() => Outcome::Passed,
        None => Outcome::Failed(reasons),
    }
}

/// A test must have reaped all its processes when it ends; a zombie is a child too.
fn remaining_child() -> Option<String> {
    match wait(WaitOptions::NOHANG) {
        Err(Errno::CHILD) => None,
        other => Some(format!("left a child behind: {other:?}")),
    }
}

fn note_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    if payload.is::<Skip>() {
        return;
    }
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panicked");
    let place = info.location().map_or_else(String::new, |place| format!("{place}: "));
    lock(&PANICS).push(format!("{place}{message}"));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
