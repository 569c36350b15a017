//! What came of a case, and what it counts as.

use std::time::Duration;

use crate::case::Case;
use crate::transcript::Log;
use crate::verdict::Verdict;

/// What came of one case.
#[derive(Debug)]
pub struct CaseOutcome {
    /// Which one.
    pub case: &'static Case,
    /// What came of it.
    pub verdict: Verdict,
    /// How often it was tried.
    pub tries: Tries,
    /// Whether nothing came of it, because the server died before or meanwhile, which may be
    /// another case's fault.
    pub is_put_off: bool,
    /// Whether it is among the failures that are known.
    pub is_listed: bool,
    /// What may help.
    pub hint: Option<String>,
    /// What went over its wires.
    pub log: Log,
    /// How long it took.
    pub took: Duration,
}

/// What a case counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// As it should be.
    Pass,
    /// A bug.
    Fail,
    /// A bug that is listed as known.
    Known,
    /// It is listed as known to fail, and did not.
    UnexpectedPass,
    /// Unwise.
    Warn,
    /// What the protocol allows.
    Allowed,
    /// Measured.
    Info,
    /// Not shown.
    Inconclusive,
    /// Not run.
    Skipped,
}

impl CaseOutcome {
    /// What it counts as.
    pub fn class(&self) -> Class {
        match (&self.verdict, self.is_listed) {
            (Verdict::Fail(_), true) => Class::Known,
            (Verdict::Fail(_), false) => Class::Fail,
            (Verdict::Pass | Verdict::Info(_) | Verdict::Allowed(_), true) => Class::UnexpectedPass,
            (Verdict::Allowed(_), false) => Class::Allowed,
            (Verdict::Pass, false) => Class::Pass,
            (Verdict::Info(_), false) => Class::Info,
            (Verdict::Warn(_), _) => Class::Warn,
            (Verdict::Inconclusive(_), _) => Class::Inconclusive,
            (Verdict::Skipped(_), _) => Class::Skipped,
        }
    }
}

impl Class {
    /// The word for it on the terminal.
    pub const fn word(self) -> &'static str {
        match self {
            Class::Pass => "pass",
            Class::Fail => "fail",
            Class::Known => "known",
            Class::UnexpectedPass => "unexpected",
            Class::Warn => "warn",
            Class::Allowed => "allowed",
            Class::Info => "info",
            Class::Inconclusive => "inconclusive",
            Class::Skipped => "skipped",
        }
    }
}

/// How often a case was tried, and what came of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How often: the second time alone. 0 for a case that was skipped.
    pub tries: u32,
    /// How often it failed.
    pub failed: u32,
    /// Other cases that ran beside the first try.
    pub beside: usize,
}

impl Tries {
    /// Not tried.
    pub const NONE: Tries = Tries { tries: 0, failed: 0, beside: 0 };

    /// Whether it failed, and did not when it was tried again.
    pub fn is_intermittent(self) -> bool {
        0 < self.failed && self.failed < self.tries
    }

    /// In words, if there is something to say.
    pub fn said(self) -> Option<String> {
        let Tries { tries, failed, beside } = self;
        let others = if beside == 1 { "other" } else { "others" };
        match (self.is_intermittent(), beside) {
            (false, _) => None,
            (true, 0) => Some(format!("intermittent: {failed} of {tries} tries")),
            (true, _) => Some(format!(
                "intermittent: {failed} of {tries} tries, beside {beside} {others} and not alone"
            )),
        }
    }
}
