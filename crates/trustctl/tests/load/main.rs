//! `trustctl load` as its users run it, against servers that do one thing wrong, or right and slowly, and count.
//!
//! Each test has a process of its own, several at a time. Arguments select tests by parts of their names:
//! `cargo test -p trustctl --test load -- [TEST_NAME…]`.

mod addresses;
mod agreement;
mod budgets;
mod causes;
mod command;
mod csv;
mod document;
mod endings;
mod files;
mod find_rate;
mod intervals;
mod logs;
mod memory;
mod refusals;
mod server;
mod settings;
mod shapes;
mod stalls;
mod wrong_echoes;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use trust_testkit::apart::{self, ALONE, Verdict};
use trust_testkit::libtest::Wanted;
use trust_testkit::{leftovers, runner};

/// Longest time for one test; what takes longer counts as hung.
const TEST_DEADLINE: Duration = Duration::from_secs(60);

/// Tests at a time: they wait much more than they work, and those that measure times are not to wait for each other.
const AT_ONCE: usize = 4;

/// A promise, and what checks it.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    // The longest first, so that nobody waits for it alone.
    let tests = [
        stalls::TESTS,
        memory::TESTS,
        find_rate::TESTS,
        agreement::TESTS,
        intervals::TESTS,
        wrong_echoes::TESTS,
        shapes::TESTS,
        logs::TESTS,
        causes::TESTS,
        endings::TESTS,
        budgets::TESTS,
        refusals::TESTS,
        settings::TESTS,
        files::TESTS,
        addresses::TESTS,
    ]
    .concat();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, title] = &arguments[..]
        && word == ALONE
    {
        let Some((title, test)) = tests.into_iter().find(|(name, _)| name == title) else {
            return refuse("no test has this name");
        };
        return apart::alone(title, TEST_DEADLINE, test);
    }
    let Some(wanted) = Wanted::parse(arguments) else { return refuse("[TEST_NAME…]") };
    let chosen: Vec<Test> = tests.into_iter().filter(|(name, _)| wanted.wants(name)).collect();
    if wanted.is_list {
        let mut lines = chosen.iter().map(|(name, _)| writeln!(io::stdout(), "{name}: test"));
        return done(lines.all(|line| line.is_ok()));
    }
    if chosen.is_empty() && !wanted.may_be_empty() {
        return refuse("no test has such a name");
    }
    match run(&chosen) {
        Ok(has_passed) => done(has_passed),
        Err(error) => refuse(&format!("cannot print the results: {error}")),
    }
}

/// Runs the tests and prints a line for each; tells whether none failed.
fn run(tests: &[Test]) -> io::Result<bool> {
    runner::clean_up_on_signals();
    let titles: Vec<String> = tests.iter().map(|(name, _)| (*name).to_owned()).collect();
    let width = 2 + titles.iter().map(String::len).max().unwrap_or(0);
    let mut has_passed = true;
    apart::side_by_side(&titles, AT_ONCE, TEST_DEADLINE, &mut |at, verdict| {
        has_passed &= !matches!(verdict, Verdict::Failed(_));
        apart::print(&titles[at], verdict, width, &mut io::stdout())
    })?;
    leftovers::remove_everything();
    Ok(has_passed)
}

fn done(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn refuse(message: &str) -> ExitCode {
    // Nothing is left to do when stderr is gone too.
    drop(writeln!(io::stderr(), "load: {message}"));
    ExitCode::FAILURE
}
