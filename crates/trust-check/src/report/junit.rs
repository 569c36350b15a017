//! The report as CI systems read it: the XML that JUnit's tasks write.

use std::fmt::Write as _;

use trust_cli::markup::escaped;

use crate::outcome::{CaseOutcome, Class};
use crate::report::{RunEnd, RunReport, caused, transcript};
use crate::verdict::{Finding, Verdict};

/// The report as one document. What is known to fail, or could not be shown, counts as skipped.
pub fn report(report: &RunReport<'_>) -> String {
    let RunReport { about, outcomes, end, took, .. } = report;
    let is_failure = |outcome: &&CaseOutcome| has_failed(outcome.class());
    let is_skipped = |outcome: &&CaseOutcome| reason_to_skip(outcome).is_some();
    let failures = outcomes.iter().filter(is_failure).count();
    let skipped = outcomes.iter().filter(is_skipped).count();
    let error = match end {
        RunEnd::Complete => None,
        RunEnd::ServerDied(during) => Some(format!("the server died during {during}")),
        RunEnd::Stopped(signal) => Some(format!("the run was stopped by {signal}")),
        RunEnd::Unreachable(why) | RunEnd::Unwritten(why) => Some((*why).to_owned()),
    };
    let (errors, tests) = (usize::from(error.is_some()), outcomes.len());
    let totals = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{:.3}\"",
        tests + errors,
        took.as_secs_f64()
    );
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites name=\"trustctl check\" {totals}>");
    let _ = writeln!(
        xml,
        "<testsuite name=\"{}\" {totals} timestamp=\"{}\">",
        escaped(about.server()),
        escaped(&about.started)
    );
    for outcome in *outcomes {
        xml.push_str(&case(outcome, &about.again(outcome.case.id)));
    }
    if let Some(error) = error {
        let _ = writeln!(
            xml,
            "<testcase classname=\"run\" name=\"the whole run\" time=\"0\">\
             <error message=\"{}\"/></testcase>",
            escaped(&error)
        );
    }
    if !report.causes.is_empty() {
        let told: Vec<String> =
            report.causes.iter().map(|cause| caused(&cause.text, &cause.cases)).collect();
        let _ = writeln!(xml, "<system-out>{}</system-out>", escaped(&told.join("\n")));
    }
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

fn has_failed(class: Class) -> bool {
    matches!(class, Class::Fail | Class::UnexpectedPass)
}

fn reason_to_skip(outcome: &CaseOutcome) -> Option<String> {
    match (&outcome.verdict, outcome.class()) {
        (Verdict::Skipped(why), _) => Some(why.clone()),
        (Verdict::Inconclusive(why), _) => Some(format!("inconclusive: {why}")),
        (Verdict::Fail(Finding { got, .. }), Class::Known) => Some(format!("known to fail: {got}")),
        _ => None,
    }
}

fn case(outcome: &CaseOutcome, again: &str) -> String {
    let case = outcome.case;
    let mut xml = format!(
        "<testcase classname=\"{}\" name=\"{} {}\" time=\"{:.3}\">",
        escaped(case.group()),
        escaped(case.id),
        escaped(case.title),
        outcome.took.as_secs_f64()
    );
    match &outcome.verdict {
        Verdict::Fail(finding) if has_failed(outcome.class()) => {
            let _ = write!(
                xml,
                "<failure type=\"fail\" message=\"{}\">{}</failure>",
                escaped(&finding.got),
                escaped(&story(outcome, finding, again))
            );
        }
        _ if has_failed(outcome.class()) => xml.push_str(
            "<failure type=\"unexpected\" message=\"it is listed as known to fail and did not\"/>",
        ),
        Verdict::Warn(finding) => {
            let story = escaped(&story(outcome, finding, again));
            let _ = write!(xml, "<system-out>warning\n{story}</system-out>");
        }
        Verdict::Info(said) => _ = write!(xml, "<system-out>{}</system-out>", escaped(said)),
        _ => {}
    }
    if let Some(why) = reason_to_skip(outcome) {
        let _ = write!(xml, "<skipped message=\"{}\"/>", escaped(&why));
    }
    xml.push_str("</testcase>\n");
    xml
}

fn story(outcome: &CaseOutcome, finding: &Finding, again: &str) -> String {
    let mut text = format!(
        "expected: {}\ngot: {}\nusual cause: {}\nsource: {}\n",
        finding.expected, finding.got, outcome.case.bug, outcome.case.source
    );
    if let Some(said) = outcome.tries.said() {
        let _ = writeln!(text, "seen: {said}");
    }
    if let Some(hint) = &outcome.hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    for line in transcript(&outcome.log, usize::MAX) {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "again: {again}");
    text
}
