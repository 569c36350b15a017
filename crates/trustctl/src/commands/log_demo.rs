//! `trustctl log demo MESSAGE`: writes one event.

use std::ffi::OsString;

use clap::{Arg, Command, value_parser};

use crate::commands::Context;
use crate::exit_code::{ExitCode, Failure};
use crate::level::Level;
use crate::settings::AnySetting;

/// The words that call it.
pub const NAME: &str = "log demo";

/// Its settings: none.
pub const SETTINGS: &[&dyn AnySetting] = &[];

/// Its part of the command line.
pub fn command() -> Command {
    Command::new("demo").about("Write one event").arg(
        Arg::new("message")
            .value_name("MESSAGE")
            .help("What the event says")
            .required(true)
            .allow_negative_numbers(true)
            .value_parser(value_parser!(OsString)),
    )
}

/// Writes the event.
///
/// # Errors
///
/// None.
pub fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let message = context.matches.get_one::<OsString>("message").cloned().unwrap_or_default();
    let message = message.to_string_lossy();
    context.log.event(Level::Info, "log_demo").field("message", &message).write();
    Ok(ExitCode::Success)
}
