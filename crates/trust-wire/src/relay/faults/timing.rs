//! When the output of a direction is sent.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::draw::draw;
use super::pace::{SendPace, Unsent};
use crate::time::Timestamp;

/// What is held for a side at most, unless the caller says otherwise.
pub(in crate::relay) const HOLD_DEFAULT: usize = 32 << 20;

/// What a place in the output costs in memory, so that many small pieces are bounded too.
const GATE_LEN: usize = size_of::<(u64, Gate)>();

/// What stands between bytes of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::relay) enum Gate {
    /// Opens so long after it was reached; of a rule.
    Stall(usize, Duration),
    /// Opens then; of a rule.
    Until(usize, Timestamp),
    /// Opens then, because delays say so for that piece of the stream, which came at that time.
    Delayed {
        until: Timestamp,
        came: Timestamp,
        piece: u64,
    },
    Hold,
    Finish,
    Close,
    Reset,
    ResetSides([bool; 2]),
    /// Opens at once; from there on bytes are sent at this pace of a rule.
    Pace(usize, SendPace),
    /// Opens at once; from there on they are not sent at the paces of that rule.
    Unpace(usize),
}

impl Gate {
    /// When it opens, if that is known.
    const fn opens_at(&self) -> Option<Timestamp> {
        match self {
            Gate::Until(_, time) | Gate::Delayed { until: time, .. } => Some(*time),
            _ => None,
        }
    }

    /// Whether nothing comes after it.
    pub(in crate::relay) const fn is_last(&self) -> bool {
        matches!(self, Gate::Hold | Gate::Finish | Gate::Close | Gate::Reset | Gate::ResetSides(_))
    }
}

/// When the output is sent.
#[derive(Debug)]
pub(in crate::relay) struct Timing {
    /// Where the output waits, and for what: positions count its bytes from the start.
    pub(in crate::relay) gates: VecDeque<(u64, Gate)>,
    paces: Paces,
    /// Paces are or were kept.
    is_paced: bool,
    /// Each by its rule.
    delays: Vec<(usize, Delay)>,
    /// Until when the last bytes are delayed.
    delayed_until: Timestamp,
    /// The source has sent FIN.
    pub(in crate::relay) has_ended: bool,
    /// When the direction began.
    began: Option<Timestamp>,
    /// When bytes last came.
    received: Timestamp,
    now: Timestamp,
    /// When what is sent next was due.
    due: Option<Timestamp>,
    hold: Hold,
}

/// How fast, and in which pieces, the output is sent.
#[derive(Debug)]
struct Paces {
    /// Each by its rule. All of them must allow it; one that is shared comes last.
    all: Vec<(usize, SendPace)>,
    /// The receiver takes nothing now.
    is_blocked: bool,
    /// How many bytes they let pass now.
    allowed: u64,
    /// When they let more pass, if that is none.
    more_at: Timestamp,
}

impl Paces {
    fn begin(&mut self, rule: usize, pace: SendPace) {
        // A rate that is shared replaces another one: waiting for two would keep others from one of
        // them.
        self.all.retain(|(_, other)| !(pace.is_shared() && other.is_shared()));
        self.all.push((rule, pace));
        self.all.sort_by_key(|(_, pace)| pace.is_shared());
    }

    /// Whether one of a rule is kept.
    fn has(&self, rule: usize) -> bool {
        self.all.iter().any(|(of, _)| *of == rule)
    }

    /// Ends those of a rule.
    fn end(&mut self, rule: usize) {
        self.all.retain(|(of, _)| *of != rule);
    }

    /// Asks how many bytes may pass now.
    fn measure(&mut self, waiting: Unsent, now: Timestamp) {
        (self.allowed, self.more_at) = (u64::MAX, Timestamp::NEVER);
        for (_, pace) in &mut self.all {
            let mut waiting = waiting;
            let len = waiting.len;
            if pace.is_shared() {
                // What cannot be sent for another reason takes nothing from others.
                waiting.len = if self.is_blocked { 0 } else { len.min(self.allowed) };
            }
            let (allowed, more_at) = pace.allowed(waiting, now);
            if allowed == 0 && len > 0 {
                // All of them must allow it, so the last one decides.
                let known = if self.allowed == 0 { self.more_at } else { Timestamp::default() };
                self.more_at = more_at.max(known);
            }
            self.allowed = self.allowed.min(allowed);
        }
    }
}

