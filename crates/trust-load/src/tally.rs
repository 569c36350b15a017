//! What a run has seen so far, in memory that does not grow.

use std::time::Duration;

use trust_cli::framing::Framing;
use trust_net::wire::{Opening, Protocol};

use crate::connection::{Times, nanos};
use crate::summary::{Cause, Counts, Errors, Interval, LATE, WRONG_MAX, Wrong, per_second};
use crate::timings::Timings;
use crate::trend::Trend;

// Many fields: one for each thing that is seen.
/// What a run has seen so far.
///
/// The histograms of an interval are added to those of the run when the interval is over, so that a
/// message is recorded once.
#[derive(Debug, Default)]
pub struct Tally {
    /// Messages that were due before are not measured; in nanoseconds.
    measured_from_ns: u64,
    /// Whether that time has come.
    is_measuring: bool,
    is_open_loop: bool,
    /// An answer that takes longer is slow; `None`: none is.
    timeout_ns: Option<u64>,
    times: MessageTimes,
    /// How long connecting took.
    pub connect: Timings,
    /// Numbers.
    pub counts: Counts,
    /// Whether the latency of measured messages grew, in an open loop.
    trend: Trend,
    /// Errors of the whole run.
    pub errors: Errors,
    /// The first wrong echoes.
    pub wrong: Vec<Wrong>,
    /// How the first answer began that was no echo from its first byte on.
    pub foreign: Option<Opening>,
    /// The median of what was answered before the first message was given up, in nanoseconds.
    usual_ns: Option<u64>,
    /// How the client kept messages waiting.
    pub delays: ClientDelays,
    /// Messages that came back right, those of the warm-up included.
    pub answered_so_far: u64,
    /// When a message was last answered, or given up.
    pub last_settled: Duration,
    part: Part,
}

/// How the client itself kept messages waiting, in an open loop.
#[derive(Debug, Default)]
pub struct ClientDelays {
    /// How late messages were sent.
    pub late: Timings,
    /// Messages that were due while the client itself put off their connection.
    pub put_off: u64,
    /// Messages that had to wait for a place among those on the way on their connection.
    pub held_back: u64,
}

/// Latency and service time of messages. In a closed loop, where a message is due when it is sent,
/// they are the same, and the latter is left empty.
#[derive(Debug, Default)]
struct MessageTimes {
    latency: Timings,
    service: Timings,
}

impl MessageTimes {
    fn service(&self, is_open_loop: bool) -> &Timings {
        if is_open_loop { &self.service } else { &self.latency }
    }
}

/// What an interval has seen so far.
#[derive(Debug, Default)]
struct Part {
    begun: Duration,
    times: MessageTimes,
    answered: u64,
    slow: u64,
    bytes_received: u64,
    errors: Errors,
}

impl Tally {
    /// Nothing seen yet. Answers that take longer than the timeout are counted as slow.
    pub fn new(is_open_loop: bool, timeout: Option<Duration>) -> Tally {
        let timeout_ns = timeout.map(nanos);
        Tally { measured_from_ns: u64::MAX, is_open_loop, timeout_ns, ..Tally::default() }
    }

    /// Says from when on is to be measured, before that time comes.
    pub fn plan(&mut self, measured_from: Duration) {
        self.measured_from_ns = nanos(measured_from);
    }

    /// The time has come: what the warm-up has seen is left out, but its errors. Call it before
    /// answers to measured messages come.
    pub fn measure(&mut self) {
        self.next_part(self.measured_from());
        self.is_measuring = true;
    }

    fn measured_from(&self) -> Duration {
        Duration::from_nanos(self.measured_from_ns)
    }

    /// Whether a message that was due then is measured.
    pub fn is_measured(&self, times: Times) -> bool {
        times.due_ns >= self.measured_from_ns
    }

    /// A connection was made, which took this long; `is_repeated`: its SYN had to be sent again.
    pub fn connected(&mut self, took: Duration, is_repeated: bool) {
        self.counts.connections += 1;
        self.counts.syn_repeated += u64::from(is_repeated);
        self.connect.add(nanos(took));
    }

    /// So many messages were begun; `free_since`: when their connection could have taken them.
    ///
    /// `was_full`: it could not before because as many as are allowed were on the way.
    pub fn begun(&mut self, times: Times, count: usize, free_since: Duration, was_full: bool) {
        if !self.is_measured(times) {
            return;
        }
        let count = count as u64;
        self.counts.sent += count;
        if self.is_open_loop {
            let free_since_ns = nanos(free_since);
            let could_ns = times.due_ns.max(free_since_ns);
            self.delays.late.add_many(times.begun_ns.saturating_sub(could_ns), count);
            let waited_ns = free_since_ns.saturating_sub(times.due_ns);
            self.delays.held_back += if was_full && waited_ns > nanos(LATE) { count } else { 0 };
        }
    }

