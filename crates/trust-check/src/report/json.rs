//! The report as one JSON document; `docs/CHECK-REPORT.md` says what its fields are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::cause::Cause;
use crate::outcome::CaseOutcome;
use crate::report::{About, Counts, RunEnd, RunReport};
use crate::transcript::{Log, TranscriptEntry, What};
use crate::verdict::{Finding, Verdict};
use crate::watch::Death;

/// Changes when a field goes away or changes its meaning, not when one is added.
pub const VERSION: u32 = 1;

// Many fields: those of the document.
/// What `trustctl check --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckReport {
    /// Names the document.
    pub schema: CheckSchema,
    /// `1`.
    pub version: u32,
    /// How the run ended.
    pub state: RunState,
    /// Why, or by what; `null` if it is complete.
    pub detail: Option<String>,
    /// The exit code.
    pub exit: u8,
    /// When the run began, UTC.
    pub started: String,
    /// How long it took.
    pub duration_ms: f64,
    /// The server.
    pub server: ServerFields,
    /// The flags of these names.
    pub settings: CheckSettings,
    /// Cases by what they count as; together all cases.
    pub counts: Counts,
    /// Whenever the server died.
    pub deaths: Vec<Death>,
    /// What explains several findings.
    pub causes: Vec<Explanation>,
    /// What came of each case, in the order of the list.
    pub cases: Vec<CaseReport>,
}

impl CheckReport {
    /// The document of a run, whatever came of it.
    pub fn of(report: &RunReport<'_>) -> CheckReport {
        let RunReport { about, outcomes, causes, end, took, exit } = report;
        let (state, said) = match end {
            RunEnd::Complete => (RunState::Complete, None),
            RunEnd::ServerDied(during) => (RunState::ServerDied, Some(*during)),
            RunEnd::Stopped(signal) => (RunState::Stopped, Some(*signal)),
            RunEnd::Unreachable(why) => (RunState::Unreachable, Some(*why)),
            RunEnd::Unwritten(why) => (RunState::Unwritten, Some(*why)),
        };
        CheckReport {
            schema: CheckSchema::Report,
            version: VERSION,
            state,
            detail: said.map(str::to_owned),
            exit: exit.code(),
            started: about.started.clone(),
            duration_ms: millis(*took),
            server: about.server.clone(),
            settings: about.settings,
            counts: Counts::of(outcomes),
            deaths: about.deaths.clone(),
            causes: causes.iter().map(Explanation::of).collect(),
            cases: outcomes.iter().map(|outcome| CaseReport::of(outcome, about)).collect(),
        }
    }
}

/// Names the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CheckSchema {
    /// What `trustctl check --json` prints.
    #[serde(rename = "trustctl-check")]
    Report,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// All cases were tried, or there is a reason not to.
    Complete,
    /// The server died and could not be started again; `detail` says during which cases.
    ServerDied,
    /// By a signal, which `detail` names.
    Stopped,
    /// No case was tried; `detail` says why.
    Unreachable,
    /// All cases were tried, and another report could not be written; `detail` says which, and why.
    Unwritten,
}

/// What `trustctl check --list --json` prints: the cases that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CaseList {
    /// Names the document.
    pub schema: ListSchema,
    /// `1`.
    pub version: u32,
    /// In their order.
    pub cases: Vec<CaseText>,
}

impl CaseList {
    /// The document of these cases.
    pub fn of(cases: &[&'static Case]) -> CaseList {
        let cases = cases.iter().map(|case| CaseText::of(case)).collect();
        CaseList { schema: ListSchema::Cases, version: VERSION, cases }
    }
}

/// Names the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ListSchema {
    /// What `trustctl check --list --json` prints.
    #[serde(rename = "trustctl-check-cases")]
    Cases,
}

/// What a case is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CaseText {
    /// Group and number, which never change: `framing/3`.
    pub id: String,
    /// In a few words.
    pub title: String,
    /// What a right server does.
    pub requirement: String,
    /// Where the requirement comes from.
    pub source: String,
    /// The bug that it finds.
    pub bug: String,
}

impl CaseText {
    fn of(case: &Case) -> CaseText {
        let Case { id, title, requirement, source, bug, .. } = *case;
        let [id, title, requirement, source, bug] =
            [id, title, requirement, source, bug].map(str::to_owned);
        CaseText { id, title, requirement, source, bug }
    }
}

