//! What a run finds around it: limits of the system, signals, and files that stand in the way.

mod limits;
mod people;
mod ports;
mod processes;
mod reports;
mod rotation;
mod servers;
mod settings;
mod streams;
mod unix_server;
mod unix_sockets;

/// Says that a test is left out for want of something, which fails it where nothing may be left out.
#[track_caller]
fn leave_out(needs: &str) {
    use std::io::Write as _;
    assert!(std::env::var_os("CI").is_none(), "it needs {needs}");
    // Whoever closed stderr does not want to know.
    drop(writeln!(std::io::stderr(), "left out: it needs {needs}"));
}
