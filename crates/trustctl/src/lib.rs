//! The command-line program: everything that has flags, JSON and text.
//!
//! The executables are thin fronts of this library: `trustctl` and two that stand for one of its
//! commands each.

pub mod activation;
mod child;
#[cfg(test)]
mod command_line;
pub mod commands;
#[cfg(test)]
mod docs;
pub mod echo_client;
mod launcher;
mod notify;
#[cfg(test)]
mod packaging;
pub mod server_events;
mod supervisor;

use std::env;
use std::process::ExitCode;

use trust_cli::command::Program;
use trust_cli::run::run;

use crate::commands::TRUSTCTL;

/// Runs `trustctl` with the arguments of this process.
pub fn trustctl_main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|word| word == launcher::CHILD) {
        return child::run().into();
    }
    run(&TRUSTCTL).into()
}

/// Runs `trustctl echo-client` with the arguments of this process.
pub fn echo_client_main() -> ExitCode {
    run(&Program { name: "echo-client", only: Some("echo-client"), ..TRUSTCTL }).into()
}

/// Runs `trustctl load` with the arguments of this process.
pub fn echo_load_test_main() -> ExitCode {
    run(&Program { name: "echo-load-test", only: Some("load"), ..TRUSTCTL }).into()
}
