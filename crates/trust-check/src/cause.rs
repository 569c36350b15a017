//! A common cause of several findings: the server is not what it was said to be.

use std::time::{Duration, Instant};

use trust_cli::framing::Framing;
use trust_cli::own_host::is_on_this_host;
use trust_cli::text::{count, grouped, seconds};

use crate::cases::timing::is_in_time;
use crate::outcome::CaseOutcome;
use crate::setup::Setup;
use crate::transcript::Transcript;
use crate::trial::CaseTrial;
use crate::verdict::{CHANGED, Evidence, Finding, Judged, Verdict};
use crate::wire::Wire;

/// Longest wait for what a server does with a length, unless the run's patience is shorter.
const TRY_MAX: Duration = Duration::from_millis(300);

/// Longest time to find a limit by halving: a silent server takes the longest wait for each try.
const HALVING_MAX: Duration = Duration::from_secs(6);

/// Longest wait for an idle timeout that is not the one that was said.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// Cases that send long messages, which a smaller limit fails.
const LONG: [&str; 14] = [
    "framing/4",
    "framing/5",
    "framing/12",
    "framing/13",
    "partial/9",
    "pipelining/5",
    "pipelining/6",
    "pipelining/7",
    "pipelining/8",
    "pipelining/9",
    "pipelining/10",
    "half-close/3",
    "limits/3",
    "timing/8",
];

/// Cases that want a length above the limit to be refused.
const REFUSED: [&str; 10] = [
    "framing/6",
    "framing/7",
    "framing/8",
    "framing/9",
    "framing/15",
    "framing/16",
    "framing/17",
    "framing/18",
    "closing/4",
    "closing/12",
];

/// Cases about the timeout for silent clients.
const IDLE: [&str; 5] = ["timing/1", "timing/2", "timing/3", "timing/7", "timing/9"];

/// Cases with empty messages among others.
const EMPTY: [&str; 4] = ["framing/2", "framing/13", "pipelining/4", "pipelining/5"];

/// Cases in which a request comes in pieces.
const IN_PIECES: [&str; 12] = [
    "partial/1",
    "partial/2",
    "partial/4",
    "partial/5",
    "partial/6",
    "partial/7",
    "partial/8",
    "partial/12",
    "pipelining/3",
    "timing/4",
    "recovery/7",
    "recovery/12",
];

/// Cases in which several requests, or one and a part of another, come together.
const TOGETHER: [&str; 15] = [
    "partial/5",
    "partial/7",
    "pipelining/1",
    "pipelining/2",
    "pipelining/3",
    "pipelining/7",
    "pipelining/8",
    "pipelining/9",
    "pipelining/14",
    "pipelining/15",
    "half-close/2",
    "half-close/3",
    "half-close/4",
    "half-close/5",
    "closing/13",
];

/// A cause, and the findings that it explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What it is, with the flag that says so, if there is one.
    pub text: String,
    /// Cases that failed or warned for it; none where it is an observation alone.
    pub cases: Vec<&'static str>,
}