/// What may be held.
#[derive(Clone, Copy, Debug)]
struct Hold {
    limit: usize,
    is_full: bool,
    /// That was not reported yet.
    is_news: bool,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::relay) struct Delay {
    pub(in crate::relay) time: Duration,
    pub(in crate::relay) jitter: Duration,
    pub(in crate::relay) seed: u64,
}

impl Delay {
    /// For that piece of the stream.
    fn of(self, piece: u64) -> Duration {
        if self.jitter.is_zero() {
            return self.time;
        }
        let span = self.jitter.as_nanos() * 2 + 1;
        let drawn = (u128::from(draw(self.seed, piece)) * span) >> 64;
        let drawn = Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX));
        (self.time + drawn).saturating_sub(self.jitter)
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            gates: VecDeque::new(),
            paces: Paces {
                all: Vec::new(),
                is_blocked: false,
                allowed: u64::MAX,
                more_at: Timestamp::NEVER,
            },
            is_paced: false,
            delays: Vec::new(),
            delayed_until: Timestamp::default(),
            has_ended: false,
            began: None,
            received: Timestamp::default(),
            now: Timestamp::default(),
            due: None,
            hold: Hold { limit: HOLD_DEFAULT, is_full: false, is_news: false },
        }
    }
}

impl Timing {
    /// Whether what comes is sent at once.
    pub(in crate::relay) fn is_idle(&self) -> bool {
        self.gates.is_empty() && self.paces.all.is_empty() && self.delays.is_empty()
    }

    pub(in crate::relay) fn set_hold(&mut self, limit: usize) {
        self.hold.limit = limit;
    }

    /// What may be held at most, in bytes.
    pub(in crate::relay) fn hold_limit(&self) -> usize {
        self.hold.limit
    }

    /// Records that as much is held as may be.
    pub(in crate::relay) fn note_full(&mut self) {
        self.hold.is_news |= !core::mem::replace(&mut self.hold.is_full, true);
    }

    /// Whether as much is held as may be, and that was not taken.
    pub(in crate::relay) fn is_newly_full(&self) -> bool {
        self.hold.is_news
    }

    /// Whether as much is held as may be; true once each time.
    pub(in crate::relay) fn take_full(&mut self) -> bool {
        core::mem::take(&mut self.hold.is_news)
    }

    /// When the direction began: when the time was first looked at.
    pub(in crate::relay) fn began(&self) -> Timestamp {
        self.began.unwrap_or_default()
    }

    /// The same, once that was.
    pub(in crate::relay) fn has_begun(&self) -> Option<Timestamp> {
        self.began
    }

    /// When bytes last came, or the direction began.
    pub(in crate::relay) fn received(&self) -> Timestamp {
        self.received.max(self.began())
    }

    /// Records that bytes come now.
    pub(in crate::relay) fn note_received(&mut self) {
        self.received = self.now;
    }

    /// Returns whether that is known for the first time.
    pub(in crate::relay) fn set_now(&mut self, now: Timestamp) -> bool {
        self.now = now;
        let is_first = self.began.is_none();
        self.began.get_or_insert(now);
        is_first
    }

    /// Has what comes next wait at a gate.
    pub(in crate::relay) fn gate(&mut self, at: u64, gate: Gate) {
        self.is_paced |= matches!(gate, Gate::Pace(..));
        self.gates.push_back((at, gate));
    }

    /// Whether it matters how many bytes are sent with one call.
    pub(in crate::relay) fn is_paced(&self) -> bool {
        self.is_paced
    }

    pub(in crate::relay) fn add_delay(&mut self, rule: usize, delay: Delay) {
        self.delays.push((rule, delay));
    }

    /// Ends what a rule has begun: paces from that byte of the output on, or at once; whether there
    /// was something.
    pub(in crate::relay) fn lift(&mut self, rule: usize, at: Option<u64>) -> bool {
        let before = self.delays.len();
        self.delays.retain(|(of, _)| *of != rule);
        let is_of_it = |gate: &Gate| matches!(gate, Gate::Pace(of, _) if *of == rule);
        let is_pacing = self.paces.has(rule) || self.gates.iter().any(|(_, gate)| is_of_it(gate));
        match at {
            Some(at) if is_pacing => self.gate(at, Gate::Unpace(rule)),
            Some(_) => {}
            None => {
                self.gates.retain(|(_, gate)| !is_of_it(gate));
                self.paces.end(rule);
            }
        }
        is_pacing || self.delays.len() < before
    }

