//! Concurrent clients: one thread, one readiness loop, any number of connections.
//!
//! A place has one client after another, and a client one connection after another. What a place
//! has to do later, such as connecting or sending a message that is due then, is an alarm.
//! Everything else happens when a socket is ready.

mod connecting;
mod ending;
mod farewell;
mod meter;
mod place;
mod population;
mod result;
mod stages;
#[cfg(test)]
mod tests;
mod timetable;

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use trust_cli::connect::Connected;
use trust_cli::signals::{Signal, Signals};
use trust_net::errno::Operation;
use trust_net::stream::Incoming;

use crate::connection::{Fault, Times};
use crate::engine::ending::cause_of;
use crate::engine::meter::Meter;
use crate::engine::place::{Alarm, Place, State, What};
use crate::engine::population::Population;
use crate::engine::stages::LastPart;
use crate::engine::timetable::{Stage, Timetable};
use crate::readiness::{Readiness, Ready};
use crate::shape::{Length, Pace, Shape};
use crate::summary::{Cause, Interval, Live, Summary};
use crate::tally::Tally;

/// Most bytes received or sent per call. Four frames of 64 KiB do not fit into 256 KiB, because of
/// their headers, and would take two calls.
const BUFFER_BYTES: usize = 512 * 1024;

/// Connection attempts that are made before sockets are looked at again, so that the time measured
/// for one does not include the time that the others take.
const CONNECTS_MAX: usize = 128;

/// Most calls to receive that one connection gets before others have their turn.
const RECEIVES_MAX: usize = 16;

/// How often a listener gets the current state.
const TICK: Duration = Duration::from_millis(100);

/// Length of an interval.
const INTERVAL: Duration = Duration::from_secs(1);

/// Answers that arrive within this time after the end count in the interval that ended there.
const TAIL: Duration = Duration::from_millis(100);

/// Least time between two checks for timeouts.
const LOOK_MIN: Duration = Duration::from_millis(10);

/// Checks per timeout: one that expires is noticed at most an interval between two checks late.
const LOOKS_IN_A_LIMIT: u32 = 8;

/// How long a client waits after a failure before it connects again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Times that differ by at most one part in this many are equal to a histogram with three digits.
const ALIKE: u32 = 2000;

/// The longest wait for the server's FIN after the client's.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Receives reports while the engine runs.
pub trait Listener {
    /// The current state, ten times per second.
    fn live(&mut self, live: &Live);

    /// Measuring began, at `began`. Called once.
    fn measuring(&mut self, began: Timestamp);

    /// An interval of the measured part is over. `Break` ends the run.
    fn interval(&mut self, interval: &Interval<'_>) -> ControlFlow<()>;
}

/// How a run ended, and its results.
#[derive(Debug)]
pub struct Ended {
    /// Its results.
    pub summary: Summary,
    /// The signal that ended it.
    pub signal: Option<Signal>,
    /// The listener ended it.
    pub is_cut: bool,
}

/// Runs the load, with `first` as the first connection. It was made earlier, to find out whether
/// there is a server.
///
/// # Errors
///
/// The kernel's error when it has no descriptors or no memory for the engine itself.
pub fn run(
    shape: &Shape,
    first: Connected,
    signals: &Signals,
    listener: &mut dyn Listener,
) -> io::Result<Ended> {
    let mut engine = Engine::new(shape, signals, listener)?;
    engine.adopt(first)?;
    let stopped = engine.run(signals)?;
    Ok(engine.finish(stopped))
}

struct Engine<'a> {
    shape: &'a Shape,
    listener: &'a mut dyn Listener,
    timetable: Timetable,
    places: Vec<Place>,
    population: Population,
    readiness: Readiness,
    /// Connections that have more to receive, but must let others have their turn.
    again: Vec<Ready>,
    buffer: Box<[u8]>,
    tally: Tally,
    meter: Meter,
    /// Results of the last interval.
    last_part: LastPart,
    is_cut: bool,
}

/// Why the loop ended before everything was done.
enum Stopped {
    Signal(Signal),
    Listener,
}

