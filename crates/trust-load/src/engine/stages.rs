//! The stages of a run, and what is told of them: connecting, warm-up, the measured part with its
//! intervals, and the last answers.

use std::time::Duration;

use super::meter::Meter;
use super::place::State;
use super::timetable::Stage;
use super::{Engine, TAIL};
use crate::shape::Length;
use crate::summary::{Live, Phase, per_second};

/// What an interval came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastPart {
    /// Messages per second.
    rate: f64,
    /// As in [`Live`].
    p50: Option<u64>,
    tail: Option<(&'static str, u64)>,
}

impl Engine<'_> {
    /// Stages, intervals and ticks.
    pub(super) fn handle_time(&mut self, now: Duration) {
        self.handle_parts(now);
        if self.timetable.stage == Stage::Measuring && now >= self.timetable.end {
            self.end_sending(now);
        }
        if self.timetable.take_tick(now) {
            self.listener.live(&self.live(now));
        }
    }

    /// Ends the warm-up and intervals that are over by now, so that whatever is counted next is
    /// counted where it belongs.
    pub(super) fn handle_parts(&mut self, now: Duration) {
        if self.timetable.stage == Stage::WarmUp && now >= self.timetable.measure_from {
            self.begin_measuring();
        }
        // One after the other, also those in which this process did not get to run: an empty second
        // is one too.
        while now >= self.timetable.next_part {
            let is_last = self.timetable.end == Duration::MAX
                || self.timetable.next_part >= self.timetable.end;
            if is_last && self.population.is_settled() {
                // Nothing more comes but the server's FIN: the interval ended with the last answer.
                self.timetable.next_part = Duration::MAX;
                return;
            }
            self.end_part();
        }
    }

    /// All first connections are there, or failed: clients begin to send.
    pub(super) fn begin_sending(&mut self, now: Duration) {
        self.timetable.begin_sending(now, self.shape);
        self.tally.next_part(now);
        self.tally.plan(self.timetable.measure_from);
        if self.shape.warm_up.is_zero() {
            self.begin_measuring();
        }
        for index in 0..self.places.len() {
            self.pump(index);
        }
    }

    pub(super) fn begin_measuring(&mut self) {
        self.timetable.stage = Stage::Measuring;
        self.tally.measure();
        self.timetable.plan_part(self.timetable.measure_from);
        self.meter = Meter::start(self.timetable.measure_from);
        self.listener.measuring(self.timetable.began());
    }

    /// Nothing more is due: connections that have all their answers close.
    fn end_sending(&mut self, now: Duration) {
        self.timetable.stage = Stage::Finishing;
        self.meter.stop(now);
        for index in 0..self.places.len() {
            match self.places[index].state {
                State::Open(_) => self.pump(index),
                State::Waiting if !self.places[index].has_tried => {
                    self.retire(index, self.timetable.end)
                }
                State::Waiting if self.has_nothing_to_send(index) => {
                    self.retire(index, self.timetable.end)
                }
                _ => {}
            }
        }
    }

    fn end_part(&mut self) {
        let end = self.timetable.next_part;
        let part = self.tally.part(self.timetable.begin, end);
        let quantile = |q| (!part.latency.is_empty()).then(|| part.latency.value_at_quantile(q));
        let name = if part.latency.supports(0.99) { "p99" } else { "max" };
        self.last_part = LastPart {
            rate: per_second(part.answered, part.length),
            p50: quantile(0.5),
            tail: quantile(0.99).map(|time| (name, time)),
        };
        if self.timetable.stage >= Stage::Measuring {
            self.is_cut |= self.listener.interval(&part).is_break();
        }
        self.tally.next_part(end);
        self.timetable.plan_part(end);
    }

    /// Reports the last interval. It lasts until the end of the measured part, and of the answers
    /// that came after it.
    ///
    /// `until` is the end of the measured part; `is_stopped`: something ended the run before it was
    /// over.
    pub(super) fn end_last_part(&mut self, until: Duration, is_stopped: bool) {
        let now = self.timetable.now();
        if is_stopped {
            self.handle_parts(now);
            self.count_outstanding(now);
        }
        let begun = self.tally.part_begun();
        let end = match is_stopped {
            true => now,
            false => until.max(self.tally.last_settled),
        };
        // Nothing comes after the last answer, so its interval may be told longer than it took: a
        // single answer in the first millisecond after the end is no rate of a thousand a second.
        let end = if begun >= self.timetable.end { end.max(begun + TAIL) } else { end };
        let part = self.tally.part(self.timetable.begin, end);
        if self.timetable.stage >= Stage::Measuring && (begun < until || !part.is_empty()) {
            self.is_cut |= self.listener.interval(&part).is_break();
        }
        self.tally.next_part(end);
    }

    fn live(&self, now: Duration) -> Live {
        let phase = match self.timetable.stage {
            Stage::Connecting => Phase::Connecting,
            Stage::WarmUp => Phase::WarmUp,
            Stage::Measuring => Phase::Measuring,
            Stage::Finishing => Phase::Finishing,
        };
        let elapsed = match self.timetable.stage {
            Stage::Connecting => now,
            _ => now.saturating_sub(self.timetable.begin),
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
        let is_begun = self.timetable.stage != Stage::Connecting;
        let LastPart { rate, p50, tail } = self.last_part;
        Live {
            phase,
            elapsed,
            done: done.filter(|_| is_begun),
            left: left.filter(|_| is_begun),
            connections: self.population.open,
            answered,
            rate,
            p50,
            tail,
            errors: self.tally.errors.total(),
        }
    }
}
