//! Files that cannot be created or written.

use super::command::{RUN_DEADLINE, load};
use super::document::Document;
use super::server::Server;
use trust_load::report::json::EndState;
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_file_that_cannot_be_made_is_told_first,
    a_log_that_cannot_be_written_ends_the_run,
    a_page_that_cannot_be_written_costs_nothing_else,
];

fn a_file_that_cannot_be_made_is_told_first() {
    let (home, server) = (Home::new(), Server::echo());
    let path = home.elsewhere("no/such/directory/file");
    for flag in ["--hdr-log", "--html"] {
        let flags = format!("--messages 5 --json {flag} {}", path.display());
        let finished = load(&home, &server, &flags).run().exits_with(73).prints("");
        let words = [&format!("{flag}: cannot create"), "No such file"];
        finished.complains_about(&words).complains_in_one_line();
    }
    assert!(server.seen().is_empty(), "a client connected");
}

fn a_log_that_cannot_be_written_ends_the_run() {
    let (home, server) = (Home::new(), Server::echo());
    let words = ["cannot write --hdr-log", "No space left"];
    let flags = "--rate 100 --duration 3600 --hdr-log /dev/full";
    let finished = load(&home, &server, flags).start().wait_for(RUN_DEADLINE).exits_with(74);
    let text = finished.text();
    assert!(text.starts_with("STOPPED") && text.contains(words[0]), "{text}");
    finished.complains_about(&words).complains_in_one_line();

    // The results up to then are still worth something.
    let json = load(&home, &server, &format!("{flags} --json")).start();
    let finished = json.wait_for(RUN_DEADLINE).exits_with(74);
    let seen = Document::read(&finished);
    assert_eq!(seen.end.state, EndState::Stopped);
    assert!(seen.end.detail.as_ref().is_some_and(|why| why.contains(words[0])), "{seen:?}");
    assert!(seen.messages.answered > 0, "{seen:?}");
    finished.complains_about(&words).complains_in_one_line();
}

fn a_page_that_cannot_be_written_costs_nothing_else() {
    let (home, server) = (Home::new(), Server::echo());
    let flags = "--messages 5 --html /dev/full --json";
    let finished = load(&home, &server, flags).run().exits_with(74);
    let seen = Document::read(&finished);
    assert_eq!((seen.end.state, seen.messages.answered), (EndState::Unwritten, 5));
    finished.complains_about(&["/dev/full", "No space left"]).complains_in_one_line();
}
