//! The two comments of our own, in JSON: what merging has to know of a run.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trust_cli::values::quoted;

use crate::connection::nanos;
use crate::shard::Shard;
use crate::summary::{Counts, Errors, Summary};
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

/// The largest number of anything: what every JSON reader distinguishes from its neighbours, and a
/// thousand of them fit 64 bits.
const COUNT_MAX: u64 = 1 << 53;

/// A time that no run sees, so that nanoseconds from 1970 and a run on top of it fit 64 bits.
const LATEST: Timestamp = Timestamp::constant(super::SECONDS_MAX as i64, 0);

/// What is known of a run when its measured part begins. Its values are in nanoseconds, with the
/// digits of all histograms of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Which part of the run this is; `None`: the whole.
    pub shard: Option<Shard>,
    /// When all shards were to start, if that was said.
    pub start_at: Option<Timestamp>,
    /// How long each of them warms up before the measured part.
    pub warm_up_ns: u64,
    /// When the measured part began.
    pub began: Timestamp,
    /// The server as it was given.
    pub target: String,
    /// The addresses of it that connections go to. Logs without this key did not say.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether messages are due at their times, whatever the server does.
    #[serde(rename = "open_loop")]
    pub is_open_loop: bool,
    /// Messages per second that this part is to send; `None` in a closed loop.
    pub rate: Option<f64>,
    /// The same of all parts together.
    pub rate_of_all: Option<f64>,
    /// How long the measured part is to be; `None` if messages are counted.
    pub duration_ns: Option<u64>,
    /// What decides all payloads; `None` for several runs with a seed each.
    pub seed: Option<u64>,
    /// Whether somebody said it: one that each shard took for itself does not tell its run from
    /// others. Logs without this key had no other seeds.
    #[serde(rename = "seed_given", default = "yes")]
    pub is_seed_given: bool,
}

/// What is known of a run at its end. A log without it is one of a run that was killed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Length of the measured part.
    pub took_ns: u64,
    /// Numbers of messages; a log has no others.
    #[serde(flatten)]
    pub counts: Counts,
    /// Right answers per second, while messages were sent.
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

/// The first comment: which form it has, and what it says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Versioned<H> {
    version: u64,
    unit: String,
    significant_digits: u8,
    #[serde(flatten)]
    header: H,
}

impl End {
    /// What the log of a run ends with.
    pub fn of(summary: &Summary) -> End {
        use crate::summary::End as Ended;
        End {
            took_ns: nanos(summary.took),
            counts: summary.counts,
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
        comment(END_PREFIX, self)
    }

    /// What a comment's JSON says.
    pub(crate) fn parse(json: &str) -> Result<End, String> {
        let end: End = parse(json)?;
        let Counts { sent, answered, answered_in_time, slow, failed, unsent, outstanding, .. } =
            end.counts;
        let counts = [sent, answered, answered_in_time, slow, failed, unsent, outstanding];
        let errors = end.errors.seen().map(|(_, count)| count);
        match counts.into_iter().chain(errors).max() {
            Some(count) if count > COUNT_MAX => {
                Err(format!("a count of {count} is above {COUNT_MAX}"))
            }
            _ => check_rate(end.achieved_rate).map(|()| end),
        }
    }
}

impl Header {
    /// The comment, without the end of its line.
    pub(crate) fn line(&self) -> String {
        let (version, unit, significant_digits) = (VERSION, UNIT.into(), SIGNIFICANT_DIGITS);
        comment(HEADER_PREFIX, &Versioned { version, unit, significant_digits, header: self })
    }

    /// What a comment's JSON says.
    pub(crate) fn parse(json: &str) -> Result<Header, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let Version { version } = parse(json)?;
        if version != VERSION {
            return Err(format!("its version is {version}: only {VERSION} is read"));
        }
        let Versioned { unit, significant_digits: digits, header, .. } =
            parse::<Versioned<Header>>(json)?;
        if (&*unit, digits) != (UNIT, SIGNIFICANT_DIGITS) {
            let found = format!("{digits} significant digits of {}", quoted(unit));
            return Err(format!("{found}: only {SIGNIFICANT_DIGITS} of {UNIT} are read"));
        }
        header.rate.into_iter().chain(header.rate_of_all).try_for_each(check_rate)?;
        // Intervals count from a time, and none from one before 1970.
        let mut times = header.start_at.into_iter().chain([header.began]);
        match times.find(|time| !(Timestamp::UNIX_EPOCH..LATEST).contains(time)) {
            Some(time) => Err(format!("{time} is not from 1970 to {LATEST}")),
            None => Ok(header),
        }
    }
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

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::summary::Cause;

    fn header() -> Header {
        Header {
            shard: Shard::new(0, 4),
            start_at: Some("2026-11-30T12:00:00Z".parse().expect("a time")),
            warm_up_ns: 2_000_000_000,
            began: "2026-11-30T12:00:02.000312709Z".parse().expect("a time"),
            target: "host]\n:9900".into(),
            addresses: vec!["127.0.0.1:9900".into()],
            is_open_loop: true,
            rate: Some(2500.5),
            rate_of_all: Some(10_002.0),
            duration_ns: Some(3_050_000_000),
            seed: Some(u64::MAX),
            is_seed_given: true,
        }
    }

    fn end() -> End {
        let mut errors = Errors::default();
        errors.add_many(Cause::Timeout, 3);
        End {
            took_ns: 10_000_000_001,
            counts: Counts {
                sent: 5,
                answered: 4,
                answered_in_time: 3,
                slow: 2,
                failed: 1,
                unsent: COUNT_MAX,
                outstanding: 6,
                ..Counts::default()
            },
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
        assert_eq!((read.seed, read.is_seed_given), (None, true));
        let line = end().line().replace(",\"outstanding\":6", "").replace(",\"slow\":2", "");
        let mut read = end();
        (read.counts.outstanding, read.counts.slow) = (0, 0);
        assert_eq!(End::parse(json(&line, END_PREFIX)), Ok(read));
    }

    #[test]
    fn a_run_ends_with_what_its_summary_says() {
        use crate::summary::{Client, End as Ended};
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
            client: Client { limits: vec!["It was busy.".into()], ..Client::default() },
            ..Summary::default()
        };
        let expected = End {
            took_ns: 4_000_000_000,
            counts: summary.counts,
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
            ("\"ns\"", "\"us\"", "3 significant digits of 'us': only 3 of ns are read"),
            ("digits\":3", "digits\":2", "2 significant digits of 'ns': only 3 of ns are read"),
            ("0/4", "4/4", "'4/4' is no shard such as 0/4"),
            ("0/4", "00/4", "'00/4' is no shard such as 0/4"),
            ("2500.5", "-1.0", "a rate of -1 cannot be"),
            ("2500.5", "1e308", "0 cannot be"),
            ("12:00:02", "1x:00:02", "failed to parse"),
            (
                "2026-11-30T12:00:02",
                "1969-11-30T12:00:02",
                "is not from 1970 to 2242-03-16T12:56:32Z",
            ),
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
            (
                "\"timeout\"",
                "\"tiredness\"",
                "unknown variant `tiredness`, expected one of `refused`",
            ),
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
