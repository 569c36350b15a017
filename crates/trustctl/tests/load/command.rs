//! The command under test, run like a user would run it.

use std::time::Duration;

use super::document::Document;
use super::server::Server;
use trust_testkit::program::{Finished, Home, Launch};

/// Longest time for a run of the load; the longest one takes ten seconds.
pub(crate) const RUN_DEADLINE: Duration = Duration::from_secs(120);

/// `trustctl load` on that server with these flags, as one text, not yet started.
pub(crate) fn load(home: &Home, server: &Server, flags: &str) -> Launch {
    let address = server.address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    home.trustctl(["load", "--host", &host, "--port", &port]).args(flags.split_whitespace())
}

/// Runs it to its end.
#[track_caller]
pub(crate) fn run(server: &Server, flags: &str) -> Finished {
    load(&Home::new(), server, flags).start().wait_for(RUN_DEADLINE)
}

/// Runs it with `--json` to its end, and expects this exit code and an empty stderr.
#[track_caller]
pub(crate) fn document(server: &Server, flags: &str, exit: i32) -> Document {
    let finished = run(server, &format!("{flags} --json")).exits_with(exit);
    let document = Document::read(&finished);
    finished.complains_about_nothing();
    document
}