/// Finds what explains several findings, as far as possible.
///
/// # Errors
///
/// Only when the run is to end.
pub fn find(trial: &mut CaseTrial<'_>, outcomes: &[CaseOutcome]) -> Judged<Vec<Cause>> {
    let mut causes = vec![];
    let mut add = |text: Option<String>, cases: Vec<&'static str>| {
        causes.extend(text.map(|text| Cause { text, cases }));
    };
    let is_echo = trial.setup.exchanges.is_none();
    let long = failed(outcomes, &LONG);
    if is_echo && long.len() > 1 && (long.contains(&"framing/4") || long.contains(&"framing/5")) {
        add(smaller_limit(trial)?, long);
    }
    let refused = failed(outcomes, &REFUSED);
    if refused.len() > 1 && refused.contains(&"framing/6") {
        let text = match is_echo {
            true => larger_limit(trial.setup)?,
            false => Some("the request of [refused] is not refused as it has to be".to_owned()),
        };
        add(text, refused);
    }
    let changed = changed(outcomes);
    if changed.len() > 1 {
        let text = "whole requests are answered differently than at the beginning of the run";
        add(Some(text.to_owned()), changed);
    }
    let idle = failed(outcomes, &IDLE);
    if idle.len() > 1 {
        add(other_timeout(trial)?, idle);
    }
    let empty = failed(outcomes, &EMPTY);
    if is_echo && empty.len() > 1 && empty.contains(&"framing/2") {
        add(Some("an empty message is not answered like any other".to_owned()), empty);
    }
    let in_pieces = failed(outcomes, &IN_PIECES);
    if !is_echo && in_pieces.len() > 1 && in_pieces.contains(&"partial/6") {
        let text = "a request that comes in pieces is not answered as it is in one piece";
        add(Some(text.to_owned()), in_pieces);
    }
    let together = failed(outcomes, &TOGETHER);
    if !is_echo && together.len() > 1 && lacks_an_answer(outcomes, "pipelining/1") {
        add(Some("not all requests of one segment are answered".to_owned()), together);
    }
    let resets: Vec<&str> = outcomes.iter().filter(is_reset).map(|it| it.case.id).collect();
    if resets.len() > 1 {
        let text =
            "it ends connections with RST where a FIN would do (--reset says what that means)";
        add(Some(text.to_owned()), resets);
    }
    let half_closes = only_half_closes(outcomes);
    if !half_closes.is_empty() && !is_on_this_host(&trial.setup.address) {
        let text = "the server, or a box between, does not keep half-close: it ends the connection \
                    when the client has finished sending (a check on the server's own host shows \
                    which)";
        add(Some(text.to_owned()), half_closes);
    }
    let slow = trial.setup.rate.slow_connects();
    if slow > 0 {
        let text = format!(
            "{} took about a second or more, as the accept queue was full (the backlog of listen)",
            if slow == 1 { "1 connect".to_owned() } else { format!("{} connects", grouped(slow)) }
        );
        add(Some(text), vec![]);
    }
    if let Some(served) = trial.setup.rate.served_at_once() {
        let clients = count(served, "client");
        let text = format!(
            "it serves {clients} at a time, and lets others wait (--max-clients says its limit)"
        );
        add(Some(text), vec![]);
    }
    if let Some(beside) = trial.setup.rate.turned_away_beside() {
        let text = format!(
            "it turned a client away beside {beside} others (--max-clients says its limit)"
        );
        add(Some(text), vec![]);
    }
    Ok(causes)
}

/// The cases about half-close that failed, if no others did.
fn only_half_closes(outcomes: &[CaseOutcome]) -> Vec<&'static str> {
    let failed = outcomes.iter().filter(|it| matches!(it.verdict, Verdict::Fail(_)));
    let cases: Vec<_> = failed.map(|outcome| outcome.case).collect();
    match cases.iter().all(|case| case.group() == "half-close") {
        true => cases.iter().map(|case| case.id).collect(),
        false => vec![],
    }
}

fn failed(outcomes: &[CaseOutcome], ids: &[&str]) -> Vec<&'static str> {
    // A case that kills the server shows no limit of it.
    let has_failed =
        |it: &Verdict| matches!(it, Verdict::Fail(it) if it.evidence != Evidence::Death);
    let is_one = |it: &&CaseOutcome| has_failed(&it.verdict) && ids.contains(&it.case.id);
    outcomes.iter().filter(is_one).map(|outcome| outcome.case.id).collect()
}

/// Cases of which nothing is known, as the server has changed meanwhile.
fn changed(outcomes: &[CaseOutcome]) -> Vec<&'static str> {
    let is_so = |it: &&CaseOutcome| match &it.verdict {
        Verdict::Inconclusive(why) => why.contains(CHANGED),
        _ => false,
    };
    outcomes.iter().filter(is_so).map(|outcome| outcome.case.id).collect()
}

/// Whether the case failed because an answer did not come, and not because another one did.
fn lacks_an_answer(outcomes: &[CaseOutcome], id: &str) -> bool {
    let outcome = outcomes.iter().find(|outcome| outcome.case.id == id);
    matches!(
        outcome.map(|outcome| &outcome.verdict),
        Some(Verdict::Fail(Finding { seen: Some(seen), .. })) if seen.rest.is_empty() || seen.is_cut
    )
}

fn is_reset(outcome: &&CaseOutcome) -> bool {
    let is_so = |finding: &Finding| finding.evidence == Evidence::Reset;
    matches!(&outcome.verdict, Verdict::Fail(finding) | Verdict::Warn(finding) if is_so(finding))
}

/// The longest message that comes back, if that is less than the limit that was said.
fn smaller_limit(trial: &mut CaseTrial<'_>) -> Judged<Option<String>> {
    let said = trial.setup.payload_len(u64::MAX) as u64;
    let (mut right, mut wrong, since) = (trial.setup.payload_min(), said, Instant::now());
    while right + 1 < wrong && since.elapsed() < HALVING_MAX {
        let middle = right + (wrong - right) / 2;
        match comes_back(trial, middle)? {
            true => right = middle,
            false => wrong = middle,
        }
    }
    let is_found = right + 1 >= wrong && wrong <= said && comes_back(trial, right)?;
    Ok(is_found.then(|| {
        format!(
            "the longest message that comes back has {} bytes, not {}: --max-frame {right}",
            grouped(right),
            grouped(said)
        )
    }))
}

