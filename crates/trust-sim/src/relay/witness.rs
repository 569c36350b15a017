//! Watches a relay from outside: by the calls that it makes, the model and the network.
//!
//! It has a state of its own, made from what calls have returned, and compares every step to it: a
//! call that must not be made, one that is due and not made, and what the relay says about itself.

mod due;
mod timing;

use std::time::Duration;

use trust_wire::relay::{Delivery, Relay, RelayClose, RelaySide, StreamEnd};
use trust_wire::{ErrnoClass, Timestamp};

use self::timing::WatchedTiming;
use super::model::{GateKind, StreamModel};
use super::script::RelayScript;
use crate::check::{Violation, require};
use crate::link::Link;
use crate::network::Side;
use crate::watched::at;

/// The same limits as in the core: for all of a wait, in waits without progress, and for the time
/// between two looks.
const WAITS_IN_ALL: u32 = 5;
const LOOK_MAX: Duration = Duration::from_millis(50);

/// More than a gate costs in memory.
const GATE_MAX: usize = 500;

// Many fields: those of a source, and those of a receiver.
/// What is known of a side, as a source and as a receiver.
#[derive(Debug)]
struct WatchedSide {
    /// Bytes received from it.
    received: usize,
    /// Its FIN was received.
    fin_received: bool,
    /// Nothing more will be received from it.
    is_ended: bool,
    /// The first error that a call has reported.
    error: Option<(i32, ErrnoClass)>,
    /// An error was reported, by a call or by an event.
    is_failing: bool,
    /// What becomes of the stream that goes to it.
    model: StreamModel,
    sent: usize,
    fin_sent: bool,
    /// How many bytes had come for it when it could no longer be sent to.
    settled: Option<usize>,
    /// Gates that were passed, and since when the next one has been reached.
    passed: usize,
    reached: Option<Duration>,
    /// When it was last looked at while it could be sent to; after that no stall ends.
    looked: Duration,
    timing: WatchedTiming,
    /// Faults that the relay has reported.
    reported: usize,
    is_lost_reported: bool,
}

/// An end that neither side has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ImposedBy {
    /// A rule closes, or there is no upstream.
    Close,
    /// A rule resets; this is the receiver.
    Reset(RelaySide),
    /// A rule resets these sides.
    ResetSides([bool; 2]),
}

impl ImposedBy {
    /// Whether a side gets FIN.
    const fn finishes(self, side: RelaySide) -> bool {
        match self {
            ImposedBy::Close => true,
            ImposedBy::Reset(_) => false,
            ImposedBy::ResetSides(sides) => !sides[side.index()],
        }
    }
}

/// Watches one relay.
#[derive(Debug)]
pub struct RelayWitness {
    sides: [WatchedSide; 2],
    linger: Duration,
    slack: Duration,
    receive_len: usize,
    imposed: Option<ImposedBy>,
    failed_first: Option<RelaySide>,
    /// Since when the end has been decided and nothing stalls.
    ending_since: Option<Duration>,
    /// When the network last saw that each side had acknowledged something.
    pub progress_at: [Duration; 2],
    closed: Option<RelayClosed>,
    now: Duration,
    has_begun: bool,
    /// The first property that a call has violated.
    pub violation: Option<Violation>,
}

/// How a relay was closed.
#[derive(Clone, Copy, Debug)]
pub struct RelayClosed {
    /// What each side got.
    pub closes: [RelayClose; 2],
    /// Not everything was delivered.
    pub is_given_up: bool,
    /// When.
    pub at: Duration,
}

/// What the network says about the sent bytes of both sides.
pub type Outstanding = [u64; 2];

impl RelayWitness {
    /// Watches a relay that begins.
    pub fn new(script: &RelayScript, models: [StreamModel; 2]) -> RelayWitness {
        let sides = models.map(|model| WatchedSide {
            received: 0,
            fin_received: false,
            is_ended: false,
            error: None,
            is_failing: false,
            model,
            sent: 0,
            fin_sent: false,
            settled: None,
            passed: 0,
            reached: None,
            looked: Duration::ZERO,
            timing: WatchedTiming::default(),
            reported: 0,
            is_lost_reported: false,
        });
        let mut witness = RelayWitness {
            sides,
            linger: script.linger_timeout,
            slack: 3 * LOOK_MAX + 4 * (script.wake_delay + script.timer_delay),
            receive_len: script.receive_len,
            imposed: None,
            failed_first: None,
            ending_since: None,
            progress_at: [Duration::ZERO; 2],
            closed: None,
            now: Duration::ZERO,
            has_begun: false,
            violation: None,
        };
        if script.is_refused {
            witness.imposed = Some(ImposedBy::Close);
            let upstream = witness.side_mut(RelaySide::Upstream);
            (upstream.fin_received, upstream.is_ended) = (true, true);
            upstream.settled = Some(0);
        }
        witness
    }

