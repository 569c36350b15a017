//! Runs tests one after the other, each with a deadline, and prints what came of it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{self, PanicHookInfo};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::support::leftovers;
use super::{Group, Test};

/// Longest time for one test; what takes longer counts as hung.
const TEST_DEADLINE: Duration = Duration::from_secs(30);

/// How long a hung test may take to end after its processes were killed, so that it cleans up.
const UNWIND_DEADLINE: Duration = Duration::from_secs(5);

/// Width of the column of names, above the longest one.
const NAME_WIDTH: usize = 30;

/// The messages of all panics since the current test began, in whatever thread they happened.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs the tests and prints a line for each and the summary; tells whether all passed.
///
/// # Errors
///
/// When the results cannot be printed.
pub(crate) fn run_all(tests: &[Test], out: &mut impl Write) -> io::Result<bool> {
    panic::set_hook(Box::new(note_panic));
    let mut passed = Vec::new();
    for test in tests {
        let name = test.name;
        match run_one(test) {
            Ok(()) => {
                writeln!(out, "{name:<NAME_WIDTH$}PASS")?;
                passed.push(*test);
            }
            Err(reasons) => {
                writeln!(out, "{name:<NAME_WIDTH$}FAIL")?;
                for line in reasons.iter().flat_map(|reason| reason.lines()) {
                    writeln!(out, "    {line}")?;
                }
            }
        }
        out.flush()?;
    }
    print_summary(tests, &passed, out)?;
    Ok(passed.len() == tests.len())
}

/// On SIGINT, SIGTERM and SIGHUP kills what the tests have started, removes what they have made, and
/// ends the process.
///
/// # Panics
///
/// When handlers cannot be installed.
pub(crate) fn clean_up_on_signals() {
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

fn run_one(test: &Test) -> Result<(), Vec<String>> {
    lock(&PANICS).clear();
    let (ended, end) = mpsc::channel();
    let body = test.run;
    let thread = thread::Builder::new().name(test.name.to_owned()).spawn(move || {
        body();
        // Nobody listens any more when this comes after the deadline.
        let _ = ended.send(());
    });
    let thread = thread.expect("start a thread");
    let mut reasons = Vec::new();
    let outcome = end.recv_timeout(TEST_DEADLINE);
    if outcome == Err(RecvTimeoutError::Timeout) {
        reasons.push(format!("hung: no end within {TEST_DEADLINE:?}; after its end:"));
        leftovers::end_children();
        let _ = end.recv_timeout(UNWIND_DEADLINE);
    }
    if outcome.is_ok() || thread.is_finished() {
        drop(thread.join());
    }
    reasons.append(&mut lock(&PANICS));
    reasons.extend(leftovers::take_evidence());
    if outcome.is_err() && reasons.is_empty() {
        reasons.push("ended without a result".to_owned());
    }
    reasons.extend(remaining_child());
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// A test has reaped all its processes when it ends; a zombie is a child too.
fn remaining_child() -> Option<String> {
    match wait(WaitOptions::NOHANG) {
        Err(Errno::CHILD) => None,
        other => Some(format!("left a child process behind: {other:?}")),
    }
}

fn print_summary(tests: &[Test], passed: &[Test], out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    for group in Group::ALL {
        let of_group = |tests: &[Test]| tests.iter().filter(|test| test.group == group).count();
        if of_group(tests) > 0 {
            writeln!(out, "=== {} ===", group.title())?;
            writeln!(out, "{}/{} passed", of_group(passed), of_group(tests))?;
        }
    }
    writeln!(out, "=== Total: {}/{} passed ===", passed.len(), tests.len())
}

fn note_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
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
