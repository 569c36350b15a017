//! The command-line program: everything that has flags, JSON and text.
//!
//! The executables are thin fronts of this library: `trustctl` and two that stand for one of its
//! commands each.

pub mod activation;
pub mod again;
pub mod check;
mod child;
mod cli;
pub mod colours;
pub mod command;
#[cfg(test)]
mod command_line;
pub mod commands;
pub mod config_file;
pub mod connect;
mod descriptor;
#[cfg(test)]
mod docs;
pub mod echo;
pub mod echo_client;
pub mod error_map;
pub mod event_line;
pub mod event_log;
pub mod exclusions;
pub mod exit_code;
pub mod framing;
pub mod globals;
#[cfg(all(test, loom))]
mod interleavings;
mod launcher;
pub mod layers;
pub mod level;
pub mod load;
mod log_queue;
pub mod log_sink;
pub mod markup;
mod notify;
pub mod output;
#[cfg(test)]
mod packaging;
pub mod random;
pub mod report_file;
pub mod server_events;
pub mod settings;
pub mod signals;
mod standard_streams;
mod startup;
mod supervisor;
mod sync;
mod sys;
pub mod target;
pub mod text;
mod usage;
mod values;
pub mod wait;

use std::env;
use std::process::ExitCode;

use crate::command::Program;
use crate::commands::TRUSTCTL;

/// Runs `trustctl` with the arguments of this process.
pub fn trustctl_main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|word| word == launcher::CHILD) {
        return child::run().into();
    }
    cli::run(&TRUSTCTL).into()
}

/// Runs `trustctl echo-client` with the arguments of this process.
pub fn echo_client_main() -> ExitCode {
    cli::run(&Program { name: "echo-client", only: Some("echo-client"), ..TRUSTCTL }).into()
}

/// Runs `trustctl load` with the arguments of this process.
pub fn echo_load_test_main() -> ExitCode {
    cli::run(&Program { name: "echo-load-test", only: Some("load"), ..TRUSTCTL }).into()
}
