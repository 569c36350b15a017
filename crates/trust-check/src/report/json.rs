//! The report as one JSON document; `docs/CHECK-REPORT.md` says what its fields are.

use std::time::Duration;

use serde::Serialize;

use crate::case::Case;
use crate::cause::Cause;
use crate::outcome::CaseOutcome;
use crate::report::{About, Counts, RunEnd, RunReport};
use crate::setup::NO_LIMIT;
use crate::transcript::{Log, TranscriptEntry, What};
use crate::verdict::{Finding, Verdict};
use crate::watch::Death;

/// Changes when a field goes away or changes its meaning, not when one is added.
pub const VERSION: u32 = 1;

/// The report as one document, with a newline at its end.
///
/// # Errors
///
/// None in practice: all keys are texts.
pub fn report(report: &RunReport<'_>) -> Result<String, serde_json::Error> {
    let RunReport { about, outcomes, causes, end, took, exit } = report;
    let (state, said) = match end {
        RunEnd::Complete => ("complete", None),
        RunEnd::ServerDied(during) => ("server_died", Some(*during)),
        RunEnd::Stopped(signal) => ("stopped", Some(*signal)),
        RunEnd::Unreachable(why) => ("unreachable", Some(*why)),
        RunEnd::Unwritten(why) => ("unwritten", Some(*why)),
    };
    let document = ReportDocument {
        schema: "trustctl-check",
        version: VERSION,
        state,
        detail: said,
        exit: exit.code(),
        started: &about.started,
        duration_ms: millis(*took),
        server: ServerFields {
            target: about.target.as_deref(),
            address: about.address.as_deref(),
            command: about.command.as_deref(),
            pid: about.pid,
            framing: &about.framing,
            max_frame_bytes: Some(about.max_frame).filter(|limit| *limit != NO_LIMIT),
            timeout_sec: about.timeout.map(|time| time.as_secs_f64()),
            one_at_a_time: about.one_at_a_time,
            max_clients: about.max_clients,
            turned_away_beside: about.turned_away_beside,
        },
        settings: Settings {
            patience_sec: about.patience.as_secs_f64(),
            settle_sec: about.settle.as_secs_f64(),
            strict: about.strict,
            seed: about.seed,
            jobs: about.jobs,
        },
        counts: Counts::of(outcomes),
        deaths: about.deaths.iter().map(|Death { during, how }| Died { during, how }).collect(),
        causes: causes.iter().map(|Cause { text, cases }| Explained { text, cases }).collect(),
        cases: outcomes.iter().map(|outcome| case(outcome, about)).collect(),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// The cases that there are, as one document.
///
/// # Errors
///
/// None in practice: all keys are texts.
pub fn list(cases: &[&'static Case]) -> Result<String, serde_json::Error> {
    let cases = cases.iter().map(|case| Described::of(case)).collect();
    let document = List { schema: "trustctl-check-cases", version: VERSION, cases };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

#[derive(Serialize)]
struct List {
    schema: &'static str,
    version: u32,
    cases: Vec<Described>,
}

#[derive(Serialize)]
struct Described {
    id: &'static str,
    title: &'static str,
    requirement: &'static str,
    source: &'static str,
    bug: &'static str,
}

impl Described {
    fn of(case: &Case) -> Described {
        let Case { id, title, requirement, source, bug, .. } = *case;
        Described { id, title, requirement, source, bug }
    }
}

#[derive(Serialize)]
struct ReportDocument<'r> {
    schema: &'static str,
    version: u32,
    state: &'static str,
    detail: Option<&'r str>,
    exit: u8,
    started: &'r str,
    duration_ms: f64,
    server: ServerFields<'r>,
    settings: Settings,
    counts: Counts,
    deaths: Vec<Died<'r>>,
    causes: Vec<Explained<'r>>,
    cases: Vec<Tried<'r>>,
}

#[derive(Serialize)]
struct ServerFields<'r> {
    target: Option<&'r str>,
    address: Option<&'r str>,
    command: Option<&'r str>,
    pid: Option<u32>,
    framing: &'r str,
    max_frame_bytes: Option<u64>,
    timeout_sec: Option<f64>,
    one_at_a_time: bool,
    max_clients: Option<u64>,
    turned_away_beside: Option<u64>,
}

#[derive(Serialize)]
struct Settings {
    patience_sec: f64,
    settle_sec: f64,
    strict: bool,
    seed: u64,
    jobs: usize,
}

#[derive(Serialize)]
struct Died<'r> {
    during: &'r str,
    how: &'r str,
}

#[derive(Serialize)]
struct Explained<'r> {
    text: &'r str,
    cases: &'r [&'static str],
}