    fn side(&self, side: RelaySide) -> &WatchedSide {
        &self.sides[side.index()]
    }

    fn side_mut(&mut self, side: RelaySide) -> &mut WatchedSide {
        &mut self.sides[side.index()]
    }

    /// How the relay was closed, if it was.
    pub fn closed(&self) -> Option<RelayClosed> {
        self.closed
    }

    /// What becomes of the stream that goes to a side.
    pub fn model(&self, to: RelaySide) -> &StreamModel {
        &self.side(to).model
    }

    /// Bytes received from a side, and bytes sent to it.
    pub fn counts(&self, side: RelaySide) -> (usize, usize) {
        (self.side(side).received, self.side(side).sent)
    }

    /// Whether FIN was sent to a side.
    pub fn is_fin_sent(&self, side: RelaySide) -> bool {
        self.side(side).fin_sent
    }

    /// Whether a side has failed.
    pub fn is_failing(&self, side: RelaySide) -> bool {
        self.side(side).is_failing
    }

    /// Whether a fault has imposed an end.
    pub fn is_imposed(&self) -> bool {
        self.imposed.is_some()
    }

    /// Whether a fault has said which sides are reset.
    pub fn is_reset_by_sides(&self) -> bool {
        matches!(self.imposed, Some(ImposedBy::ResetSides(_)))
    }

    /// The relay looks at what is due by now.
    pub fn look(&mut self, now: Duration) {
        self.now = now;
        for to in RelaySide::BOTH {
            if self.side(to).settled.is_none() {
                self.side_mut(to).looked = now;
            }
            if !self.has_begun {
                self.note_output(to, 0, false);
            }
            while let Some(kind) = self.waits_at(to) {
                match kind {
                    GateKind::Stall(time) => {
                        let side = self.side_mut(to);
                        let reached = *side.reached.get_or_insert(side.looked);
                        if side.looked < reached + time {
                            break;
                        }
                        side.passed += 1;
                        side.reached = None;
                        continue;
                    }
                    GateKind::Reset => {
                        self.imposed.get_or_insert(ImposedBy::Reset(to));
                    }
                    GateKind::ResetSides(sides) => {
                        self.imposed.get_or_insert(ImposedBy::ResetSides(sides));
                    }
                    GateKind::Close => {
                        self.imposed.get_or_insert(ImposedBy::Close);
                    }
                    GateKind::Pattern(rule, pattern) => {
                        let side = self.side_mut(to);
                        side.timing.begin(rule, pattern, side.sent);
                        side.passed += 1;
                        continue;
                    }
                    GateKind::PatternEnd(rule) => {
                        let side = self.side_mut(to);
                        side.timing.end(rule);
                        side.passed += 1;
                        continue;
                    }
                    GateKind::Hold | GateKind::Finish => {}
                }
                break;
            }
            let side = self.side_mut(to);
            side.timing.look(side.sent, side.looked);
        }
        self.has_begun = true;
    }

    fn judge(&mut self, holds: bool, property: &'static str, detail: impl FnOnce() -> String) {
        if let Err(violation) = require(holds, property, detail) {
            self.violation.get_or_insert(violation);
        }
    }

    /// The relay is about to receive so many bytes from a side at most.
    pub fn note_receive(&mut self, from: RelaySide, room: usize) {
        let to = from.other();
        let window = self.side(to).model.window(self.met(to));
        let is_small = window.is_none_or(|window| room as u64 <= window);
        self.judge(room > 0 && is_small, "no more is received at once than a rule allows", || {
            format!("{room} bytes from {from:?}, {window:?}")
        });
        self.judge(
            self.may_receive(from),
            "nothing is received while something is held, nor after the end",
            || format!("from {from:?}"),
        );
    }