    /// Counts messages that were begun on a connection that the client could have made at `could`,
    /// and made at `did`.
    pub fn put_off(&mut self, times: Times, count: usize, (could, did): (Duration, Duration)) {
        let waited_ns = nanos(did).saturating_sub(times.due_ns.max(nanos(could)));
        if self.is_open_loop && self.is_measured(times) && waited_ns > nanos(LATE) {
            self.delays.put_off += count as u64;
        }
    }

    /// So many messages came back right at `now`; `is_in_time`: before no more messages were due.
    pub fn answered(&mut self, times: Times, count: usize, now: Duration, is_in_time: bool) {
        let count = count as u64;
        self.part.answered += count;
        self.answered_so_far += count;
        if self.is_measuring {
            self.counts.answered_in_time += if is_in_time { count } else { 0 };
            if !self.is_measured(times) {
                return;
            }
            self.counts.answered += count;
            self.counts.kept_up += if is_in_time { count } else { 0 };
            let latency_ns = nanos(now).saturating_sub(times.due_ns);
            if self.timeout_ns.is_some_and(|timeout_ns| latency_ns > timeout_ns) {
                self.counts.slow += count;
                self.part.slow += count;
            }
            if self.is_open_loop {
                let due = (times.due_ns - self.measured_from_ns) as f64 / 1e9;
                self.trend.add(due, latency_ns as f64 / 1e9, count);
            }
        } else {
            self.counts.warm_up += count;
        }
        self.record(times, count, now);
    }

    /// Gives up the messages that have waited until `now`: they count with the time they waited.
    ///
    /// But those that have waited for less than most that were answered: how long they would have
    /// taken is unknown, and their time would make the rest look faster.
    pub fn given_up(&mut self, times: Times, count: usize, now: Duration) {
        if self.is_measured(times) && self.is_slow(times, now) {
            self.record(times, count as u64, now);
        }
    }

    /// So many messages were on the way when a signal ended the run at `now`.
    pub fn outstanding(&mut self, times: Times, count: usize, now: Duration) {
        if self.is_measured(times) {
            self.counts.outstanding += count as u64;
            self.given_up(times, count, now);
        }
    }

    /// So many messages were due and not sent until `now`. They have a latency, and no service
    /// time.
    pub fn unsent(&mut self, times: Times, count: u64, now: Duration) {
        if self.is_measured(times) {
            self.counts.unsent += count;
            if self.is_slow(times, now) {
                let waited_ns = nanos(now).saturating_sub(times.due_ns);
                self.part.times.latency.add_many(waited_ns, count);
            }
        }
    }

    /// Whether it has waited for longer than is usual, from before anything was given up.
    fn is_slow(&mut self, times: Times, now: Duration) -> bool {
        let over = &self.times.latency;
        let answered = if over.is_empty() { &self.part.times.latency } else { over };
        let usual_ns = *self.usual_ns.get_or_insert_with(|| answered.value_at_quantile(0.5));
        nanos(now).saturating_sub(times.due_ns) >= usual_ns
    }

    fn record(&mut self, times: Times, count: u64, now: Duration) {
        let now_ns = nanos(now);
        self.part.times.latency.add_many(now_ns.saturating_sub(times.due_ns), count);
        if self.is_open_loop {
            self.part.times.service.add_many(now_ns.saturating_sub(times.begun_ns), count);
        }
    }

    /// Messages per second that come back right, of a measured part that took so long.
    ///
    /// At least those that came back in it. In an open loop those that came later count as well, as
    /// far as latency did not grow: they came later because the server is far away, and not because
    /// it fell behind.
    pub fn achieved_rate(&self, took: Duration) -> f64 {
        // If nothing was due, what comes back is the warm-up's, in hardly any time.
        match self.counts.sent {
            0 => 0.0,
            _ => per_second(self.counts.answered_in_time, took).max(self.sustained_rate(took)),
        }
    }

    /// The same of messages alone that were due in the measured part: a backlog of the warm-up
    /// makes up for nothing.
    pub fn sustained_rate(&self, took: Duration) -> f64 {
        let in_time = per_second(self.counts.kept_up, took);
        match self.is_open_loop {
            true => {
                let all = per_second(self.counts.answered, took);
                in_time.max(all / (1.0 + self.trend.growth()))
            }
            false => in_time,
        }
    }

