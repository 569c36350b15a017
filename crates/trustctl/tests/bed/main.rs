//! Real, unmodified servers to prove `trustctl check` on: what they are ([`servers`]) and how they
//! are started ([`launch`]). `make bed` downloads them first (`ci/bed`); nothing is installed, and
//! no service is started.
//!
//! A test is a server, with its name. The suite takes libtest's arguments, and one more keeps a
//! server running until Ctrl-C:
//!
//! ```text
//! cargo test -p trustctl --test bed -- [NAME]…
//! cargo test -p trustctl --test bed -- serve NAME
//! ```

mod launch;
mod servers;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use servers::BedServer;
use trust_cli::signals::{IgnoredHangup, Signals};
use trust_testkit::suite::{Suite, Test};

/// One at a time: servers are not to wait for each other's processor.
const SUITE: Suite = Suite { deadline: Duration::from_secs(600), at_once: 1 };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, name] = &arguments[..]
        && role == "serve"
    {
        return serve(name).unwrap_or(ExitCode::FAILURE);
    }
    let tests = servers::ALL.iter().map(|server| Test::new(server.name, || is_up(server)));
    SUITE.main(tests.collect())
}

/// Starts a server, which has shown then that it answers.
fn is_up(server: &'static BedServer) {
    let version = launch::version_of(server);
    let started = launch::start(server);
    let text = format!("{} {version} answers on {}\n", server.name, started.address);
    drop(io::stderr().write_all(text.as_bytes()));
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
    let arguments = server.check_arguments().join(" ");
    let mut out = io::stdout();
    writeln!(out, "{name} {version}, {}, process {}", server.about, started.pid)?;
    writeln!(out, "trustctl check {} {arguments}", started.address)?;
    writeln!(out, "expected: {}", server.expectation)?;
    signals.wait(None);
    Ok(ExitCode::SUCCESS)
}
