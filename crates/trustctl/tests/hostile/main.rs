//! What the server and the client must survive: one case a line, against the executables of this build
//! over real sockets.
//!
//! It never stops at the first failure and ends in `N passed, N failed, N skipped`. A case whose tool or
//! right is missing is skipped, and says so; with `CI` set that is a failure. Arguments select cases:
//!
//! ```text
//! cargo test -p trustctl --test hostile -- [NUMBER|WORD]…
//! ```

mod client;
mod ends;
mod framing;
mod hosts;
mod limits;
mod logs;
mod partial_io;
mod signals;
mod superservers;
#[path = "../support/mod.rs"]
mod support;
mod time;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use support::runner::{self, Outcome};

/// Longest time for one case, in all models; what takes longer counts as hung.
const CASE_DEADLINE: Duration = Duration::from_secs(120);

/// The server models; a case takes each that it applies to, one after the other.
const MODELS: [&str; 2] = ["event", "iterative"];

/// One case: it fails by a panic, whose message is the reason.
#[derive(Clone, Copy)]
struct Case {
    number: u32,
    /// What happens, in words that fit on a line.
    name: &'static str,
    run: fn(),
}

fn main() -> ExitCode {
    let mut cases: Vec<Case> = [
        framing::CASES,
        partial_io::CASES,
        ends::CASES,
        time::CASES,
        limits::CASES,
        signals::CASES,
        hosts::CASES,
        logs::CASES,
        client::CASES,
        superservers::CASES,
    ]
    .concat();
    cases.sort_by_key(|case| case.number);
    // What cargo passes to every test target when all of them run.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        let mut out = io::stdout();
        let listed = cases.iter().try_for_each(|case| writeln!(out, "{}: test", case.title()));
        return if listed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if arguments.iter().any(|argument| argument.starts_with("--skip")) {
        return ExitCode::SUCCESS;
    }
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    if !words.is_empty() {
        cases.retain(|case| words.iter().any(|word| case.fits(word)));
    }
    if cases.is_empty() {
        return refuse("no case fits");
    }
    runner::clean_up_on_signals();
    let outcome = run_all(&cases, &mut io::stdout());
    support::leftovers::remove_everything();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => refuse(&format!("cannot print the results: {error}")),
    }
}

impl Case {
    fn title(&self) -> String {
        format!("{:>2} {}", self.number, self.name)
    }

    fn fits(&self, word: &str) -> bool {
        match word.parse::<u32>() {
            Ok(number) => number == self.number,
            Err(_) => self.name.contains(word),
        }
    }
}

/// Runs the cases in the order of their numbers; tells whether none failed.
fn run_all(cases: &[Case], out: &mut impl Write) -> io::Result<bool> {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in cases {
        match runner::run_and_print(&case.title(), CASE_DEADLINE, case.run, out)? {
            Outcome::Passed => passed += 1,
            Outcome::Failed(_) => failed += 1,
            Outcome::Skipped(_) => skipped += 1,
        }
    }
    writeln!(out, "\n{passed} passed, {failed} failed, {skipped} skipped")?;
    Ok(failed == 0)
}

fn refuse(message: &str) -> ExitCode {
    // Nothing is left to do when stderr is gone too.
    drop(writeln!(io::stderr(), "hostile: {message}"));
    ExitCode::FAILURE
}
