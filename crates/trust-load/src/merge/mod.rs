//! Puts logs of several processes together as if one had measured it all.
//!
//! Histograms are added count by count, so percentiles are those of all values; none is ever
//! averaged. All logs are read at the same time and in the order of their intervals, so memory
//! depends on how many there are and not on their length.

pub mod command;
mod gaps;
pub mod json;
mod options;
pub mod table;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use jiff::Timestamp;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::signals::{Signal, Stopped};
use trust_cli::text::reason;
use trust_cli::values::quoted;

use crate::hdr_log::{BadLog, Decoder, End, Fields, Header, Interval, Precision, Reader, Writer};
use crate::shard::Shard;
use crate::summary::Summary;
use crate::timings::{Timings, times};

/// Logs that can be merged at once; each is an open file and some ten kilobytes.
pub const LOGS_MAX: usize = 1000;

/// A log and its name.
#[derive(Debug)]
pub struct Log<R> {
    name: String,
    reader: Reader<R>,
    intervals: u64,
    /// Values of its latency, and of its service time.
    values: [u64; 2],
}

impl<R: BufRead> Log<R> {
    /// Reads a log as far as to its first interval.
    ///
    /// # Errors
    ///
    /// 65, with its name and the line, if it is none; 74 if it cannot be read.
    pub fn open(name: &str, input: R) -> Result<Log<R>, Failure> {
        let reader = Reader::open(input).map_err(|bad| failure(name, &bad))?;
        Ok(Log { name: name.to_owned(), reader, intervals: 0, values: [0; 2] })
    }
}

/// What all logs say together.
#[derive(Debug)]
pub struct Merged {
    /// Each of them, in the order in which they were given.
    pub parts: Vec<Part>,
    /// What is known of the whole, if the logs are ours.
    pub header: Option<Header>,
    /// Numbers of all that have an end; the time is the longest of them.
    pub end: End,
    /// What the histograms tell apart; `None` without any.
    pub precision: Option<Precision>,
    /// All values without a tag.
    pub latency: Timings,
    /// All service times.
    pub service: Timings,
    /// The largest difference between the begins of two measured parts.
    pub skew: Option<Duration>,
}

/// What one log says.
#[derive(Debug)]
pub struct Part {
    /// The file as it was given.
    pub name: String,
    /// Which part of the run it is.
    pub shard: Option<Shard>,
    /// When its measured part began.
    pub began: Option<Timestamp>,
    /// How much later than it was to, in nanoseconds; negative if it was early.
    pub late_ns: Option<i128>,
    /// Lines with an interval.
    pub intervals: u64,
    /// How it ended, if that is known.
    pub end: Option<End>,
}

impl Merged {
    /// What budgets are judged by: all that logs tell of a run.
    pub fn summary(&self) -> Summary {
        Summary {
            took: Duration::from_nanos(self.end.took_ns),
            achieved_rate: self.end.achieved_rate,
            sustained_rate: self.end.achieved_rate,
            counts: self.end.counts,
            errors: self.end.errors,
            latency: self.latency.clone(),
            service: self.service.clone(),
            ..Summary::default()
        }
    }

    /// Whether the logs are all there was, as far as they tell.
    pub fn is_whole(&self) -> bool {
        self.end.gaps.is_empty()
    }
}

