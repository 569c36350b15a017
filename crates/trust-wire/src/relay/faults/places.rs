//! Where faults are that have not happened.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use super::draw::draw;
use super::fault::{Chance, FaultAction, FaultPlace, FramePart, RelayFault};
use super::search::Search;

/// In how many bytes of a stream a random place is drawn.
const RANDOM_LEN: u64 = 1024;

/// Where faults are that have not happened.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Those at known places, the next one last.
    pub(super) armed: Vec<Armed>,
    /// In frames that have not begun, or whose length is not known.
    pub(super) in_frames: Vec<(u64, FramePart, Pending)>,
    /// Where some frames begin.
    pub(super) at_starts: Vec<(FaultPlace, Pending)>,
    pub(super) searches: Vec<(Search, Pending)>,
    pub(super) at_end: Vec<Pending>,
    /// At times since the relay began, in their order.
    pub(super) timed: Vec<(Duration, Pending)>,
    /// At pauses, the shortest first.
    pub(super) idle: Vec<(Duration, Pending)>,
    /// One of them needs to know the time when bytes come.
    pub(super) need_time: bool,
}

/// A fault that may happen.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) rule: usize,
    pub(super) action: FaultAction,
    /// How many more times at most.
    left: u64,
}

/// A fault at a known place.
#[derive(Debug)]
pub(super) struct Armed {
    pub(super) at: u64,
    pub(super) what: Pending,
    /// The frame that it must be in.
    pub(super) frame: Option<u64>,
    again: Option<Again>,
}

/// Where a fault that has happened happens again.
#[derive(Clone, Copy, Debug)]
enum Again {
    After(u64),
    At(Chance),
}

impl Pending {
    /// In which order faults at one place happen. The end of a rule comes before what else that
    /// rule would do there.
    fn order(&self) -> (usize, bool) {
        (self.rule, self.action != FaultAction::Lift)
    }

    /// This time, if there is one, and what is left of it.
    fn take(&mut self) -> Option<Pending> {
        self.left = self.left.checked_sub(1)?;
        Some(self.clone())
    }
}

impl Again {
    /// The first place from there on; `None`: there is none.
    fn next(self, from: u64) -> Option<u64> {
        match self {
            Again::After(step) => from.checked_next_multiple_of(step.max(1)),
            Again::At(Chance { per_million: 0, .. }) => None,
            Again::At(chance) => {
                // Two numbers for each part of the stream: whether there is a place in it, and
                // where.
                let place = |part: u64| part * RANDOM_LEN + draw(chance.seed, !part) % RANDOM_LEN;
                let last = u64::MAX / RANDOM_LEN - 1;
                let mut parts = from / RANDOM_LEN..=last;
                parts.find(|part| chance.hits(*part) && place(*part) >= from).map(place)
            }
        }
    }
}

impl Armed {
    /// One that happens once.
    pub(super) const fn once(at: u64, what: Pending, frame: Option<u64>) -> Armed {
        Armed { at, what, frame, again: None }
    }

    /// A fault at the first place from `from` on at which it happens again.
    fn again(from: u64, what: Pending, again: Again) -> Option<Armed> {
        let at = again.next(from)?;
        Some(Armed { at, what, frame: None, again: Some(again) })
    }

    /// What happens now, and where that happens again.
    fn happen(mut self) -> (Pending, Option<Armed>) {
        let now = self.what.clone();
        self.what.left = self.what.left.saturating_sub(1);
        let again = self.again.filter(|_| self.what.left > 0).zip(self.at.checked_add(1));
        (now, again.and_then(|(again, from)| Armed::again(from, self.what, again)))
    }

    fn order(&self) -> (u64, (usize, bool)) {
        (self.at, self.what.order())
    }
}

/// Whether the time must be known when that happens.
const fn needs_time(action: &FaultAction) -> bool {
    matches!(action, FaultAction::Delay { .. } | FaultAction::HoldUntil(_))
}

impl Places {
    /// Adds a fault, after that many bytes: it does not happen at a place before.
    pub(super) fn add(&mut self, fault: RelayFault, position: u64) {
        let RelayFault { rule, place, action } = fault;
        self.need_time |= needs_time(&action);
        let (place, left) = match place {
            FaultPlace::First { times, of } => (*of, times),
            FaultPlace::Match(_) => (place, 1),
            place => (place, u64::MAX),
        };
        let what = Pending { rule, action, left };
        if left == 0 {
            return;
        }
        match place {
            FaultPlace::Byte(at) if at < position => {}
            FaultPlace::Byte(at) => self.armed.push(Armed::once(at, what, None)),
            FaultPlace::EveryBytes(step) => {
                self.armed.extend(Armed::again(position + 1, what, Again::After(step)));
            }
            FaultPlace::RandomBytes(chance) => {
                self.armed.extend(Armed::again(position, what, Again::At(chance)));
            }
            FaultPlace::Frame { number, part: FramePart::Byte(0) } => {
                let part = FramePart::Byte(what.action.frame_byte());
                self.in_frames.push((number, part, what));
            }
            FaultPlace::Frame { number, part } => self.in_frames.push((number, part, what)),
            FaultPlace::EveryFrames(_) | FaultPlace::RandomFrames(_) => {
                self.at_starts.push((place, what));
            }
            FaultPlace::Match(bytes) => {
                self.searches.extend(Search::new(bytes).map(|search| (search, what)));
            }
            FaultPlace::End => self.at_end.push(what),
            FaultPlace::Time(time) => self.timed.push((time, what)),
            FaultPlace::Idle(time) => self.idle.push((time, what)),
            // It has no places of its own.
            FaultPlace::First { .. } => {}
        }
    }