    /// So many bytes came; `is_in_time`: before no more messages were due.
    pub fn received(&mut self, bytes: usize, is_in_time: bool) {
        self.counts.bytes_received += bytes as u64;
        if self.is_measuring && is_in_time {
            self.counts.bytes_received_in_time += bytes as u64;
        }
        self.part.bytes_received += bytes as u64;
    }

    /// An error ended a connection or kept it from being made.
    pub fn failed(&mut self, cause: Cause) {
        self.errors.add(cause);
        self.part.errors.add(cause);
    }

    /// A connection began with bytes that are no echo. In a framing without lengths only protocols
    /// that are known by name are worth a word.
    pub fn foreign(&mut self, start: &[u8], framing: Framing) {
        if self.foreign.is_some() {
            return;
        }
        let opening = match framing {
            Framing::Length(format) => Some(Opening::new(start, Some(format))),
            Framing::Line | Framing::Raw => Some(Opening::new(start, None)).filter(|opening| {
                !matches!(opening.protocol(), None | Some(Protocol::Text | Protocol::Frames(_)))
            }),
        };
        self.foreign = opening;
    }

    /// A byte was wrong.
    pub fn wrong(&mut self, wrong: Wrong) {
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(wrong);
        }
    }

    /// When the interval began.
    pub fn part_begun(&self) -> Duration {
        self.part.begun
    }

    /// The interval that is over now, and its start, from when measuring began or, in the warm-up,
    /// from `begin`. Call [`Tally::next_part`] afterwards.
    pub fn part(&self, begin: Duration, now: Duration) -> Interval<'_> {
        let from = if self.is_measuring { self.measured_from() } else { begin };
        Interval {
            start: self.part.begun.saturating_sub(from),
            length: now.saturating_sub(self.part.begun),
            latency: &self.part.times.latency,
            service: self.part.times.service(self.is_open_loop),
            answered: self.part.answered,
            slow: self.part.slow,
            bytes_received: self.part.bytes_received,
            errors: &self.part.errors,
        }
    }

    /// Begins the next interval.
    pub fn next_part(&mut self, now: Duration) {
        if self.is_measuring {
            let MessageTimes { latency, service } = &self.part.times;
            self.times.latency.merge(latency);
            self.times.service.merge(service);
        }
        // Errors are those of the whole run: what came before the first interval is told with it.
        let before = self.part.errors;
        self.part.reset(now);
        if !self.is_measuring {
            self.part.errors = before;
        }
    }

    /// The histograms of all intervals that are over: latency and service time.
    pub fn into_histograms(self) -> (Timings, Timings) {
        let MessageTimes { latency, service } = self.times;
        let service = if self.is_open_loop { service } else { latency.clone() };
        (latency, service)
    }
}

