//! The stages of a run, and what is told of them: connecting, warm-up, the measured part with its intervals, and the last answers.

use std::time::Duration;

use jiff::Timestamp;

use super::meter::Meter;
use super::place::State;
use super::{Engine, INTERVAL, Stage, TAIL, TICK};
use crate::shape::Length;
use crate::summary::{Live, Phase, per_second};

impl Engine<'_> {
    /// Stages, intervals and ticks.
    pub(super) fn handle_time(&mut self, now: Duration) {
        self.handle_parts(now);
        if self.stage == Stage::Measuring && now >= self.end {
            self.end_sending(now);
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.listener.live(&self.live(now));
        }
    }

    /// Ends the warm-up and intervals that are over by now, so that whatever is counted next is counted where it belongs.
    pub(super) fn handle_parts(&mut self, now: Duration) {
        if self.stage == Stage::WarmUp && now >= self.measure_from {
            self.begin_measuring();
        }
        // One after the other, also those in which this process did not get to run: an empty second is one too.
        while now >= self.next_part {
            let is_last = self.end == Duration::MAX || self.next_part >= self.end;
            if is_last && self.is_settled() {
                // Nothing more comes but the server's FIN: the interval ended with the last answer.
                self.next_part = Duration::MAX;
                return;
            }
            self.end_part();
        }
    }

    /// Whether every message has had its answer, or never will.
    pub(super) fn is_settled(&self) -> bool {
        self.done == self.places.len()
    }

    /// All first connections are there, or failed: clients begin to send.
    pub(super) fn begin_sending(&mut self, now: Duration) {
        self.stage = Stage::WarmUp;
        self.begin = now;
        self.measure_from = now + self.shape.warm_up;
        self.next_part = now + INTERVAL;
        self.tally.next_part(now);
        self.tally.plan(self.measure_from);
        if let Length::Time(time) = self.shape.length {
            self.end = self.measure_from + time;
            self.finish_by =
                self.shape.timeout.map_or(Duration::MAX, |limit| self.end.saturating_add(limit));
        }
        if self.shape.warm_up.is_zero() {
            self.begin_measuring();
        }
        for index in 0..self.places.len() {
            self.pump(index);
        }
    }

    pub(super) fn begin_measuring(&mut self) {
        self.stage = Stage::Measuring;
        self.tally.measure();
        self.next_part = self.boundary(self.measure_from + INTERVAL);
        self.meter = Meter::start(self.measure_from);
        self.listener.measuring(self.began());
    }

    /// When the measured part began, or would have.
    pub(super) fn began(&self) -> Timestamp {
        match self.stage >= Stage::Measuring {
            true => self.started_at + self.measure_from,
            false => self.started_at,
        }
    }

    /// Nothing more is due: connections that have all their answers close.
    fn end_sending(&mut self, now: Duration) {
        self.stage = Stage::Finishing;
        self.meter.stop(now);
        for index in 0..self.places.len() {
            match self.places[index].state {
                State::Open(_) => self.pump(index),
                State::Waiting if !self.places[index].has_tried => self.retire(index, self.end),
                State::Waiting if self.has_nothing_to_send(index) => self.retire(index, self.end),
                _ => {}
            }
        }
    }

    fn end_part(&mut self) {
        let end = self.next_part;
        let part = self.tally.part(self.begin, end);
        let quantile = |q| (!part.latency.is_empty()).then(|| part.latency.value_at_quantile(q));
        self.live = (per_second(part.answered, part.length), quantile(0.5), quantile(0.99));
        if self.stage >= Stage::Measuring {
            self.is_cut |= self.listener.interval(&part).is_break();
        }
        self.tally.next_part(end);
        self.next_part = self.boundary(end + INTERVAL);
    }

    /// Where an interval ends that could end then: not when the last messages are due, whose answers a moment later would
    /// otherwise be an interval of their own, as short as it looks fast.
    fn boundary(&self, at: Duration) -> Duration {
        let after = self.end.saturating_add(TAIL);
        if (self.end..after).contains(&at) { after } else { at }
    }

    /// Tells of the last interval. It lasts until the end of the measured part, and of the answers that came after it.
    ///
    /// `until` is the end of the measured part; `is_stopped`: something ended the run before it was over.
    pub(super) fn end_last_part(&mut self, until: Duration, is_stopped: bool) {
        let now = self.now();
        if is_stopped {
            self.handle_parts(now);
            self.count_outstanding(now);
        }
        let begun = self.tally.part_begun();
        let end = match is_stopped {
            true => now,
            false => until.max(self.last_settled),
        };
        // Nothing comes after the last answer, so its interval may be told longer than it took: a single answer in the first
        // millisecond after the end is no rate of a thousand a second.
        let end = if begun >= self.end { end.max(begun + TAIL) } else { end };
        let part = self.tally.part(self.begin, end);
        if self.stage >= Stage::Measuring && (begun < until || !part.is_empty()) {
            self.is_cut |= self.listener.interval(&part).is_break();
        }
        self.tally.next_part(end);
    }

    fn live(&self, now: Duration) -> Live {
        let phase = match self.stage {
            Stage::Connecting => Phase::Connecting,
            Stage::WarmUp => Phase::WarmUp,
            Stage::Measuring => Phase::Measuring,
            Stage::Finishing => Phase::Finishing,
        };
        let elapsed = match self.stage {
            Stage::Connecting => now,
            _ => now.saturating_sub(self.begin),
        };
        let answered = self.tally.answered_so_far;
        let (done, left) = match self.shape.length {
            Length::Time(time) => {
                let all = self.shape.warm_up + time;
                let done = (elapsed.as_secs_f64() / all.as_secs_f64()).min(1.0);
                (Some(done), Some(all.saturating_sub(elapsed)))
            }
            Length::Messages { clients, each } => {
                let done = answered as f64 / (clients as f64 * each as f64);
                let left = elapsed.as_secs_f64() / done * (1.0 - done);
                (Some(done.min(1.0)), Duration::try_from_secs_f64(left).ok())
            }
        };
        let is_begun = self.stage != Stage::Connecting;
        let (rate, p50, p99) = self.live;
        Live {
            phase,
            elapsed,
            done: done.filter(|_| is_begun),
            left: left.filter(|_| is_begun),
            connections: self.open,
            answered,
            rate,
            p50,
            p99,
            errors: self.tally.errors.total(),
        }
    }
}
