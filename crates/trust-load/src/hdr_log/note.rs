//! The two comments of our own, in JSON: what merging has to know of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trust_cli::values::quoted;

use crate::connection::nanos;
use crate::shard::{Choice, Shard};
use crate::summary::{Cause, Counts, Errors, Summary};
use crate::timings::SIGNIFICANT_DIGITS;

/// How the first comment begins; it ends with `]`, like the format's own.
pub const HEADER_PREFIX: &str = "#[trustctl: ";

/// How the second one begins.
pub const END_PREFIX: &str = "#[trustctl end: ";

/// Bytes of such a comment: the longest name of a server, and some sentences.
pub const NOTE_BYTES_MAX: usize = 1 << 16;

/// What the comments say now; another number is not read.
const VERSION: u64 = 1;

/// The unit of all values.
const UNIT: &str = "ns";

/// The largest number of anything: what every JSON reader tells from its neighbours, and a thousand of them fit 64 bits.
const COUNT_MAX: u64 = 1 << 53;

/// What is known of a run when its measured part begins. Its values are in nanoseconds, with the digits of all
/// histograms of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Which part of the run this is; `None`: the whole.
    pub shard: Option<Shard>,
    /// When all shards were to start, if that was said.
    pub start_at: Option<Timestamp>,
    /// How long each of them warms up before the measured part.
    pub warm_up: Duration,
    /// When the measured part began.
    pub began: Timestamp,
    /// The server as it was given.
    pub target: String,
    /// Whether messages are due at their times, whatever the server does.
    pub is_open_loop: bool,
    /// Messages a second that this part is to send; `None` in a closed loop.
    pub rate: Option<f64>,
    /// The same of all parts together.
    pub rate_of_all: Option<f64>,
    /// How long the measured part is to be; `None` if messages are counted.
    pub duration: Option<Duration>,
    /// What decides all payloads; `None` for several runs with a seed each.
    pub seed: Option<u64>,
    /// Whether somebody said it: one that each shard took for itself does not tell its run from others.
    pub is_seed_given: bool,
}

/// What is known of a run at its end. A log without it is one of a run that was killed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// Length of the measured part.
    pub took: Duration,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that came back right.
    pub answered: u64,
    /// Messages that came back right in the measured part, whenever they were due.
    pub answered_in_time: u64,
    /// Messages that failed.
    pub failed: u64,
    /// Messages that were due and not sent.
    pub unsent: u64,
    /// Messages that were on the way when something ended the run before its time.
    pub outstanding: u64,
    /// Right answers a second, while messages were sent.
    pub achieved_rate: f64,
    /// Errors by cause.
    pub errors: Errors,
    /// Why it ended before it was to: `SIGINT`.
    pub stopped_by: Option<String>,
    /// Why the client decided the result, and not the server, in sentences.
    pub client_limits: Vec<String>,
    /// What is missing in a log that was merged, in sentences; empty in that of a run.
    pub gaps: Vec<String>,
}

impl End {
    /// What the log of a run ends with.
    pub fn of(summary: &Summary) -> End {
        use crate::summary::End as Ended;
        let Counts { sent, answered, answered_in_time, failed, unsent, outstanding, .. } =
            summary.counts;
        End {
            took: summary.took,
            sent,
            answered,
            answered_in_time,
            failed,
            unsent,
            outstanding,
            achieved_rate: summary.achieved_rate,
            errors: summary.errors,
            stopped_by: match &summary.end {
                Ended::Complete | Ended::Unwritten(_) => None,
                Ended::Stopped(signal) => Some((*signal).to_owned()),
                Ended::Cut(why) | Ended::Unreachable(why) => Some(why.clone()),
            },
            client_limits: summary.client.limits.clone(),
            gaps: vec![],
        }
    }

    /// The comment, without the end of its line.
    pub(crate) fn line(&self) -> String {
        let note = EndNote {
            took_ns: nanos(self.took),
            sent: self.sent,
            answered: self.answered,
            answered_in_time: self.answered_in_time,
            failed: self.failed,
            unsent: self.unsent,
            outstanding: self.outstanding,
            achieved_rate: self.achieved_rate,
            errors: self.errors.seen().map(|(cause, count)| (cause.name().into(), count)).collect(),
            stopped_by: self.stopped_by.clone(),
            client_limits: self.client_limits.clone(),
            gaps: self.gaps.clone(),
        };
        comment(END_PREFIX, &note)
    }

    /// What a comment's JSON says.
    pub(crate) fn parse(json: &str) -> Result<End, String> {
        let note: EndNote = parse(json)?;
        let mut errors = Errors::default();
        for (name, count) in &note.errors {
            let cause = Cause::ALL.into_iter().find(|cause| cause.name() == name);
            let cause = cause.ok_or_else(|| format!("there is no cause {}", quoted(name)))?;
            errors.add_many(cause, *count);
        }
        let counts = [
            note.sent,
            note.answered,
            note.answered_in_time,
            note.failed,
            note.unsent,
            note.outstanding,
        ];
        let largest = counts.into_iter().chain(note.errors.into_values()).max().unwrap_or(0);
        if largest > COUNT_MAX {
            return Err(format!("a count of {largest} is above {COUNT_MAX}"));
        }
        check_rate(note.achieved_rate)?;
        Ok(End {
            took: Duration::from_nanos(note.took_ns),
            sent: note.sent,
            answered: note.answered,
            answered_in_time: note.answered_in_time,
            failed: note.failed,
            unsent: note.unsent,
            outstanding: note.outstanding,
            achieved_rate: note.achieved_rate,
            errors,
            stopped_by: note.stopped_by,
            client_limits: note.client_limits,
            gaps: note.gaps,
        })
    }
}

