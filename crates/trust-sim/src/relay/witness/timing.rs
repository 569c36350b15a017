//! When bytes may be sent that rules delay, and how many at once.

use std::time::Duration;

use crate::relay::model::SendPattern;

/// When the output of a direction may be sent.
#[derive(Debug, Default)]
pub(super) struct WatchedTiming {
    /// From which byte of the output on nothing is sent before which time, both rising.
    delayed: Vec<(usize, Duration)>,
    /// How many of these times have come.
    come: usize,
    paces: Vec<WatchedPace>,
    /// What may be held because of a pattern that has ended.
    left_room: usize,
}

/// A pattern that has begun.
#[derive(Debug)]
struct WatchedPace {
    rule: usize,
    pattern: SendPattern,
    /// At which byte of the output.
    start: usize,
    /// When something was sent last.
    sent_at: Option<Duration>,
    /// How much more was sent than the rate allows, in billionths of a byte.
    ahead: u128,
}

impl WatchedTiming {
    /// What comes from that byte on waits until then.
    pub(super) fn delay(&mut self, from: usize, until: Duration) {
        if self.delayed.last().is_none_or(|(_, last)| *last < until) {
            self.delayed.push((from, until));
        }
    }

    /// The relay looks at the time once so many bytes were sent.
    pub(super) fn look(&mut self, sent: usize, now: Duration) {
        while self.delayed.get(self.come).is_some_and(|it| it.0 <= sent && it.1 <= now) {
            self.come += 1;
        }
    }

    /// The first byte that may not be sent yet, and when it may.
    pub(super) fn next(&self) -> Option<(usize, Duration)> {
        self.delayed.get(self.come).copied()
    }

    pub(super) fn begin(&mut self, rule: usize, pattern: SendPattern, start: usize) {
        self.paces.push(WatchedPace { rule, pattern, start, sent_at: None, ahead: 0 });
    }

    /// Ends what that rule has begun.
    pub(super) fn end(&mut self, rule: usize) {
        self.left_room = self.most_held();
        self.paces.retain(|pace| pace.rule != rule);
    }

    /// Whether it may not be known if more can be sent now.
    pub(super) fn is_paced(&self) -> bool {
        !self.paces.is_empty()
    }

    /// Why so many bytes cannot be sent at once, after so many, if that is so.
    pub(super) fn objection(&self, sent: usize, len: usize, now: Duration) -> Option<String> {
        self.paces.iter().find_map(|pace| pace.objection(sent, len, now))
    }

    pub(super) fn note_sent(&mut self, count: usize, now: Duration) {
        for pace in &mut self.paces {
            let before = pace.sent_at.replace(now);
            if let SendPattern::Rate(rate) = pace.pattern {
                pace.ahead = pace.left(rate, before, now) + count as u128 * 1_000_000_000;
            }
        }
    }

    /// How much is taken to be held for patterns at most.
    pub(super) fn room(&self) -> usize {
        let room = |pace: &WatchedPace| match pace.pattern {
            SendPattern::Dribble { bytes, .. } | SendPattern::Merge { bytes, .. } => bytes as usize,
            SendPattern::Rate(_) | SendPattern::Split { .. } => 0,
        };
        self.paces.iter().map(room).max().unwrap_or(0)
    }

    /// The same, and what was for patterns that have ended: it may still be there.
    pub(super) fn most_held(&self) -> usize {
        self.room().max(self.left_room)
    }

    /// How long it takes at most until something can be sent.
    pub(super) fn longest_wait(&self) -> Duration {
        let wait = |pace: &WatchedPace| match pace.pattern {
            SendPattern::Rate(rate) => {
                Duration::from_micros(1001).max(Duration::from_nanos(1_000_000_000 / rate + 1))
            }
            SendPattern::Dribble { per, .. } => per,
            SendPattern::Merge { within, .. } => within,
            SendPattern::Split { .. } => Duration::ZERO,
        };
        self.paces.iter().map(wait).max().unwrap_or_default()
    }
}

impl WatchedPace {
    /// How much of what was ahead then is still ahead now.
    fn left(&self, rate: u64, before: Option<Duration>, now: Duration) -> u128 {
        let passed = before.map_or(0, |before| (now - before).as_nanos());
        self.ahead.saturating_sub(passed * u128::from(rate))
    }

    fn objection(&self, sent: usize, len: usize, now: Duration) -> Option<String> {
        let len = len as u64;
        let is_right = match self.pattern {
            SendPattern::Rate(rate) => {
                // A millisecond's worth at once; below a byte that is one that was late, too.
                // Times are whole nanoseconds.
                let most = u128::from((rate / 1000).max(2)) * 1_000_000_000 + 2 * u128::from(rate);
                self.left(rate, self.sent_at, now) + u128::from(len) * 1_000_000_000 <= most
            }
            SendPattern::Dribble { bytes, per } => {
                len <= bytes && self.sent_at.is_none_or(|sent_at| now >= sent_at + per)
            }
            SendPattern::Split { first, every } => {
                let into = (sent - self.start) as u64 % every;
                len <= if into < first { first - into } else { every - into }
            }
            SendPattern::Merge { bytes, .. } => len <= bytes,
        };
        (!is_right).then(|| format!("{len} bytes after {sent} at {now:?}: {self:?}"))
    }
}
