//! What a failure counts that was tried again alone.

use std::time::Duration;

use trust_cli::text::count;

use crate::case::{Case, Isolation};
use crate::outcome::{CaseOutcome, Tries};
use crate::setup::{ROOM_PAUSE, Setup};
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Finding, Judged, Verdict};

/// Least number of other connections of the check with which a refusal is put down to a limit on
/// clients.
const CROWD_MIN: u64 = 2;

/// Clients at the same time that every case can do with, and how long one of them may wait.
const AT_ONCE: usize = 50;
const WAIT: Duration = Duration::from_secs(1);

/// Beside how many others a client may have been turned away, in one of both tries, which
/// [`turns_away_beside`] can show.
pub(super) fn turned_away_beside(first: &CaseOutcome, second: &CaseOutcome) -> Option<u64> {
    let refused = |outcome: &CaseOutcome| match &outcome.verdict {
        Verdict::Fail(Finding { evidence: Evidence::Refusal { beside }, .. }) => Some(*beside),
        _ => None,
    };
    let beside = match (refused(first), refused(second)) {
        (_, Some(beside)) => beside,
        (Some(beside), None) => beside.max(first.tries.beside as u64),
        (None, None) => 0,
    };
    Some(beside).filter(|beside| *beside > 0)
}

/// Whether it failed beside others by nothing but time.
pub(super) fn took_too_long(first: &CaseOutcome) -> bool {
    let is_late = matches!(&first.verdict, Verdict::Fail(Finding { evidence: Evidence::Time, .. }));
    is_late && first.tries.beside > 0
}

/// Whether a case fails where clients have to wait for others, though it is not about that.
pub(super) fn needs_several(case: &Case) -> bool {
    matches!(case.isolation, Isolation::Several | Isolation::Crowd) && case.id != "limits/5"
}

/// What is said of a case that needs more clients at a time than the server serves.
pub(super) fn serves_fewer(served: u64) -> Verdict {
    let clients = count(served, "client");
    let why =
        format!("it serves {clients} at a time, and lets others wait: --max-clients {served}");
    Verdict::inconclusive(why)
}

/// Beside how many others, up to that number, a client is turned away while something listens, if
/// it is: others who are served and then do nothing. Once more, as a server that now and then loses
/// a client has no limit. What was shown before is not tried again.
///
/// # Errors
///
/// What else happens to one of them.
pub(super) fn turns_away_beside(trial: &mut CaseTrial<'_>, others: u64) -> Judged<Option<u64>> {
    if let Some(known) = trial.setup.rate.turned_away_beside().filter(|known| *known <= others) {
        return Ok(Some(known));
    }
    let refused_before = trial.setup.rate.refused_connects();
    let mut most = None;
    for _ in 0..2 {
        // The server is to have seen that those before have left.
        trial.pause(ROOM_PAUSE.min(trial.setup.patience))?;
        let Some(held) = held_at_refusal(trial, others)? else { return Ok(None) };
        most = most.max(Some(held));
    }
    Ok(most.filter(|_| trial.setup.rate.refused_connects() == refused_before))
}

/// How many clients are held when another one is turned away, if that is at most `others`.
fn held_at_refusal(trial: &mut CaseTrial<'_>, others: u64) -> Judged<Option<u64>> {
    let mut held = vec![];
    while held.len() as u64 <= others {
        match trial.served_within(trial.setup.patience) {
            Err(Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. }))
                if !held.is_empty() =>
            {
                return Ok(Some(held.len() as u64));
            }
            served => held.push(served?),
        }
    }
    Ok(None)
}

/// How many clients the server serves at a time, if others wait until one of them leaves. That is
/// shown with nothing else on.
pub(super) fn served_at_once(trial: &mut CaseTrial<'_>) -> Option<u64> {
    let rate = &trial.setup.rate;
    if rate.open() > 0 || rate.served_at_once().is_some() {
        return rate.served_at_once();
    }
    let mut held = vec![];
    while held.len() < trial.setup.together(AT_ONCE) {
        match trial.served_within(WAIT) {
            Ok(wire) => held.push(wire),
            Err(Verdict::Fail(Finding {
                evidence: Evidence::Time | Evidence::Refusal { .. },
                ..
            })) if !held.is_empty() => {
                rate.note_served_at_once(held.len() as u64);
                break;
            }
            Err(_) => break,
        }
    }
    rate.served_at_once()
}

