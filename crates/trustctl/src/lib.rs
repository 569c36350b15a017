//! The program: a list of commands, and the executables that have it.
//!
//! The executables are thin fronts of this library: `trustctl` and two that stand for one of its
//! commands each. A product can be left out by its cargo feature: `echo`, `load`, `check`.

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

use std::process::ExitCode;

use trust_cli::run::run;

use crate::commands::TRUSTCTL;

/// Runs `trustctl` with the arguments of this process.
pub fn trustctl_main() -> ExitCode {
    #[cfg(feature = "echo")]
    if trust_echo::server::child::is_called() {
        return trust_echo::server::child::run().into();
    }
    run(&TRUSTCTL).into()
}

/// Runs `trustctl echo-client` with the arguments of this process.
#[cfg(feature = "echo")]
pub fn echo_client_main() -> ExitCode {
    let only = Some(&trust_echo::client::command::ENTRY);
    run(&trust_cli::command::Program { name: "echo-client", only, ..TRUSTCTL }).into()
}

/// Runs `trustctl load` with the arguments of this process.
#[cfg(feature = "load")]
pub fn echo_load_test_main() -> ExitCode {
    let only = Some(&trust_load::command::ENTRY);
    run(&trust_cli::command::Program { name: "echo-load-test", only, ..TRUSTCTL }).into()
}