impl Part {
    fn reset(&mut self, now: Duration) {
        self.begun = now;
        self.times.latency.reset();
        self.times.service.reset();
        self.answered = 0;
        self.slow = 0;
        self.bytes_received = 0;
        self.errors = Errors::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(due_ms: u64, begun_ms: u64) -> Times {
        Times::new(Duration::from_millis(due_ms), Duration::from_millis(begun_ms))
    }

    #[test]
    fn what_was_due_in_the_warm_up_counts_for_the_rate_alone_whenever_it_is_answered() {
        let mut tally = Tally::new(true, None);
        tally.begun(at(100, 100), 1, Duration::ZERO, true);
        tally.answered(at(100, 100), 1, Duration::from_millis(200), true);
        assert_eq!(tally.answered_so_far, 1);
        tally.plan(SECOND);
        tally.measure();
        tally.begun(at(1000, 1000), 1, Duration::ZERO, true);
        tally.answered(at(900, 900), 1, Duration::from_millis(1100), true);
        tally.answered(at(1000, 1000), 1, Duration::from_millis(1200), true);
        assert_eq!((tally.counts.sent, tally.counts.answered, tally.counts.warm_up), (1, 1, 1));
        assert_eq!((tally.counts.answered_in_time, tally.answered_so_far), (2, 3));
        assert_eq!(tally.counts.kept_up, 1);
        tally.next_part(2 * SECOND);
        let (latency, _) = tally.into_histograms();
        assert_eq!((latency.len(), latency.max() / 1_000_000), (1, 200));
    }

    #[test]
    fn latency_counts_from_when_a_message_was_due_and_service_time_from_when_it_was_sent() {
        let mut tally = Tally::new(true, None);
        tally.plan(Duration::ZERO);
        tally.measure();
        tally.begun(at(1000, 1400), 1, Duration::from_millis(1400), true);
        tally.answered(at(1000, 1400), 1, Duration::from_millis(1500), true);
        assert_eq!((tally.delays.held_back, tally.delays.late.max()), (1, 0));
        tally.begun(at(2000, 2030), 1, Duration::from_millis(1500), true);
        assert_eq!(tally.delays.late.max() / 1_000_000, 30);
        let part = tally.part(Duration::ZERO, 3 * SECOND);
        assert_eq!((part.latency.max() / 1_000_000, part.service.max() / 1_000_000), (500, 100));
    }

    #[test]
    fn an_answer_that_takes_longer_than_the_timeout_is_slow() {
        let mut tally = Tally::new(true, Some(SECOND));
        let answer = |tally: &mut Tally, due_ms, took_ms| {
            let now = Duration::from_millis(due_ms + took_ms);
            tally.answered(at(due_ms, due_ms), 2, now, true);
        };
        answer(&mut tally, 0, 5_000);
        tally.plan(SECOND);
        tally.measure();
        answer(&mut tally, 500, 5_000);
        answer(&mut tally, 1_500, 1_000);
        assert_eq!(tally.counts.slow, 0, "warm-up, and as long as is allowed");
        answer(&mut tally, 1_500, 1_001);
        assert_eq!(tally.part(Duration::ZERO, 3 * SECOND).slow, 2);
        tally.next_part(3 * SECOND);
        assert_eq!(tally.part(Duration::ZERO, 4 * SECOND).slow, 0);
        assert_eq!(tally.counts.slow, 2);
    }

    /// A tally of messages that were due each tenth of a second for ten seconds and took so long.
    fn ten_seconds(is_open_loop: bool, latency: impl Fn(Duration) -> Duration) -> Tally {
        let mut tally = Tally::new(is_open_loop, None);
        tally.plan(Duration::ZERO);
        tally.measure();
        for message in 0..100 {
            let due = Duration::from_millis(100) * message;
            let times = Times::new(due, due);
            tally.begun(times, 1, due, false);
            tally.answered(times, 1, due + latency(due), due + latency(due) <= 10 * SECOND);
        }
        tally
    }

    #[test]
    fn a_server_that_is_far_away_achieves_the_rate_and_one_that_falls_behind_does_not() {
        let rate = |tally: Tally| {
            assert_eq!(tally.achieved_rate(10 * SECOND), tally.sustained_rate(10 * SECOND));
            tally.achieved_rate(10 * SECOND)
        };
        for latency in [Duration::ZERO, SECOND, 30 * SECOND] {
            assert_eq!(rate(ten_seconds(true, |_| latency)), 10.0, "{latency:?}");
        }
        let overloaded = rate(ten_seconds(true, |due| SECOND + due));
        assert!((overloaded - 5.0).abs() < 1e-6, "{overloaded}");
        // In a closed loop nothing is due, and what came back in time is all there is to tell.
        assert_eq!(rate(ten_seconds(false, |_| SECOND)), 9.1);
    }

    #[test]
    fn errors_before_the_first_interval_are_told_with_it() {
        let mut tally = Tally::new(false, None);
        tally.failed(Cause::Refused);
        tally.next_part(Duration::ZERO);
        tally.plan(SECOND);
        tally.failed(Cause::Timeout);
        tally.next_part(SECOND / 2);
        tally.measure();
        tally.failed(Cause::Timeout);
        let part = tally.part(Duration::ZERO, 2 * SECOND);
        let seen: Vec<_> = part.errors.seen().collect();
        assert_eq!(seen, [(Cause::Refused, 1), (Cause::Timeout, 2)]);
        assert_eq!(*part.errors, tally.errors);
        tally.next_part(2 * SECOND);
        assert_eq!(tally.part(Duration::ZERO, 3 * SECOND).errors.total(), 0);
    }

    #[test]
    fn intervals_add_up_to_the_run() {
        let mut tally = Tally::new(false, None);
        tally.plan(Duration::ZERO);
        tally.measure();
        for second in 0..3_u64 {
            for _ in 0..=second {
                let begun = at(1000 * second, 1000 * second);
                let now = Duration::from_millis(1000 * second) + SECOND / 10;
                tally.answered(begun, 1, now, second < 2);
            }
            tally.received(68, true);
            let part = tally.part(Duration::ZERO, (second as u32 + 1) * SECOND);
            assert_eq!((part.start, part.length), (second as u32 * SECOND, SECOND));
            assert_eq!((part.answered, part.bytes_received), (second + 1, 68));
            tally.next_part((second as u32 + 1) * SECOND);
        }
        assert_eq!((tally.counts.answered, tally.counts.answered_in_time), (6, 3));
        let (latency, service) = tally.into_histograms();
        assert_eq!((latency.len(), latency), (6, service));
    }
}
