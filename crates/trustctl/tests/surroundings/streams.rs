//! Standard streams that somebody else has something to do with.

use std::io::{self, Read};

use rustix::fs::{FlockOperation, flock};

use trust_testkit::event;
use trust_testkit::program::Home;

#[test]
fn who_locks_the_pipe_that_is_stdout_holds_nobody_up() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    flock(&reader, FlockOperation::LockExclusive).expect("lock a pipe");
    let home = Home::new();
    home.trustctl(["log", "demo", "x"]).stdout(writer).run().exits_with(0);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).expect("read what was printed");
    let events = event::parse_all(&printed, "stdout");
    event::check_run(&events);
    assert_eq!(events.len(), 3, "{events:?}");
}
