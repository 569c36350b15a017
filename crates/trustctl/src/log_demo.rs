//! `trustctl log demo MESSAGE`: writes one event.

use std::ffi::OsString;

use clap::{Arg, value_parser};
use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::level::Level;

/// The command.
pub(crate) const ENTRY: Entry = Entry {
    example: "hello",
    arguments,
    ..Entry::new("log demo", "Write one event", Product::Log, run)
};

fn arguments() -> Vec<Arg> {
    let message = Arg::new("message").value_name("MESSAGE").help("What the event says");
    let message = message.required(true).allow_negative_numbers(true);
    vec![message.value_parser(value_parser!(OsString))]
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