    /// Whether delays are drawn.
    pub(in crate::relay) fn has_jitter(&self) -> bool {
        self.delays.iter().any(|(_, delay)| !delay.jitter.is_zero())
    }

    /// Has what comes next, which belongs to that piece of the stream, wait as long as delays say.
    pub(in crate::relay) fn delay(&mut self, at: u64, piece: u64) {
        if self.delays.is_empty() {
            return;
        }
        let (came, until) = (self.now, self.delayed(self.now, piece));
        // What comes later is sent later, so a gate that opens no later holds nothing up.
        if until > self.delayed_until {
            self.delayed_until = until;
            self.gate(at, Gate::Delayed { until, came, piece });
        }
    }

    /// Until when delays have a piece of the stream wait that came at that time.
    fn delayed(&self, came: Timestamp, piece: u64) -> Timestamp {
        came + self.delays.iter().map(|(_, delay)| delay.of(piece)).sum::<Duration>()
    }

    /// Ends what a rule has begun, also for what is held, but for an end.
    pub(in crate::relay) fn disarm(&mut self, rule: usize) {
        self.lift(rule, None);
        let is_of_it = |gate: &Gate| match gate {
            Gate::Stall(of, _) | Gate::Until(of, _) | Gate::Unpace(of) => *of == rule,
            _ => false,
        };
        self.gates.retain(|(_, gate)| !is_of_it(gate));
    }

    /// Has what is held wait as long as the delays say that there are now.
    pub(in crate::relay) fn delay_anew(&mut self) {
        self.delayed_until = Timestamp::default();
        let mut gates = core::mem::take(&mut self.gates);
        gates.retain_mut(|(_, gate)| {
            let Gate::Delayed { until, came, piece } = gate else { return true };
            *until = self.delayed(*came, *piece);
            self.delayed_until = self.delayed_until.max(*until);
            *until > self.now
        });
        self.gates = gates;
    }

    /// Sends what is held at the paces of these rules from the next byte on, after so many of them.
    pub(in crate::relay) fn pace_what_is_held(&mut self, rules: &[usize], sent: u64) {
        let is_new = |gate: &Gate| matches!(gate, Gate::Pace(rule, _) if rules.contains(rule));
        let mut gates = core::mem::take(&mut self.gates);
        gates.retain(|(_, gate)| {
            let Gate::Pace(rule, pace) = gate else { return true };
            if !is_new(gate) {
                return true;
            }
            self.paces.begin(*rule, pace.clone().beginning_at(sent));
            false
        });
        self.gates = gates;
    }

    /// The rules that say when something is sent.
    pub(in crate::relay) fn rules(&self) -> impl Iterator<Item = usize> {
        let gates = self.gates.iter().filter_map(|(_, gate)| match gate {
            Gate::Stall(rule, _) | Gate::Until(rule, _) | Gate::Pace(rule, _) => Some(*rule),
            _ => None,
        });
        let paces = self.paces.all.iter().map(|(rule, _)| *rule);
        self.delays.iter().map(|(rule, _)| *rule).chain(paces).chain(gates)
    }

    /// Nothing is held any longer, after so many bytes: what would have happened before what comes
    /// next has happened, but for an end.
    pub(in crate::relay) fn skip_held(&mut self, sent: u64) {
        for (_, gate) in core::mem::take(&mut self.gates) {
            match gate {
                Gate::Pace(rule, pace) => self.paces.begin(rule, pace.beginning_at(sent)),
                Gate::Unpace(rule) => self.paces.end(rule),
                gate if gate.is_last() => self.gates.push_back((sent, gate)),
                _ => {}
            }
        }
    }

    /// Whether nothing more comes.
    pub(in crate::relay) fn is_over(&self) -> bool {
        self.gates.back().is_some_and(|(_, gate)| gate.is_last())
    }

