//! What came of a case.

use crate::delivery::Delivery;

/// What is said of an exchange that was answered otherwise before.
pub const CHANGED: &str = "in one piece is answered differently now too";

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// A bug.
    Fail(Finding),
    /// Unwise, though no bug.
    Warn(Finding),
    /// Not what the case wants, but the protocol says that a right server may do it: what it did,
    /// and where that is said.
    Allowed(String),
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
    /// What shows it, which decides what a failure counts that does not come again.
    pub evidence: Evidence,
    /// What came where an answer or an end belongs, if that is what is wrong.
    pub seen: Option<Box<SeenInstead>>,
}

/// What came where an answer or an end belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenInstead {
    /// Right answers that came before.
    pub answers: usize,
    /// What came after them.
    pub rest: Vec<u8>,
    /// Whether that is the beginning of an answer.
    pub is_cut: bool,
    /// Whether the server ended the connection.
    pub is_over: bool,
    /// Requests of the connection until then, and the one that this came in place of.
    pub asked: usize,
    /// What had been done until then, if it was not too long to be kept.
    pub delivery: Option<Delivery>,
}

/// What a finding rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Bytes that are wrong, lost or not to be there. Once is enough.
    Bytes,
    /// The end of the server.
    Death,
    /// Something that took too long, which may be the machine's fault.
    Time,
    /// A RST where a FIN would do.
    Reset,
    /// A connection that was refused, or ended before it brought a byte, while the check held so
    /// many others.
    Refusal {
        /// Other connections of the check.
        beside: u64,
    },
}

/// A case ends with `?` as soon as its verdict is known.
pub type Judged<T = Verdict> = Result<T, Verdict>;

impl Verdict {
    /// A bug: what a right server does, and what this one did, as far as time shows it.
    pub fn fail(expected: impl Into<String>, got: impl Into<String>) -> Verdict {
        Verdict::fail_by(Evidence::Time, expected, got)
    }

    /// A bug that this shows.
    pub fn fail_by(
        evidence: Evidence,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Verdict {
        Verdict::Fail(Finding { expected: expected.into(), got: got.into(), evidence, seen: None })
    }

    /// The same failure, as something else shows it.
    #[must_use]
    pub fn shown_by(self, evidence: Evidence) -> Verdict {
        match self {
            Verdict::Fail(finding) => Verdict::Fail(Finding { evidence, ..finding }),
            other => other,
        }
    }

    /// The same failure, with what came.
    #[must_use]
    pub fn having_seen(self, seen: SeenInstead) -> Verdict {
        let seen = Some(Box::new(seen));
        match self {
            Verdict::Fail(finding) => Verdict::Fail(Finding { seen, ..finding }),
            other => other,
        }
    }

    /// Unwise, though no bug.
    pub fn warn(expected: impl Into<String>, got: impl Into<String>) -> Verdict {
        let evidence = Evidence::Time;
        Verdict::Warn(Finding { expected: expected.into(), got: got.into(), evidence, seen: None })
    }

    /// Words a failure differently, for the same reasons; any other verdict stays.
    pub fn retold(
        self,
        expected: impl Into<String>,
        got: impl FnOnce(String) -> String,
    ) -> Verdict {
        match self {
            Verdict::Fail(Finding { got: was, evidence, seen, .. }) => {
                Verdict::Fail(Finding { expected: expected.into(), got: got(was), evidence, seen })
            }
            other => other,
        }
    }

    /// The same with more words at the end of what happened.
    #[must_use]
    pub fn followed_by(self, more: &str) -> Verdict {
        match self {
            Verdict::Fail(finding) => {
                Verdict::Fail(Finding { got: finding.got.clone() + more, ..finding })
            }
            Verdict::Inconclusive(why) => Verdict::Inconclusive(why + more),
            other => other,
        }
    }

    /// What could not be shown.
    pub fn inconclusive(why: impl Into<String>) -> Verdict {
        Verdict::Inconclusive(why.into())
    }

    /// Not run.
    pub fn skipped(why: impl Into<String>) -> Verdict {
        Verdict::Skipped(why.into())
    }
}
