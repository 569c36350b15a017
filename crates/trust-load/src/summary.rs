//! What a run of the load saw: what all reports are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trust_cli::exit_code::ExitCode;
use trust_net::preface::ProxyPreface;
use trust_net::wire::Opening;

use crate::search::Found;
use crate::timings::Timings;

/// The most wrong echoes that are kept with all they have: the first ones.
pub const WRONG_MAX: usize = 10;

/// From this share of the time at work on, a client is as busy as it can be.
pub const BUSY: f64 = 0.95;

/// A message that is sent later than this after it was due, although its connection was free, was
/// late.
pub const LATE: Duration = Duration::from_millis(1);

/// Share of the messages that may be late before it is worth a word.
pub const LATE_SHARE: f64 = 0.01;

/// Messages that may be late, however few there are, before it is worth a word: a hundredth of
/// fifty is less than one, and one says nothing about the client.
pub const LATE_MIN: u64 = 10;

/// The quantiles that reports show, and their names.
pub const QUANTILES: [(f64, &str); 8] = [
    (0.5, "p50"),
    (0.75, "p75"),
    (0.9, "p90"),
    (0.95, "p95"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
    (1.0, "max"),
];

/// Why a message or a connection failed.
///
/// An error ends its connection. It is counted once, whatever number of messages is lost with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The connection was refused.
    Refused,
    /// No answer to a connection attempt within the timeout.
    ConnectTimeout,
    /// No route, or the network or host is down.
    Unreachable,
    /// The client had no local port or descriptor left.
    NoPort,
    /// FIN between two frames, while the connection was to go on.
    EofBetweenFrames,
    /// FIN inside a frame.
    EofInFrame,
    /// RST while an answer was owed.
    ResetBeforeAnswer,
    /// RST while nothing was owed, also in place of the FIN that answers the client's.
    ResetAfterAnswer,
    /// No progress within the timeout while an answer was owed, or an answer that was owed when the
    /// run had to end.
    Timeout,
    /// A wrong byte.
    Mismatch,
    /// Bytes that were never sent.
    Surplus,
    /// Anything else that the kernel reports.
    Io,
}

impl Cause {
    /// Every cause, in the order of reports.
    pub const ALL: [Cause; 12] = [
        Cause::Refused,
        Cause::ConnectTimeout,
        Cause::Unreachable,
        Cause::NoPort,
        Cause::EofBetweenFrames,
        Cause::EofInFrame,
        Cause::ResetBeforeAnswer,
        Cause::ResetAfterAnswer,
        Cause::Timeout,
        Cause::Mismatch,
        Cause::Surplus,
        Cause::Io,
    ];

    /// Its name in documents: `eof_in_frame`.
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// What it is, for people: `the server closed inside a frame`.
    pub const fn text(self) -> &'static str {
        self.words().1
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Cause::Refused => ("refused", "connection refused"),
            Cause::ConnectTimeout => ("connect_timeout", "no answer to a connection attempt"),
            Cause::Unreachable => ("unreachable", "host or network unreachable"),
            Cause::NoPort => ("no_port", "no local port or descriptor left"),
            Cause::EofBetweenFrames => ("eof_between_frames", "the server closed between frames"),
            Cause::EofInFrame => ("eof_in_frame", "the server closed inside a frame"),
            Cause::ResetBeforeAnswer => ("reset_before_answer", "reset before the answer"),
            Cause::ResetAfterAnswer => ("reset_after_answer", "reset after the answer"),
            Cause::Timeout => ("timeout", "no answer in time"),
            Cause::Mismatch => ("mismatch", "wrong echo"),
            Cause::Surplus => ("surplus", "bytes that were never sent"),
            Cause::Io => ("io", "other error of a socket"),
        }
    }
}

/// How often each cause came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Cause, u64>", into = "BTreeMap<Cause, u64>")]
pub struct Errors([u64; Cause::ALL.len()]);

impl From<BTreeMap<Cause, u64>> for Errors {
    fn from(counts: BTreeMap<Cause, u64>) -> Errors {
        let mut errors = Errors::default();
        counts.into_iter().for_each(|(cause, count)| errors.add_many(cause, count));
        errors
    }
}

