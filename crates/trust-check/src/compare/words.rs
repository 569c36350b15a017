//! What a box does, in words, by the cases in which it shows.

use super::json::{Change, ComparedCase};
use crate::case;
use crate::report::json::VerdictName;

/// What a box does, and the cases that show it.
struct BoxTrait {
    /// Patterns of their ids.
    patterns: &'static [&'static str],
    /// What came of them through the box.
    verdicts: &'static [VerdictName],
    text: &'static str,
}

const WRONG: &[VerdictName] = &[VerdictName::Fail, VerdictName::Warn];
const FAILED: &[VerdictName] = &[VerdictName::Fail];

/// The first one that fits names a case.
const TRAITS: &[BoxTrait] = &[
    BoxTrait {
        patterns: &["half-close/1", "half-close/2", "half-close/3", "half-close/4", "half-close/5"],
        verdicts: FAILED,
        text: "half-closed clients lose their answer: the box closes both directions on a FIN",
    },
    BoxTrait {
        patterns: &["half-close/6", "closing/1", "closing/2", "closing/3", "closing/11"],
        verdicts: WRONG,
        text: "an end is not passed on: what one side has closed stays open on the other",
    },
    BoxTrait {
        patterns: &["closing/4", "closing/12", "closing/13"],
        verdicts: WRONG,
        text: "what a server says before it closes may be lost: the box ends with a RST where the \
               server ends with a FIN, or drops what it holds",
    },
    BoxTrait {
        patterns: &["closing/*"],
        verdicts: WRONG,
        text: "a client that resets or leaves at once harms the box, or the clients after it",
    },
    BoxTrait {
        patterns: &["limits/1", "limits/4", "limits/5", "limits/7", "recovery/5", "recovery/6"],
        verdicts: WRONG,
        text: "the box serves fewer clients than the server does",
    },
    BoxTrait {
        patterns: &["limits/2", "limits/3", "recovery/10", "pipelining/8", "pipelining/9"],
        verdicts: WRONG,
        text: "a client that is slow to send or to read holds up the box",
    },
    BoxTrait {
        patterns: &["limits/6"],
        verdicts: WRONG,
        text: "the box goes on reading from a client that does not read, and keeps the rest",
    },
    BoxTrait {
        patterns: &["timing/6"],
        verdicts: WRONG,
        text: "small pieces wait in the box for an acknowledgement (Nagle's algorithm)",
    },
    BoxTrait {
        patterns: &["timing/4", "timing/5"],
        verdicts: WRONG,
        text: "the box ends connections that are in use: it has a timeout of its own",
    },
    BoxTrait {
        patterns: &["timing/*"],
        verdicts: WRONG,
        text: "the server's timeout does not end clients in the same way through the box",
    },
    BoxTrait {
        patterns: &["recovery/*"],
        verdicts: WRONG,
        text: "one client affects what another one gets",
    },
    BoxTrait {
        patterns: &["greeting/1"],
        verdicts: WRONG,
        text: "the box connects to the server only when the client has sent something",
    },
    BoxTrait {
        patterns: &["effect/*"],
        verdicts: WRONG,
        text: "a request that was cut is executed: the box passes on what looks like a whole one",
    },
    BoxTrait {
        patterns: &["framing/*", "partial/*", "pipelining/*", "upgrade/*"],
        verdicts: FAILED,
        text: "bytes are lost, changed or held back on the way",
    },
    BoxTrait {
        patterns: &["resources/*"],
        verdicts: WRONG,
        text: "the process that was watched keeps something of its clients",
    },
    BoxTrait {
        patterns: &["*"],
        verdicts: WRONG,
        text: "cases that are right directly and not through the box",
    },
    BoxTrait {
        patterns: &["*"],
        verdicts: &[VerdictName::Inconclusive],
        text: "inconclusive through the box",
    },
    BoxTrait {
        patterns: &["*"],
        verdicts: &[VerdictName::Info, VerdictName::Allowed],
        text: "measured or allowed through the box, and not judged",
    },
    BoxTrait {
        patterns: &["*"],
        verdicts: &[VerdictName::Pass],
        text: "the box hides or mends what the server does",
    },
];

/// The cases by what the box does, in the order above.
pub(super) fn changes(cases: Vec<ComparedCase>) -> Vec<Change> {
    let fits = |it: &BoxTrait, changed: &ComparedCase| {
        it.verdicts.contains(&changed.through.verdict)
            && it.patterns.iter().any(|pattern| case::matches(pattern, &changed.id))
    };
    let mut left = cases;
    let mut changes = vec![];
    for one in TRAITS {
        let (cases, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|case| fits(one, case));
        left = others;
        if !cases.is_empty() {
            changes.push(Change { text: one.text.to_owned(), cases });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    #[test]
    fn every_pattern_names_a_case() {
        for pattern in TRAITS.iter().flat_map(|it| it.patterns) {
            assert!(cases::all().any(|case| case::matches(pattern, case.id)), "{pattern}");
        }
    }
}