    /// Opens the gates that can be opened now, once so many bytes were sent and others are held;
    /// the one that is reached and stays closed.
    pub(in crate::relay) fn open(&mut self, sent: u64, held: usize) -> Option<Gate> {
        let mut closed = None;
        while let Some((_, gate)) = self.gates.front_mut().filter(|(at, _)| *at <= sent) {
            match gate {
                Gate::Stall(rule, time) => *gate = Gate::Until(*rule, self.now + *time),
                Gate::Until(_, time) | Gate::Delayed { until: time, .. } if *time <= self.now => {
                    self.due = (held > 0).then_some(*time);
                    self.gates.pop_front();
                }
                Gate::Pace(rule, pace) => {
                    self.paces.begin(*rule, pace.clone());
                    self.gates.pop_front();
                }
                Gate::Unpace(rule) => {
                    self.paces.end(*rule);
                    self.gates.pop_front();
                }
                _ => {
                    closed = Some(gate.clone());
                    break;
                }
            }
        }
        self.measure(sent, held);
        closed
    }

    /// Asks the paces how many bytes may pass now.
    fn measure(&mut self, sent: u64, held: usize) {
        let ahead = self.gates.front().map(|(at, _)| at - sent);
        let len = ahead.map_or(held as u64, |ahead| ahead.min(held as u64));
        let may_grow = ahead.is_none() && !self.has_ended && self.has_room(held);
        self.paces.measure(Unsent { sent, len, may_grow }, self.now);
    }

    /// Records whether the receiver takes bytes.
    pub(in crate::relay) fn note_writable(&mut self, is_writable: bool) {
        self.paces.is_blocked = !is_writable;
    }

    /// How many bytes of the output can be sent now, after so many of them were.
    pub(in crate::relay) fn ahead(&self, sent: u64) -> usize {
        let ahead = self.gates.front().map_or(u64::MAX, |(at, _)| at - sent);
        usize::try_from(ahead.min(self.paces.allowed)).unwrap_or(usize::MAX)
    }

    /// Records that so many bytes of the output were sent.
    pub(in crate::relay) fn handle_sent(&mut self, count: usize, held: usize) {
        let now = self.now;
        self.paces.all.iter_mut().for_each(|(_, pace)| pace.handle_sent(count as u64, now));
        if !self.paces.all.is_empty() {
            // Until the time is looked at again.
            self.paces.allowed = 0;
        }
        self.hold.is_full &= held + self.gates.len() * GATE_LEN >= self.hold.limit;
    }

    /// When what was sent last was due, if a time said so.
    pub(in crate::relay) fn take_due(&mut self) -> Option<Timestamp> {
        self.due.take()
    }

    /// The gate that is reached once so many bytes were sent, opened or not.
    pub(in crate::relay) fn at_gate(&self, sent: u64) -> Option<&Gate> {
        self.gates.front().filter(|(at, _)| *at == sent).map(|(_, gate)| gate)
    }

    /// Whether a time must come before more is sent, after so many bytes.
    pub(in crate::relay) fn is_waiting(&self, sent: u64, held: usize) -> bool {
        let is_timed = |gate: &Gate| matches!(gate, Gate::Stall(..)) || gate.opens_at().is_some();
        self.at_gate(sent).is_some_and(is_timed)
            || held > 0 && self.paces.allowed == 0 && !self.paces.all.is_empty()
    }

    /// When that time comes.
    pub(in crate::relay) fn deadline(&self, sent: u64) -> Timestamp {
        self.at_gate(sent).and_then(Gate::opens_at).unwrap_or(self.paces.more_at)
    }

    /// Whether more may be received while so much is held.
    pub(in crate::relay) fn has_room(&self, held: usize) -> bool {
        if held == 0 && self.gates.is_empty() {
            return true;
        }
        let is_holding = matches!(self.gates.back(), Some((_, Gate::Hold)));
        !is_holding && held + self.gates.len() * GATE_LEN < self.room()
    }

    /// Records what is held now.
    pub(in crate::relay) fn note_held(&mut self, held: usize) {
        if !self.delays.is_empty() && held + self.gates.len() * GATE_LEN >= self.hold.limit {
            self.note_full();
        }
    }

    /// How much must be held although it could not be sent: what is delayed or merged.
    fn room(&self) -> usize {
        if !self.delays.is_empty() {
            return self.hold.limit;
        }
        let room = self.paces.all.iter().map(|(_, pace)| pace.room()).max().unwrap_or(0);
        usize::try_from(room).unwrap_or(usize::MAX).min(self.hold.limit)
    }
}
