//! `trustctl hold --seconds N`: waits, so that signals can be tried.

use std::time::Duration;

use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
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
pub(crate) const ENTRY: Entry =
    Entry { settings: SETTINGS, ..Entry::new(NAME, "Wait, to try signals", Product::Log, run) };

/// Waits for the time to pass or for a signal.
///
/// # Errors
///
/// 64 without `--seconds`.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let duration = context.layers.require(&SECONDS)?;
    let signal = context.signals.wait(Some(duration));
    Ok(signal.map_or(ExitCode::Success, |signal| context.stopped_by(signal)))
}
