//! Runs tests each in a process of its own, several at a time.
//!
//! The processes keep the tests apart: their children, their directories, and who is to blame for a panic in
//! any thread. A process is this executable again, with [`ALONE`] and the test's title.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::leftovers::{self, OwnedChild};
use super::output::Output;
use super::runner::{self, Outcome};

/// The argument in front of the title of the one test that a process is to run, with [`alone`].
pub const ALONE: &str = "--alone";

/// How much longer than its test a process may take, to clean up after a test that hung.
const CLEANING_DEADLINE: Duration = Duration::from_secs(30);

/// How the process of one test says that it was skipped; otherwise it ends with 0 or 1.
const SKIPPED: i32 = 77;

/// What came of a test.
pub enum Verdict {
    /// It ended well, after so many seconds.
    Passed(f64),
    /// Why not.
    Failed(String),
    /// What it needs and is not there.
    Skipped(String),
}

/// Runs one test in this process, with its reasons on stdout.
pub fn alone(title: &str, deadline: Duration, body: impl FnOnce() + Send + 'static) -> ExitCode {
    // Whoever has started this process may be killed; nothing is to be left behind then.
    set_parent_process_death_signal(Some(Signal::TERM)).expect("ask for a signal");
    runner::clean_up_on_signals();
    let outcome = runner::run_one(title, deadline, body);
    leftovers::remove_everything();
    let (code, reasons) = match outcome {
        Outcome::Passed => (0, Vec::new()),
        Outcome::Failed(reasons) => (1, reasons),
        Outcome::Skipped(needs) => (SKIPPED as u8, vec![needs]),
    };
    let mut out = io::stdout();
    match reasons.iter().try_for_each(|reason| writeln!(out, "{reason}")) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs the tests of these titles, so many at a time, and tells of each in their order, by its index. A test may take
/// as long as `deadline`.
///
/// # Errors
///
/// What `tell` says, which ends it.
pub fn side_by_side(
    titles: &[String],
    at_once: usize,
    deadline: Duration,
    tell: &mut impl FnMut(usize, &Verdict) -> io::Result<()>,
) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let (ended, ends) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_once.min(titles.len()) {
            let (ended, next) = (ended.clone(), &next);
            scope.spawn(move || {
                while let Some((at, title)) = next_of(titles, next) {
                    let verdict = run_apart(title, deadline);
                    // Nobody listens any more when the results cannot be printed.
                    if ended.send((at, verdict)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(ended);
        let (mut waiting, mut told) = (BTreeMap::new(), 0);
        for (at, verdict) in ends {
            waiting.insert(at, verdict);
            while let Some(verdict) = waiting.remove(&told) {
                tell(told, &verdict)?;
                told += 1;
            }
        }
        assert_eq!(told, titles.len(), "a test was lost");
        Ok(())
    })
}

/// Prints a line for a test whose title is at most so wide, and under it why it failed.
///
/// # Errors
///
/// When it cannot be printed.
pub fn print(title: &str, verdict: &Verdict, width: usize, out: &mut impl Write) -> io::Result<()> {
    match verdict {
        Verdict::Passed(seconds) => writeln!(out, "{title:<width$}PASS {seconds:6.1} s")?,
        Verdict::Skipped(needs) => writeln!(out, "{title:<width$}skipped: needs {needs}")?,
        Verdict::Failed(reasons) => {
            writeln!(out, "{title:<width$}FAIL")?;
            for line in reasons.lines() {
                writeln!(out, "    {line}")?;
            }
        }
    }
    out.flush()
}

fn next_of<'a>(titles: &'a [String], next: &AtomicUsize) -> Option<(usize, &'a str)> {
    let at = next.fetch_add(1, Ordering::SeqCst);
    titles.get(at).map(|title| (at, title.as_str()))
}

fn run_apart(title: &str, deadline: Duration) -> Verdict {
    let began = Instant::now();
    let executable = std::env::current_exe().expect("the own executable");
    let mut command = Command::new(executable);
    command.args([ALONE, title]).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = OwnedChild::spawn(&mut command);
    let stdout = child.with(|child| child.stdout.take());
    let mut told = Output::collect(stdout.expect("stdout is a pipe"));
    let process_deadline = deadline + CLEANING_DEADLINE;
    let Some(status) = child.wait(process_deadline) else {
        return Verdict::Failed(format!("its process did not end within {process_deadline:?}"));
    };
    let told = match told.wait_for_end(deadline) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Err(missed) => return Verdict::Failed(format!("its output did not end: {missed}")),
    };
    match status.code() {
        Some(0) if told.is_empty() => Verdict::Passed(began.elapsed().as_secs_f64()),
        Some(SKIPPED) => Verdict::Skipped(told),
        Some(_) => Verdict::Failed(told),
        None => Verdict::Failed(format!("{told}\nended by signal {:?}", status.signal())),
    }
}
