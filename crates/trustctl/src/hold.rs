//! `trustctl hold --seconds N`: waits, so that signals can be tried.

use std::time::Duration;

use clap::Command;
use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::level::Level;
use trust_cli::settings::{ALLOWED_LIMIT_AT_ONCE, AnySetting, Setting, parse_limit};

/// The word that calls it.
const NAME: &str = "hold";

/// Its settings.
const SETTINGS: &[&dyn AnySetting] = &[&SECONDS];

const SECONDS: Setting<Duration> = Setting::of(
    NAME,
    "seconds",
    "SECONDS",
    None,
    "How long to wait; required",
    ALLOWED_LIMIT_AT_ONCE,
    parse_limit,
);

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
    Command::new(NAME)
        .about("Wait, to try signals")
        .args(SETTINGS.iter().map(|setting| setting.arg()))
}

/// Waits for the time to pass or for a signal.
///
/// # Errors
///
/// 64 without `--seconds`.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let duration = context.layers.require(&SECONDS)?;
    let Some(signal) = context.signals.wait(Some(duration)) else {
        return Ok(ExitCode::Success);
    };
    let event = context.log.event(Level::Warn, "signal_received");
    event.field("signal", signal.name()).field("action", "shutdown").write();
    Ok(signal.exit_code())
}
