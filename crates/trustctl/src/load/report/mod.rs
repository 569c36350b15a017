//! What a run of the load saw, for people and for programs: a file a format.

#[cfg(test)]
mod contract;
pub mod csv;
pub mod json;
#[cfg(test)]
pub(crate) mod sample;
pub mod terminal;
pub mod timeline;
pub mod units;

use crate::exit_code::ExitCode;
use crate::load::summary::{Cause, Counts, End, Run};
use crate::text::{grouped, seconds};

/// What is said about a closed loop, because it bounds what its percentiles can be trusted for.
pub const CLOSED_LOOP: &str = "Closed loop: the next message waits for an answer, so a server that stalls is \
     asked less, and most of its stall is hidden. An open loop (--rate) shows it.";

/// What the two columns of an open loop are.
pub const OPEN_LOOP: &str = "Open loop: latency counts from when a message was due, service time from when it \
     was sent. The difference is the wait behind others.";

/// What came of a run, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All echoes were right, and all budgets kept.
    Passed,
    /// Something failed, or a budget was missed.
    Failed,
    /// A signal ended it.
    Stopped,
    /// Nobody was there.
    Unreachable,
}

impl Outcome {
    /// What came of it.
    pub fn of(run: &Run<'_>) -> Outcome {
        match run.summary.end {
            End::Unreachable(_) => Outcome::Unreachable,
            End::Stopped(_) => Outcome::Stopped,
            End::Complete if run.exit == ExitCode::Success => Outcome::Passed,
            End::Complete => Outcome::Failed,
        }
    }

    /// For the begin of a line.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "PASSED",
            Outcome::Failed => "FAILED",
            Outcome::Stopped => "STOPPED",
            Outcome::Unreachable => "UNREACHABLE",
        }
    }
}

/// What came of a run, in sentences: how it ended, errors, budgets.
pub fn findings(run: &Run<'_>) -> Vec<String> {
    let (summary, mut said) = (run.summary, vec![]);
    match &summary.end {
        End::Complete => {}
        End::Stopped(signal) => {
            let took = seconds(summary.took);
            said.push(format!("Stopped by {signal} after {took}: this is the result so far."));
        }
        End::Unreachable(why) => {
            said.push(format!("No message was sent, because there was no connection: {why}"));
            return said;
        }
    }
    let Counts { answered, failed, unsent, .. } = summary.counts;
    let errors = summary.errors.total();
    if errors > 0 || failed > 0 {
        let (errors, failed) = (count(errors, "error"), count(failed, "message"));
        said.push(format!("{errors}; {failed} did not come back right."));
    } else if answered > 0 {
        said.push(match answered {
            1 => "The one echo was right, byte for byte.".to_owned(),
            answered => format!("All {} echoes were right, byte for byte.", grouped(answered)),
        });
    } else {
        said.push("No message was measured, which says nothing about the server.".to_owned());
    }
    if unsent > 0 {
        let unsent = count(unsent, "message");
        said.push(format!("{unsent} more had been due and could not be sent before the end."));
    }
    let missed = run.judgements.iter().filter(|judgement| judgement.is_missed).count();
    said.extend(match (run.judgements.len(), missed) {
        (0, _) => None,
        (1, 0) => Some("The budget was kept.".to_owned()),
        (1, _) => Some("The budget was missed.".to_owned()),
        (all, 0) => Some(format!("All {all} budgets were kept.")),
        (all, missed) => Some(format!("{missed} of {all} budgets missed.")),
    });
    said
}

/// `1 error`, `1,204 errors`
pub fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Wrong echoes that are counted and not kept.
pub fn wrong_left_out(run: &Run<'_>) -> u64 {
    let counted = run.summary.errors.count(Cause::Mismatch);
    counted.saturating_sub(run.summary.wrong.len() as u64)
}