impl From<Errors> for BTreeMap<Cause, u64> {
    /// Those that came.
    fn from(errors: Errors) -> BTreeMap<Cause, u64> {
        errors.seen().collect()
    }
}

impl Errors {
    /// Counts one more.
    pub fn add(&mut self, cause: Cause) {
        self.add_many(cause, 1);
    }

    /// Counts so many more.
    pub fn add_many(&mut self, cause: Cause, count: u64) {
        self.0[cause as usize] += count;
    }

    /// Counts all that another run or interval had.
    pub fn merge(&mut self, other: &Errors) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// How often it came.
    pub fn count(&self, cause: Cause) -> u64 {
        self.0[cause as usize]
    }

    /// All causes that came, and how often.
    pub fn seen(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// All errors.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A byte of an echo that is not the one that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Wrong {
    /// Number of the connection, from 1 in the order of connecting.
    pub connection: u64,
    /// Number of the message on this connection, from 1.
    pub message: u64,
    /// Place of the byte in the message as it goes over the wire, header included, from 0.
    pub offset: u64,
    /// How many of the bytes are the header.
    pub header_bytes: u64,
    /// Place of the byte in the payload, from 0; `null` if it is one of the header's, or the
    /// newline that ends a line.
    pub payload_offset: Option<u64>,
    /// The byte that was sent.
    pub expected: u8,
    /// The byte that came.
    pub got: u8,
}

// Many fields: one for each thing that is counted.
/// Numbers of a run. Messages are those of the measured part; connections, errors and bytes those
/// of the whole run.
///
/// Its log has those of the measured part's messages that add up over shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Connections that were made.
    #[serde(skip)]
    pub connections: u64,
    /// The most connections that were open at the same time.
    #[serde(skip)]
    pub connections_peak: u64,
    /// Connections that took a second or more, because their SYN had to be sent again.
    #[serde(skip)]
    pub syn_repeated: u64,
    /// Messages that were sent, if only in part.
    pub sent: u64,
    /// Messages that came back right.
    pub answered: u64,
    /// Messages that came back right while others were due: also those that were on the way when
    /// the warm-up ended, and not those that were when sending ended.
    pub answered_in_time: u64,
    /// Of the messages that came back right those that took longer than the timeout.
    #[serde(default)]
    pub slow: u64,
    /// Of the messages that were due in the measured part those that came back right within it.
    #[serde(skip)]
    pub kept_up: u64,
    /// Messages that were sent and did not come back right, and those that a failed client no
    /// longer sent.
    pub failed: u64,
    /// Of these, those that were still on the way when the wait for the last answers was over.
    #[serde(skip)]
    pub past_grace: u64,
    /// Messages that were due and could not be sent before the run had to end (open loop only).
    pub unsent: u64,
    /// Messages that were on the way when a signal ended the run.
    #[serde(default)]
    pub outstanding: u64,
    /// Messages that came back during the warm-up, which nothing else counts.
    #[serde(skip)]
    pub warm_up: u64,
    /// Bytes that the kernel took, headers included.
    #[serde(skip)]
    pub bytes_sent: u64,
    /// Bytes that came back, headers included.
    #[serde(skip)]
    pub bytes_received: u64,
    /// Of these, those of the measured part that came before sending ended, which is what bytes per
    /// second count.
    #[serde(skip)]
    pub bytes_received_in_time: u64,
}

/// What the client itself had to do with the result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Client {
    /// Time that the client's process spent on a processor in the measured part.
    pub cpu: Duration,
    /// Share of the measured part during which it was at work and did not wait, from 0 to 1.
    pub busy: f64,
    /// How long after its due time each message was sent although the connection could have taken
    /// it, in nanoseconds; empty in a closed loop.
    pub late: Timings,
    /// Messages that were sent later than they were due because as many as were allowed were on the
    /// way on their connection.
    pub held_back: u64,
    /// Messages that were due while the client put off their connection itself: for
    /// `--connect-rate`, or after a failure.
    pub put_off: u64,
    /// Why the client, and not the server, decided the result, in whole sentences; empty if it did
    /// not.
    pub limits: Vec<String>,
}