impl<'a> Engine<'a> {
    fn new(
        shape: &'a Shape,
        signals: &Signals,
        listener: &'a mut dyn Listener,
    ) -> io::Result<Engine<'a>> {
        let timetable = Timetable::start();
        // Otherwise the kernel may wake a thread up to 50 us late, to wake several at once
        // (prctl(2), PR_SET_TIMERSLACK).
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let places: Vec<Place> = (0..shape.places.count)
            .map(|index| Place::new(shape, shape.places.first + index * shape.places.step))
            .collect();
        Ok(Engine {
            shape,
            listener,
            readiness: Readiness::new(signals, timetable.started)?,
            timetable,
            population: Population::new(places.len()),
            places,
            again: vec![],
            buffer: vec![0; BUFFER_BYTES].into(),
            tally: Tally::new(shape.is_open_loop(), shape.timeout),
            meter: Meter::start(Duration::ZERO),
            last_part: LastPart::default(),
            is_cut: false,
        })
    }

    /// Gives the first place its connection, and lets the others connect.
    fn adopt(&mut self, first: Connected) -> io::Result<()> {
        let now = self.timetable.now();
        for index in 0..self.places.len() {
            self.places[index].client_left = self.population.take_client(self.shape.length);
        }
        if !self.shape.connecting.gap.is_zero() {
            self.begin_sending(now);
        }
        self.timetable.take_connect(now, self.shape.connecting.gap);
        self.places[0].attempts = 1;
        self.readiness.add(&first.stream, self.places[0].key(0))?;
        self.connected(0, first.stream, first.took);
        for index in 1..self.places.len() {
            self.connect_later(index, now);
        }
        Ok(())
    }

    /// Runs until its time is over and every place is done, or something stops it.
    fn run(&mut self, signals: &Signals) -> io::Result<Option<Stopped>> {
        let mut ready = vec![];
        while self.population.is_active() || self.timetable.is_before_end() {
            ready.append(&mut self.again);
            let before = self.timetable.now();
            let until = if ready.is_empty() { self.timetable.next_moment() } else { before };
            let woken = self.readiness.wait(until, &mut ready)?;
            let after = self.timetable.now();
            self.meter.waited += after - before;
            if woken.is_signal
                && let Some(signal) = signals.take()
            {
                return Ok(Some(Stopped::Signal(signal)));
            }
            // Connected, so that no answer comes to a message of a stage that has not begun.
            self.handle_time(after);
            for ready in ready.drain(..) {
                self.handle_ready(ready);
            }
            self.handle_alarms();
            let now = self.timetable.now();
            // Received bytes are handled before any timeout is checked, also after the process was
            // stopped.
            if now >= self.timetable.next_look && !woken.is_more && self.again.is_empty() {
                self.look(now);
            }
            if self.is_cut {
                return Ok(Some(Stopped::Listener));
            }
        }
        Ok(None)
    }

    fn handle_alarms(&mut self) {
        let now = self.timetable.now();
        let mut connects = 0;
        while connects < CONNECTS_MAX
            && let Some(Alarm { place: index, what, .. }) = self.timetable.take_alarm(now)
        {
            let place = &mut self.places[index];
            match (what, &place.state) {
                (What::Connect { attempt }, State::Waiting | State::Queueing { .. })
                    if attempt == place.attempts =>
                {
                    connects += 1;
                    self.connect(index);
                }
                (What::Send { attempt }, State::Open(_)) if attempt == place.attempts => {
                    place.has_alarm = false;
                    self.pump(index);
                }
                (What::Earn, _) => {
                    place.credits += 1;
                    self.pump(index);
                }
                (What::Connect { .. } | What::Send { .. }, _) => {}
            }
        }
    }

    /// Ends connections and attempts that have run into a timeout.
    fn look(&mut self, now: Duration) {
        let (limit, answer_limit) = (self.shape.timeout, self.shape.answer_timeout);
        let shortest = limit.into_iter().chain(answer_limit).fold(FAREWELL_MAX, Duration::min);
        let every = shortest / LOOKS_IN_A_LIMIT;
        self.timetable.next_look = now + every.max(LOOK_MIN);
        let is_over = now >= self.timetable.finish_by;
        let stuck_after = self.connecting_max();
        let is_stuck = |since: Duration| now.saturating_sub(since) >= stuck_after;
        for index in 0..self.places.len() {
            let place = &self.places[index];
            let is_too_long =
                |since: Duration| limit.is_some_and(|limit| now.saturating_sub(since) >= limit);
            let is_too_slow = |begun: Duration| {
                answer_limit.is_some_and(|limit| now.saturating_sub(begun) >= limit)
            };
            match &place.state {
                State::Connecting { since, .. } | State::Queueing { since }
                    if is_over || is_stuck(*since) || is_too_long(*since) =>
                {
                    self.fail(index, Cause::ConnectTimeout);
                }
                State::Open(connection)
                    if connection.oldest_begun().is_some_and(|begun| {
                        is_over || is_too_long(place.progress_at) || is_too_slow(begun)
                    }) =>
                {
                    if is_over {
                        self.count_past_grace(index);
                    }
                    self.fail(index, Cause::Timeout);
                }
                State::Open(_) if is_over => self.retire(index, now),
                State::Waiting if is_over => self.retire(index, now),
                _ => {}
            }
        }
        self.end_farewells(now);
    }

    /// Longest time for one of the first connections, for which all others wait, in a run with a
    /// duration: as long as the run itself may take.
    fn connecting_max(&self) -> Duration {
        match (self.timetable.stage, self.shape.length) {
            (Stage::Connecting, Length::Time(time)) => {
                self.shape.warm_up.saturating_add(time).saturating_add(self.shape.grace)
            }
            _ => Duration::MAX,
        }
    }

    fn handle_ready(&mut self, ready: Ready) {
        if self.population.leaving.contains_key(&ready.key) {
            return self.receive_last(ready.key);
        }
        let index = ready.key.place as usize;
        let place = &mut self.places[index];
        if ready.key != place.key(index) {
            return;
        }
        match &mut place.state {
            State::Connecting { .. } if ready.is_writable || ready.is_to_the_end => {
                self.finish_connecting(index);
                // The same event may have reported bytes or the end, and no other event will.
                self.again.push(ready);
            }
            State::Open(connection) => {
                if ready.is_writable {
                    connection.unblock();
                }
                self.receive(index, ready.is_to_the_end);
                self.pump(index);
            }
            State::Connecting { .. }
            | State::Waiting
            | State::Queueing { .. }
            | State::Closing
            | State::Done => {}
        }
    }

    /// Receives bytes and compares them.
    fn receive(&mut self, index: usize, is_to_the_end: bool) {
        for _ in 0..RECEIVES_MAX {
            let State::Open(connection) = &self.places[index].state else { return };
            let received = connection.stream.receive(&mut self.buffer);
            let now = self.timetable.now();
            // One turn may receive so much that the warm-up or an interval ends during it.
            self.handle_parts(now);
            let place = &mut self.places[index];
            let State::Open(connection) = &mut place.state else { return };
            let count = match received {
                Incoming::Bytes(count) => count,
                Incoming::Nothing => return,
                Incoming::End => return self.handle_end(index),
                Incoming::Failed(errno) => {
                    let cause = cause_of(errno, Operation::Receive, connection.in_flight() > 0);
                    return self.fail(index, cause);
                }
            };
            let is_in_time = now <= self.timetable.end;
            self.tally.received(count, is_in_time);
            place.progress_at = now;
            let was_full = connection.in_flight() >= self.shape.in_flight;
            let is_first = connection.has_received_nothing();
            let mut answers = 0;
            let checked =
                connection.check(&self.shape.script, &self.buffer[..count], |times, count| {
                    answers += count;
                    self.tally.answered(times, count, now, is_in_time);
                });
            if answers > 0 {
                self.tally.last_settled = now;
                if was_full {
                    place.free_since = now;
                    place.was_full = true;
                }
                self.earn(index, answers, now);
            }
            if is_first && answers == 0 && checked.is_err() {
                self.tally.foreign(&self.buffer[..count], self.shape.script.framing());
            }
            match checked {
                Ok(()) => {}
                Err(Fault::Wrong(wrong)) => {
                    self.tally.wrong(wrong);
                    return self.fail(index, Cause::Mismatch);
                }
                Err(Fault::Surplus) => return self.fail(index, Cause::Surplus),
            }
            if count < self.buffer.len() && !is_to_the_end {
                return;
            }
        }
        let key = self.places[index].key(index);
        self.again.push(Ready { key, is_writable: false, is_to_the_end });
    }

    /// In a closed loop each answer permits another message, after the think time if there is one.
    fn earn(&mut self, index: usize, answers: usize, now: Duration) {
        let Pace::Closed { think } = self.shape.pace else { return };
        let place = &mut self.places[index];
        if think.is_zero() {
            place.credits += answers;
            return;
        }
        for _ in 0..answers {
            self.timetable.set_alarm(now + think, index, What::Earn);
        }
    }

    /// Sends the messages that may be sent by now, and half-closes a connection that has no more.
    fn pump(&mut self, index: usize) {
        if self.timetable.stage == Stage::Connecting {
            return;
        }
        let now = self.timetable.now();
        let place = &mut self.places[index];
        let State::Open(connection) = &mut place.state else { return };
        let was_idle = connection.in_flight() == 0;
        loop {
            let room = self.shape.in_flight.saturating_sub(connection.in_flight()) as u64;
            let left = self.shape.connecting.messages.saturating_sub(connection.begun());
            let allowed = room.min(left).min(place.client_left) as usize;
            let (due, count) = match &mut place.schedule {
                None if now >= self.timetable.end => break,
                None => (now, allowed.min(place.credits)),
                Some(schedule) => {
                    let due = self.timetable.due(schedule);
                    if due > now || due >= self.timetable.end || allowed == 0 {
                        break;
                    }
                    schedule.advance();
                    (due, 1)
                }
            };
            if count == 0 {
                break;
            }
            let times = Times::new(due, now);
            connection.begin(times, count);
            place.client_left -= count as u64;
            place.credits = place.credits.saturating_sub(count);
            self.tally.begun(times, count, place.free_since, place.was_full);
            self.tally.put_off(times, count, place.put_off);
        }
        if was_idle {
            place.progress_at = now;
        }
        let was_sending_oldest = connection.is_sending_oldest();
        let count = connection.send(&self.shape.script, &mut self.buffer);
        self.tally.counts.bytes_sent += count as u64;
        if count > 0 && was_sending_oldest {
            place.progress_at = now;
        }
        if connection.stream.send_error().is_some() {
            // Answers that the server sent before the error are received first.
            return self.receive(index, true);
        }
        if connection.in_flight() > 0 {
            self.set_alarm(index);
        } else if self.has_nothing_to_send(index) {
            self.half_close(index);
        } else {
            self.set_alarm(index);
        }
    }

    /// Whether the place's client has nothing more to send on this connection.
    fn has_nothing_to_send(&self, index: usize) -> bool {
        let place = &self.places[index];
        let is_used_up = match &place.state {
            State::Open(connection) => connection.begun() >= self.shape.connecting.messages,
            _ => false,
        };
        let is_late = match &place.schedule {
            None => self.timetable.now() >= self.timetable.end,
            Some(schedule) => self.timetable.due(schedule) >= self.timetable.end,
        };
        is_used_up || place.client_left == 0 || is_late
    }

    /// In an open loop, wakes the place when its next message is due. Answers wake a full place.
    fn set_alarm(&mut self, index: usize) {
        let place = &mut self.places[index];
        let (Some(schedule), State::Open(connection)) = (&place.schedule, &place.state) else {
            return;
        };
        let is_full = connection.in_flight() >= self.shape.in_flight;
        let is_used_up = connection.begun() >= self.shape.connecting.messages;
        if place.has_alarm || is_full || is_used_up || place.client_left == 0 {
            return;
        }
        let at = self.timetable.due(schedule);
        if at < self.timetable.end {
            place.has_alarm = true;
            let what = What::Send { attempt: place.attempts };
            self.timetable.set_alarm(at, index, what);
        }
    }
}
