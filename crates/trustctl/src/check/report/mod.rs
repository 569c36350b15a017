//! What came of a run, for people and for programs.

pub mod terminal;

use crate::check::runner::Outcome;
use crate::check::verdict::Verdict;

/// How many cases came to which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As it should be.
    pub pass: usize,
    /// Bugs.
    pub fail: usize,
    /// Unwise.
    pub warn: usize,
    /// Measured.
    pub info: usize,
    /// Not shown.
    pub inconclusive: usize,
    /// Not run.
    pub skipped: usize,
}

impl Counts {
    /// Counts them.
    pub fn of(outcomes: &[Outcome]) -> Counts {
        let mut counts = Counts::default();
        for outcome in outcomes {
            *match &outcome.verdict {
                Verdict::Pass => &mut counts.pass,
                Verdict::Fail(_) => &mut counts.fail,
                Verdict::Warn(_) => &mut counts.warn,
                Verdict::Info(_) => &mut counts.info,
                Verdict::Inconclusive(_) => &mut counts.inconclusive,
                Verdict::Skipped(_) => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    /// Cases that were tried.
    pub fn tried(&self) -> usize {
        self.pass + self.fail + self.warn + self.info + self.inconclusive
    }
}