// Many fields: those of the document.
/// The server, and what the flags said about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ServerFields {
    /// The server as it was named; `null` if a command starts it.
    pub target: Option<String>,
    /// The address that answered.
    pub address: Option<String>,
    /// The command that starts it; `null` if it was named.
    pub command: Option<String>,
    /// The process that was watched.
    pub pid: Option<u32>,
    /// The PROXY header that each connection begins with, as `--send-proxy` says; `null`: none.
    pub send_proxy: Option<String>,
    /// The protocol whose exchanges are tried, by its name; `null`: the server echoes.
    pub protocol: Option<String>,
    /// `--framing`, or what is known of the protocol's requests.
    pub framing: String,
    /// `--max-frame`; `null`: no limit.
    pub max_frame_bytes: Option<u64>,
    /// `--timeout`; `null`: no limit.
    pub timeout_sec: Option<f64>,
    /// Whether it was found to serve one client at a time.
    pub one_at_a_time: bool,
    /// How many clients it serves at the same time, as `--max-clients` says.
    pub max_clients: Option<u64>,
    /// The fewest clients of the check beside which it turned another away, if it did.
    pub turned_away_beside: Option<u64>,
    /// Whether the check started it, and had to kill it: it had not ended `--stop-timeout` after
    /// SIGTERM, or when a signal ended the wait.
    pub was_killed: bool,
}

/// The flags of these names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckSettings {
    /// `--patience`.
    pub patience_sec: f64,
    /// `--settle`.
    pub settle_sec: f64,
    /// `--strict`.
    pub strict: bool,
    /// `--seed`, or the one that was chosen.
    pub seed: u64,
    /// `--jobs`.
    pub jobs: usize,
}

/// What explains several findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// What it is, with the flag that says so, if there is one.
    pub text: String,
    /// The cases that it explains, which may be none.
    pub cases: Vec<String>,
}

impl Explanation {
    fn of(Cause { text, cases }: &Cause) -> Explanation {
        let cases = cases.iter().copied().map(str::to_owned).collect();
        Explanation { text: text.clone(), cases }
    }
}

// Many fields: those of the document.
/// What came of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CaseReport {
    /// What it is, as in `--list --json`.
    #[serde(flatten)]
    pub about: CaseText,
    /// What came of it; with `--strict`, what would warn fails.
    pub verdict: VerdictName,
    /// How often it was tried (a failure beside other cases again, alone); 0 if it was skipped.
    pub tries: u32,
    /// How often it failed; once of two tries: intermittent.
    pub failed_tries: u32,
    /// Other cases that ran beside the first try.
    pub beside: usize,
    /// Whether `--expect` lists it.
    pub listed: bool,
    /// Of `fail` and `warn`: what a right server does.
    pub expected: Option<String>,
    /// Of `fail` and `warn`: what this one did.
    pub got: Option<String>,
    /// Of `allowed`, `info`, `inconclusive` and `skipped`: what it did, what was measured, or why.
    pub said: Option<String>,
    /// What may help.
    pub hint: Option<String>,
    /// How long it took.
    pub duration_ms: f64,
    /// The command that tries it again, for a shell.
    pub again: String,
    /// What went over the wire, in the order of time.
    pub transcript: Vec<TranscriptLine>,
    /// Entries after the last one that was kept.
    pub transcript_left_out: u64,
}

impl CaseReport {
    fn of(outcome: &CaseOutcome, about: &About) -> CaseReport {
        let (verdict, finding, said) = match &outcome.verdict {
            Verdict::Pass => (VerdictName::Pass, None, None),
            Verdict::Fail(finding) => (VerdictName::Fail, Some(finding), None),
            Verdict::Warn(finding) => (VerdictName::Warn, Some(finding), None),
            Verdict::Allowed(said) => (VerdictName::Allowed, None, Some(said)),
            Verdict::Info(said) => (VerdictName::Info, None, Some(said)),
            Verdict::Inconclusive(said) => (VerdictName::Inconclusive, None, Some(said)),
            Verdict::Skipped(said) => (VerdictName::Skipped, None, Some(said)),
        };
        let Log { entries, left_out } = &outcome.log;
        CaseReport {
            about: CaseText::of(outcome.case),
            verdict,
            tries: outcome.tries.tries,
            failed_tries: outcome.tries.failed,
            beside: outcome.tries.beside,
            listed: outcome.is_listed,
            expected: finding.map(|Finding { expected, .. }| expected.clone()),
            got: finding.map(|Finding { got, .. }| got.clone()),
            said: said.cloned(),
            hint: outcome.hint.clone(),
            duration_ms: millis(outcome.took),
            again: about.again(outcome.case.id),
            transcript: entries.iter().map(TranscriptLine::of).collect(),
            transcript_left_out: *left_out,
        }
    }
}

