//! The trace: what happened in a run, as JSON lines, and its replay without randomness.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::report_file::ReportFile;
use trust_cli::text::reason;
use trust_cli::values::quoted;

use crate::rules::{KeptRule, Rule, Rules};

/// What the first line says of its form.
const VERSION: u32 = 1;

/// Longest line that is read, in bytes: the first one has all rules, and those of a long random run
/// can be many.
const LINE_MAX: usize = 64 << 20;

/// A line of a trace. Times count from accept in microseconds, but for the listener's faults: those
/// from the start of the proxy.
#[derive(Debug, Serialize)]
#[serde(tag = "trace", rename_all = "snake_case")]
pub(crate) enum TraceLine {
    /// The first line.
    Start {
        version: u32,
        seed: u64,
        /// How frames are told apart.
        #[serde(skip_serializing_if = "Option::is_none")]
        framing: Option<String>,
        rules: Vec<TracedRule>,
    },
    /// The upstream of a client is there.
    Connect { conn: u64, elapsed_us: u64, peer: String, upstream: String },
    /// A rule has happened.
    Fault(Box<TracedFault>),
    /// What a rule had begun has ended, where that rule says so.
    Lifted(Box<TracedFault>),
    /// What waited for a time was sent so long after that had come.
    Late { conn: u64, direction: String, sent: u64, late_ns: u64 },
    /// A connection is over.
    Close { conn: u64, elapsed_us: u64, reason: String, client: SideSum, upstream: SideSum },
    /// The last line, if the proxy was not killed.
    End { unfired: Vec<String> },
}

/// A rule, and by which number its choices are drawn.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TracedRule {
    pub(crate) number: u64,
    pub(crate) rule: String,
}

/// A rule that has happened.
#[derive(Debug, Serialize)]
pub(crate) struct TracedFault {
    /// The number of the rule.
    pub(crate) number: u64,
    pub(crate) rule: String,
    /// The rule that does the same without randomness, if this one has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) explicit: Option<String>,
    /// Whether it happened at a time, and so not at the same place in every run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) timed: bool,
    pub(crate) elapsed_us: u64,
    /// `None`: it is a state of the listening sockets.
    #[serde(flatten)]
    pub(crate) at: Option<TracedPlace>,
}

/// Where a rule has happened.
#[derive(Debug, Serialize)]
pub(crate) struct TracedPlace {
    pub(crate) conn: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) direction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) byte: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frame_byte: Option<u64>,
    /// What it had begun has ended there.
    #[serde(skip)]
    pub(crate) is_lifted: bool,
    /// What each side had then.
    pub(crate) client: SideSum,
    pub(crate) upstream: SideSum,
}

/// What a side has, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SideSum {
    /// What came from it.
    pub(crate) received: u64,
    /// What its kernel took for it.
    pub(crate) forwarded: u64,
    /// How much of that it has acknowledged (SIOCOUTQ); of a unix socket all.
    pub(crate) acknowledged: u64,
    /// What the proxy holds for it.
    pub(crate) held: u64,
}

/// The file that a trace is written to, line by line.
#[derive(Debug)]
pub(crate) struct Trace {
    /// `None` once it could not be written.
    file: Option<ReportFile>,
    failure: Option<Failure>,
}

impl Trace {
    /// A new trace; only its owner can read it, as it says who connects to whom.
    ///
    /// # Errors
    ///
    /// 73 if the file cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Trace, Failure> {
        let refused = |error: std::io::Error| {
            let message = format!("cannot create {}: {}", quoted(path), reason(&error));
            Failure::new(ExitCode::CannotCreate, message)
        };
        let file = ReportFile::create(path).map_err(refused)?.streamed();
        file.make_private().map_err(refused)?;
        Ok(Trace { file: Some(file), failure: None })
    }

    /// Writes a line. The first failure ends the trace, and [`Trace::finish`] returns it.
    pub(crate) fn write(&mut self, line: &TraceLine) {
        let Some(file) = &mut self.file else { return };
        let mut text = serde_json::to_vec(line).expect("such a line has a JSON form");
        text.push(b'\n');
        if let Err(error) = file.write_all(&text) {
            self.failure = Some(file.failure(&error));
            self.file = None;
        }
    }

    /// Writes the first line.
    pub(crate) fn write_start(&mut self, rules: &Rules, framing: Option<String>) {
        let traced = |(number, kept): (usize, &KeptRule)| TracedRule {
            number: rules.drawn_by(number),
            rule: kept.rule.to_string(),
        };
        let (version, seed) = (VERSION, rules.seed());
        let rules = rules.numbered().map(traced).collect();
        self.write(&TraceLine::Start { version, seed, framing, rules });
    }

    /// Writes the last line.
    ///
    /// # Errors
    ///
    /// 74 if not everything could be written.
    pub(crate) fn finish(mut self, rules: &Rules) -> Result<(), Failure> {
        let unfired = rules.unfired().map(ToString::to_string).collect();
        self.write(&TraceLine::End { unfired });
        match self.failure {
            Some(failure) => Err(failure),
            None => self.file.map_or(Ok(()), ReportFile::finish),
        }
    }
}

