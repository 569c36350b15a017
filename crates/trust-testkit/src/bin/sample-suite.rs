//! A suite whose tests end in every possible way, to test suites with. Each test's name says how it
//! ends.

use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use trust_testkit::leftovers::{OwnedChild, OwnedDir};
use trust_testkit::suite::{Named, Suite, Test};
use trust_testkit::{runner, tests};

/// Longer than any of its tests takes, except one.
const SUITE: Suite = Suite { deadline: Duration::from_secs(2), at_once: 8 };

const TESTS: &[Named] = tests![passes, fails, fails_in_a_thread, hangs, leaves_a_child, skips];

fn main() -> ExitCode {
    let alone = Test::new("runs_alone", passes).with_the_machine_to_itself();
    let tests = TESTS.iter().copied().map(Test::from);
    SUITE.main(tests.chain([alone.with_alias(7)]).collect())
}

fn passes() {}

fn fails() {
    panic!("the reason");
}

fn fails_in_a_thread() {
    drop(thread::spawn(|| panic!("the reason of a thread")).join());
}

fn hangs() {
    let directory = OwnedDir::create();
    let child = OwnedChild::spawn(Command::new("sleep").arg("1000").current_dir(directory.path()));
    child.wait(Duration::from_secs(1000));
}

fn leaves_a_child() {
    std::mem::forget(OwnedChild::spawn(Command::new("sleep").arg("1000")));
}

fn skips() {
    runner::skip("what is not there");
}
