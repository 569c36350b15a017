//! Whether everything happened on time: no limit early, nothing due missed.

use std::time::Duration;

use trust_sim::model::Tail;
use trust_wire::closing::TOTAL_LINGER_LIMITS;

use super::play::Played;
use super::verdict::{Case, Logged, ensure};
use super::watch::Span;
use trust_testkit::event::Event;

/// The longest delay of an acknowledgement (TCP_DELACK_MAX of Linux).
const DELAYED_ACK: Duration = Duration::from_millis(200);

impl Case<'_> {
    pub(crate) fn check_not_early(&self) -> Result<(), String> {
        let (at, _) = self.logged.decided;
        let Played { script, told_to_stop, .. } = self.played;
        let limits = &script.limits;
        let accepted = self.logged.accepted.saturating_sub(self.told_late);
        let not_before = |what: &str, start: Duration, limit: Option<Duration>| {
            let limit = limit.unwrap_or_default();
            let early = start + limit > at + self.early;
            ensure(!early, || {
                format!("{} at {at:?}, {what} {start:?}, limit {limit:?}", self.reason())
            })
        };
        match self.reason() {
            "recv_timeout" => {
                not_before("accepted", accepted, limits.timeout)?;
                // A byte that had certainly arrived ended the silence.
                for sent in &self.history.sent {
                    let arrived = sent.span.to + self.under_way;
                    if arrived <= at && self.history.is_healthy_until(arrived) {
                        not_before("a byte at", sent.span.from, limits.timeout)?;
                    }
                }
                Ok(())
            }
            "send_timeout" | "client_unreachable" => {
                let timeout = self.patience().unwrap_or_default();
                not_before("accepted", accepted, Some(timeout))?;
                for read in &self.history.read {
                    // It arrived after the last time that nothing was there, and was acknowledged.
                    let acknowledged = read.span.to + DELAYED_ACK + self.under_way;
                    let is_sure = acknowledged <= at
                        && self.history.reads_freely_during(read.span.from, acknowledged)
                        && self.history.is_healthy_until(acknowledged);
                    if is_sure {
                        not_before("progress at", read.span.from, Some(timeout))?;
                        let all = self.count("bytes_out");
                        ensure(read.total < all, || {
                            format!("stalled although {all} bytes were read")
                        })?;
                    }
                }
                Ok(())
            }
            "frame_timeout" => {
                let bytes_in = self.count("bytes_in");
                let starts = self.tails(bytes_in).into_iter().filter_map(|tail| match tail {
                    Tail::Unfinished { start, .. } => Some(start),
                    _ => None,
                });
                let start = starts.min().unwrap_or_default();
                let begun = self.history.sent.iter().find(|sent| sent.total > start);
                let begun = begun.map_or(Duration::MAX / 2, |sent| sent.span.from);
                not_before("begun at", begun, limits.frame_timeout)
            }
            "max_lifetime" => not_before("accepted", accepted, limits.max_lifetime),
            "drain_timeout" => {
                not_before("told to stop at", told_to_stop.from, Some(script.drain_timeout))
            }
            _ => Ok(()),
        }
    }

    /// How long the peer may acknowledge nothing: the linger timeout, where it applies, is the
    /// shorter limit.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let limits = &self.played.script.limits;
        let (at, _) = self.logged.decided;
        let ends = ["frame_too_large", "recv_timeout", "max_lifetime"];
        let has_ended = |event: &&&Event| ends.contains(&event.name());
        let is_stopping = self.played.told_to_stop.from <= at + self.early;
        let linger = limits.linger_timeout;
        let may_linger = !linger.is_zero()
            && (self.logged.events.iter().any(|it| has_ended(&it)) || is_stopping);
        match limits.timeout {
            Some(timeout) if may_linger => Some(timeout.min(linger)),
            None if may_linger => Some(linger),
            timeout => timeout,
        }
    }

    /// Checks that nothing else was due before what happened.
    pub(crate) fn check_not_overdue(&self) -> Result<(), String> {
        let history = self.history;
        let (at, _) = self.logged.decided;
        let script = &self.played.script;
        let limits = &script.limits;
        let not_after = |what: &str, due: Duration, at: Duration| {
            let by = due + self.allowed_lateness(due);
            ensure(at <= by, || format!("{} at {at:?}, {what} at {due:?}", self.reason()))
        };
        let connected = history.connected.map_or(Duration::ZERO, |span| span.to);
        not_after("connected", connected, self.logged.accepted)?;
        let told = self.played.told_to_stop.to;
        not_after("the end of the drain", told + script.drain_timeout, self.logged.closed)?;
        if let Some(again) = self.played.told_again {
            not_after("the second signal", again.to, self.logged.closed)?;
        }
        if let Some(reset) = history.reset
            && history.is_healthy_until(reset.to)
        {
            not_after("the reset", reset.to, at)?;
        }
        let is_plain = history.is_healthy_until(at) && history.reads_freely_until(at);
        if let Some(fin) = history.fin
            && is_plain
        {
            not_after("the FIN", fin.to, at)?;
        }
        if let Some(timeout) = limits.timeout {
            // Once to find out that bytes are stuck or that none arrive, once to give up.
            let outage = history.outage.map(|outage| outage.over.to + outage.length());
            let active = history.active_before(at).max(self.logged.accepted);
            let since = active.max(outage.unwrap_or_default().min(at));
            not_after("the end of patience", since + 2 * timeout, at)?;
        }
        let quiet_since = history.sent.last().map_or(connected, |sent| sent.span.to);
        let tail = self.model.tail(history.sent_total(), usize::MAX);
        if let (Tail::Unfinished { start, .. }, Some(limit), true) =
            (tail, limits.frame_timeout, is_plain)
        {
            let begun = history.sent.iter().find(|sent| sent.total > start);
            let begun = begun.map_or(quiet_since, |sent| sent.span.to);
            not_after("the end of a frame's time", begun + limit, at)?;
        }
        if let (Tail::Nothing, Some(life), true) = (tail, limits.max_lifetime, is_plain) {
            not_after("its age", quiet_since.max(self.logged.accepted + life), at)?;
        }
        if tail == Tail::Nothing && is_plain && quiet_since + self.under_way <= told {
            not_after("told to stop", told, at)?;
        }
        if matches!(tail, Tail::TooLarge { .. }) && is_plain {
            not_after("a header that declares too much", quiet_since, at)?;
        }
        Ok(())
    }

    /// Checks that a well-behaved client gets its answer soon.
    pub(crate) fn check_prompt(&self) -> Result<(), String> {
        let history = self.history;
        let (decided, _) = self.logged.decided;
        for sent in &history.sent {
            let by = sent.span.to + self.allowed_lateness(sent.span.to);
            if by > decided || self.may_be_fenced(by) {
                break;
            }
            let is_plain = history.is_healthy_until(by) && history.reads_freely_until(by);
            let (owed, read) = (self.answer(sent.total, usize::MAX), history.read_by(by));
            ensure(!is_plain || read >= owed, || {
                format!("{read} of {owed} bytes at {by:?} for what was sent at {:?}", sent.span.to)
            })?;
        }
        Ok(())
    }

    pub(crate) fn check_lingering(&self) -> Result<(), String> {
        let history = self.history;
        let Logged { closed, decided, .. } = self.logged;
        let linger = self.played.script.limits.linger_timeout;
        if ["peer_fin", "truncated_frame"].contains(&self.reason()) {
            // Its slot is released with the last acknowledgement.
            let is_plain = history.is_healthy_until(closed) && history.reads_freely_until(closed);
            let by = decided.1 + DELAYED_ACK + self.allowed_lateness(decided.1);
            return ensure(!is_plain || closed <= by, || {
                format!("{} at {:?}, closed at {closed:?}", self.reason(), decided.1)
            });
        }
        if !["frame_too_large", "recv_timeout", "max_lifetime", "drain"].contains(&self.reason()) {
            return Ok(());
        }
        let before = |at: Option<Span>| at.is_some_and(|span| span.from <= closed + self.early);
        let told = self.played.told_to_stop.from;
        let may_be_cut = closed + self.early >= told + self.played.script.drain_timeout
            || before(self.played.told_again);
        let may_be_over = before(history.fin) || before(history.may_reset) || may_be_cut;
        let took = closed.saturating_sub(decided.0);
        ensure(may_be_over || took + self.early + self.told_late >= linger, || {
            format!("over after {took:?} of {linger:?}")
        })?;
        let since = history.active_before(closed).max(decided.1);
        // Owed bytes are sent first. If answers do not arrive, that lasts until the server gives up
        // on them.
        let is_plain =
            history.is_healthy_until(closed) && history.reads_freely_during(decided.0, closed);
        let outage = history.outage.map(|outage| 2 * outage.length());
        let timeout = self.played.script.limits.timeout;
        if !is_plain && linger.is_zero() && timeout.is_none() {
            // It waits for acknowledgements alone, and for as long as the kernel does.
            return Ok(());
        }
        let flush = 2 * timeout.unwrap_or_default();
        let due = match is_plain {
            true => since + linger,
            false => since + TOTAL_LINGER_LIMITS * linger + flush + outage.unwrap_or_default(),
        };
        ensure(closed <= due + linger / 4 + self.allowed_lateness(due), || {
            format!("over after {took:?} of {linger:?}")
        })
    }

    /// How late something that was due then may be, pauses of the process included.
    fn allowed_lateness(&self, due: Duration) -> Duration {
        self.late + self.paused_since(due) + self.grid()
    }

    /// How long the process was paused in pauses that may still have had an effect then.
    pub(crate) fn paused_since(&self, due: Duration) -> Duration {
        let pauses = self.played.pauses.iter().filter(|pause| pause.to + self.late >= due);
        pauses.map(|pause| pause.to.saturating_sub(pause.from)).sum()
    }

    /// The grid of deadlines, which is also that of looks for acknowledgements.
    fn grid(&self) -> Duration {
        self.played.script.limits.timeout.unwrap_or_default() / 4 + self.played.script.timer_grid
    }
}
