//! What rules have begun in a stream that goes on after their place.

use alloc::vec::Vec;

/// What of it is going on, each by its rule, in the order in which it began.
#[derive(Debug, Default)]
pub(super) struct Lasting(Vec<(usize, Effect)>);

/// Something that a rule has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// So many of the next bytes are dropped, after those that other rules drop.
    Drop(u64),
    /// All bytes are dropped of frames before this one.
    DropBefore(u64),
    /// All bytes are dropped, and FIN is not passed on.
    BlackHole,
    /// FIN is not passed on.
    SwallowFin,
    /// At most so many bytes are received at once.
    Window(u64),
}

impl Effect {
    /// Both of one kind together; `None`: they are of two kinds.
    fn and(self, other: Effect) -> Option<Effect> {
        Some(match (self, other) {
            (Effect::Drop(one), Effect::Drop(other)) => Effect::Drop(one.saturating_add(other)),
            (Effect::DropBefore(one), Effect::DropBefore(other)) => {
                Effect::DropBefore(one.max(other))
            }
            (Effect::Window(one), Effect::Window(other)) => Effect::Window(one.min(other)),
            (one, other) if one == other => one,
            _ => return None,
        })
    }

    /// Whether it drops bytes.
    const fn drops(self) -> bool {
        matches!(self, Effect::Drop(_) | Effect::DropBefore(_) | Effect::BlackHole)
    }
}

impl Lasting {
    pub(super) fn begin(&mut self, rule: usize, effect: Effect) {
        // One for each rule, however often that happens.
        for (_, begun) in self.0.iter_mut().filter(|(of, _)| *of == rule) {
            if let Some(both) = begun.and(effect) {
                *begun = both;
                return;
            }
        }
        self.0.push((rule, effect));
    }

    /// Ends what a rule has begun; whether there was something.
    pub(super) fn lift(&mut self, rule: usize) -> bool {
        let before = self.0.len();
        self.0.retain(|(of, _)| *of != rule);
        self.0.len() < before
    }

    /// The rules that have begun something.
    pub(super) fn rules(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|(rule, _)| *rule)
    }

    /// A frame of that number begins.
    pub(super) fn begin_frame(&mut self, number: u64) {
        self.0.retain(|(_, it)| !matches!(it, Effect::DropBefore(before) if *before <= number));
    }

    /// There are no frames from here on.
    pub(super) fn lose_frames(&mut self) {
        self.0.retain(|(_, it)| !matches!(it, Effect::DropBefore(_)));
    }

    /// How many of the next `count` bytes are dropped: the first ones.
    pub(super) fn drop_next(&mut self, count: usize) -> usize {
        let mut left = count as u64;
        for (_, effect) in &mut self.0 {
            if let Effect::Drop(more) = effect {
                let now = left.min(*more);
                (*more, left) = (*more - now, left - now);
            }
        }
        self.0.retain(|(_, it)| *it != Effect::Drop(0));
        let drops_all = self.0.iter().any(|(_, it)| it.drops() && !matches!(it, Effect::Drop(_)));
        // No more than there are.
        if drops_all { count } else { count - left as usize }
    }

    /// Whether bytes are dropped.
    pub(super) fn drops(&self) -> bool {
        self.0.iter().any(|(_, it)| it.drops())
    }

    /// Whether all bytes that follow are dropped.
    pub(super) fn drops_all(&self) -> bool {
        self.0.iter().any(|(_, it)| *it == Effect::BlackHole)
    }

    /// Whether FIN is not passed on.
    pub(super) fn swallows_fin(&self) -> bool {
        self.0.iter().any(|(_, it)| matches!(it, Effect::BlackHole | Effect::SwallowFin))
    }

    /// How many bytes are received at once at most.
    pub(super) fn window(&self) -> Option<u64> {
        let windows = self.0.iter().filter_map(|(_, it)| match it {
            Effect::Window(bytes) => Some(*bytes),
            _ => None,
        });
        windows.min()
    }
}
