//! The rules, and the record of what they did: events and the trace.

use std::time::Duration;

use trust_cli::zone;
use trust_net::Address;
use trust_toxiproxy::traffic::LatenessHistogram;
use trust_wire::relay::{FiredFault, RelaySide};

use crate::engine::client::RelayedClient;
use crate::events::{ProxyEvents, RelayReason};
use crate::rules::{Direction, Rules};
use crate::trace::{Trace, TraceLine, TracedFault, TracedPlace, microseconds};

/// The rules, and where is recorded what they did.
pub(super) struct FaultRecord<'a> {
    pub(super) rules: Rules,
    pub(super) trace: Option<Trace>,
    pub(super) events: &'a ProxyEvents,
    /// How late sends were; `None`: that is not asked for.
    pub(super) lateness: Option<LatenessHistogram>,
}

impl FaultRecord<'_> {
    /// Records that a rule for the listening sockets has happened, so long after the start.
    pub(super) fn note_listener(&mut self, index: usize, elapsed: Duration) {
        let rule = self.rules.note_fired(index);
        self.events.write_listener_fault(&rule);
        self.trace_fault(index, rule, None, elapsed, None);
    }

    /// Records that a rule has happened to a client, or what it had begun has ended, so long after
    /// the client was accepted: when it was accepted, or at a place.
    pub(super) fn note(
        &mut self,
        index: usize,
        client: &RelayedClient,
        at: Option<(Direction, FiredFault)>,
        elapsed: Duration,
    ) {
        let is_lifted = at.is_some_and(|(_, fired)| fired.is_lifted);
        let (rule, explicit) = match is_lifted {
            true => (self.rules.rule(index).to_string(), None),
            false => (self.rules.note_fired(index), self.rules.explicit(index, client.id, at)),
        };
        let explicit = explicit.map(|rule| rule.to_string());
        let toxic = self.rules.toxic(index);
        self.events.write_fault(&client.name(), &rule, toxic, explicit.as_deref(), at);
        if self.trace.is_none() {
            return;
        }
        let frame = at.and_then(|(_, fired)| fired.frame);
        let [client_sum, upstream] = client.sums();
        let place = TracedPlace {
            conn: client.id,
            direction: at.map(|(direction, _)| direction.word().to_owned()),
            byte: at.map(|(_, fired)| fired.position),
            frame: frame.map(|(number, _)| number),
            frame_byte: frame.map(|(_, byte)| byte),
            is_lifted,
            client: client_sum,
            upstream,
        };
        self.trace_fault(index, rule, explicit, elapsed, Some(place));
    }

    fn trace_fault(
        &mut self,
        index: usize,
        rule: String,
        explicit: Option<String>,
        elapsed: Duration,
        at: Option<TracedPlace>,
    ) {
        let Some(trace) = &mut self.trace else { return };
        let number = self.rules.drawn_by(index);
        let timed = self.rules.rule(index).is_timed();
        let elapsed_us = microseconds(elapsed);
        let fault = TracedFault { number, rule, explicit, timed, elapsed_us, at };
        let is_lifted = fault.at.as_ref().is_some_and(|at| at.is_lifted);
        let line = if is_lifted { TraceLine::Lifted } else { TraceLine::Fault };
        trace.write(&line(Box::new(fault)));
    }

    /// Records that the upstream of a client is there.
    pub(super) fn trace_connect(
        &mut self,
        client: &RelayedClient,
        upstream: &Address,
        elapsed: Duration,
    ) {
        let Some(trace) = &mut self.trace else { return };
        let (peer, upstream) = (client.peer.to_string(), zone::shown_address(upstream));
        let (conn, elapsed_us) = (client.id, microseconds(elapsed));
        trace.write(&TraceLine::Connect { conn, elapsed_us, peer, upstream });
    }

    /// Whether it is recorded how late sends were that waited for a time.
    pub(super) fn records_lateness(&self) -> bool {
        self.trace.is_some() || self.lateness.is_some()
    }

    /// Records by how much a send was late that waited for a time.
    pub(super) fn note_late(&mut self, conn: u64, to: RelaySide, sent: u64, late: Duration) {
        if let Some(lateness) = &mut self.lateness {
            lateness.record(late);
        }
        let Some(trace) = &mut self.trace else { return };
        let direction = Direction::towards(to).word().to_owned();
        let late_ns = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        trace.write(&TraceLine::Late { conn, direction, sent, late_ns });
    }

    /// Records that a connection is over.
    pub(super) fn trace_close(
        &mut self,
        client: &RelayedClient,
        reason: RelayReason,
        elapsed: Duration,
    ) {
        let Some(trace) = &mut self.trace else { return };
        let [client_sum, upstream] = client.sums();
        trace.write(&TraceLine::Close {
            conn: client.id,
            elapsed_us: microseconds(elapsed),
            reason: reason.word().to_owned(),
            client: client_sum,
            upstream,
        });
    }
}
