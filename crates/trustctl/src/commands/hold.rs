//! `trustctl hold --seconds N`: waits, so that signals can be tried.

use std::time::Duration;

use clap::Command;

use crate::commands::Context;
use crate::exit_code::{ExitCode, Failure};
use crate::level::Level;
use crate::settings::{ALLOWED_LIMIT_AT_ONCE, AnySetting, Setting, parse_limit};

/// The word that calls it.
pub const NAME: &str = "hold";

/// Its settings.
pub const SETTINGS: &[&dyn AnySetting] = &[&SECONDS];

const SECONDS: Setting<Duration> = Setting::of(
    NAME,
    "seconds",
    "SECONDS",
    None,
    "How long to wait; required",
    ALLOWED_LIMIT_AT_ONCE,
    parse_limit,
);

/// Its part of the command line.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Wait, to try signals")
        .args(SETTINGS.iter().map(|setting| setting.arg()))
}

/// Waits for the time to pass or for a signal.
///
/// # Errors
///
/// 64 without `--seconds`.
pub fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let duration = context.layers.require(&SECONDS)?;
    let Some(signal) = context.signals.wait(Some(duration)) else {
        return Ok(ExitCode::Success);
    };
    let event = context.log.event(Level::Warn, "signal_received");
    event.field("signal", signal.name()).field("action", "shutdown").write();
    Ok(signal.exit_code())
}
