//! Files that cannot be made or written.

use super::Test;
use super::command::{RUN_DEADLINE, load};
use super::server::Server;
use super::support::program::Home;

pub(crate) const TESTS: &[Test] = &[
    ("a_file_that_cannot_be_made_is_told_first", a_file_that_cannot_be_made),
    ("a_log_that_cannot_be_written_ends_the_run", a_log_that_cannot_be_written),
];

fn a_file_that_cannot_be_made() {
    let (home, server) = (Home::new(), Server::echo());
    let path = home.elsewhere("no/such/directory/file");
    for flag in ["--hdr-log", "--html"] {
        let flags = format!("--messages 5 --json {flag} {}", path.display());
        let finished = load(&home, &server, &flags).run().exits_with(73).prints("");
        let words = [&format!("{flag}: cannot create"), "No such file"];
        finished.complains_about(&words).complains_in_one_line();
    }
    assert!(server.seen().is_empty(), "somebody was connected");
}

fn a_log_that_cannot_be_written() {
    let (home, server) = (Home::new(), Server::echo());
    let words = ["cannot write --hdr-log", "No space left"];
    let flags = "--rate 100 --duration 3600 --hdr-log /dev/full";
    let finished = load(&home, &server, flags).start().wait_for(RUN_DEADLINE).exits_with(74);
    finished.complains_about(&words).complains_in_one_line();
}
