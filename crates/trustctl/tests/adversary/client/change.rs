//! The reasons for changing a client's host or path, and what the client does after the change.

use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::TcpRepair};
use trust_sim::script::Action;

use super::super::history::Outage;
use super::super::host::Fault;
use super::super::watch::Span;
use super::Client;

/// The reason for a change of its host or its path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// To lose the answer to this many bytes, which it sends afterwards.
    LosesAnswerTo(usize),
    Vanishes,
    Reboots,
    /// For this long; if `true`, a router reports it to the server.
    PathFails(Duration, bool),
    PathRecovers,
}

impl Client {
    /// Goes on after a change of its host or its path.
    pub(super) fn go_on(&mut self, span: Span, why: Why) {
        match why {
            Why::LosesAnswerTo(count) => {
                self.history.note_disturbance(span);
                self.is_told_to_send(count);
            }
            Why::Vanishes => self.history.note_disturbance(span),
            Why::Reboots => {
                self.history.may_reset.get_or_insert(span);
            }
            Why::PathFails(length, unreachable) => {
                self.history.note_disturbance(span);
                let until = span.to + length;
                let over = Span { from: until, to: until };
                self.history.outage = Some(Outage { begun: span, over, unreachable });
                self.outage_ends = Some(until);
            }
            Why::PathRecovers => {
                if let Some(outage) = &mut self.history.outage {
                    outage.over = span;
                }
                self.note("the outage is over");
            }
        }
    }

    /// On a path with delay, a fault that follows immediately takes the answer to a send with it.
    pub(super) fn loses_answer_in(&self) -> Option<Fault> {
        let path = &self.script.path;
        if (path.latency + path.jitter).is_zero() {
            return None;
        }
        let next = self.script.steps.get(self.steps_done).filter(|step| step.after.is_zero());
        match next?.action {
            Action::Vanish => Some(Fault::Gone),
            Action::Outage(_, unreachable) if self.history.outage.is_none() => {
                Some(Fault::outage(unreachable))
            }
            _ => None,
        }
    }

    /// Its kernel forgets the connection silently, and from then on answers with RST.
    #[track_caller]
    pub(super) fn reboot(&mut self) {
        // Only a host that was switched off can reboot.
        if !self.history.vanished {
            return;
        }
        if let Some(stream) = self.stream.take() {
            setsockopt(&stream, TcpRepair, &1).expect("set TCP_REPAIR");
            drop(stream);
            self.change = Some((self.host.end(Fault::Gone, self.watch), Why::Reboots));
        }
    }
}