    /// A receive from a side returned so many bytes.
    pub fn note_received(&mut self, from: RelaySide, count: usize) {
        let before = self.due(from.other());
        self.side_mut(from).received += count;
        if self.side(from.other()).settled.is_none() {
            self.note_output(from.other(), before, false);
        }
    }

    /// A receive from a side returned 0.
    pub fn note_end(&mut self, from: RelaySide, link: &Link) {
        let side = self.side_mut(from);
        side.is_ended = true;
        // The kernel calls it the end of the stream after a RST too.
        if side.error.is_some_and(|(_, class)| class != ErrnoClass::BrokenPipe) {
            return self.end_failed(from);
        }
        side.fin_received = true;
        let (received, written) = (side.received, link.path.written(Side::Client));
        self.judge(received == written, "a FIN comes after all bytes before it", || {
            format!("{received} of {written} from {from:?}")
        });
        let to = self.side_mut(from.other());
        if to.settled.is_none() {
            let before = to.model.due(received);
            to.model.finish(received);
            self.note_output(from.other(), before, true);
        }
    }

    /// A call failed, or an error was taken from the socket.
    pub fn note_failure(&mut self, side: RelaySide, errno: i32, class: ErrnoClass) {
        self.note_failing(side);
        let met = self.met(side);
        let side = self.side_mut(side);
        side.error.get_or_insert((errno, class));
        side.settled.get_or_insert(met);
    }

    /// A receive failed.
    pub fn note_failed_receive(&mut self, from: RelaySide, errno: i32, class: ErrnoClass) {
        self.note_failure(from, errno, class);
        self.end_failed(from);
    }

    /// Nothing more will come from a side that has failed; what rules hold back is passed on.
    fn end_failed(&mut self, from: RelaySide) {
        self.side_mut(from).is_ended = true;
        let received = self.side(from).received;
        let to = self.side_mut(from.other());
        if to.settled.is_none() {
            let before = to.model.due(received);
            to.model.fail(received);
            self.note_output(from.other(), before, false);
        }
    }

    /// An event says that a side has failed. Returns whether no receive will report the error.
    pub fn note_announced(&mut self, side: RelaySide) -> bool {
        if !self.side(side).is_ended {
            self.note_failing(side);
        }
        self.side(side).fin_received
    }

    /// Judges whether the relay wants the error to be taken when it should.
    pub fn judge_announced(&mut self, side: RelaySide, is_right: bool) {
        let property = "an error is taken that no receive will report";
        self.judge(is_right, property, || format!("{side:?}"));
    }

    fn note_failing(&mut self, side: RelaySide) {
        self.side_mut(side).is_failing = true;
        if self.imposed.is_none() {
            self.failed_first.get_or_insert(side);
        }
    }

    /// The relay is about to send these bytes to a side.
    pub fn note_send(&mut self, to: RelaySide, bytes: &[u8]) {
        let (sent, allowed) = (self.side(to).sent, self.allowed(to));
        let is_open = self.side(to).settled.is_none();
        self.judge(is_open, "nothing is sent after FIN or an error", || format!("to {to:?}"));
        self.judge(!bytes.is_empty(), "a send has something to send", || format!("to {to:?}"));
        let end = sent + bytes.len();
        self.judge(end <= allowed, "nothing is sent before it is due", || {
            format!("{end} of {allowed} bytes to {to:?}")
        });
        let objection = self.side(to).timing.objection(sent, bytes.len(), self.now);
        let is_paced = objection.is_none();
        self.judge(is_paced, "bytes are sent at their pace", || objection.unwrap_or_default());
        let is_right = self.side(to).model.output.get(sent..end) == Some(bytes);
        self.judge(is_right, "what is sent is what the model says", || {
            format!("{} bytes from byte {sent} on to {to:?}", bytes.len())
        });
    }

    /// The kernel took so many of them.
    pub fn note_sent(&mut self, to: RelaySide, count: usize) {
        let now = self.now;
        let side = self.side_mut(to);
        side.sent += count;
        side.timing.note_sent(count, now);
    }

    /// The relay sends FIN to a side.
    pub fn note_shutdown(&mut self, to: RelaySide) {
        // What a pace keeps from being sent is not waited for.
        let is_cut = self.imposed.is_some_and(|by| by.finishes(to)) && self.is_paced(to);
        let is_due = self.is_fin_due(to) || is_cut && self.side(to).settled.is_none();
        let (sent, due, gate) = (self.side(to).sent, self.due(to), self.gate(to));
        self.judge(is_due, "FIN is sent when it is due", || {
            format!("to {to:?} after {sent} of {due} bytes, at {gate:?}")
        });
        let met = self.met(to);
        let side = self.side_mut(to);
        (side.fin_sent, side.settled) = (true, Some(met));
    }