/// The verdict on a case that failed and was then tried again alone. Wrong bytes are a bug, however
/// rare. An answer that was only late or refused is a warning. A server that turns clients away
/// while the check has many connections is within its rights, and so is one that lets them wait:
/// `limit` is the number of others beside which it is shown to do so, or of clients that it serves.
pub(super) fn judge(
    first: CaseOutcome,
    second: CaseOutcome,
    limit: Option<u64>,
    setup: &Setup,
) -> CaseOutcome {
    let Verdict::Fail(finding) = &first.verdict else { return first };
    let Finding { expected, got, evidence, seen } = finding.clone();
    let beside = first.tries.beside;
    let tries = Tries { tries: 2, failed: 1, beside };
    let took = first.took + second.took;
    match (&second.verdict, evidence) {
        // The run was stopped.
        (Verdict::Skipped(_), _) => first,
        (Verdict::Fail(Finding { evidence: Evidence::Refusal { beside }, .. }), _)
            if let Some(limit) = limit.filter(|limit| limit <= beside) =>
        {
            setup.rate.note_turned_away(limit);
            let why = format!("it turns a client away beside {limit} others, whatever they do");
            CaseOutcome { verdict: Verdict::inconclusive(why), took, ..second }
        }
        (Verdict::Fail(Finding { evidence: Evidence::Time, .. }), Evidence::Time)
            if needs_several(second.case)
                && let Some(served) = limit =>
        {
            CaseOutcome { verdict: serves_fewer(served), took, ..second }
        }
        (Verdict::Fail(_), _) => {
            CaseOutcome { tries: Tries { failed: 2, ..tries }, took, ..second }
        }
        (_, Evidence::Bytes | Evidence::Death) => CaseOutcome { tries, took, ..first },
        (_, Evidence::Refusal { beside: others }) if beside > 0 || others >= CROWD_MIN => {
            if let Some(limit) = limit {
                setup.rate.note_turned_away(limit);
            }
            CaseOutcome { took, ..second }
        }
        // It had to wait for others.
        (_, Evidence::Time) if limit.is_some() => CaseOutcome { took, ..second },
        (_, Evidence::Time | Evidence::Reset | Evidence::Refusal { .. }) => {
            let verdict = Verdict::Warn(Finding { expected, got, evidence, seen });
            CaseOutcome { verdict, tries, took, ..first }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use trust_cli::framing::Framing;

    use super::*;
    use crate::cases;
    use crate::setup::{ConnectionPacer, OnReset};
    use crate::transcript::Log;

    fn setup() -> Setup {
        Setup {
            address: (Ipv4Addr::LOCALHOST, 1).into(),
            preface: None,
            framing: Framing::Raw,
            is_quick: false,
            left_out: vec![],
            exchanges: None,
            unlearned: None,
            max_frame: 1,
            timeout: None,
            patience: Duration::ZERO,
            settle: Duration::ZERO,
            reset: OnReset::Warn,
            memory_allowance: 0,
            seed: 1,
            max_clients: None,
            one_at_a_time: false,
            rate: ConnectionPacer::new(None),
            stop: OwnedFd::from(io::pipe().unwrap().0),
        }
    }

    fn outcome(verdict: Verdict, beside: usize) -> CaseOutcome {
        let failed = u32::from(matches!(verdict, Verdict::Fail(_)));
        let tries = Tries { tries: 1, failed, beside };
        let case = cases::all().next().unwrap();
        let (log, took) = (Log::default(), Duration::ZERO);
        CaseOutcome {
            case,
            verdict,
            tries,
            is_put_off: false,
            is_listed: false,
            hint: None,
            log,
            took,
        }
    }

    fn judged(evidence: Evidence, second: Verdict) -> (CaseOutcome, Setup) {
        let setup = setup();
        let first = outcome(Verdict::fail_by(evidence, "a", "b"), 7);
        let second = outcome(second, 0);
        let limit = turned_away_beside(&first, &second);
        (judge(first, second, limit, &setup), setup)
    }

    #[test]
    fn a_failure_that_comes_again_is_one() {
        for evidence in [Evidence::Bytes, Evidence::Time, Evidence::Refusal { beside: 0 }] {
            let (outcome, _) = judged(evidence, Verdict::fail_by(evidence, "a", "again"));
            assert!(matches!(&outcome.verdict, Verdict::Fail(finding) if finding.got == "again"));
            assert_eq!((outcome.tries.tries, outcome.tries.said()), (2, None));
        }
    }

    #[test]
    fn a_case_with_more_clients_than_are_served_at_a_time_shows_nothing() {
        let late = |id: &str| {
            let case = cases::all().find(|case| case.id == id).unwrap();
            CaseOutcome { case, ..outcome(Verdict::fail("a", "b"), 7) }
        };
        let judged = |id: &str| judge(late(id), late(id), Some(20), &setup()).verdict;
        let why = "it serves 20 clients at a time, and lets others wait: --max-clients 20";
        assert_eq!(judged("recovery/6"), Verdict::inconclusive(why));
        assert_eq!(judged("framing/1"), Verdict::fail("a", "b"));
        assert_eq!(judged("limits/5"), Verdict::fail("a", "b"), "it is about that");
    }

    #[test]
    fn wrong_bytes_are_a_failure_however_rare_and_a_long_wait_is_a_warning() {
        let (outcome, _) = judged(Evidence::Bytes, Verdict::Pass);
        assert!(matches!(outcome.verdict, Verdict::Fail(_)));
        let said = "intermittent: 1 of 2 tries, beside 7 others and not alone";
        assert_eq!(outcome.tries.said().as_deref(), Some(said));
        let (outcome, _) = judged(Evidence::Time, Verdict::Info("1 ms".into()));
        assert!(matches!(outcome.verdict, Verdict::Warn(_)));
        assert_eq!(outcome.tries.said().as_deref(), Some(said));
    }

    #[test]
    fn a_refusal_beside_next_to_nobody_is_a_warning() {
        let first = outcome(Verdict::fail_by(Evidence::Refusal { beside: 1 }, "a", "b"), 0);
        let judged = judge(first, outcome(Verdict::Pass, 0), None, &setup());
        assert!(matches!(judged.verdict, Verdict::Warn(_)));
    }

    #[test]
    fn a_refusal_beside_a_crowd_of_the_checks_own_is_a_limit() {
        let (outcome, setup) = judged(Evidence::Refusal { beside: 9 }, Verdict::Pass);
        assert_eq!((outcome.verdict, outcome.tries.said()), (Verdict::Pass, None));
        assert_eq!(setup.rate.turned_away_beside(), Some(9));
        let again = Verdict::fail_by(Evidence::Refusal { beside: 2 }, "a", "b");
        let (outcome, setup) = judged(Evidence::Refusal { beside: 9 }, again);
        let why = "it turns a client away beside 2 others, whatever they do";
        assert_eq!(outcome.verdict, Verdict::inconclusive(why));
        assert_eq!(setup.rate.turned_away_beside(), Some(2));
    }

    #[test]
    fn a_refusal_that_does_not_come_again_beside_as_many_idle_clients_is_no_limit() {
        let setup = setup();
        let refusal = Verdict::fail_by(Evidence::Refusal { beside: 9 }, "a", "b");
        let passed = judge(outcome(refusal.clone(), 7), outcome(Verdict::Pass, 0), None, &setup);
        assert_eq!(passed.verdict, Verdict::Pass);
        let failed = judge(outcome(refusal.clone(), 7), outcome(refusal, 0), None, &setup);
        assert!(matches!(failed.verdict, Verdict::Fail(_)));
        assert_eq!(setup.rate.turned_away_beside(), None);
    }

    #[test]
    fn a_run_that_is_stopped_keeps_what_it_had() {
        let (outcome, _) = judged(Evidence::Time, Verdict::skipped("the run was stopped"));
        assert!(matches!(outcome.verdict, Verdict::Fail(_)));
        assert_eq!(outcome.tries.tries, 1);
    }
}
