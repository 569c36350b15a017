//! A request that was never whole changes nothing: another one, which reads the state, shows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trust_cli::text::grouped;

use super::cuts::{cuts_at_most, ranges};
use crate::case::{Case, Isolation, Needs};
use crate::exchange::difference::shown;
use crate::exchange::learned::{Learned, LearnedExchange};
use crate::learning;
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Finding, Judged, Verdict};
use crate::wire::{ConnectionEnd, Wire};

/// Cuts at most, spread over the request, and of a quick run. Each needs two connections.
const CUTS_MAX: usize = 32;
const CUTS_MAX_QUICK: usize = 8;

/// Longest time after a whole request until its effect shows.
const LATE_MAX: Duration = Duration::from_millis(500);

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "effect/1",
        title: "a request that is cut by a FIN is not executed",
        requirement: "A part of a request changes nothing: what was not sent may have changed its \
                      meaning",
        source: "docs/PROTOCOL.md (truncated_frame); RFC 9112, 8; CWE-444",
        bug: "what has come of a request is taken for all of it when the stream ends",
        needs: Needs::Effect,
        isolation: Isolation::Alone,
        run: |trial| cut_everywhere(trial, CutBy::Fin),
    },
    Case {
        id: "effect/2",
        title: "a request that is cut by a RST is not executed",
        requirement: "A part of a request changes nothing: what was not sent may have changed its \
                      meaning",
        source: "RFC 9293, 3.5.2; recv(2) (ECONNRESET)",
        bug: "the path of errors acts upon what is in the buffer, or it was acted upon before the \
              request was whole",
        needs: Needs::Effect,
        isolation: Isolation::Alone,
        run: |trial| cut_everywhere(trial, CutBy::Reset),
    },
];

/// How a client leaves in the middle of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CutBy {
    Fin,
    Reset,
}

/// The state of a server, as another request shows it.
struct State<'l> {
    learned: &'l Learned,
    change: Arc<LearnedExchange>,
    read: Arc<LearnedExchange>,
    /// Whether the server ends a connection soon after the client's FIN.
    ends: bool,
    /// How long it may take after a request until the state shows what was executed.
    delay: Duration,
}

/// The parts that were executed.
struct Executed {
    /// How many parts were sent.
    parts: usize,
    /// The lengths of those that changed the state, in bytes.
    places: Vec<usize>,
    /// What the first of them changed.
    effect: String,
}

fn cut_everywhere(trial: &mut CaseTrial<'_>, by: CutBy) -> Judged {
    let Some(learned) = &trial.setup.exchanges else { return Err(no_effect()) };
    let effect = learned.protocol.effect.as_ref().ok_or_else(no_effect)?;
    let (change, read) = (learned.unanswered(&effect.change), learned.unanswered(&effect.read));
    let mut state = State { learned, change, read, ends: true, delay: trial.setup.settle };
    let now = state.calibrated(trial).map_err(not_read)?;
    let request = state.change.request(learned.next_copy());
    // What lacks nothing but the LF after a CR lacks nothing that has a meaning.
    let len =
        request.strip_suffix(b"\n").filter(|it| it.ends_with(b"\r")).unwrap_or(&request).len();
    if let Some(executed) = state.executed_parts(trial, by, &now, len)? {
        let what = match by {
            CutBy::Fin => "a FIN",
            CutBy::Reset => "a RST",
        };
        let (change, read) = (state.change.name(), state.read.name());
        let Executed { parts, places, effect } = executed;
        return Err(Verdict::fail_by(
            Evidence::Bytes,
            format!("{read} shows the same state after a part of {change}"),
            format!(
                "{} of {parts} parts were executed: {what} after {} of {}; in the answer to {read} \
                 after the first of them, {effect}",
                places.len(),
                ranges(&places),
                grouped(len as u64)
            ),
        ));
    }
    // What is whole still is executed.
    let last = state.read(trial)?;
    if !state.is_same(&now, &last) {
        return Err(Verdict::inconclusive(
            "the state changed, but only after the last part: something may be executed late",
        ));
    }
    match state.is_same(&last, &state.read_after_change(trial)?) {
        false => Ok(Verdict::Pass),
        true => Err(Verdict::inconclusive(
            "a whole request no longer changes anything, so that nothing was shown",
        )),
    }
}

