//! What came of a case.

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// A bug.
    Fail(Finding),
    /// Allowed, but unwise.
    Warn(Finding),
    /// Measured, and not judged.
    Info(String),
    /// What was to be shown could not be shown, and why.
    Inconclusive(String),
    /// Not run, and why.
    Skipped(String),
}

/// What should have happened, and what did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What a right server does.
    pub expected: String,
    /// What this one did.
    pub got: String,
}

/// A case ends with `?` as soon as its verdict is known.
pub type Judged<T = Verdict> = Result<T, Verdict>;

impl Verdict {
    /// A bug: what a right server does, and what this one did.
    pub fn fail(expected: impl Into<String>, got: impl Into<String>) -> Verdict {
        Verdict::Fail(Finding { expected: expected.into(), got: got.into() })
    }

    /// Allowed, but unwise.
    pub fn warn(expected: impl Into<String>, got: impl Into<String>) -> Verdict {
        Verdict::Warn(Finding { expected: expected.into(), got: got.into() })
    }

    /// What could not be shown.
    pub fn inconclusive(why: impl Into<String>) -> Verdict {
        Verdict::Inconclusive(why.into())
    }

    /// Not run.
    pub fn skipped(why: impl Into<String>) -> Verdict {
        Verdict::Skipped(why.into())
    }

    /// The word for it, as in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail(_) => "fail",
            Verdict::Warn(_) => "warn",
            Verdict::Info(_) => "info",
            Verdict::Inconclusive(_) => "inconclusive",
            Verdict::Skipped(_) => "skipped",
        }
    }
}
