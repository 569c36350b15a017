//! `trustctl log demo MESSAGE`: writes one event.

use std::ffi::OsString;

use clap::{Arg, Command, value_parser};
use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::level::Level;
use trust_cli::settings::AnySetting;

/// The words that call it.
const NAME: &str = "log demo";

/// Its settings: none.
const SETTINGS: &[&dyn AnySetting] = &[];

/// The command.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    settings: SETTINGS,
    exclusions: &[],
    check: |_| Ok(()),
    command,
    run,
    product: Product::Log,
    on_descriptor_0: None,
};

/// Its part of the command line.
fn command() -> Command {
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
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let message = context.matches.get_one::<OsString>("message").cloned().unwrap_or_default();
    let message = message.to_string_lossy();
    context.log.event(Level::Info, "log_demo").field("message", &message).write();
    Ok(ExitCode::Success)
}
