//! What is said where connections begin to be refused, and no process shows what ended.

use crate::outcome::CaseOutcome;
use crate::transcript::{Log, Transcript, What};
use crate::verdict::{Evidence, Finding, Verdict};

/// A case that is being tried.
#[derive(Debug)]
pub(super) struct RunningCase {
    pub(super) id: &'static str,
    pub(super) transcript: Transcript,
}

/// When connections were refused by a server that cannot be watched.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Each time that it began.
    all: Vec<RefusedSince>,
    state: RefusalState,
    /// The last case that is done and had sent a RST.
    last_reset: Option<&'static str>,
}

/// Whether connections are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RefusalState {
    /// They are accepted, as far as is known.
    #[default]
    Accepting,
    /// They are refused since the last time that it began.
    Refusing,
    /// The same, and it was waited in vain until they are accepted again.
    Final,
}

impl Refusals {
    /// Whether connections are refused, and it was not waited in vain for the end of that.
    pub(super) fn may_end(&self) -> bool {
        self.state == RefusalState::Refusing
    }

    /// It was waited until connections are accepted again.
    pub(super) fn handle_wait(&mut self, is_back: bool) {
        self.state = if is_back { RefusalState::Accepting } else { RefusalState::Final };
    }

    /// A connection is accepted again.
    pub(super) fn handle_acceptance(&mut self) {
        self.state = RefusalState::Accepting;
    }

    /// A case is done.
    pub(super) fn handle_end(&mut self, id: &'static str, log: &Log) {
        if has_sent_reset(log) {
            self.last_reset = Some(id);
        }
    }

    /// Connections are refused, as the case `noticed_by` found: said once, until they are accepted.
    pub(super) fn note(&mut self, noticed_by: &'static str, running: &[RunningCase]) {
        if self.state == RefusalState::Accepting {
            self.all.push(RefusedSince::new(noticed_by, running, self.last_reset));
            self.state = RefusalState::Refusing;
        }
    }

    /// Since when connections are refused, if they are.
    pub(super) fn since(&self) -> Option<String> {
        let is_refusing = self.state != RefusalState::Accepting;
        self.all.last().filter(|_| is_refusing).map(RefusedSince::said)
    }

    /// Whether a failure is none of the case's own: it ran, or began, when connections began to be
    /// refused, and something else was the reason.
    pub(super) fn spare(&self, outcome: &CaseOutcome) -> bool {
        let id = outcome.case.id;
        let is_refused = matches!(
            &outcome.verdict,
            Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. })
        );
        let is_suspect = self.all.iter().any(|since| since.suspects(id));
        let was_there = self.all.iter().any(|since| since.spares(id));
        !is_suspect && (was_there || self.since().is_some() && is_refused)
    }

    /// Says in the failure of a suspect that connections were refused from then on.
    pub(super) fn explain(&self, id: &str, verdict: &mut Verdict) {
        if let Some(since) = self.all.iter().rfind(|since| since.suspects(id)) {
            since.explain(verdict);
        }
    }
}

/// Connections began to be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RefusedSince {
    /// Cases that ran.
    running: Vec<&'static str>,
    /// Those of them that had sent a RST, or the last one before that had.
    resetting: Vec<&'static str>,
    /// Those that may have ended what accepted connections. The others were only there.
    suspects: Vec<&'static str>,
}

impl RefusedSince {
    /// What the case `noticed_by` found; `last_reset` is the last finished one that sent a RST.
    fn new(
        noticed_by: &'static str,
        running: &[RunningCase],
        last_reset: Option<&'static str>,
    ) -> RefusedSince {
        let has_reset = |case: &&RunningCase| has_sent_reset(&case.transcript.log());
        let resetting: Vec<_> = running.iter().filter(has_reset).map(|case| case.id).collect();
        let running: Vec<_> = running.iter().map(|case| case.id).collect();
        match (resetting.is_empty(), last_reset) {
            (false, _) => RefusedSince { running, suspects: resetting.clone(), resetting },
            (true, Some(last)) => {
                RefusedSince { running, suspects: vec![noticed_by], resetting: vec![last] }
            }
            (true, None) => RefusedSince { suspects: running.clone(), running, resetting },
        }
    }

    /// Whether the case ran and cannot have been the reason.
    fn spares(&self, id: &str) -> bool {
        self.running.contains(&id) && !self.suspects.contains(&id)
    }

    /// Since which cases, and what may have ended.
    fn said(&self) -> String {
        let running = self.running.join(", ");
        let forwarder = match &self.resetting[..] {
            [] => String::new(),
            resetting => format!(
                " ({} had sent a RST: a forwarder in front of the server may have ended with it)",
                resetting.join(", ")
            ),
        };
        format!("the server accepts no connections since {running} ran{forwarder}")
    }

    /// Whether the case may have been the reason.
    fn suspects(&self, id: &str) -> bool {
        self.suspects.contains(&id)
    }

    /// Says so in a failure.
    fn explain(&self, verdict: &mut Verdict) {
        if let Verdict::Fail(Finding { got, .. }) = verdict {
            *got = format!("{got}; {}", self.said());
        }
    }
}

fn has_sent_reset(log: &Log) -> bool {
    log.entries.iter().any(|entry| entry.what == What::SentReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(cases: &[(&'static str, bool)]) -> Vec<RunningCase> {
        let case = |(id, has_reset): &(&'static str, bool)| {
            let transcript = Transcript::default();
            transcript.add(1, if *has_reset { What::SentReset } else { What::SentFin });
            RunningCase { id, transcript }
        };
        cases.iter().map(case).collect()
    }

    #[test]
    fn cases_beside_one_that_sent_a_reset_are_spared() {
        let since = RefusedSince::new("a/1", &running(&[("a/1", false), ("a/2", true)]), None);
        assert!(since.spares("a/1") && !since.spares("a/2") && !since.spares("a/3"));
        let said = "the server accepts no connections since a/1, a/2 ran (a/2 had sent a RST: a \
                    forwarder in front of the server may have ended with it)";
        assert_eq!(since.said(), said);
        assert!(since.suspects("a/2") && !since.suspects("a/1"));
        let mut verdict = Verdict::fail_by(Evidence::Bytes, "an answer", "nothing");
        since.explain(&mut verdict);
        let got = format!("nothing; {said}");
        assert_eq!(verdict, Verdict::fail_by(Evidence::Bytes, "an answer", got));
    }

    #[test]
    fn a_reset_of_a_case_before_is_named_and_one_failure_stays() {
        let since =
            RefusedSince::new("b/1", &running(&[("b/1", false), ("b/2", false)]), Some("a/9"));
        assert!(!since.spares("b/1") && since.spares("b/2"));
        assert!(since.said().contains("(a/9 had sent a RST"), "{}", since.said());
    }

    #[test]
    fn without_a_reset_all_that_ran_are_suspects_and_no_forwarder_is_thought_of() {
        let since = RefusedSince::new("b/1", &running(&[("b/1", false), ("b/2", false)]), None);
        assert!(!since.spares("b/1") && !since.spares("b/2"));
        assert_eq!(since.said(), "the server accepts no connections since b/1, b/2 ran");
    }
}