impl Client {
    /// Whether it, and not the server, decided the result.
    pub fn is_limit(&self) -> bool {
        !self.limits.is_empty()
    }

    /// Whether so many messages were late that it was not by chance.
    pub fn is_late(&self) -> bool {
        self.late_messages() >= LATE_MIN && self.late_at() > LATE
    }

    /// Messages that were sent later than [`LATE`] after they were due although their connection
    /// was free.
    pub fn late_messages(&self) -> u64 {
        self.late.len() - self.late.count_between(0, LATE.as_nanos() as u64)
    }

    /// So late was the first of the latest [`LATE_SHARE`] of the messages.
    pub fn late_at(&self) -> Duration {
        Duration::from_nanos(self.late.value_at_quantile(1.0 - LATE_SHARE))
    }
}

/// A search for the highest rate that holds budgets.
#[derive(Clone, Debug, PartialEq)]
pub struct Searched {
    /// The budgets, as they were given.
    pub budgets: Vec<String>,
    /// What was found.
    pub found: Found,
}

/// A part of the run, usually a second.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// Its start, from the start of the measured part.
    pub start: Duration,
    /// Its length.
    pub length: Duration,
    /// From when a message was due (open loop) or sent (closed loop) to the last byte of its echo,
    /// in nanoseconds, of all measured messages that were answered in it or timed out in it.
    pub latency: &'a Timings,
    /// From when a message was sent to the last byte of its echo, of the same messages;
    /// nanoseconds.
    pub service: &'a Timings,
    /// Messages that came back right in it.
    pub answered: u64,
    /// Measured ones of these that took longer than the timeout.
    pub slow: u64,
    /// Bytes that came back in it.
    pub bytes_received: u64,
    /// Errors in it, by cause.
    pub errors: &'a Errors,
}

impl Interval<'_> {
    /// Whether nothing happened in it.
    pub fn is_empty(&self) -> bool {
        self.answered == 0
            && self.bytes_received == 0
            && self.latency.is_empty()
            && self.errors.total() == 0
    }
}

/// What is going on, for a line on a terminal. Rate and percentiles are those of the last whole
/// interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Live {
    /// What the run is doing.
    pub phase: Phase,
    /// Time since the first message was due.
    pub elapsed: Duration,
    /// How much of the run is done, from 0 to 1, if that is known.
    pub done: Option<f64>,
    /// How long it still takes, if that is known.
    pub left: Option<Duration>,
    /// Connections that are open.
    pub connections: u64,
    /// Messages that came back right, warm-up included.
    pub answered: u64,
    /// Messages per second that came back right.
    pub rate: f64,
    /// Median of the latency, in nanoseconds; `None` before any.
    pub p50: Option<u64>,
    /// 99th percentile of the latency, or the maximum where there were too few messages for it:
    /// its name, and nanoseconds.
    pub tail: Option<(&'static str, u64)>,
    /// Errors so far.
    pub errors: u64,
}

impl Live {
    /// Of a run that starts after this time.
    pub fn waiting(left: Duration) -> Live {
        Live { left: Some(left), ..Live::default() }
    }
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It waits for the time at which all shards start.
    #[default]
    Waiting,
    /// It connects.
    Connecting,
    /// It sends and does not count yet.
    WarmUp,
    /// It counts.
    Measuring,
    /// Nothing more is due; the last answers are awaited, and connections closed.
    Finishing,
}

/// A budget and whether the run kept it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// The budget as it was given: `p99>5ms`.
    pub budget: String,
    /// What was measured, with its unit: `7.31 ms`.
    pub measured: String,
    /// Whether it was missed.
    #[serde(rename = "missed")]
    pub is_missed: bool,
    /// That too few samples support its percentile, and so the maximum was judged: `p99.99 of 20
    /// messages is their maximum`; `null` if enough do.
    pub note: Option<String>,
}

impl Judgement {
    /// What was measured, with the note: `7.31 ms (p99.99 of 20 messages is their maximum)`.
    pub fn explained(&self) -> String {
        let note = self.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        format!("{}{note}", self.measured)
    }
}

