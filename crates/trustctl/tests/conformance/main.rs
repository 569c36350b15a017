//! Proves `trustctl check`: every case finds its bug in a server that was made wrong on purpose, and finds nothing in
//! servers that are right.
//!
//! Each wrong server ([`mutants`]) is a process of its own: this executable again, as `mutant NAME`. It names the cases
//! that must fail on it, and no others may. A case that no mutant fails does not count, so that is a failure too.
//!
//! ```text
//! cargo test -p trustctl --test conformance -- [WORD]… [--at-once N]
//! ```
//!
//! A word selects servers by their names.

mod amounts;
mod conduct;
mod constraints;
mod docs;
mod foreign;
mod healthy;
mod input;
mod keeps;
mod lapses;
mod launch;
mod mutant;
mod mutants;
mod mutants_amounts;
mod mutants_closing;
mod mutants_framing;
mod mutants_limits;
mod mutants_resources;
mod owing;
mod relay;
mod request;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use mutants::Mutant;
use request::{Request, Wanted};
use trust_testkit::runner::{self, Outcome};

static WANTED: OnceLock<Wanted> = OnceLock::new();

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, name] = &arguments[..]
        && let Some(server) = match role.as_str() {
            "mutant" => Mutant::named(name).map(Mutant::server),
            "healthy" => healthy::own(name),
            _ => None,
        }
    {
        return done(server.run().map(|()| true));
    }
    let wanted = match request::parse(arguments.into_iter()) {
        Some(Request::Run(wanted)) => wanted,
        Some(Request::List) => {
            return done(writeln!(io::stdout(), "{}: test", request::NAME).map(|()| true));
        }
        Some(Request::Nothing(reason)) => {
            let said = writeln!(io::stderr(), "{}: nothing was run: {reason}", request::NAME);
            return done(said.map(|()| true));
        }
        None => {
            // Nothing is left to do when stderr is gone too.
            drop(writeln!(io::stderr(), "{}", request::USAGE));
            return ExitCode::from(64);
        }
    };
    WANTED.set(wanted).expect("set once");
    runner::clean_up_on_signals();
    let title = "every case × every server";
    let outcome = runner::run_and_print(title, table::DEADLINE, run_all, &mut io::stdout());
    trust_testkit::leftovers::remove_everything();
    done(outcome.map(|outcome| !matches!(outcome, Outcome::Failed(_))))
}

fn run_all() {
    table::run(WANTED.get().expect("set before the run"));
}

fn done(outcome: io::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}
