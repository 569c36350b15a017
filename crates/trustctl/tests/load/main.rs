//! `trustctl load` as users run it, against servers that do one thing wrong, or everything right
//! but slowly, and that count.
//!
//! Each test has its own process. Arguments are those of libtest:
//! `cargo test -p trustctl --test load -- [TEST_NAME…]`.

mod addresses;
mod agreement;
mod budgets;
mod causes;
mod command;
mod connecting;
mod csv;
mod document;
mod endings;
mod files;
mod find_rate;
mod intervals;
mod logs;
mod memory;
mod refusals;
mod send_proxy;
mod server;
mod settings;
mod shapes;
mod stalls;
mod unix_sockets;
mod wrong_echoes;

use std::process::ExitCode;
use std::time::Duration;

use trust_testkit::suite::{Suite, Test};

/// Four at a time: they mostly wait, and those that measure times must not wait for each other.
const SUITE: Suite = Suite { deadline: Duration::from_secs(240), at_once: 4 };

fn main() -> ExitCode {
    // The longest first, so that none of them runs on alone at the end.
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
        connecting::TESTS,
        endings::TESTS,
        budgets::TESTS,
        refusals::TESTS,
        settings::TESTS,
        files::TESTS,
        addresses::TESTS,
        send_proxy::TESTS,
        unix_sockets::TESTS,
    ];
    SUITE.main(tests.concat().into_iter().map(Test::from).collect())
}