/// What came of a case, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VerdictName {
    /// As it should be.
    Pass,
    /// A bug.
    Fail,
    /// Unwise, though no bug.
    Warn,
    /// Not what the case wants, but the protocol says that a right server may do it.
    Allowed,
    /// Measured, and not judged.
    Info,
    /// It could not be shown.
    Inconclusive,
    /// Not run.
    Skipped,
}

impl VerdictName {
    /// The word for it, as elsewhere.
    pub fn word(self) -> &'static str {
        match self {
            VerdictName::Pass => "pass",
            VerdictName::Fail => "fail",
            VerdictName::Warn => "warn",
            VerdictName::Allowed => "allowed",
            VerdictName::Info => "info",
            VerdictName::Inconclusive => "inconclusive",
            VerdictName::Skipped => "skipped",
        }
    }
}

/// An entry of a transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TranscriptLine {
    /// Since the case began.
    pub at_ms: f64,
    /// Which connection, from 1; 0: the case itself.
    pub connection: u32,
    /// What happened.
    pub what: WireEvent,
    /// Of `sent_proxy_header`, `sent` and `received`: how many.
    pub bytes: Option<usize>,
    /// Of the same: the first 64 of them; `null` if they are secret.
    pub hex: Option<String>,
    /// Of `left_alone` and `silence`: how long.
    pub time_ms: Option<f64>,
    /// Of `note`: what it says.
    pub text: Option<String>,
}

/// What happened on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WireEvent {
    /// The connection was made.
    Connected,
    /// The PROXY header of `--send-proxy` was sent.
    SentProxyHeader,
    /// Bytes were sent; those of a PROXY header are none of them.
    Sent,
    /// All was acknowledged, or read from a unix socket, and the server was left alone with it.
    LeftAlone,
    /// Bytes came.
    Received,
    /// The server's FIN came.
    ReceivedFin,
    /// The server's RST came.
    ReceivedRst,
    /// The check sent FIN.
    SentFin,
    /// The check sent RST.
    SentRst,
    /// The check closed.
    Closed,
    /// Nothing came.
    Silence,
    /// What the case says.
    Note,
}

impl TranscriptLine {
    fn of(entry: &TranscriptEntry) -> TranscriptLine {
        let (what, bytes, time, text) = match &entry.what {
            What::Connected => (WireEvent::Connected, None, None, None),
            What::SentPreface(bytes) => (WireEvent::SentProxyHeader, Some(bytes), None, None),
            What::Sent(bytes) => (WireEvent::Sent, Some(bytes), None, None),
            What::LeftAlone(time) | What::ReadAndLeftAlone(time) => {
                (WireEvent::LeftAlone, None, Some(*time), None)
            }
            What::Received(bytes) => (WireEvent::Received, Some(bytes), None, None),
            What::ReceivedFin => (WireEvent::ReceivedFin, None, None, None),
            What::ReceivedReset => (WireEvent::ReceivedRst, None, None, None),
            What::SentFin => (WireEvent::SentFin, None, None, None),
            What::SentReset => (WireEvent::SentRst, None, None, None),
            What::Closed => (WireEvent::Closed, None, None, None),
            What::Silence(time) => (WireEvent::Silence, None, Some(*time), None),
            What::Note(text) => (WireEvent::Note, None, None, Some(text.clone())),
        };
        TranscriptLine {
            at_ms: millis(entry.at),
            connection: entry.connection,
            what,
            bytes: bytes.map(|bytes| bytes.len),
            hex: bytes
                .filter(|bytes| !bytes.is_secret)
                .map(|bytes| bytes.first.iter().map(|byte| format!("{byte:02x}")).collect()),
            time_ms: time.map(millis),
            text,
        }
    }
}

/// Milliseconds, as exact as a microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