    /// Compares what the relay says about itself.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn check(&mut self, relay: &mut Relay) -> Result<(), Violation> {
        if let Some(violation) = self.violation.take() {
            return Err(violation);
        }
        for name in RelaySide::BOTH {
            let side = self.side(name);
            let end = match side.error {
                Some((errno, class)) => StreamEnd::Failed(errno, class),
                None if side.fin_received => StreamEnd::Fin,
                None => StreamEnd::None,
            };
            let said = relay.end(name);
            require(said == end, "the relay knows how a stream ended", || {
                format!("{name:?}: {said:?} in place of {end:?}")
            })?;
            self.check_delivery(name, relay)?;
            self.check_held(name, relay)?;
            self.check_reports(name, relay)?;
            let said = (relay.is_fin_sent(name), relay.is_failing(name));
            let side = self.side(name);
            let right = (side.fin_sent, side.is_failing);
            require(said == right, "the relay knows what it has sent and seen", || {
                format!("{name:?}: {said:?} in place of {right:?}")
            })?;
        }
        let said = (relay.failed_first(), relay.is_imposed(), relay.is_ending());
        let right = (self.failed_first, self.imposed.is_some(), self.is_ending());
        require(said == right, "the relay knows who has decided the end", || {
            format!("{said:?} in place of {right:?}")
        })
    }

    fn check_delivery(&self, to: RelaySide, relay: &Relay) -> Result<(), Violation> {
        let side = self.side(to);
        let (received, met) = (self.side(to.other()).received, self.met(to));
        // What comes later is dropped, and would have been due but for a rule that drops it.
        let late = if side.model.drops_all(met) { 0 } else { received - met };
        let right = Delivery {
            received: received as u64,
            due: (self.due(to) + late) as u64,
            sent: side.sent as u64,
        };
        let said = relay.delivery(to);
        require(said == right, "the relay counts right", || {
            format!("to {to:?}: {said:?} in place of {right:?}")
        })
    }

    fn check_held(&self, to: RelaySide, relay: &Relay) -> Result<(), Violation> {
        let (side, held) = (self.side(to), relay.held_len(to));
        let due = self.due(to);
        let right = match side.error {
            Some(_) => &[][..],
            None => &side.model.output[side.sent..due],
        };
        require(relay.held(to).flatten().eq(right), "what is held is what was not sent", || {
            format!("{held} in place of {} bytes for {to:?}", right.len())
        })?;
        let kept = if side.model.holds_frames() { side.model.output.len() } else { 0 };
        let has_delayed = side.model.delays(self.met(to)).next().is_some();
        let room = if has_delayed { side.model.output.len() } else { side.timing.most_held() };
        let most = self.receive_len + side.model.inserted() + kept + room;
        require(held <= most, "no more is held than one receive", || {
            format!("{held} bytes for {to:?}")
        })
    }

    fn check_reports(&mut self, to: RelaySide, relay: &mut Relay) -> Result<(), Violation> {
        let (met, received) = (self.met(to), self.side(to.other()).received);
        let fired = relay.take_fired(to);
        let side = self.side_mut(to);
        let right: Vec<_> = side.model.fired(met).skip(side.reported).collect();
        side.reported += right.len();
        require(fired == right, "every fault happens once, at its place", || {
            format!("to {to:?}: {fired:?} in place of {right:?}")
        })?;
        let lost = relay.take_lost(to);
        let right = side.model.lost(received).filter(|_| !side.is_lost_reported);
        side.is_lost_reported |= right.is_some();
        let frames = side.model.frames(received);
        require(lost == right && relay.frames(to) == frames, "frames are counted right", || {
            format!("{lost:?}, {:?} in place of {right:?}, {frames:?}", relay.frames(to))
        })
    }

    /// Judges a close.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn check_close(
        &mut self,
        closes: [RelayClose; 2],
        outstanding: Outstanding,
        now: Duration,
    ) -> Result<(), Violation> {
        let is_decided = self.is_ending() && !self.is_put_off();
        require(is_decided, "nothing is closed before the end is decided", || {
            format!("{:?}", self.sides)
        })?;
        let is_given_up = !self.is_delivered(outstanding);
        let has_paces = RelaySide::BOTH.into_iter().any(|it| self.side(it).timing.is_paced());
        if is_given_up && !has_paces {
            let since = self.ending_since.unwrap_or(now);
            // What a dying side has acknowledged no longer matters.
            let counts = |side: &RelaySide| !self.side(*side).is_failing;
            let progress = RelaySide::BOTH.into_iter().filter(counts);
            let progress = progress.map(|side| self.progress_at[side.index()]).max();
            let due = (since.max(progress.unwrap_or(since)) + self.linger)
                .min(since + self.linger * WAITS_IN_ALL);
            require(now >= due, "delivery is waited for", || {
                format!("closed at {now:?}, waiting since {since:?}, {outstanding:?}")
            })?;
        }
        let right = RelaySide::BOTH.map(|side| {
            let is_reset = self.side(side.other()).is_failing
                || self.imposed.is_some_and(|imposed| !imposed.finishes(side));
            if is_reset { RelayClose::Reset } else { RelayClose::Close }
        });
        require(closes == right, "each side gets the end that it should", || {
            format!("{closes:?} in place of {right:?}")
        })?;
        self.closed = Some(RelayClosed { closes, is_given_up, at: now });
        Ok(())
    }

    /// Notes whether the end is decided. To be called after every turn.
    pub fn note_ending(&mut self, now: Duration) {
        if self.is_waiting() {
            self.ending_since.get_or_insert(now);
        } else {
            self.ending_since = None;
        }
    }

    /// Checks that a relay at rest has nothing to do. A side is `None` that may not know yet what
    /// it is ready for.
    ///
    /// # Errors
    ///
    /// If a property does not hold.
    pub fn check_rest(
        &self,
        deadline: Timestamp,
        links: [Option<&Link>; 2],
        outstanding: Outstanding,
        now: Duration,
    ) -> Result<(), Violation> {
        let mut latest = Duration::MAX;
        for side in RelaySide::BOTH {
            let is_fin_due = self.is_fin_due(side);
            require(!is_fin_due, "a FIN that is due is sent", || format!("to {side:?}"))?;
            let Some(Link { path, .. }) = links[side.index()] else { continue };
            let is_receive_due = self.must_receive(side) && path.is_readable(Side::Server);
            require(!is_receive_due, "what can be received is received", || format!("{side:?}"))?;
            let is_send_due = self.side(side).settled.is_none()
                && self.side(side).sent < self.allowed(side)
                && path.is_writable(Side::Server)
                && !path.will_report_room();
            let is_paced = self.is_paced(side);
            if is_send_due && is_paced {
                latest = latest.min(now + self.side(side).timing.longest_wait());
            }
            require(!is_send_due || is_paced, "what can be sent is sent", || {
                format!("to {side:?}")
            })?;
        }
        let is_waiting = self.is_waiting();
        let is_late = is_waiting && self.is_delivered(outstanding);
        require(!is_late, "what is over is closed", || format!("{:?}", self.sides))?;
        require(deadline > at(now), "a deadline that has come is followed", || {
            format!("{deadline:?} at {now:?}")
        })?;
        // Nothing more comes for who can no longer be sent to.
        let open = |side: &RelaySide| self.side(*side).settled.is_none();
        for side in RelaySide::BOTH.into_iter().filter(open) {
            if let Some((from, until)) = self.delayed(side)
                && from == self.side(side).sent
                && self.waits_at(side).is_none()
            {
                latest = latest.min(until);
            }
            if let (Some(GateKind::Stall(time)), Some(reached)) =
                (self.waits_at(side), self.side(side).reached)
            {
                latest = latest.min(reached + time);
            }
        }
        if let (true, Some(since)) = (is_waiting, self.ending_since) {
            let progress = self.progress_at[0].max(self.progress_at[1]);
            let patience = since.max(progress) + self.linger + self.slack;
            let in_all = since + self.linger * WAITS_IN_ALL + self.slack;
            require(now <= patience.min(in_all), "waiting for delivery has an end", || {
                format!("{now:?}, waiting since {since:?}, progress {:?}", self.progress_at)
            })?;
            latest = latest.min(now + LOOK_MAX);
        }
        require(deadline <= at(latest), "what is waited for has a deadline", || {
            format!("{deadline:?} after {latest:?}, at {now:?}")
        })
    }
}
