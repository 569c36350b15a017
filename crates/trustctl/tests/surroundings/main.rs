//! A run's surroundings: limits of the system, signals, and files that are in the way.

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

/// Reports that a test is left out because something is missing, which is a failure where nothing
/// may be left out.
#[track_caller]
fn leave_out(needs: &str) {
    use std::io::Write as _;
    assert!(std::env::var_os("CI").is_none(), "it needs {needs}");
    // A closed stderr means that no one wants to know.
    drop(writeln!(std::io::stderr(), "left out: it needs {needs}"));
}
