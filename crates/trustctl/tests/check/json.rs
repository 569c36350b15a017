//! The report, read as strictly as `docs/CHECK-REPORT.md` says it.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) schema: String,
    pub(crate) version: u32,
    pub(crate) state: State,
    #[serde(deserialize_with = "present")]
    pub(crate) detail: Option<String>,
    pub(crate) exit: u8,
    pub(crate) started: String,
    pub(crate) duration_ms: f64,
    pub(crate) server: Server,
    pub(crate) settings: Settings,
    pub(crate) counts: Counts,
    pub(crate) deaths: Vec<Death>,
    pub(crate) causes: Vec<Cause>,
    pub(crate) cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Death {
    pub(crate) during: String,
    pub(crate) how: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cause {
    pub(crate) text: String,
    pub(crate) cases: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Complete,
    ServerDied,
    Stopped,
    Unreachable,
    Unwritten,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    #[serde(deserialize_with = "present")]
    pub(crate) target: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(crate) address: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(crate) command: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(crate) pid: Option<u32>,
    pub(crate) framing: String,
    #[serde(deserialize_with = "present")]
    pub(crate) max_frame_bytes: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) timeout_sec: Option<f64>,
    pub(crate) one_at_a_time: bool,
    #[serde(deserialize_with = "present")]
    pub(crate) max_clients: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) turned_away_beside: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) patience_sec: f64,
    pub(crate) settle_sec: f64,
    pub(crate) strict: bool,
    pub(crate) seed: u64,
    pub(crate) jobs: u64,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counts {
    pub(crate) pass: u64,
    pub(crate) fail: u64,
    pub(crate) known: u64,
    pub(crate) unexpected_pass: u64,
    pub(crate) warn: u64,
    pub(crate) info: u64,
    pub(crate) inconclusive: u64,
    pub(crate) skipped: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) requirement: String,
    pub(crate) source: String,
    pub(crate) bug: String,
    pub(crate) verdict: Verdict,
    pub(crate) tries: u32,
    pub(crate) failed_tries: u32,
    pub(crate) beside: u32,
    pub(crate) listed: bool,
    #[serde(deserialize_with = "present")]
    pub(crate) expected: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(crate) got: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(crate) said: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(crate) hint: Option<String>,
    pub(crate) duration_ms: f64,
    pub(crate) again: String,
    pub(crate) transcript: Vec<Entry>,
    pub(crate) transcript_left_out: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    Warn,
    Info,
    Inconclusive,
    Skipped,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) at_ms: f64,
    pub(crate) connection: u32,
    pub(crate) what: What,
    #[serde(deserialize_with = "present")]
    pub(crate) bytes: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) hex: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(crate) time_ms: Option<f64>,
    #[serde(deserialize_with = "present")]
    pub(crate) text: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Connected,
    Sent,
    LeftAlone,
    Received,
    ReceivedFin,
    ReceivedRst,
    SentFin,
    SentRst,
    Closed,
    Silence,
    Note,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    pub(crate) schema: String,
    pub(crate) version: u32,
    pub(crate) cases: Vec<Described>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Described {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) requirement: String,
    pub(crate) source: String,
    pub(crate) bug: String,
}

/// A field that may be null and may not be missing, as serde takes a missing one for null otherwise.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// Reads a report, which must be all of the text, and checks that it agrees with itself.
#[track_caller]
pub(crate) fn read(text: &str) -> Report {
    assert!(text.ends_with("}\n"), "the document ends with a newline: {text:?}");
    let report: Report = serde_json::from_str(text).expect("a report of the schema");
    assert_eq!((report.schema.as_str(), report.version), ("trustctl-check", 1));
    assert!(report.started.ends_with('Z') && report.duration_ms >= 0.0, "{}", report.started);
    let mut counts = Counts::default();
    for case in &report.cases {
        *match (case.verdict, case.listed) {
            (Verdict::Pass | Verdict::Info, true) => &mut counts.unexpected_pass,
            (Verdict::Pass, false) => &mut counts.pass,
            (Verdict::Fail, true) => &mut counts.known,
            (Verdict::Fail, false) => &mut counts.fail,
            (Verdict::Warn, _) => &mut counts.warn,
            (Verdict::Info, false) => &mut counts.info,
            (Verdict::Inconclusive, _) => &mut counts.inconclusive,
            (Verdict::Skipped, _) => &mut counts.skipped,
        } += 1;
        check_case(case);
    }
    assert_eq!(report.counts, counts);
    report
}

#[track_caller]
fn check_case(case: &Case) {
    let id = &case.id;
    let is_finding = matches!(case.verdict, Verdict::Fail | Verdict::Warn);
    let has_said = matches!(case.verdict, Verdict::Info | Verdict::Inconclusive | Verdict::Skipped);
    assert_eq!((case.expected.is_some(), case.got.is_some()), (is_finding, is_finding), "{id}");
    assert_eq!(case.said.is_some(), has_said, "{id}");
    assert!(case.tries > 0 || case.verdict == Verdict::Skipped, "{id}");
    assert!(case.failed_tries <= case.tries && case.tries <= 2 && case.beside < 64, "{id}");
    assert!(case.again.starts_with("trustctl check ") && case.duration_ms >= 0.0, "{id}");
    for text in [&case.title, &case.requirement, &case.source, &case.bug] {
        assert!(!text.is_empty(), "{id}");
    }
    let mut last = 0.0;
    for entry in &case.transcript {
        assert!(entry.at_ms >= last, "{id}: the transcript is not in the order of time");
        last = entry.at_ms;
        let has_bytes = matches!(entry.what, What::Sent | What::Received);
        let has_time = matches!(entry.what, What::LeftAlone | What::Silence);
        assert_eq!((entry.bytes.is_some(), entry.hex.is_some()), (has_bytes, has_bytes), "{id}");
        assert_eq!(entry.time_ms.is_some(), has_time, "{id}");
        assert_eq!(entry.text.is_some(), entry.what == What::Note, "{id}");
        assert!(entry.what == What::Note || entry.connection > 0, "{id}");
        if let (Some(hex), Some(bytes)) = (&entry.hex, entry.bytes) {
            assert!(hex.len() as u64 <= 2 * bytes && hex.len().is_multiple_of(2), "{id}: {hex}");
        }
    }
    assert!(case.transcript_left_out == 0 || !case.transcript.is_empty(), "{id}");
}
