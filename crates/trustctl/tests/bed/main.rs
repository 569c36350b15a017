//! Real, unmodified servers to prove `trustctl check` on: what they are ([`servers`]) and how they
//! are started ([`launch`]). `trustctl check` has to find what is known of each, and nothing else
//! ([`matrix`]). `make bed` downloads them first (`ci/bed`); nothing is installed, and
//! no service is started.
//!
//! A test is a server, with its name. Boxes between a client and a server are tests of their own,
//! which run when they are asked for ([`boxes`], `make boxes`). The suite takes libtest's
//! arguments, and one more keeps a server running until Ctrl-C:
//!
//! ```text
//! cargo test -p trustctl --test bed -- [NAME]…
//! cargo test -p trustctl --test bed -- boxes/[NAME]
//! cargo test -p trustctl --test bed -- serve NAME
//! ```

mod boxes;
mod docs;
mod launch;
mod matrix;
mod servers;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use servers::Finding;
use trust_cli::signals::{IgnoredHangup, Signals};
use trust_testkit::suite::{Suite, Test};

/// What the names of tests of boxes begin with.
const BOXES: &str = "boxes";

/// One at a time: servers are not to wait for each other's processor.
const SUITE: Suite = Suite { deadline: Duration::from_secs(600), at_once: 1 };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, name] = &arguments[..]
        && role == "serve"
    {
        return serve(name).unwrap_or(ExitCode::FAILURE);
    }
    if arguments.iter().any(|word| word.starts_with(BOXES)) {
        let name = |name: &str| format!("{BOXES}/{name}");
        let boxes = boxes::ALL.iter();
        let boxes = boxes.map(|it| Test::new(name(it.name), || boxes::holds(it)));
        let table = Test::new(name("the_table_of_boxes_is_this"), boxes::check_docs);
        return SUITE.main(boxes.chain([table]).collect());
    }
    let servers = servers::ALL.iter();
    let servers = servers.map(|server| Test::new(server.name, || matrix::holds(server)));
    let table = Test::new("the_table_of_servers_tried_is_this", docs::check);
    SUITE.main(servers.chain([table]).collect())
}

/// Keeps a server running until a signal comes.
fn serve(name: &str) -> io::Result<ExitCode> {
    let Some(server) = servers::ALL.iter().find(|server| server.name == name) else {
        let names: Vec<&str> = servers::ALL.iter().map(|server| server.name).collect();
        let names = names.join(", ");
        writeln!(io::stderr(), "error: invalid value '{name}' for serve: expected {names}")?;
        return Ok(ExitCode::from(64));
    };
    let signals = Signals::install(IgnoredHangup::Keep).expect("handle signals");
    let version = launch::version_of(server);
    let started = launch::start(server);
    let mut out = io::stdout();
    writeln!(out, "{name} {version}, {}, process {}", server.about, started.pid)?;
    for speaks in server.speaks {
        let arguments = server.check_arguments(*speaks).join(" ");
        writeln!(out, "trustctl check {} {arguments}", started.address)?;
    }
    writeln!(out, "expected: {}", server.kind)?;
    for finding in server.findings {
        let Finding { cases, verdict, why, .. } = finding;
        writeln!(out, "{cases} {}: {why}", verdict.word())?;
    }
    signals.wait(None);
    Ok(ExitCode::SUCCESS)
}
