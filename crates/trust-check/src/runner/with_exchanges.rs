//! A case with each of the exchanges that it is for.

use std::sync::Arc;

use trust_cli::text::count;

use crate::allowance;
use crate::case::{Case, DECLARING, LONG_ANSWER, ONE_EXCHANGE};
use crate::exchange::learned::{Learned, LearnedExchange};
use crate::runner::{FIRST, again};
use crate::setup::Unlearned;
use crate::trial::CaseTrial;
use crate::verdict::{CHANGED, Evidence, Finding, Judged, Verdict};

/// Whether the case is about the bytes of an exchange, so that each of them is tried. Others are
/// about connections, and one exchange does as well as another.
fn is_about_bytes(case: &Case) -> bool {
    match case.group() {
        "framing" | "partial" | "pipelining" => true,
        // Nothing is sent in it.
        "half-close" => case.id != "half-close/6",
        "closing" => !matches!(case.id, "closing/9" | "closing/10"),
        _ => false,
    }
}

/// Tries the case with each exchange that it is for, until something is wrong. Returns the trial,
/// with the transcript, too.
pub(super) fn judge<'s>(
    mut trial: CaseTrial<'s>,
    learned: &Learned,
    case: &'static Case,
) -> (CaseTrial<'s>, Verdict) {
    if let Some(Unlearned { why, transcript, is_all }) = &trial.setup.unlearned
        && (*is_all || case.id == FIRST)
    {
        return (trial.with_transcript(transcript), why.clone());
    }
    let (mut judged, mut tried) = (None, 0);
    let most = if trial.setup.is_quick && case.id != FIRST { EXCHANGES_QUICK } else { usize::MAX };
    for exchanges in draws(learned, case, trial.setup.is_quick) {
        let name = exchanges[0].name().to_owned();
        trial = trial.drawing_from(exchanges);
        let verdict = (case.run)(&mut trial).unwrap_or_else(|verdict| verdict);
        let verdict = match is_about_bytes(case) {
            true => named(verdict, &name, learned.exchanges.len()),
            false => verdict,
        };
        let verdict = match verdict {
            Verdict::Fail(_) => match waits_beside(&trial, case, &verdict) {
                Some(verdict) => verdict,
                None => bracketed(&trial, learned, verdict),
            },
            other => other,
        };
        let verdict = allowance::judge(case, &learned.protocol.allow, verdict);
        tried += usize::from(!matches!(verdict, Verdict::Skipped(_)));
        judged = Some(match judged {
            Some(before) if weight(&before) >= weight(&verdict) => before,
            _ => verdict,
        });
        let has_failed = judged.as_ref().is_some_and(|judged| matches!(judged, Verdict::Fail(_)));
        if has_failed || tried == most {
            break;
        }
    }
    let none = || Verdict::skipped("no exchange can be repeated on a connection");
    (trial, judged.unwrap_or_else(none))
}

/// Exchanges that a case is tried with in a quick run. Other cases are tried with others.
const EXCHANGES_QUICK: usize = 2;

/// The exchanges that the case is tried with: for each try those that its messages are copies of.
fn draws(learned: &Learned, case: &Case, is_quick: bool) -> Vec<Vec<Arc<LearnedExchange>>> {
    if DECLARING.contains(&case.id)
        && let Some((exchange, _)) = learned.declaring()
    {
        return vec![vec![exchange]];
    }
    let mut draws: Vec<Vec<Arc<LearnedExchange>>> = match ONE_EXCHANGE.contains(&case.id) {
        true => learned.exchanges.iter().map(|exchange| vec![Arc::clone(exchange)]).collect(),
        false => {
            let repeatable = learned.repeatable();
            let from = |first: usize| [&repeatable[first..], &repeatable[..first]].concat();
            (0..repeatable.len()).map(from).collect()
        }
    };
    if is_quick && !draws.is_empty() && case.id != FIRST {
        let count = draws.len();
        draws.rotate_left(case.number() % count);
    }
    if !is_about_bytes(case) {
        let is_long = |draw: &Vec<Arc<LearnedExchange>>| draw[0].is_long();
        if LONG_ANSWER.contains(&case.id)
            && let Some(place) = draws.iter().position(is_long)
        {
            draws.swap(0, place);
        }
        draws.truncate(1);
    }
    draws
}

/// What to say if a case with several clients took too long because the server serves fewer at a
/// time and lets others wait, whatever they do. That is shown with nothing else on. `limits/5` is
/// about it, so it judges that itself.
fn waits_beside(trial: &CaseTrial<'_>, case: &Case, failure: &Verdict) -> Option<Verdict> {
    let is_late = matches!(failure, Verdict::Fail(Finding { evidence: Evidence::Time, .. }));
    if !is_late || !again::needs_several(case) {
        return None;
    }
    let mut alone = CaseTrial::new(trial.setup, trial.id, None);
    again::served_at_once(&mut alone).map(again::serves_fewer)
}

