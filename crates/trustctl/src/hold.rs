//! `trustctl hold --seconds N`: waits, so that signals can be tried.

use std::time::Duration;

use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::{options, values};

/// The word that calls it.
const NAME: &str = "hold";

options! {
    /// Options of `trustctl hold`.
    struct HoldOptions of "hold" {
        /// How long to wait; required
        SECONDS seconds: Duration, values::DELAY;
    }
}

/// The command.
pub(crate) const ENTRY: Entry = Entry {
    example: "--seconds 5",
    settings: SETTINGS,
    ..Entry::new(NAME, "Wait, to try signals", Product::Log, run)
};

/// Waits for the time to pass or for a signal.
///
/// # Errors
///
/// 64 without `--seconds`.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let duration = HoldOptions::of(context.layers).seconds.ok_or_else(|| SECONDS.missing())?;
    let signal = context.signals.wait(Some(duration));
    Ok(signal.map_or(ExitCode::Success, |signal| context.stopped_by(signal)))
}