/// How the run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// As it was planned.
    #[default]
    Complete,
    /// A signal of this name came: `SIGINT`.
    Stopped(&'static str),
    /// This client could not go on, because of this: a file could not be written.
    Cut(String),
    /// There was no first connection, because of this: no message was sent.
    Unreachable(String),
    /// As it was planned, and a report could not be written, because of this.
    Unwritten(String),
}

// Many fields: one for each part of a report.
/// What a run of the load saw.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// When the measured part began.
    pub began: Timestamp,
    /// Length of the measured part: from the end of the warm-up to when no more messages were due.
    pub took: Duration,
    /// Messages per second that were asked for; `None` in a closed loop.
    pub rate: Option<f64>,
    /// Messages per second that came back right: see [`Tally::achieved_rate`].
    ///
    /// [`Tally::achieved_rate`]: crate::tally::Tally::achieved_rate
    pub achieved_rate: f64,
    /// The same without what the warm-up left behind.
    pub sustained_rate: f64,
    /// As in [`Interval::latency`], of the whole measured part.
    pub latency: Timings,
    /// As in [`Interval::service`].
    pub service: Timings,
    /// Time that connecting took, in nanoseconds.
    pub connect: Timings,
    /// Numbers.
    pub counts: Counts,
    /// Errors by cause, of the whole run.
    pub errors: Errors,
    /// The first wrong echoes, at most [`WRONG_MAX`].
    pub wrong: Vec<Wrong>,
    /// How the first answer began that was no echo from its first byte on.
    pub foreign: Option<Opening>,
    /// What the client had to do with it.
    pub client: Client,
    /// How it ended.
    pub end: End,
}

impl Summary {
    /// That of a run that did not come to measuring.
    pub fn nothing(end: End) -> Summary {
        Summary { began: Timestamp::now(), end, ..Summary::default() }
    }

    /// Bytes per second that came back while messages were sent.
    pub fn bytes_received_rate(&self) -> f64 {
        per_second(self.counts.bytes_received_in_time, self.took)
    }
}

/// How the run was measured: names and values, in the order in which people read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The server as it was given: `localhost:9900`.
    pub target: String,
    /// The addresses of it that connections go to: `127.0.0.1:9900`. None before the first is
    /// there.
    pub addresses: Vec<String>,
    /// Whether messages are due at their times, whatever the server does.
    pub is_open_loop: bool,
    /// What each connection began with, if with a PROXY header.
    pub preface: Option<ProxyPreface>,
    /// What was asked for, each with a name for documents (`in_flight`), one for people
    /// (`frames in flight`) and its value with unit.
    pub facts: Vec<(&'static str, &'static str, String)>,
    /// The command that runs it again.
    pub again: String,
}

impl About {
    /// The addresses as one row of a table, if there are any.
    pub fn addresses_row(&self) -> Option<(&'static str, String)> {
        let name = if self.addresses.len() == 1 { "address" } else { "addresses" };
        (!self.addresses.is_empty()).then(|| (name, self.addresses.join(", ")))
    }
}

/// All that a report of a run says.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// How it was measured.
    pub about: &'a About,
    /// What was seen.
    pub summary: &'a Summary,
    /// Budgets, in the order in which they were given.
    pub judgements: &'a [Judgement],
    /// The search that this run came from.
    pub searched: Option<&'a Searched>,
    /// What the process exits with.
    pub exit: ExitCode,
}

/// How many of them there are in a second; 0 if no time passed.
pub fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_message_of_fifty_is_chance_and_ten_of_a_thousand_are_not() {
        let late = |late, punctual| {
            let mut client = Client::default();
            client.late.add_many(5_000_000, late);
            client.late.add_many(20_000, punctual);
            (client.late_messages(), client.is_late())
        };
        assert_eq!(late(1, 49), (1, false));
        assert_eq!(late(9, 41), (9, false));
        assert_eq!(late(10, 40), (10, true));
        assert_eq!(late(11, 989), (11, true));
        assert_eq!(late(11, 1_989), (11, false));
        assert_eq!(late(0, 0), (0, false));
    }
}