/// Whole requests in turn on one connection, after a case that had as many of them or more.
const IN_TURN_MAX: usize = 256;

/// A failure counts between whole exchanges that were right: each of them alone, and then again and
/// again on one connection, as often as the case had asked. If one is answered differently now, the
/// server has changed, or takes no more on a connection, and nothing is shown.
fn bracketed(trial: &CaseTrial<'_>, learned: &Learned, failure: Verdict) -> Verdict {
    // With a transcript of its own: what went wrong is to be seen.
    let mut after = CaseTrial::new(trial.setup, trial.id, None);
    let mut is_answered = true;
    for exchange in &learned.exchanges {
        let now = after.exchange_whole(exchange);
        is_answered &= now.is_ok();
        if let Some(got) = answered_differently(&now) {
            let said = format!("{} {CHANGED}: {got}", exchange.name());
            return not_shown(learned, failure, &said, now);
        }
    }
    let asked = match &failure {
        Verdict::Fail(Finding { seen: Some(seen), .. }) => seen.asked.min(IN_TURN_MAX),
        _ => 1,
    };
    let repeated = learned.repeatable().into_iter().filter(|_| asked > 1);
    for exchange in repeated {
        let after = CaseTrial::new(trial.setup, trial.id, None);
        let (answered, now) = in_turn(after.drawing_from(vec![Arc::clone(&exchange)]), asked);
        if let Some(got) = answered_differently(&now) {
            let said = format!(
                "{} is answered differently when a connection asks it again, in one piece and \
                 after {}: {got} (goodbye in [allow] says what comes at a limit)",
                exchange.name(),
                count(answered as u64, "right answer")
            );
            return not_shown(learned, failure, &said, now);
        }
    }
    if is_answered {
        trial.note("asked in one piece after that, it answers as before");
    }
    failure
}

/// Asks that many whole requests on one connection, each after the answer to the one before, and
/// returns how many were answered.
fn in_turn(mut after: CaseTrial<'_>, most: usize) -> (usize, Judged<()>) {
    let mut answered = 0;
    let asked = after.connect().and_then(|mut wire| {
        while answered < most {
            let message = after.message(0);
            wire.send_request(&message)?;
            wire.expect_answers(&[&message])?;
            answered += 1;
        }
        Ok(())
    });
    (answered, asked)
}

/// What came instead of a right answer, if bytes show that, and not that there was no room.
fn answered_differently(now: &Judged<()>) -> Option<&str> {
    let Err(Verdict::Fail(Finding { got, evidence, seen, .. })) = now else { return None };
    let has_come = seen.as_ref().is_some_and(|seen| !seen.rest.is_empty());
    match evidence {
        Evidence::Bytes | Evidence::Death => Some(got),
        Evidence::Refusal { beside: 0 } if has_come => Some(got),
        _ => None,
    }
}

/// What a failure is worth after which whole requests are answered differently too.
fn not_shown(learned: &Learned, failure: Verdict, said: &str, now: Judged<()>) -> Verdict {
    match now {
        // The server has not changed: it mixes up its clients.
        Err(Verdict::Fail(Finding { seen: Some(seen), .. }))
            if learned.is_answer_to_a_copy(&seen.rest) =>
        {
            failure.followed_by(&format!(
                "; {said}, which is the answer to a request of another connection"
            ))
        }
        _ => Verdict::inconclusive(said),
    }
}

/// Which of two verdicts says more.
fn weight(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Skipped(_) => 0,
        Verdict::Pass => 1,
        Verdict::Info(_) => 2,
        Verdict::Allowed(_) => 3,
        Verdict::Inconclusive(_) => 4,
        Verdict::Warn(_) => 5,
        Verdict::Fail(_) => 6,
    }
}

/// The verdict with the exchange that it is about, where there are several.
fn named(verdict: Verdict, name: &str, count: usize) -> Verdict {
    let with_name = |said: String| format!("{name}: {said}");
    match verdict {
        verdict if count < 2 => verdict,
        Verdict::Fail(Finding { expected, got, evidence, seen }) => {
            Verdict::Fail(Finding { expected, got: with_name(got), evidence, seen })
        }
        Verdict::Warn(Finding { expected, got, evidence, seen }) => {
            Verdict::Warn(Finding { expected, got: with_name(got), evidence, seen })
        }
        Verdict::Allowed(said) => Verdict::Allowed(with_name(said)),
        Verdict::Info(said) => Verdict::Info(with_name(said)),
        Verdict::Inconclusive(said) => Verdict::Inconclusive(with_name(said)),
        other => other,
    }
}
