//! What is due, and what must not happen yet, as the witness sees it.

use std::time::Duration;

use trust_wire::relay::RelaySide;

use super::{GATE_MAX, ImposedBy, Outstanding, RelayWitness};
use crate::relay::model::{GateKind, ModelGate};

impl RelayWitness {
    /// How many bytes from the source have met the faults of what goes to a side.
    pub(super) fn met(&self, to: RelaySide) -> usize {
        self.side(to).settled.unwrap_or(self.side(to.other()).received)
    }

    /// Bytes that a side is due now.
    pub(super) fn due(&self, to: RelaySide) -> usize {
        self.side(to).model.due(self.met(to))
    }

    /// The next gate of what goes to a side.
    pub(super) fn gate(&self, to: RelaySide) -> Option<ModelGate> {
        let side = self.side(to);
        side.model.gate(side.passed, self.met(to))
    }

    /// Bytes that may have been sent to a side by now.
    pub(super) fn allowed(&self, to: RelaySide) -> usize {
        let until_gate = self.gate(to).map_or(self.due(to), |gate| gate.output);
        self.delayed(to).map_or(until_gate, |(from, _)| from.min(until_gate))
    }

    /// From which byte on a side may not be sent to yet, and when it may.
    pub(super) fn delayed(&self, to: RelaySide) -> Option<(usize, Duration)> {
        self.side(to).timing.next()
    }

    /// Whether neither a gate nor a time has to come.
    pub(super) fn is_free(&self, to: RelaySide) -> bool {
        self.gate(to).is_none() && self.delayed(to).is_none()
    }

    /// Whether a side has bytes to get that are sent at a pace.
    pub(super) fn is_paced(&self, to: RelaySide) -> bool {
        let side = self.side(to);
        let is_open = side.settled.is_none() && side.sent < self.due(to);
        is_open && side.timing.is_paced()
    }

    /// What came out since there were so many bytes is delayed.
    pub(super) fn note_output(&mut self, to: RelaySide, before: usize, with_end: bool) {
        let (met, due, now) = (self.met(to), self.due(to), self.now);
        let side = self.side_mut(to);
        let delays: Vec<_> = side.model.delays(met).collect();
        if delays.is_empty() {
            return;
        }
        let ends = delays.iter().filter_map(|delay| delay.until);
        let mut starts: Vec<usize> = delays.iter().map(|delay| delay.output).chain(ends).collect();
        starts.push(before);
        starts.retain(|start| (before..due).contains(start));
        starts.extend((with_end && !side.model.is_over(met)).then_some(due));
        starts.sort_unstable();
        for start in starts {
            let of_it = delays.iter().filter(|delay| delay.has(start));
            let time: Duration = of_it.map(|delay| delay.time).sum();
            if !time.is_zero() {
                side.timing.delay(start, now + time);
            }
        }
    }

    /// The gate that a side waits at, with everything before it sent.
    pub(super) fn waits_at(&self, to: RelaySide) -> Option<GateKind> {
        self.gate(to).filter(|gate| gate.output == self.side(to).sent).map(|gate| gate.kind)
    }

    pub(super) fn is_stalled(&self, to: RelaySide) -> bool {
        let side = self.side(to);
        let is_stall = matches!(self.waits_at(to), Some(GateKind::Stall(_)));
        let is_delayed = self.delayed(to).is_some_and(|(from, _)| from == side.sent);
        (is_stall || is_delayed) && side.settled.is_none() && !side.is_failing
    }

    /// Whether nothing keeps bytes of a side from being received.
    pub(super) fn may_receive(&self, from: RelaySide) -> bool {
        self.has_room(from.other(), 0) && !self.side(from).is_ended
    }

    /// Whether a receive must not be put off.
    pub(super) fn must_receive(&self, from: RelaySide) -> bool {
        self.has_room(from.other(), GATE_MAX) && !self.side(from).is_ended
    }

    /// Whether there is room for more that comes for a side, if a gate counts for so many bytes.
    pub(super) fn has_room(&self, to: RelaySide, gate_len: usize) -> bool {
        let (side, met) = (self.side(to), self.met(to));
        let held = self.due(to) - side.sent;
        let mut gates = (side.passed..).map_while(|number| side.model.gate(number, met));
        let is_held = gates.any(|gate| gate.kind == GateKind::Hold);
        let gates = (side.passed..).map_while(|number| side.model.gate(number, met)).count();
        let room = if side.model.is_delaying(met) { usize::MAX } else { side.timing.room() };
        side.settled.is_some()
            || held == 0 && self.is_free(to)
            || !is_held && held + gates * gate_len < room
    }

    /// Whether FIN is due for a side.
    pub(super) fn is_fin_due(&self, to: RelaySide) -> bool {
        let side = self.side(to);
        let is_passed_on = self.side(to.other()).fin_received
            && side.sent == self.due(to)
            && self.is_free(to)
            && !side.model.swallows_fin(self.met(to));
        let is_closed =
            self.imposed.is_some_and(|by| by.finishes(to)) && side.sent == self.allowed(to);
        side.settled.is_none()
            && (is_passed_on || is_closed || self.waits_at(to) == Some(GateKind::Finish))
    }

    /// Whether nothing more goes to a side.
    pub(super) fn is_complete(&self, to: RelaySide) -> bool {
        let side = self.side(to);
        let is_swallowed =
            side.model.swallows_fin(self.met(to)) && side.sent == self.due(to) && self.is_free(to);
        self.side(to.other()).fin_received && (side.fin_sent || is_swallowed)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.imposed.is_some()
            || self.failed_first.is_some()
            || RelaySide::BOTH.into_iter().all(|side| self.is_complete(side))
    }

    pub(super) fn is_put_off(&self) -> bool {
        self.imposed.is_none() && RelaySide::BOTH.into_iter().any(|side| self.is_stalled(side))
    }

    /// Whether nothing but delivery is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        let is_paced = RelaySide::BOTH.into_iter().any(|side| self.is_paced(side));
        self.is_ending() && !self.is_put_off() && !is_paced
    }

    /// Whether everything was delivered that can be, once the end is decided.
    pub(super) fn is_delivered(&self, outstanding: Outstanding) -> bool {
        RelaySide::BOTH.into_iter().all(|side| {
            let (this, other) = (self.side(side), self.side(side.other()));
            let is_acknowledged = outstanding[side.index()] == 0;
            this.is_failing
                || match self.imposed {
                    Some(ImposedBy::Reset(to)) => side != to || is_acknowledged,
                    Some(ImposedBy::ResetSides(_)) => is_acknowledged,
                    Some(ImposedBy::Close) => is_acknowledged && this.is_ended,
                    None => {
                        let is_received = !other.is_failing || other.is_ended;
                        let is_sent = this.sent == self.due(side);
                        is_acknowledged && is_sent && is_received
                    }
                }
        })
    }
}
