//! Proves `trustctl check`: every case finds its bug in a server that is wrong on purpose, and
//! finds nothing in servers that are right.
//!
//! Each wrong server ([`mutants`]) has its own process: this executable again, as `mutant NAME`. It
//! names the cases that must fail on it, and no others may. A case without a mutant that it fails
//! on does not count, and is a failure too.
//!
//! A test is a server, called `right/NAME` or `wrong/NAME`. The suite takes libtest's arguments:
//!
//! ```text
//! cargo test -p trustctl --test conformance -- [NAME]… [--test-threads N]
//! ```

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
mod table;

use std::process::ExitCode;
use std::time::Duration;

use mutants::Mutant;
use table::Subject;
use trust_check::{case, cases};
use trust_testkit::suite::{Named, Suite, Test};
use trust_testkit::tests;

/// Eight at a time: they mostly wait. The longest one is judged twice if something is wrong with
/// it, possibly on one core shared with others.
const SUITE: Suite = Suite { deadline: Duration::from_secs(1800), at_once: 8 };

/// Tests of the lists, not of a server.
const LISTS: &[Named] = tests![
    every_case_must_find_a_wrong_server,
    every_case_that_a_server_names_is_one,
    the_tables_of_servers_in_the_docs_are_these,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, name] = &arguments[..]
        && let Some(server) = match role.as_str() {
            "mutant" => Mutant::named(name).map(Mutant::server),
            "healthy" => healthy::own(name),
            _ => None,
        }
    {
        return if server.run().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let servers = Subject::all()
        .map(|subject| Test::new(subject.title(), move || subject.is_judged_rightly()));
    SUITE.main(servers.chain(LISTS.iter().copied().map(Test::from)).collect())
}

/// Each mutant's test requires that the cases it names find it. Those that are not about echo
/// servers are proved by the suite `exchange`.
fn every_case_must_find_a_wrong_server() {
    let is_found = |id| mutants::all().any(|mutant| mutant.must_be_found_by(id));
    let ids = cases::all().filter(|case| !case.needs.is_told()).map(|case| case.id);
    let useless: Vec<&str> = ids.filter(|id| !is_found(id)).collect();
    assert!(useless.is_empty(), "no mutant fails {useless:?}");
}

fn every_case_that_a_server_names_is_one() {
    let mut wrong = vec![];
    for mutant in mutants::all() {
        let named = mutant.found_by().chain(mutant.also.split_whitespace());
        let unknown = named.filter(|name| !cases::all().any(|case| case::matches(name, case.id)));
        wrong.extend(unknown.map(|name| format!("{}: there is no case {name}", mutant.name)));
    }
    for healthy in healthy::ALL {
        wrong.extend(healthy.misnamed().map(|problem| format!("{}: {problem}", healthy.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn the_tables_of_servers_in_the_docs_are_these() {
    docs::check();
}