    /// Brings them into their order, once all were added.
    pub(super) fn sort(&mut self) {
        self.armed.sort_by_key(|armed| Reverse(armed.order()));
        self.at_end.sort_by_key(Pending::order);
        self.timed.sort_by_key(|(time, what)| (*time, what.order()));
        self.idle.sort_by_key(|(time, what)| (*time, what.order()));
    }

    pub(super) fn arm(&mut self, armed: Armed) {
        let before = self.armed.partition_point(|other| other.order() > armed.order());
        self.armed.insert(before, armed);
    }

    /// What happens next at or before that position, if something does.
    pub(super) fn take_due(&mut self, position: u64) -> Option<Pending> {
        let due = self.armed.pop_if(|armed| armed.at <= position)?;
        let (now, again) = due.happen();
        again.into_iter().for_each(|again| self.arm(again));
        Some(now)
    }

    /// Position of the next fault at a known place.
    pub(super) fn next(&self) -> u64 {
        self.armed.last().map_or(u64::MAX, |armed| armed.at)
    }

    /// Arms what happens where this frame begins, or after so many of its bytes as it keeps; 0 is
    /// what comes before the first one.
    pub(super) fn begin_frame(&mut self, number: u64, start: u64) {
        if number == 0 {
            return;
        }
        for index in 0..self.at_starts.len() {
            let (place, what) = &self.at_starts[index];
            let is_here = match place {
                FaultPlace::EveryFrames(step) => number.is_multiple_of((*step).max(1)),
                FaultPlace::RandomFrames(chance) => chance.hits(number),
                _ => false,
            };
            if is_here {
                let at = start.saturating_add(what.action.frame_byte());
                self.arm(Armed::once(at, what.clone(), Some(number)));
            }
        }
    }

    /// Counts a time that a fault of many frames has happened: not each of them is long enough.
    pub(super) fn note_happened(&mut self, rule: usize) {
        let is_it = |what: &Pending| what.rule == rule && what.action != FaultAction::Lift;
        for (_, what) in self.at_starts.iter_mut().filter(|(_, what)| is_it(what)) {
            what.left = what.left.saturating_sub(1);
        }
        self.at_starts.retain(|(_, what)| what.left > 0);
    }

    /// Arms what was searched for and ends with these bytes, the last ones before `position`.
    pub(super) fn find(&mut self, position: u64, bytes: &[u8]) {
        for index in 0..self.searches.len() {
            let (search, what) = &mut self.searches[index];
            if search.advance(bytes)
                && let Some(what) = what.take()
            {
                self.arm(Armed::once(position, what, None));
            }
        }
        self.searches.retain(|(_, what)| what.left > 0);
    }

    /// Has nothing more happen of a rule.
    pub(super) fn disarm(&mut self, rule: usize) {
        let stays = |what: &Pending| what.rule != rule;
        self.armed.retain(|armed| stays(&armed.what));
        self.in_frames.retain(|(_, _, what)| stays(what));
        self.at_starts.retain(|(_, what)| stays(what));
        self.searches.retain(|(_, what)| stays(what));
        self.at_end.retain(stays);
        self.timed.retain(|(_, what)| stays(what));
        self.idle.retain(|(_, what)| stays(what));
        let need_time = self.pending().any(|what| needs_time(&what.action));
        self.need_time = need_time;
    }

    /// The rules of which something may happen.
    pub(super) fn rules(&self) -> impl Iterator<Item = usize> {
        let at_times = self.timed.iter().chain(&self.idle).map(|(_, what)| what);
        self.pending().chain(at_times).map(|what| what.rule)
    }

    /// What may happen, but for what only happens at a time in any case.
    fn pending(&self) -> impl Iterator<Item = &Pending> {
        let armed = self.armed.iter().map(|armed| &armed.what);
        let in_frames = self.in_frames.iter().map(|(_, _, what)| what);
        let at_starts = self.at_starts.iter().map(|(_, what)| what);
        let searches = self.searches.iter().map(|(_, what)| what);
        armed.chain(in_frames).chain(at_starts).chain(searches).chain(&self.at_end)
    }
}
