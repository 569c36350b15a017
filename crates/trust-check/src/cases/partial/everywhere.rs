//! A request that is cut in two at each of its places.

use std::thread;
use std::time::Duration;

use trust_cli::text::grouped;

use crate::cases::cuts::{cuts_at_most, ranges};
use crate::request::Request;
use crate::trial::CaseTrial;
use crate::verdict::{Finding, Judged, Verdict};
use crate::wire::Wire;

/// Cuts at most, spread over the request, and of a quick run.
const CUTS_MAX: usize = 64;
const CUTS_MAX_QUICK: usize = 12;

/// Cuts that are tried at the same time: few, as a server may do otherwise under load.
const LANES: usize = 2;

/// How long an answer is waited for once a cut has failed: all that is still to be found is where
/// else it does.
const KNOWN_PATIENCE: Duration = Duration::from_millis(300);

/// A cut that failed, and how.
#[derive(Clone)]
struct FailedCut {
    at: usize,
    finding: Finding,
}

/// Cuts the request everywhere. The cuts that fail are one finding.
pub(super) fn request_cut(trial: &mut CaseTrial<'_>) -> Judged {
    let message = trial.message(0);
    let most = if trial.setup.is_quick { CUTS_MAX_QUICK } else { CUTS_MAX };
    let places: Vec<usize> = cuts_at_most(most, 1..message.bytes.len()).collect();
    if places.is_empty() {
        return Ok(Verdict::skipped("a request of one byte comes in one piece"));
    }
    let lanes = if trial.setup.one_at_a_time { 1 } else { LANES.min(trial.setup.together(LANES)) };
    let work: Vec<Vec<(usize, Request, u32)>> = (0..lanes)
        .map(|lane| {
            let own: Vec<usize> = places.iter().copied().skip(lane).step_by(lanes).collect();
            let names = trial.reserve(own.len());
            own.into_iter().zip(names).map(|(at, name)| (at, trial.message(0), name)).collect()
        })
        .collect();
    let shared = &*trial;
    let mut failed = thread::scope(|scope| {
        let running: Vec<_> =
            work.iter().map(|cuts| scope.spawn(|| try_cuts(shared, cuts))).collect();
        let all = running.into_iter().map(|lane| lane.join().expect("a lane does not panic"));
        all.collect::<Judged<Vec<_>>>()
    })?
    .concat();
    failed.sort_by_key(|cut| cut.at);
    let Some(first) = failed.first() else { return Ok(Verdict::Pass) };
    let at: Vec<usize> = failed.iter().map(|cut| cut.at).collect();
    let count = grouped(places.len() as u64);
    let share = match failed.len() == places.len() {
        true => format!("all {count} cuts failed"),
        false => format!("{} of {count} cuts failed, after {}", failed.len(), ranges(&at)),
    };
    let Finding { expected, got, evidence, seen } = first.finding.clone();
    Err(Verdict::Fail(Finding {
        expected,
        got: format!("{share}; at the first of them, after byte {}, {got}", first.at),
        evidence,
        seen,
    }))
}

/// Tries these cuts one after the other, and goes on with a new connection after one that failed.
fn try_cuts(trial: &CaseTrial<'_>, cuts: &[(usize, Request, u32)]) -> Judged<Vec<FailedCut>> {
    let mut failed = vec![];
    let mut open: Option<Wire<'_>> = None;
    for (at, message, name) in cuts {
        let mut wire = match open.take() {
            Some(wire) => wire,
            None => trial.connect_as(*name)?,
        };
        if !failed.is_empty() {
            wire.be_patient_for(KNOWN_PATIENCE);
        }
        let (before, after) = message.bytes.split_at(*at);
        let sent = wire.send_apart([before, after]);
        let answered = sent.and_then(|()| wire.expect_answers(&[message]));
        let answered = answered.and_then(|()| wire.expect_nothing_else());
        if answered.is_ok() {
            trial.transcript().make_room(wire.number());
        }
        match answered {
            Ok(()) if message.is_repeatable() => open = Some(wire),
            Ok(()) => {}
            Err(Verdict::Fail(finding)) => failed.push(FailedCut { at: *at, finding }),
            Err(other) => return Err(other),
        }
    }
    Ok(failed)
}