impl State<'_> {
    /// Two whole requests change it, each of them, and nothing else does.
    fn calibrated(&mut self, trial: &mut CaseTrial<'_>) -> Judged<Vec<u8>> {
        let mut now = self.read(trial)?;
        for _ in 0..2 {
            now = self.changed(trial, &now)?;
        }
        trial.pause(self.delay)?;
        let again = self.read(trial)?;
        match self.is_same(&now, &again) {
            true => Ok(now),
            false => Err(Verdict::inconclusive(format!(
                "the answer to {} differs each time (ignore says what may differ)",
                self.read.name()
            ))),
        }
    }

    /// The state after a whole request, once it differs from `before`.
    fn changed(&mut self, trial: &mut CaseTrial<'_>, before: &[u8]) -> Judged<Vec<u8>> {
        self.asked(trial, &self.change)?;
        let began = Instant::now();
        loop {
            let then = self.read(trial)?;
            if !self.is_same(before, &then) {
                self.delay = self.delay.max(2 * began.elapsed());
                return Ok(then);
            }
            if began.elapsed() >= LATE_MAX {
                let (change, read) = (self.change.name(), self.read.name());
                return Err(Verdict::skipped(format!(
                    "the answer to {read} is the same before and after {change}: {} ({{n}} in it \
                     makes copies that differ, unless ignore hides it)",
                    shown(&then)
                )));
            }
            trial.pause(trial.setup.settle / 4)?;
        }
    }

    /// The parts of requests of that length that change the state, which is `now`; `None` if there
    /// are none.
    fn executed_parts(
        &mut self,
        trial: &mut CaseTrial<'_>,
        by: CutBy,
        now: &[u8],
        len: usize,
    ) -> Judged<Option<Executed>> {
        let most = if trial.setup.is_quick { CUTS_MAX_QUICK } else { CUTS_MAX };
        let cuts: Vec<usize> = cuts_at_most(most, 1..len).collect();
        let (mut now, mut executed) = (now.to_vec(), None);
        for at in &cuts {
            let mut then = self.read_after_cut(trial, *at, by)?;
            if self.is_same(&now, &then) {
                continue;
            }
            let effect = self.read.difference(&now, &then).unwrap_or_default();
            if executed.is_none() {
                // Another client may have changed it: then it does not change again.
                now = self.read_after_change(trial)?;
                then = self.read_after_cut(trial, *at, by)?;
                if self.is_same(&now, &then) {
                    return Err(Verdict::inconclusive(format!(
                        "the state changed after a part of {} bytes, and not again after another \
                         one",
                        grouped(*at as u64)
                    )));
                }
            }
            let first = Executed { parts: cuts.len(), places: vec![], effect };
            executed.get_or_insert(first).places.push(*at);
            // Parts of two copies may be the same.
            now = self.read_after_change(trial)?;
        }
        Ok(executed)
    }

    fn is_same(&self, one: &[u8], other: &[u8]) -> bool {
        self.read.kept(one) == self.read.kept(other)
    }

    /// The answer that shows the state.
    fn read(&self, trial: &mut CaseTrial<'_>) -> Judged<Vec<u8>> {
        self.asked(trial, &self.read)
    }

    /// The same after a whole request that changes it.
    fn read_after_change(&self, trial: &mut CaseTrial<'_>) -> Judged<Vec<u8>> {
        self.asked(trial, &self.change)?;
        trial.pause(self.delay)?;
        self.read(trial)
    }

    /// The same after a part of such a request.
    fn read_after_cut(
        &mut self,
        trial: &mut CaseTrial<'_>,
        at: usize,
        by: CutBy,
    ) -> Judged<Vec<u8>> {
        self.cut(trial, at, by)?;
        trial.pause(self.delay)?;
        self.read(trial)
    }

    fn asked(&self, trial: &mut CaseTrial<'_>, what: &Arc<LearnedExchange>) -> Judged<Vec<u8>> {
        let mut wire = trial.connect()?;
        let answer = learning::answer_to(trial.setup, &mut wire, what, self.learned)?;
        wire.close();
        Ok(answer)
    }

    /// Sends a part of another copy and leaves. What the server answers is for other cases.
    fn cut(&mut self, trial: &mut CaseTrial<'_>, at: usize, by: CutBy) -> Judged<()> {
        let request = self.change.request(self.learned.next_copy());
        let part = &request[..at.min(request.len())];
        let mut wire: Wire<'_> = trial.connect()?;
        let is_secret = self.change.is_secret();
        match by {
            CutBy::Fin => {
                wire.sending_secret(is_secret, |wire| wire.try_send(part, trial.setup.patience))?;
                wire.finish();
                let patience: Duration =
                    if self.ends { trial.setup.prompt() } else { trial.setup.settle };
                self.ends = wire.drain(patience)?.1 != ConnectionEnd::Open;
                wire.close();
            }
            CutBy::Reset => {
                // The server is to have read it.
                let _ = wire.sending_secret(is_secret, |wire| wire.send_piece(part))?;
                wire.reset();
            }
        }
        Ok(())
    }
}

/// Nothing was cut yet: what is wrong is for the file, or for other cases.
fn not_read(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Fail(Finding { expected, got, .. }) => {
            Verdict::inconclusive(format!("instead of {expected}: {got}"))
        }
        other => other,
    }
}

fn no_effect() -> Verdict {
    Verdict::skipped(Needs::Effect.lacking())
}
