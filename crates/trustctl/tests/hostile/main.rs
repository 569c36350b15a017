//! What the server and the client must survive: each case against every model of the server that it
//! applies to, with the executables of this build, over real sockets.
//!
//! Each test has its own process. A test is ignored, and says so, if a tool or a permission is
//! missing; with `CI` set that is a failure. Arguments are those of libtest; a test is called
//! `[NUMBER] NAME/MODEL`:
//!
//! ```text
//! cargo test -p trustctl --test hostile -- [PART OF A NAME]… [--test-threads N]
//! ```

mod balancers;
mod behind_balancers;
mod bounds;
mod case;
mod client;
mod docs;
mod ends;
mod foreign;
mod framing;
mod hosts;
mod idle;
mod limits;
mod logs;
mod partial_io;
mod programs;
mod proxied;
mod signals;
mod superservers;
mod time;

use std::process::ExitCode;
use std::time::Duration;

use case::Case;
use trust_testkit::suite::{Suite, Test};

/// Eight at a time: they mostly wait.
const SUITE: Suite = Suite { deadline: Duration::from_secs(120), at_once: 8 };

/// The file that says nextest which tests run alone.
const NEXTEST: &str = include_str!("../../../../.config/nextest.toml");

/// All cases.
fn cases() -> Vec<Case> {
    [
        framing::CASES,
        foreign::CASES,
        partial_io::CASES,
        ends::CASES,
        time::CASES,
        limits::CASES,
        signals::CASES,
        hosts::CASES,
        logs::CASES,
        client::CASES,
        superservers::CASES,
        balancers::CASES,
        idle::CASES,
        bounds::CASES,
        proxied::CASES,
        behind_balancers::CASES,
    ]
    .concat()
}

fn main() -> ExitCode {
    let lists = [
        Test::new("every case applies to something and says why not to the rest", are_complete),
        Test::new("the tables in the docs are those of the cases", docs::check),
    ];
    let cases = cases();
    let (heavy, light): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.is_heavy);
    let tests = light.into_iter().chain(heavy).flat_map(Case::tests);
    SUITE.main(lists.into_iter().chain(tests).collect())
}

fn are_complete() {
    for case in cases() {
        assert_eq!(case.problem(), None, "{}", case.name);
        let is_heavy = NEXTEST.contains(&format!("test(/{}/)", case.name));
        assert_eq!(is_heavy, case.is_heavy, ".config/nextest.toml about {}", case.name);
    }
}
