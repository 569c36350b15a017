//! The stages of a run, and what is told of them: connecting, warm-up, the measured part with its intervals, and the last answers.

use std::time::Duration;

use super::meter::Meter;
use super::place::State;
use super::{Engine, INTERVAL, Stage, TICK};
use crate::load::shape::Length;
use crate::load::summary::{Live, Phase, per_second};

impl Engine<'_> {
    /// Stages, intervals and ticks.
    pub(super) fn handle_time(&mut self, now: Duration) {
        if self.stage == Stage::WarmUp && now >= self.measure_from {
            self.begin_measuring();
        }
        if self.stage == Stage::Measuring && now >= self.end {
            self.end_sending();
        }
        if now >= self.next_part {
            self.end_part(now);
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.listener.live(&self.live(now));
        }
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
        self.meter = Meter::start();
        self.listener.measuring(self.meter.began);
    }

    /// Nothing more is due: connections that have all their answers close.
    fn end_sending(&mut self) {
        self.stage = Stage::Finishing;
        self.meter.stop();
        for index in 0..self.places.len() {
            match self.places[index].state {
                State::Open(_) => self.pump(index),
                State::Waiting if !self.places[index].has_tried => self.retire(index, self.end),
                State::Waiting if self.has_nothing_to_send(index) => self.retire(index, self.end),
                _ => {}
            }
        }
    }

    fn end_part(&mut self, now: Duration) {
        let part = self.tally.part(self.begin, now);
        let quantile = |q| (!part.latency.is_empty()).then(|| part.latency.value_at_quantile(q));
        self.live = (per_second(part.answered, part.length), quantile(0.5), quantile(0.99));
        if self.stage >= Stage::Measuring {
            self.is_cut |= self.listener.interval(&part).is_break();
        }
        self.tally.next_part(now);
        // Always whole seconds from the begin, also if one was late.
        let mut next = self.next_part;
        while next <= now {
            next += INTERVAL;
        }
        self.next_part = self.boundary(next);
    }

    /// Where an interval ends that could end then: not when the last messages are due, whose answers a moment later would
    /// otherwise be an interval of their own, as short as it is slow.
    fn boundary(&self, at: Duration) -> Duration {
        if at == self.end { at + INTERVAL } else { at }
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