/// Microseconds, as a trace says them.
pub(crate) fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The rules of a trace, with what they left to chance decided as in its run.
///
/// # Errors
///
/// 74 if it cannot be read, 65 for a line that is none of a trace, 64 if frames are told apart in
/// another way than in its run.
pub(crate) fn read(path: &Path, framing: Option<&str>) -> Result<Rules, Failure> {
    let unreadable = |error: &std::io::Error| {
        Failure::new(ExitCode::Io, format!("cannot read {}: {}", quoted(path), reason(error)))
    };
    let mut lines = BufReader::new(File::open(path).map_err(|error| unreadable(&error))?);
    let mut start = None;
    let mut explicit: Vec<(u64, Rule)> = vec![];
    for number in 1.. {
        let mut line = vec![];
        let most = LINE_MAX as u64;
        let mut limited = std::io::Read::take(&mut lines, most);
        let count = limited.read_until(b'\n', &mut line).map_err(|error| unreadable(&error))?;
        // A killed run may have left a part of a line.
        if count == 0 || line.last() != Some(&b'\n') && count < LINE_MAX {
            break;
        }
        let place = format!("{}, line {number}", quoted(path));
        let wrong = |what: &str| {
            let message = format!("{place}: {what}: expected what trustctl proxy --trace writes");
            Failure::new(ExitCode::DataError, message)
        };
        let rule = |text: &str| {
            Rule::parse(text).map_err(|error| error.failure(ExitCode::DataError, &place, text))
        };
        let parsed: Value = serde_json::from_slice(&line).unwrap_or_default();
        match parsed["trace"].as_str() {
            None => return Err(wrong("not a line of a trace")),
            Some("start") if number == 1 => {
                start = Some(read_start(&parsed, rule, wrong)?);
            }
            Some(_) if start.is_none() => {
                return Err(wrong("the first line is not that of a trace"));
            }
            Some(_) => {
                if let Some(text) = parsed["explicit"].as_str() {
                    let number = parsed["number"].as_u64();
                    let number = number.ok_or_else(|| wrong("a fault without its number"))?;
                    explicit.push((number, rule(text)?));
                }
            }
        }
    }
    let Some((seed, traced_framing, rules)) = start else {
        let message = format!("{} has no line of a trace", quoted(path));
        return Err(Failure::new(ExitCode::DataError, message));
    };
    if traced_framing.as_deref() != framing {
        let shown = |framing: Option<&str>| framing.unwrap_or("no frames").to_owned();
        let (traced, given) = (shown(traced_framing.as_deref()), shown(framing));
        let message =
            format!("{} was made with {traced}: expected the same, not {given}", quoted(path));
        return Err(Failure::new(ExitCode::Usage, message));
    }
    Ok(Rules::replay(rules, &explicit, seed))
}

/// What the first line of a trace says: the seed, how frames are told apart, and the rules with
/// their numbers.
type Start = (u64, Option<String>, Vec<(u64, Rule)>);

/// Reads the first line of a trace.
fn read_start(
    line: &Value,
    rule: impl Fn(&str) -> Result<Rule, Failure>,
    wrong: impl Fn(&str) -> Failure,
) -> Result<Start, Failure> {
    let version = line["version"].as_u64();
    if version != Some(VERSION.into()) {
        let named = version.map_or("no".to_owned(), |version| version.to_string());
        return Err(wrong(&format!("version {named} of a trace, not {VERSION}")));
    }
    let (Some(seed), Some(rules)) = (line["seed"].as_u64(), line["rules"].as_array()) else {
        return Err(wrong("no seed or no rules"));
    };
    let rules = rules.iter().map(|it| match (it["number"].as_u64(), it["rule"].as_str()) {
        (Some(number), Some(text)) => Ok((number, rule(text)?)),
        _ => Err(wrong("a rule without its number or text")),
    });
    Ok((seed, line["framing"].as_str().map(str::to_owned), rules.collect::<Result<_, _>>()?))
}