/// Adds all logs up, and writes their intervals to `output` in the order of their begins. `stop` is
/// asked for a signal between two intervals.
///
/// # Errors
///
/// 65 for logs that do not go together and for lines that are wrong, 74 if reading or writing
/// fails.
pub fn merge<R: BufRead, W: Write>(
    mut logs: Vec<Log<R>>,
    output: Option<W>,
    stop: impl Fn() -> Option<Signal>,
) -> Result<Merged, Stopped> {
    gaps::check_together(&logs)?;
    let headers: Vec<&Header> = logs.iter().filter_map(|log| log.reader.header()).collect();
    let (header, skew) = (whole(&headers), skew(&headers));
    let began = header.as_ref().map_or_else(|| first_begin(&logs), |header| header.began);
    let base = u64::try_from(began.as_nanosecond()).unwrap_or(0);
    let writer = output.map(|output| Writer::begin(output, began, header.as_ref()));
    let mut writer = writer.transpose().map_err(unwritable)?;
    let mut sums = Sums::default();
    let mut decoder = Decoder::default();
    while let Some(earliest) = earliest(&mut logs) {
        if let Some(signal) = stop() {
            return Err(Stopped::Signal(signal));
        }
        let Log { name, reader, intervals, values } = earliest;
        let bad = |bad| failure(name, &bad);
        let Some(interval) = reader.interval(&mut decoder).map_err(bad)? else { break };
        values[interval.fields.series as usize] += sums.add(name, &interval)?;
        if let Some(writer) = &mut writer {
            let fields = Fields { start: interval.begin - base, ..interval.fields };
            writer.copy(fields).map_err(unwritable)?;
        }
        *intervals += 1;
        reader.advance().map_err(bad)?;
    }
    logs.iter().try_for_each(gaps::check_sums)?;
    let end = together(&logs);
    if let (Some(writer), Some(_)) = (writer, &header) {
        writer.finish(&end).map_err(unwritable)?;
    }
    let precision = sums.precision.map(|(precision, _)| precision);
    let [latency, service] = sums.values.map(Timings::from);
    let parts = logs.into_iter().map(part).collect();
    Ok(Merged { parts, header, end, precision, latency, service, skew })
}

/// What was added up so far.
struct Sums {
    /// Of the latencies, and of the service times.
    values: [Histogram<u64>; 2],
    /// What all histograms tell apart, and the log that had the first.
    precision: Option<(Precision, String)>,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums { values: [times(), times()], precision: None }
    }
}

impl Sums {
    /// Adds an interval; how many values it has.
    fn add(&mut self, name: &str, interval: &Interval<'_>) -> Result<u64, Failure> {
        let bad = |problem| failure(name, &BadLog::Line { number: interval.line, problem });
        let Precision { digits, lowest } = interval.precision;
        match &self.precision {
            None => {
                self.precision = Some((interval.precision, name.to_owned()));
                for sum in &mut self.values {
                    // Those of other tools are of any range, and have room as far as values came.
                    if (sum.low(), sum.sigfig()) != (lowest, digits) {
                        *sum = Histogram::new_with_bounds(lowest, 2 * lowest, digits)
                            .map_err(|error| bad(error.to_string()))?;
                    }
                    sum.auto(true);
                }
            }
            Some((wanted, _)) if *wanted == interval.precision => {}
            Some((wanted, first)) => {
                return Err(bad(format!(
                    "its histogram has {digits} significant digits from {lowest} on, and those of \
                     {} have {} from {} on: they do not add up",
                    quoted(first),
                    wanted.digits,
                    wanted.lowest
                )));
            }
        }
        let sum = &mut self.values[interval.fields.series as usize];
        let more: u64 = interval.counts.iter().map(|(_, count)| count).sum();
        if sum.len().checked_add(more).is_none() {
            return Err(bad("all counts together exceed 64 bits".to_owned()));
        }
        for (value, count) in interval.counts {
            sum.record_n(*value, *count).map_err(|error| bad(error.to_string()))?;
        }
        Ok(more)
    }
}

/// The log whose next interval begins before those of all others, or as early.
fn earliest<R: BufRead>(logs: &mut [Log<R>]) -> Option<&mut Log<R>> {
    let waiting = logs.iter_mut().filter(|log| log.reader.next_begin().is_some());
    waiting.min_by_key(|log| log.reader.next_begin())
}

