//! The report as CI systems read it: the XML that JUnit's tasks write.

use std::fmt::Write as _;
use std::time::Duration;

use maud::{Markup, PreEscaped, html};
use trust_cli::markup::document;

use crate::cause::Cause;
use crate::outcome::{CaseOutcome, Class};
use crate::report::{RunEnd, RunReport, caused, transcript};
use crate::verdict::{Finding, Verdict};

pub(crate) const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// The report as one document. What is known to fail, or could not be shown, counts as skipped.
pub fn report(report: &RunReport<'_>) -> String {
    let RunReport { about, outcomes, causes, end, took, .. } = report;
    let failures = outcomes.iter().filter(|outcome| has_failed(outcome)).count();
    let skipped = outcomes.iter().filter_map(reason_to_skip).count();
    let error = match end {
        RunEnd::Complete => None,
        RunEnd::ServerDied(during) => Some(format!("the server died during {during}")),
        RunEnd::Stopped(signal) => Some(format!("the run was stopped by {signal}")),
        RunEnd::Unreachable(why) | RunEnd::Unwritten(why) => Some((*why).to_owned()),
    };
    let errors = usize::from(error.is_some());
    let (tests, time) = (outcomes.len() + errors, seconds(*took));
    document(html! {
        (PreEscaped(DECLARATION))
        testsuites name="trustctl check" tests=(tests) failures=(failures) errors=(errors)
            skipped=(skipped) time=(time)
        {
            "\n"
            testsuite name=(about.server()) tests=(tests) failures=(failures) errors=(errors)
                skipped=(skipped) time=(time) timestamp=(about.started)
            {
                "\n"
                @if let Some(preface) = &about.server.send_proxy {
                    properties { property name="send-proxy" value=(preface) {} }
                    "\n"
                }
                @for outcome in *outcomes { (case(outcome, &about.again(outcome.case.id))) "\n" }
                @if let Some(error) = error {
                    testcase classname="run" name="the whole run" time="0" {
                        error message=(error) {}
                    }
                    "\n"
                }
                @if !causes.is_empty() || about.killed().is_some() {
                    system-out {
                        @if let Some(killed) = about.killed() { (killed) "\n" }
                        @for Cause { text, cases } in *causes { (caused(text, cases)) "\n" }
                    }
                    "\n"
                }
            }
            "\n"
        }
        "\n"
    })
}

fn has_failed(outcome: &CaseOutcome) -> bool {
    matches!(outcome.class(), Class::Fail | Class::UnexpectedPass)
}

fn reason_to_skip(outcome: &CaseOutcome) -> Option<String> {
    match (&outcome.verdict, outcome.class()) {
        (Verdict::Skipped(why), _) => Some(why.clone()),
        (Verdict::Inconclusive(why), _) => Some(format!("inconclusive: {why}")),
        (Verdict::Fail(Finding { got, .. }), Class::Known) => Some(format!("known to fail: {got}")),
        _ => None,
    }
}

fn case(outcome: &CaseOutcome, again: &str) -> Markup {
    let CaseOutcome { case, verdict, took, .. } = outcome;
    let (has_failed, story) = (has_failed(outcome), |finding| story(outcome, finding, again));
    html! {
        testcase classname=(case.group()) name={ (case.id) " " (case.title) }
            time=(seconds(*took))
        {
            @match verdict {
                Verdict::Fail(finding) if has_failed => {
                    failure type="fail" message=(finding.got) { (story(finding)) }
                }
                _ if has_failed => {
                    failure type="unexpected" message="it is listed as known to fail and did not" {}
                }
                Verdict::Warn(finding) => { system-out { "warning\n" (story(finding)) } }
                Verdict::Info(said) => { system-out { (said) } }
                Verdict::Allowed(said) => { system-out { "allowed: " (said) } }
                _ => {}
            }
            @if let Some(why) = reason_to_skip(outcome) { skipped message=(why) {} }
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
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