impl Header {
    /// The comment, without the end of its line.
    pub(crate) fn line(&self) -> String {
        let note = HeaderNote {
            version: VERSION,
            unit: UNIT.into(),
            significant_digits: SIGNIFICANT_DIGITS,
            shard: self.shard.map(|shard| shard.to_string()),
            start_at: self.start_at.map(|time| time.to_string()),
            warm_up_ns: nanos(self.warm_up),
            began: self.began.to_string(),
            target: self.target.clone(),
            open_loop: self.is_open_loop,
            rate: self.rate,
            rate_of_all: self.rate_of_all,
            duration_ns: self.duration.map(nanos),
            seed: self.seed,
            seed_given: Some(self.is_seed_given),
        };
        comment(HEADER_PREFIX, &note)
    }

    /// What a comment's JSON says.
    pub(crate) fn parse(json: &str) -> Result<Header, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } = parse(json)?;
        if version != VERSION {
            return Err(format!("its version is {version}: only {VERSION} is read"));
        }
        let note: HeaderNote = parse(json)?;
        if note.unit != UNIT {
            return Err(format!("the unit {} is unknown: only {UNIT} is read", quoted(note.unit)));
        }
        if note.significant_digits != SIGNIFICANT_DIGITS {
            let digits = note.significant_digits;
            return Err(format!("{digits} significant digits: {SIGNIFICANT_DIGITS} are due"));
        }
        let shard = |text: &str| match Choice::parse(text) {
            // A shard has one name: no zeros in front of it.
            Some(Choice::Given(shard)) if shard.to_string() == text => Ok(shard),
            _ => Err(format!("{} is no shard such as 0/4", quoted(text))),
        };
        note.rate.into_iter().chain(note.rate_of_all).try_for_each(check_rate)?;
        Ok(Header {
            shard: note.shard.as_deref().map(shard).transpose()?,
            start_at: note.start_at.as_deref().map(time).transpose()?,
            warm_up: Duration::from_nanos(note.warm_up_ns),
            began: time(&note.began)?,
            target: note.target,
            is_open_loop: note.open_loop,
            rate: note.rate,
            rate_of_all: note.rate_of_all,
            duration: note.duration_ns.map(Duration::from_nanos),
            seed: note.seed,
            // Logs once had only seeds that somebody had said.
            is_seed_given: note.seed_given.unwrap_or(note.seed.is_some()),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderNote {
    version: u64,
    unit: String,
    significant_digits: u8,
    shard: Option<String>,
    start_at: Option<String>,
    warm_up_ns: u64,
    began: String,
    target: String,
    open_loop: bool,
    rate: Option<f64>,
    #[serde(default)]
    rate_of_all: Option<f64>,
    #[serde(default)]
    duration_ns: Option<u64>,
    seed: Option<u64>,
    #[serde(default)]
    seed_given: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndNote {
    took_ns: u64,
    sent: u64,
    answered: u64,
    answered_in_time: u64,
    failed: u64,
    unsent: u64,
    #[serde(default)]
    outstanding: u64,
    achieved_rate: f64,
    errors: BTreeMap<String, u64>,
    stopped_by: Option<String>,
    client_limits: Vec<String>,
    gaps: Vec<String>,
}

fn comment(prefix: &str, note: &impl Serialize) -> String {
    let json = serde_json::to_string(note).expect("a note has nothing that is not JSON");
    format!("{prefix}{json}]")
}

fn parse<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| quoted(error.to_string()))
}

fn check_rate(rate: f64) -> Result<(), String> {
    match (0.0..=COUNT_MAX as f64).contains(&rate) {
        true => Ok(()),
        false => Err(format!("a rate of {rate} cannot be")),
    }
}

/// A point in time that is not before 1970, which intervals count from.
fn time(text: &str) -> Result<Timestamp, String> {
    let parsed: Option<Timestamp> = text.parse().ok();
    parsed
        .filter(|time| (Timestamp::UNIX_EPOCH..LATEST).contains(time))
        .ok_or_else(|| format!("{} is no time such as 2026-11-30T12:00:00Z", quoted(text)))
}

/// A time that no run sees, so that nanoseconds from 1970 and a run on top of it fit 64 bits.
const LATEST: Timestamp = Timestamp::constant(super::SECONDS_MAX as i64, 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            shard: Shard::new(0, 4),
            start_at: Some("2026-11-30T12:00:00Z".parse().expect("a time")),
            warm_up: Duration::from_secs(2),
            began: "2026-11-30T12:00:02.000312709Z".parse().expect("a time"),
            target: "host]\n:9900".into(),
            is_open_loop: true,
            rate: Some(2500.5),
            rate_of_all: Some(10_002.0),
            duration: Some(Duration::from_millis(3_050)),
            seed: Some(u64::MAX),
            is_seed_given: true,
        }
    }

    fn end() -> End {
        let mut errors = Errors::default();
        errors.add_many(Cause::Timeout, 3);
        End {
            took: Duration::new(10, 1),
            sent: 5,
            answered: 4,
            answered_in_time: 3,
            failed: 1,
            unsent: COUNT_MAX,
            outstanding: 6,
            achieved_rate: 0.3,
            errors,
            stopped_by: Some("SIGINT".into()),
            client_limits: vec!["It was busy.".into()],
            gaps: vec!["shard 1 of 2 is missing".into()],
        }
    }

    fn json<'a>(line: &'a str, prefix: &str) -> &'a str {
        assert!(!line.contains('\n'), "{line:?}");
        line.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(']')).expect("it is around it")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let line = header().line();
        assert_eq!(Header::parse(json(&line, HEADER_PREFIX)), Ok(header()));
        let line = end().line();
        assert_eq!(End::parse(json(&line, END_PREFIX)), Ok(end()));
    }

    #[test]
    fn a_log_from_before_a_key_was_added_is_read() {
        let line = header().line().replace(",\"seed_given\":true", "");
        assert_eq!(Header::parse(json(&line, HEADER_PREFIX)), Ok(header()));
        let line = line.replace("18446744073709551615", "null");
        let read = Header::parse(json(&line, HEADER_PREFIX)).expect("a header");
        assert_eq!((read.seed, read.is_seed_given), (None, false));
        let line = end().line().replace(",\"outstanding\":6", "");
        let read = End { outstanding: 0, ..end() };
        assert_eq!(End::parse(json(&line, END_PREFIX)), Ok(read));
    }

    #[test]
    fn a_run_ends_with_what_its_summary_says() {
        use crate::summary::{Client, End as Ended};
        let nothing = Summary::nothing(Ended::Complete);
        let mut summary = Summary {
            took: Duration::from_secs(4),
            achieved_rate: 2.0,
            counts: Counts {
                sent: 12,
                answered: 10,
                answered_in_time: 8,
                failed: 2,
                unsent: 1,
                outstanding: 3,
                ..Counts::default()
            },
            errors: end().errors,
            client: Client { limits: vec!["It was busy.".into()], ..nothing.client.clone() },
            ..nothing
        };
        let expected = End {
            took: Duration::from_secs(4),
            sent: 12,
            answered: 10,
            answered_in_time: 8,
            failed: 2,
            unsent: 1,
            outstanding: 3,
            achieved_rate: 2.0,
            errors: end().errors,
            stopped_by: None,
            client_limits: vec!["It was busy.".into()],
            gaps: vec![],
        };
        assert_eq!(End::of(&summary), expected);
        summary.end = Ended::Stopped("SIGINT");
        assert_eq!(End::of(&summary).stopped_by.as_deref(), Some("SIGINT"));
        summary.end = Ended::Unreachable("refused".into());
        assert_eq!(End::of(&summary).stopped_by.as_deref(), Some("refused"));
    }

    #[test]
    fn a_comment_that_is_not_ours_in_every_part_is_refused_in_words() {
        let line = header().line();
        let good = json(&line, HEADER_PREFIX);
        let cases = [
            ("\"version\":1", "\"version\":2", "its version is 2: only 1 is read"),
            ("\"ns\"", "\"us\"", "the unit 'us' is unknown: only ns is read"),
            ("digits\":3", "digits\":2", "2 significant digits: 3 are due"),
            ("0/4", "4/4", "'4/4' is no shard such as 0/4"),
            ("0/4", "00/4", "'00/4' is no shard such as 0/4"),
            ("2500.5", "-1.0", "a rate of -1 cannot be"),
            ("2500.5", "1e308", "0 cannot be"),
            ("12:00:02", "1x:00:02", "is no time such as"),
            ("2026-11-30T12:00:02", "1969-11-30T12:00:02", "is no time such as"),
            ("\"seed\"", "\"se\\u0007d\"", "unknown field `se\\u{7}d`"),
            ("}", "", "EOF"),
        ];
        for (part, other, expected) in cases {
            let problem = Header::parse(&good.replacen(part, other, 1)).expect_err(other);
            assert!(problem.contains(expected), "{problem}");
            assert!(!problem.contains(char::is_control), "{problem:?}");
        }
        let line = end().line();
        let good = json(&line, END_PREFIX);
        let cases = [
            ("\"timeout\"", "\"tiredness\"", "there is no cause 'tiredness'"),
            ("9007199254740992", "9007199254740993", "is above 9007199254740992"),
            ("\"timeout\":3", "\"timeout\":9007199254740993", "is above 9007199254740992"),
            ("0.3", "-0.3", "a rate of -0.3 cannot be"),
        ];
        for (part, other, expected) in cases {
            let problem = End::parse(&good.replacen(part, other, 1)).expect_err(other);
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
