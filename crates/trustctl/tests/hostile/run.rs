//! Runs tests, each in a process of its own, and counts what came of them.
//!
//! The processes keep the tests apart: their children, their directories, and who is to blame for a panic in
//! any thread.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::case::{Case, Subject, Test};
use super::support::leftovers::{self, OwnedChild};
use super::support::output::Output;
use super::support::runner::{self, Outcome};

/// Longest time for one test; what takes longer counts as hung.
const TEST_DEADLINE: Duration = Duration::from_secs(120);

/// How much longer its process may take, to clean up after a test that hung.
const PROCESS_DEADLINE: Duration = TEST_DEADLINE.saturating_add(Duration::from_secs(30));

/// How the process of one test says that it was skipped; otherwise it ends with 0 or 1.
const SKIPPED: u8 = 77;

/// Runs one test in this process, with its reasons on stdout.
pub(crate) fn alone(test: Test) -> ExitCode {
    // Whoever has started this process may be killed; nothing is to be left behind then.
    set_parent_process_death_signal(Some(Signal::TERM)).expect("ask for a signal");
    runner::clean_up_on_signals();
    let outcome = runner::run_one(&test.title(), TEST_DEADLINE, move || test.run());
    leftovers::remove_everything();
    let (code, reasons) = match outcome {
        Outcome::Passed => (0, Vec::new()),
        Outcome::Failed(reasons) => (1, reasons),
        Outcome::Skipped(needs) => (SKIPPED, vec![needs]),
    };
    let mut out = io::stdout();
    match reasons.iter().try_for_each(|reason| writeln!(out, "{reason}")) {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs the tests, so many at a time and the heavy ones at last and alone, and prints a line for each and a table
/// of all; tells whether none failed.
pub(crate) fn all(
    tests: &[Test],
    cases: &[Case],
    at_once: usize,
    out: &mut impl Write,
) -> io::Result<bool> {
    let width = 2 + tests.iter().map(|test| test.title().chars().count()).max().unwrap_or(0);
    let mut table = Table::default();
    let mut tell = |test: &Test, verdict: &Verdict| {
        table.count(test.subject, verdict);
        print(test, verdict, width, out)
    };
    let (heavy, light): (Vec<Test>, Vec<Test>) = tests.iter().partition(|test| test.case.is_heavy);
    side_by_side(&light, at_once, &mut tell)?;
    side_by_side(&heavy, 1, &mut tell)?;
    table.print(cases, out)?;
    Ok(table.failed() == 0)
}

/// Runs the tests, so many at a time, and tells of each in their order.
fn side_by_side(
    tests: &[Test],
    at_once: usize,
    tell: &mut impl FnMut(&Test, &Verdict) -> io::Result<()>,
) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let (ended, ends) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_once.min(tests.len()) {
            let (ended, next) = (ended.clone(), &next);
            scope.spawn(move || {
                while let Some((at, test)) = next_of(tests, next) {
                    let verdict = run_apart(test);
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
                tell(&tests[told], &verdict)?;
                told += 1;
            }
        }
        assert_eq!(told, tests.len(), "a test was lost");
        Ok(())
    })
}

fn next_of<'a>(tests: &'a [Test], next: &AtomicUsize) -> Option<(usize, &'a Test)> {
    let at = next.fetch_add(1, Ordering::SeqCst);
    tests.get(at).map(|test| (at, test))
}

/// What came of a test, in how many seconds.
enum Verdict {
    Passed(f64),
    Failed(String),
    Skipped(String),
}

fn run_apart(test: &Test) -> Verdict {
    let began = Instant::now();
    let executable = std::env::current_exe().expect("the own executable");
    let mut command = Command::new(executable);
    command.arg("--alone").arg(test.title()).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = OwnedChild::spawn(&mut command);
    let stdout = child.with(|child| child.stdout.take());
    let mut told = Output::collect(stdout.expect("stdout is a pipe"));
    let Some(status) = child.wait(PROCESS_DEADLINE) else {
        return Verdict::Failed(format!("its process did not end within {PROCESS_DEADLINE:?}"));
    };
    let told = match told.wait_for_end(TEST_DEADLINE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Err(missed) => return Verdict::Failed(format!("its output did not end: {missed}")),
    };
    let code = |status: ExitStatus| status.code().and_then(|code| u8::try_from(code).ok());
    match code(status) {
        Some(0) if told.is_empty() => Verdict::Passed(began.elapsed().as_secs_f64()),
        Some(SKIPPED) => Verdict::Skipped(told),
        Some(_) => Verdict::Failed(told),
        None => Verdict::Failed(format!("{told}\nended by signal {:?}", status.signal())),
    }
}

fn print(test: &Test, verdict: &Verdict, width: usize, out: &mut impl Write) -> io::Result<()> {
    let title = test.title();
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

/// How many tests ended how, by subject.
#[derive(Default)]
struct Table {
    rows: BTreeMap<&'static str, Row>,
}

#[derive(Default)]
struct Row {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Table {
    fn count(&mut self, subject: Subject, verdict: &Verdict) {
        let row = self.rows.entry(subject.name()).or_default();
        match verdict {
            Verdict::Passed(_) => row.passed += 1,
            Verdict::Failed(_) => row.failed += 1,
            Verdict::Skipped(_) => row.skipped += 1,
        }
    }

    fn failed(&self) -> usize {
        self.rows.values().map(|row| row.failed).sum()
    }

    /// Whatever is in no column was not selected.
    fn print(&self, cases: &[Case], out: &mut impl Write) -> io::Result<()> {
        let columns = ["", "passed", "failed", "skipped", "of", "not for it"];
        let line = |cells: [String; 6]| {
            let [name, rest @ ..] = cells;
            let width = |at: usize| columns[at + 1].len();
            let rest = rest.iter().enumerate().map(|(at, cell)| format!("  {cell:>0$}", width(at)));
            format!("{name:<9}{}", rest.collect::<String>())
        };
        writeln!(out, "\n{}", line(columns.map(str::to_owned)))?;
        for subject in Subject::all() {
            let applies = |case: &&Case| case.reason_against(subject).is_none();
            let of = cases.iter().filter(applies).count();
            let none = Row::default();
            let Row { passed, failed, skipped } = self.rows.get(subject.name()).unwrap_or(&none);
            let counts = [*passed, *failed, *skipped, of, cases.len() - of];
            let [a, b, c, d, e] = counts.map(|count| count.to_string());
            writeln!(out, "{}", line([subject.name().to_owned(), a, b, c, d, e]))?;
        }
        Ok(())
    }
}
