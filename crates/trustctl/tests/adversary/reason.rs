//! Whether a reason is possible: who did what before it was decided.

use std::time::Duration;

use trust_sim::model::Tail;

use super::host::Fault;
use super::verdict::{Case, ensure};
use super::watch::Span;

impl Case<'_> {
    /// Checks that there is a moment at which the reason can have been right.
    pub(crate) fn check_reason(&self) -> Result<(), String> {
        let history = self.history;
        let (_, by) = self.logged.decided;
        let by = by + self.early;
        let limits = &self.played.script.limits;
        let bytes_in = self.count("bytes_in");
        let began = |span: Option<Span>| span.is_some_and(|span| span.from <= by);
        let has_fin = began(history.fin) && bytes_in == history.sent_total();
        let tails = self.tails(bytes_in);
        let is_cut_off = began(history.disturbed);
        let may_stall = self.patience().is_some_and(|patience| self.may_stall(patience));
        let is_possible = match self.reason() {
            "peer_fin" => has_fin && tails.contains(&Tail::Nothing),
            "truncated_frame" => has_fin && tails.iter().any(|tail| self.is_told(tail)),
            "frame_too_large" => tails.iter().any(|tail| self.is_told(tail)),
            // Silence is not judged while an answer is in flight.
            "recv_timeout" => limits.timeout.is_some() && self.stuck_in().is_none(),
            "frame_timeout" => {
                let is_unfinished = |tail: &Tail| matches!(tail, Tail::Unfinished { .. });
                limits.frame_timeout.is_some() && tails.iter().any(is_unfinished)
            }
            "max_lifetime" => limits.max_lifetime.is_some(),
            "drain" | "drain_timeout" => self.played.told_to_stop.from <= by,
            "second_signal" => began(self.played.told_again),
            "send_timeout" => {
                let is_told = self.stuck_in() == Some(Fault::Unreachable);
                may_stall && !(is_told && history.reads_freely_until(by))
            }
            "client_unreachable" => {
                let says_so = history.outage.is_some_and(|outage| outage.unreachable);
                may_stall && says_so && is_cut_off
            }
            // Anything after a FIN that arrived is another error.
            "client_reset" => {
                began(history.may_reset)
                    && (!history.half_closed || is_cut_off || bytes_in < history.sent_total())
            }
            "broken_pipe" => began(history.may_reset) && began(history.fin),
            _ => false,
        };
        ensure(is_possible, || format!("{:?}, with {tails:?}", self.logged.events))
    }

    /// Whether something can have held back acknowledgements for all of `timeout`.
    fn may_stall(&self, timeout: Duration) -> bool {
        let (at, _) = self.logged.decided;
        let since = at.saturating_sub(timeout) + self.under_way;
        let was_hindered =
            !self.history.is_healthy_until(at) || !self.history.reads_freely_during(since, at);
        self.count("bytes_out") > 0 && was_hindered
    }

    /// The fault that certainly swallowed an answer and still lasted when the reason was decided.
    fn stuck_in(&self) -> Option<Fault> {
        let history = self.history;
        let (_, by) = self.logged.decided;
        let begun = history.disturbed?.to;
        let fault = match (history.outage, history.vanished) {
            (None, true) if history.may_reset.is_none_or(|span| span.from > by + self.early) => {
                Fault::Gone
            }
            (Some(outage), false) if outage.over.from > by + self.early => {
                Fault::outage(outage.unreachable)
            }
            _ => return None,
        };
        let before = self.answer(history.maybe_sent_by(begun), usize::MAX);
        (self.count("bytes_out") > before).then_some(fault)
    }

    /// Whether an event reports what the model knows about that tail.
    fn is_told(&self, tail: &Tail) -> bool {
        let mut events = self.logged.events.iter().rev();
        let name = self.reason();
        let Some(event) = events.find(|event| event.name() == name) else { return false };
        match *tail {
            Tail::Unfinished { have, need, .. } => {
                let told = event
                    .has("have_bytes")
                    .then(|| (event.count("have_bytes"), event.count("need_bytes")));
                told == Some((have as u64, need as u64))
            }
            Tail::TooLarge { declared } => {
                event.has("declared_bytes") && event.count("declared_bytes") == u64::from(declared)
            }
            Tail::Nothing => false,
        }
    }

    /// The possible tails after the last answered frame. With the fence of a drain or of an old
    /// connection there may be none although bytes have come.
    pub(crate) fn tails(&self, bytes_in: usize) -> Vec<Tail> {
        let mut tails = vec![self.model.tail(bytes_in, usize::MAX)];
        let (_, by) = self.logged.decided;
        if self.may_be_fenced(by) {
            tails.push(Tail::Nothing);
        }
        tails
    }

    /// Whether a drain, or the age of the connection, can have set a fence by then.
    pub(crate) fn may_be_fenced(&self, by: Duration) -> bool {
        let life = self.played.script.limits.max_lifetime;
        let is_old = life.is_some_and(|life| by + self.early >= self.logged.accepted + life);
        is_old || by + self.early >= self.played.told_to_stop.from
    }
}
