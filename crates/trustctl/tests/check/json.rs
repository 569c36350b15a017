//! The report, read as strictly as its schema and its types allow, and checks that apply to every
//! report.

use trust_check::report::Counts;
use trust_check::report::json::{CaseReport, CaseText, CheckReport, VerdictName, WireEvent};
use trust_testkit::document;

/// Reads a report, which must be the whole text, and checks that it is consistent.
#[track_caller]
pub(crate) fn read(text: &str) -> CheckReport {
    let report: CheckReport = document::read(text, "check");
    assert_eq!(report.version, 1);
    assert!(report.started.ends_with('Z') && report.duration_ms >= 0.0, "{}", report.started);
    let mut counts = Counts::default();
    for case in &report.cases {
        *match (case.verdict, case.listed) {
            (VerdictName::Pass | VerdictName::Info, true) => &mut counts.unexpected_pass,
            (VerdictName::Pass, false) => &mut counts.pass,
            (VerdictName::Fail, true) => &mut counts.known,
            (VerdictName::Fail, false) => &mut counts.fail,
            (VerdictName::Warn, _) => &mut counts.warn,
            (VerdictName::Allowed, _) => &mut counts.allowed,
            (VerdictName::Info, false) => &mut counts.info,
            (VerdictName::Inconclusive, _) => &mut counts.inconclusive,
            (VerdictName::Skipped, _) => &mut counts.skipped,
        } += 1;
        check_case(case);
    }
    assert_eq!(report.counts, counts);
    report
}

#[track_caller]
fn check_case(case: &CaseReport) {
    let id = &case.about.id;
    let is_finding = matches!(case.verdict, VerdictName::Fail | VerdictName::Warn);
    let has_said = matches!(
        case.verdict,
        VerdictName::Allowed | VerdictName::Info | VerdictName::Inconclusive | VerdictName::Skipped
    );
    assert_eq!((case.expected.is_some(), case.got.is_some()), (is_finding, is_finding), "{id}");
    assert_eq!(case.said.is_some(), has_said, "{id}");
    assert!(case.tries > 0 || case.verdict == VerdictName::Skipped, "{id}");
    assert!(case.failed_tries <= case.tries && case.tries <= 2 && case.beside < 64, "{id}");
    assert!(case.again.starts_with("trustctl check ") && case.duration_ms >= 0.0, "{id}");
    let CaseText { id: _, title, requirement, source, bug } = &case.about;
    for text in [title, requirement, source, bug] {
        assert!(!text.is_empty(), "{id}");
    }
    let mut last = 0.0;
    for entry in &case.transcript {
        assert!(entry.at_ms >= last, "{id}: the transcript is not in the order of time");
        last = entry.at_ms;
        let has_bytes = matches!(
            entry.what,
            WireEvent::SentProxyHeader | WireEvent::Sent | WireEvent::Received
        );
        let has_time = matches!(entry.what, WireEvent::LeftAlone | WireEvent::Silence);
        let is_secret = entry.what == WireEvent::Sent && entry.hex.is_none();
        assert_eq!(entry.bytes.is_some(), has_bytes, "{id}");
        assert_eq!(entry.hex.is_some(), has_bytes && !is_secret, "{id}");
        assert_eq!(entry.time_ms.is_some(), has_time, "{id}");
        assert_eq!(entry.text.is_some(), entry.what == WireEvent::Note, "{id}");
        assert!(entry.what == WireEvent::Note || entry.connection > 0, "{id}");
        if let (Some(hex), Some(bytes)) = (&entry.hex, entry.bytes) {
            assert!(hex.len() <= 2 * bytes && hex.len().is_multiple_of(2), "{id}: {hex}");
        }
    }
    assert!(case.transcript_left_out == 0 || !case.transcript.is_empty(), "{id}");
}