#[derive(Serialize)]
struct Tried<'r> {
    #[serde(flatten)]
    case: Described,
    verdict: &'static str,
    tries: u32,
    failed_tries: u32,
    beside: usize,
    listed: bool,
    expected: Option<&'r str>,
    got: Option<&'r str>,
    said: Option<&'r str>,
    hint: Option<&'r str>,
    duration_ms: f64,
    again: String,
    transcript: Vec<TranscriptLine<'r>>,
    transcript_left_out: u64,
}

#[derive(Serialize)]
struct TranscriptLine<'r> {
    at_ms: f64,
    connection: u32,
    what: &'static str,
    bytes: Option<usize>,
    hex: Option<String>,
    time_ms: Option<f64>,
    text: Option<&'r str>,
}

fn case<'r>(outcome: &'r CaseOutcome, about: &About) -> Tried<'r> {
    let (finding, said) = match &outcome.verdict {
        Verdict::Pass => (None, None),
        Verdict::Fail(finding) | Verdict::Warn(finding) => (Some(finding), None),
        Verdict::Info(said) | Verdict::Inconclusive(said) | Verdict::Skipped(said) => {
            (None, Some(said.as_str()))
        }
    };
    let Log { entries, left_out } = &outcome.log;
    Tried {
        case: Described::of(outcome.case),
        verdict: outcome.verdict.name(),
        tries: outcome.tries.tries,
        failed_tries: outcome.tries.failed,
        beside: outcome.tries.beside,
        listed: outcome.is_listed,
        expected: finding.map(|Finding { expected, .. }| expected.as_str()),
        got: finding.map(|Finding { got, .. }| got.as_str()),
        said,
        hint: outcome.hint.as_deref(),
        duration_ms: millis(outcome.took),
        again: about.again(outcome.case.id),
        transcript: entries.iter().map(line).collect(),
        transcript_left_out: *left_out,
    }
}

fn line(entry: &TranscriptEntry) -> TranscriptLine<'_> {
    let (what, bytes, time, text) = match &entry.what {
        What::Connected => ("connected", None, None, None),
        What::Sent(bytes) => ("sent", Some(bytes), None, None),
        What::LeftAlone(time) => ("left_alone", None, Some(*time), None),
        What::Received(bytes) => ("received", Some(bytes), None, None),
        What::ReceivedFin => ("received_fin", None, None, None),
        What::ReceivedReset => ("received_rst", None, None, None),
        What::SentFin => ("sent_fin", None, None, None),
        What::SentReset => ("sent_rst", None, None, None),
        What::Closed => ("closed", None, None, None),
        What::Silence(time) => ("silence", None, Some(*time), None),
        What::Note(text) => ("note", None, None, Some(text.as_str())),
    };
    TranscriptLine {
        at_ms: millis(entry.at),
        connection: entry.connection,
        what,
        bytes: bytes.map(|bytes| bytes.len),
        hex: bytes.map(|bytes| bytes.first.iter().map(|byte| format!("{byte:02x}")).collect()),
        time_ms: time.map(millis),
        text,
    }
}

/// Milliseconds, as exact as a microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