/// When the first interval of all begins.
fn first_begin<R: BufRead>(logs: &[Log<R>]) -> Timestamp {
    let first = logs.iter().filter_map(|log| log.reader.next_begin()).min().unwrap_or(0);
    Timestamp::from_nanosecond(first.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What is known of all runs together; `None` if they are not ours. They were checked before.
fn whole(headers: &[&Header]) -> Option<Header> {
    let target = shared(headers, |header| Some(&header.target));
    Some(Header {
        shard: None,
        start_at: shared(headers, |header| header.start_at),
        warm_up_ns: headers.first()?.warm_up_ns,
        began: headers.iter().map(|header| header.began).min()?,
        target: target.map_or("several", String::as_str).to_owned(),
        addresses: addresses(headers),
        is_open_loop: headers.iter().all(|header| header.is_open_loop),
        rate: headers.iter().map(|header| header.rate).sum(),
        rate_of_all: shared(headers, |header| header.rate_of_all),
        duration_ns: shared(headers, |header| header.duration_ns),
        seed: shared(headers, |header| header.seed),
        is_seed_given: headers.iter().all(|header| header.is_seed_given),
    })
}

/// Those of all runs, each once.
fn addresses(headers: &[&Header]) -> Vec<String> {
    let mut all = vec![];
    for address in headers.iter().flat_map(|header| &header.addresses) {
        if !all.contains(address) {
            all.push(address.clone());
        }
    }
    all
}

/// What is the same in all of them, if it is.
fn shared<'h, T: PartialEq>(
    headers: &[&'h Header],
    of: impl Fn(&'h Header) -> Option<T>,
) -> Option<T> {
    let mut all = headers.iter().map(|header| of(header));
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)?
}

/// Sums of what is known of the ends, and what is missing.
fn together<R: BufRead>(logs: &[Log<R>]) -> End {
    let mut sum = End { gaps: gaps::find(logs), ..End::default() };
    for end in logs.iter().filter_map(|log| log.reader.end()) {
        sum.took_ns = sum.took_ns.max(end.took_ns);
        sum.counts.sent += end.counts.sent;
        sum.counts.answered += end.counts.answered;
        sum.counts.answered_in_time += end.counts.answered_in_time;
        sum.counts.slow += end.counts.slow;
        sum.counts.failed += end.counts.failed;
        sum.counts.unsent += end.counts.unsent;
        sum.counts.outstanding += end.counts.outstanding;
        sum.achieved_rate += end.achieved_rate;
        sum.errors.merge(&end.errors);
    }
    let limits = logs.iter().filter_map(|log| Some((&log.name, log.reader.end()?)));
    sum.client_limits = limits
        .flat_map(|(name, end)| {
            end.client_limits.iter().map(move |limit| format!("{}: {limit}", quoted(name)))
        })
        .take(gaps::NAMED_MAX)
        .collect();
    sum
}

fn skew(headers: &[&Header]) -> Option<Duration> {
    let begins = || headers.iter().map(|header| header.began);
    Some(begins().max()?.duration_since(begins().min()?).unsigned_abs())
}

fn part<R: BufRead>(log: Log<R>) -> Part {
    let header = log.reader.header();
    let late = |header: &Header| {
        let due = header.start_at?.as_nanosecond() + i128::from(header.warm_up_ns);
        Some(header.began.as_nanosecond() - due)
    };
    Part {
        shard: header.and_then(|header| header.shard),
        began: header.map(|header| header.began),
        late_ns: header.and_then(late),
        intervals: log.intervals,
        end: log.reader.end().cloned(),
        name: log.name,
    }
}

fn failure(name: &str, bad: &BadLog) -> Failure {
    let name = quoted(name);
    match bad {
        BadLog::Line { number, problem } => {
            Failure::new(ExitCode::DataError, format!("{name}, line {number}: {problem}"))
        }
        BadLog::Io(error) => {
            Failure::new(ExitCode::Io, format!("cannot read {name}: {}", reason(error)))
        }
    }
}

fn unwritable(error: std::io::Error) -> Failure {
    Failure::new(ExitCode::Io, format!("cannot write the merged log: {}", reason(&error)))
}
