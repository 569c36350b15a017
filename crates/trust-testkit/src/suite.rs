//! Suites in which each test has its own process, with the command line of libtest.
//!
//! The processes keep the tests apart: their children, their directories, and their panics on any
//! thread. A process is this executable again, with `ALONE` and the test's name.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use clap::Parser;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::leftovers::{self, OwnedChild};
use super::output::Output;
use super::runner::{self, Outcome};

/// The argument before the name of the one test that a process must run.
const ALONE: &str = "--alone";

/// How much longer than its test a process may take, to clean up after a test that hung.
const CLEANING_DEADLINE: Duration = Duration::from_secs(30);

/// Exit code of a test's process when the test was skipped; otherwise it exits with 0 or 1.
const SKIPPED: u8 = 77;

/// Held for reading by every running test, and for writing by one that must run alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// A promise and the check for it, which fails by a panic whose message is the reason.
pub struct Test {
    name: String,
    alias: String,
    is_heavy: bool,
    body: Box<dyn FnOnce() + Send>,
}

/// Makes tests from functions, with the same names.
#[macro_export]
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test)),*] };
}

/// A test's name and its function, as made by [`tests!`].
pub type Named = (&'static str, fn());

impl From<Named> for Test {
    fn from((name, body): Named) -> Test {
        Test::new(name, body)
    }
}

impl Test {
    pub fn new(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Test {
        let (name, alias) = (name.into(), String::new());
        Test { name, alias, is_heavy: false, body: Box::new(body) }
    }

    /// Adds a second name, shown as `[alias]` before the first.
    pub fn with_alias(self, alias: impl ToString) -> Test {
        Test { alias: alias.to_string(), ..self }
    }

    /// Runs it while nothing else of the suite runs.
    pub fn with_the_machine_to_itself(self) -> Test {
        Test { is_heavy: true, ..self }
    }
}

/// How the tests of a suite are run.
#[derive(Clone, Copy)]
pub struct Suite {
    /// Longest time for one test; a test that takes longer counts as hung.
    pub deadline: Duration,
    /// Tests at a time, unless `--test-threads` says something else.
    pub at_once: usize,
}

/// The arguments of libtest, except those about printing.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    plain: Arguments,
    /// A test runs if any of the filters fits.
    filters: Vec<String>,
}

impl Suite {
    /// Does what the arguments ask for.
    pub fn main(&self, tests: Vec<Test>) -> ExitCode {
        self.main_with(tests, |arguments, trials| libtest_mimic::run(arguments, trials).exit_code())
    }

    /// The same, but `run` gets the selected tests, and prints.
    pub fn main_with(
        &self,
        tests: Vec<Test>,
        run: impl FnOnce(&Arguments, Vec<Trial>) -> ExitCode,
    ) -> ExitCode {
        let words: Vec<String> = std::env::args().skip(1).collect();
        if let [word, name] = &words[..]
            && word == ALONE
        {
            let test = tests.into_iter().find(|test| test.name == *name);
            return self.run_here(test.expect("a test of this suite"));
        }
        let names: BTreeSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names.len(), tests.len(), "two tests have one name");
        let CommandLine { mut plain, filters } = CommandLine::parse();
        plain.test_threads.get_or_insert(self.at_once);
        let mut trials: Vec<Trial> = tests.into_iter().map(|test| self.trial(test)).collect();
        if !filters.is_empty() {
            let filters = filters.into_iter().chain(plain.filter.take());
            let each: Vec<Arguments> =
                filters.map(|filter| Arguments { filter: Some(filter), ..plain.clone() }).collect();
            trials.retain(|trial| each.iter().any(|one| !one.is_filtered_out(trial)));
        }
        run(&plain, trials)
    }

    fn trial(self, test: Test) -> Trial {
        let (name, is_heavy) = (test.name.clone(), test.is_heavy);
        let run = move || {
            let alone = || MACHINE.write().unwrap_or_else(PoisonError::into_inner);
            let beside = || MACHINE.read().unwrap_or_else(PoisonError::into_inner);
            let _held = (is_heavy.then(alone), (!is_heavy).then(beside));
            self.run(&name)
        };
        Trial::ignorable_test(test.name, run).with_kind(test.alias)
    }

    /// Runs the test with this name in its own process.
    ///
    /// # Errors
    ///
    /// If it failed: the reasons.
    pub fn run(&self, name: &str) -> Result<Completion, Failed> {
        let own = std::env::current_exe().expect("the path of this executable");
        let mut command = Command::new(own);
        command.args([ALONE, name]).stdin(Stdio::null()).stdout(Stdio::piped());
        let child = OwnedChild::spawn(&mut command);
        let stdout = child.with(|child| child.stdout.take());
        let mut told = Output::collect(stdout.expect("stdout is a pipe"));
        let deadline = self.deadline + CLEANING_DEADLINE;
        let status = child.wait(deadline);
        let status = status.ok_or(format!("its process did not end within {deadline:?}"))?;
        let told = told.wait_for_end(self.deadline);
        let told = told.map_err(|missed| format!("its output did not end: {missed}"))?;
        let told = String::from_utf8_lossy(&told).trim_end().to_owned();
        match status.code() {
            Some(0) if told.is_empty() => Ok(Completion::Completed),
            Some(code) if code == i32::from(SKIPPED) => Ok(Completion::ignored_with(told)),
            Some(_) => Err(told.into()),
            None => Err(format!("{told}\nended by signal {:?}", status.signal()).into()),
        }
    }

    /// Runs it in this process, and prints its reasons to stdout.
    fn run_here(&self, test: Test) -> ExitCode {
        // The parent may be killed; nothing must be left behind then.
        set_parent_process_death_signal(Some(Signal::TERM)).expect("ask for a signal");
        runner::clean_up_on_signals();
        let outcome = runner::run_one(&test.name, self.deadline, test.body);
        leftovers::remove_everything();
        let (code, reasons) = match outcome {
            Outcome::Passed => (0, Vec::new()),
            Outcome::Failed(reasons) => (1, reasons),
            Outcome::Skipped(needs) => (SKIPPED, vec![format!("needs {needs}")]),
        };
        let mut out = io::stdout();
        match reasons.iter().try_for_each(|reason| writeln!(out, "{reason}")) {
            Ok(()) => ExitCode::from(code),
            Err(_) => ExitCode::FAILURE,
        }
    }
}