fn comes_back(trial: &mut CaseTrial<'_>, len: u64) -> Judged<bool> {
    let message = trial.message(len);
    let frame = &message.bytes;
    let patience = TRY_MAX.min(trial.setup.patience);
    let Ok(mut wire) = trial.connect() else { return Ok(false) };
    let mut got = vec![];
    wire.send_receiving(frame, &mut got, patience)?;
    while got.len() < frame.len() && wire.receive_into(&mut got, frame.len(), patience)? {}
    Ok(got == *frame)
}

/// The longest message that is not refused, if that is more than the limit that was said.
fn larger_limit(setup: &Setup) -> Judged<Option<String>> {
    let Framing::Length(format) = setup.framing else { return Ok(None) };
    let most = format.max_payload();
    match is_refused(setup, most)? {
        Some(true) => {}
        Some(false) => {
            return Ok(Some(format!(
                "it refuses no length, not even {}: --max-frame none",
                grouped(most)
            )));
        }
        None => return Ok(None),
    }
    let (mut taken, mut refused, since) = (setup.max_frame.saturating_add(1), most, Instant::now());
    while taken + 1 < refused && since.elapsed() < HALVING_MAX {
        let middle = taken + (refused - taken) / 2;
        match is_refused(setup, middle)? {
            Some(true) => refused = middle,
            Some(false) => taken = middle,
            None => return Ok(None),
        }
    }
    Ok((taken + 1 >= refused).then(|| {
        format!(
            "it refuses lengths above {}, not {}: --max-frame {taken}",
            grouped(taken),
            grouped(setup.max_frame)
        )
    }))
}

/// Whether the server ends the connection because of a header with that length. `None` if it
/// accepts no connection: the last one may have killed it, and then no limit can be found.
fn is_refused(setup: &Setup, len: u64) -> Judged<Option<bool>> {
    let mut header = vec![];
    let Framing::Length(format) = setup.framing else { return Ok(None) };
    if format.encode(len, &mut header).is_err() {
        return Ok(Some(true));
    }
    let Ok(mut wire) = Wire::connect(setup, 1, &Transcript::default()) else { return Ok(None) };
    wire.try_send(&header, TRY_MAX)?;
    wire.receive_into(&mut vec![], 1, TRY_MAX.min(setup.prompt()))?;
    Ok(Some(wire.end().is_some()))
}

/// After how much silence a client that was served is ended, if that is not what was said.
fn other_timeout(trial: &mut CaseTrial<'_>) -> Judged<Option<String>> {
    let Some(said) = trial.setup.timeout else { return Ok(None) };
    let message = trial.message(32);
    let served: Judged<Wire<'_>> = trial.connect().and_then(|mut wire| {
        wire.send(&message.bytes)?;
        wire.expect_answers(&[&message])?;
        Ok(wire)
    });
    let Ok(mut wire) = served else { return Ok(None) };
    let since = Instant::now();
    wire.receive_into(&mut vec![], 1, IDLE_MAX.max(said.mul_f64(1.5)))?;
    let took = since.elapsed();
    if wire.end().is_some() && is_in_time(took, said) {
        return Ok(None);
    }
    let said = seconds(said);
    Ok(Some(match wire.end() {
        Some(_) => format!(
            "silent clients are ended after {:.1} s, not {said}: --timeout {:.1}",
            took.as_secs_f64(),
            took.as_secs_f64()
        ),
        None => format!("silent clients are not ended within {}, let alone {said}", seconds(took)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::outcome::Tries;
    use crate::transcript::Log;

    #[test]
    fn a_case_of_which_the_server_dies_shows_no_limit() {
        let shown_by = |evidence: Evidence| {
            let outcome = |id: &str| CaseOutcome {
                case: cases::all().find(|case| case.id == id).expect("a case"),
                verdict: Verdict::fail_by(evidence, "a", "b"),
                tries: Tries::NONE,
                is_put_off: false,
                is_listed: false,
                hint: None,
                log: Log::default(),
                took: Duration::ZERO,
            };
            failed(&REFUSED.map(outcome), &REFUSED)
        };
        assert_eq!(shown_by(Evidence::Death), [""; 0]);
        assert_eq!(shown_by(Evidence::Time), REFUSED);
    }
}
