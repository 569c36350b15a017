//! When what happens in a run: its stages, and what there is to do later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::place::{Alarm, What};
use super::{INTERVAL, TAIL, TICK};
use crate::schedule::Schedule;
use crate::shape::{Length, Shape};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Connecting,
    WarmUp,
    Measuring,
    Finishing,
}

/// When what happens in a run. `Duration::MAX` is never, or not known yet.
pub(super) struct Timetable {
    /// The one clock of a run: all its times count from here.
    pub(super) started: Instant,
    /// The same moment on the wall.
    started_at: Timestamp,
    pub(super) stage: Stage,
    /// When the clients began to send.
    pub(super) begin: Duration,
    /// When measuring begins.
    pub(super) measure_from: Duration,
    /// When no more messages are due.
    pub(super) end: Duration,
    /// When the wait for what is still owed ends.
    pub(super) finish_by: Duration,
    /// When the next connection attempt may be made.
    next_connect: Duration,
    next_tick: Duration,
    /// When the interval ends; never: when the run does.
    pub(super) next_part: Duration,
    pub(super) next_look: Duration,
    /// What places have to do later.
    alarms: BinaryHeap<Reverse<Alarm>>,
}

impl Timetable {
    pub(super) fn start() -> Timetable {
        Timetable {
            started: Instant::now(),
            started_at: Timestamp::now(),
            stage: Stage::Connecting,
            begin: Duration::ZERO,
            measure_from: Duration::MAX,
            end: Duration::MAX,
            finish_by: Duration::MAX,
            next_connect: Duration::ZERO,
            next_tick: TICK,
            next_part: Duration::MAX,
            next_look: Duration::ZERO,
            alarms: BinaryHeap::new(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// When the measured part began, or would have.
    pub(super) fn began(&self) -> Timestamp {
        match self.stage >= Stage::Measuring {
            true => self.started_at + self.measure_from,
            false => self.started_at,
        }
    }

    /// Clients begin to send now.
    pub(super) fn begin_sending(&mut self, now: Duration, shape: &Shape) {
        self.stage = Stage::WarmUp;
        self.begin = now;
        self.measure_from = now + shape.warm_up;
        self.next_part = now + INTERVAL;
        if let Length::Time(time) = shape.length {
            self.end = self.measure_from + time;
            self.finish_by = self.end.saturating_add(shape.grace);
        }
    }

    /// Whether more time is left, if it is a time that ends the run. Nothing may be due in the rest
    /// of it.
    pub(super) fn is_before_end(&self) -> bool {
        self.end != Duration::MAX && self.now() < self.end
    }

    /// The next time at which something is to be done.
    pub(super) fn next_moment(&self) -> Duration {
        let alarm = self.alarms.peek().map_or(Duration::MAX, |Reverse(alarm)| alarm.at);
        let of_stage = match self.stage {
            Stage::Connecting | Stage::Finishing => Duration::MAX,
            Stage::WarmUp => self.measure_from,
            Stage::Measuring => self.end,
        };
        alarm.min(of_stage).min(self.next_tick).min(self.next_part).min(self.next_look)
    }

    /// Whether it is time to tell what is going on.
    pub(super) fn take_tick(&mut self, now: Duration) -> bool {
        let is_due = now >= self.next_tick;
        if is_due {
            self.next_tick = now + TICK;
        }
        is_due
    }

    /// Has the interval that begins at `begin` end an [`INTERVAL`] later, but not when the last
    /// messages are due: their answers a moment later would otherwise be an interval of their own,
    /// as short as it looks fast.
    pub(super) fn plan_part(&mut self, begin: Duration) {
        let at = begin + INTERVAL;
        let after = self.end.saturating_add(TAIL);
        self.next_part = if (self.end..after).contains(&at) { after } else { at };
    }

    /// When the next connection attempt may be made, from then on, with this time to the one after
    /// it.
    pub(super) fn take_connect(&mut self, from: Duration, gap: Duration) -> Duration {
        let at = from.max(self.next_connect);
        if !gap.is_zero() {
            self.next_connect = at + gap;
        }
        at
    }

    /// When the next message of a place is due.
    pub(super) fn due(&self, schedule: &Schedule) -> Duration {
        self.begin.saturating_add(schedule.next())
    }

    pub(super) fn set_alarm(&mut self, at: Duration, place: usize, what: What) {
        self.alarms.push(Reverse(Alarm { at, place, what }));
    }

    /// The earliest alarm that has gone off by now.
    pub(super) fn take_alarm(&mut self, now: Duration) -> Option<Alarm> {
        let Reverse(alarm) = *self.alarms.peek().filter(|Reverse(alarm)| alarm.at <= now)?;
        self.alarms.pop();
        Some(alarm)
    }
}
