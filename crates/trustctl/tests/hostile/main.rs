//! What the server and the client must survive: each case against every model of the server that it applies
//! to, with the executables of this build, over real sockets.
//!
//! Each test has a process of its own, several at a time. It never stops at the first failure and ends in a
//! table of what ran in which model. A test whose tool or right is missing is skipped, and says so; with `CI`
//! set that is a failure. Arguments select tests:
//!
//! ```text
//! cargo test -p trustctl --test hostile -- [NUMBER|WORD|MODEL]… [--test-threads N]
//! ```

mod bounds;
mod case;
mod client;
mod docs;
mod ends;
mod framing;
mod hosts;
mod idle;
mod limits;
mod logs;
mod partial_io;
mod programs;
mod run;
mod selection;
mod signals;
mod superservers;
mod time;

use std::io::{self, Write};
use std::process::ExitCode;

use case::{Case, Subject, Test};
use selection::{NAME, Request};

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
        idle::CASES,
        bounds::CASES,
    ]
    .concat();
    cases.sort_by_key(|case| case.number);
    let tests = match case::tests(&cases) {
        Ok(tests) => tests,
        Err(wrong) => return refuse(&wrong),
    };
    let request = selection::parse(std::env::args().skip(1));
    if let (Ok(Request::List | Request::Run(_)), Err(wrong)) = (&request, docs::check(&cases)) {
        return refuse(&wrong);
    }
    match request {
        Ok(Request::List) => done(list(&cases, &mut io::stdout()).map(|()| true)),
        Ok(Request::Nothing(reason)) => {
            let said = writeln!(io::stderr(), "{NAME}: nothing was run: {reason}");
            done(said.map(|()| true))
        }
        Ok(Request::Alone(title)) => match tests.iter().find(|test| test.title() == title) {
            Some(test) => run::alone(*test),
            None => refuse(&format!("no test is named {title:?}")),
        },
        Ok(Request::Run(selection)) => match selection.choose(&tests) {
            Ok(chosen) => done(run::all(&chosen, &cases, selection.at_once, &mut io::stdout())),
            Err(message) => refuse(&message),
        },
        Err(message) => refuse(&message),
    }
}

/// A line for each test, and one for each subject that a case of the server does not apply to, with the reason.
fn list(cases: &[Case], out: &mut impl Write) -> io::Result<()> {
    for case in cases {
        for subject in Subject::all() {
            let title = Test { case: *case, subject }.title();
            match case.reason_against(subject) {
                None => writeln!(out, "{title}: test")?,
                Some(_) if subject == Subject::Once => (),
                Some(reason) => writeln!(out, "{title}: does not apply: {reason}")?,
            }
        }
    }
    Ok(())
}

/// The exit code; `false` is a failure that was told already.
fn done(outcome: io::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => refuse(&format!("cannot print the results: {error}")),
    }
}

fn refuse(message: &str) -> ExitCode {
    // Nothing is left to do when stderr is gone too.
    drop(writeln!(io::stderr(), "{NAME}: {message}"));
    ExitCode::FAILURE
}
