//! The black-box harness: 36 named tests against the executables of this build.
//!
//! It prints one line per test, never stops at the first failure, and ends with a summary. It takes
//! libtest's arguments:
//!
//! ```text
//! cargo test -p trustctl --test harness -- [cli::|echo::][TEST_NAME]
//! ```

mod cli_tests;
mod echo_tests;
mod handover_tests;
mod inetd_tests;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use trust_testkit::libtest_mimic::{self, Completion, Trial};
use trust_testkit::suite::{Suite, Test};

/// One at a time, so that the lines come in order.
const SUITE: Suite = Suite { deadline: Duration::from_secs(30), at_once: 1 };

/// Width of the column of names, greater than the longest one.
const NAME_WIDTH: usize = 42;

/// What tests belong to, by the first part of their names: the behaviour of every command, and the
/// echo server with its client and its load test.
const GROUPS: [(&str, &str); 2] = [("cli::", "CLI Tests"), ("echo::", "Echo Server Tests")];

fn main() -> ExitCode {
    let cli = cli_tests::TESTS.iter().map(|(name, run)| Test::new(format!("cli::{name}"), run));
    let echo = [echo_tests::TESTS, inetd_tests::TESTS, handover_tests::TESTS].concat();
    let echo = echo.into_iter().map(|(name, run)| Test::new(format!("echo::{name}"), run));
    SUITE.main_with(cli.chain(echo).collect(), |arguments, trials| {
        if arguments.list {
            return libtest_mimic::run(arguments, trials).exit_code();
        }
        let chosen = trials.iter().filter(|trial| !arguments.is_filtered_out(trial));
        let names: Vec<&str> = chosen.map(Trial::name).collect();
        match run_all(&names, &mut io::stdout()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) | Err(_) => ExitCode::FAILURE,
        }
    })
}

/// Runs the tests one after another and prints a line for each and the summary; returns whether all
/// passed.
fn run_all(names: &[&str], out: &mut impl Write) -> io::Result<bool> {
    let mut passed = Vec::new();
    for &name in names {
        let shown = name.split_once("::").map_or(name, |(_, name)| name);
        write!(out, "{shown:<NAME_WIDTH$}")?;
        out.flush()?;
        match SUITE.run(name) {
            Ok(Completion::Completed) => {
                passed.push(name);
                writeln!(out, "PASS")?;
            }
            Ok(Completion::Ignored { reason }) => {
                writeln!(out, "skipped: {}", reason.unwrap_or_default())?;
            }
            Err(failed) => {
                writeln!(out, "FAIL")?;
                for line in failed.message().unwrap_or_default().lines() {
                    writeln!(out, "    {line}")?;
                }
            }
        }
    }
    writeln!(out)?;
    for (group, title) in GROUPS {
        let of_group = |names: &[&str]| names.iter().filter(|name| name.starts_with(group)).count();
        if of_group(names) > 0 {
            writeln!(out, "=== {title} ===\n{}/{} passed", of_group(&passed), of_group(names))?;
        }
    }
    writeln!(out, "=== Total: {}/{} passed ===", passed.len(), names.len())?;
    Ok(passed.len() == names.len())
}
