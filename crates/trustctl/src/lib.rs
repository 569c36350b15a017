//! The program: a list of commands, and the executables that have it.
//!
//! The executables are thin fronts of this library: `trustctl` and two that stand for one of its
//! commands each, as a link to `trustctl` does whose name is that of Toxiproxy's CLI. A product can
//! be left out by its cargo feature: `echo`, `load`, `check`, `proxy`.

#[cfg(test)]
#[cfg(all(feature = "echo", feature = "load", feature = "check"))]
mod command_line;
pub mod commands;
mod config_show;
#[cfg(test)]
#[cfg(all(feature = "echo", feature = "load", feature = "check"))]
mod docs;
mod hold;
mod log_demo;
#[cfg(test)]
#[cfg(all(feature = "echo", feature = "load", feature = "check"))]
mod packaging;
#[cfg(feature = "proxy")]
mod toxiproxy_cli;
#[cfg(feature = "proxy")]
pub mod toxiproxy_server;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use trust_cli::run::run;

use crate::commands::TRUSTCTL;

/// Runs `trustctl` with the arguments of this process; under the name of a short executable, as
/// links in packages have it, that one.
pub fn trustctl_main() -> ExitCode {
    #[cfg(feature = "echo")]
    if trust_echo::server::child::is_called() {
        return trust_echo::server::child::run().into();
    }
    let called = env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default();
    short_main(&name.to_string_lossy())
}

/// Runs the short executable of this name with the arguments of this process.
pub fn short_main(name: &str) -> ExitCode {
    run(&TRUSTCTL.called(name)).into()
}
