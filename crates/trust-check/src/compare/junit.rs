//! The comparison as CI systems read it: a case that the box makes fail is a failure.

use maud::{Markup, PreEscaped, html};
use trust_cli::markup::document;

use super::json::{Change, CompareReport, ComparedCase, Side, SideOutcome, Unseen};
use super::text::summary;
use crate::report::json::VerdictName;
use crate::report::junit::DECLARATION;

pub(super) fn report(report: &CompareReport) -> String {
    let CompareReport { direct, through, changes, measured, left_out, unseen, .. } = report;
    let cases = changes.iter().flat_map(|change| &change.cases);
    let failures = cases.clone().filter(|case| case.through.verdict == VerdictName::Fail).count();
    let ends: Vec<String> = [direct, through].into_iter().filter_map(Side::unfinished).collect();
    let errors = ends.len();
    let skipped = left_out.len() + unseen.iter().map(|it| it.cases.len()).sum::<usize>();
    let tests = cases.count() + measured.len() + skipped + errors;
    let name = format!("{} through {}", direct.name, through.name);
    document(html! {
        (PreEscaped(DECLARATION))
        testsuites name="trustctl check compare" tests=(tests) failures=(failures) errors=(errors)
            skipped=(skipped)
        {
            "\n"
            testsuite name=(name) tests=(tests) failures=(failures) errors=(errors)
                skipped=(skipped) timestamp=(through.started)
            {
                "\n"
                @for Change { text, cases } in changes {
                    @for case in cases { (changed(text, case)) "\n" }
                }
                @for case in measured {
                    testcase classname=(case.group()) name={ (case.id) " " (case.title) } {
                        system-out { (both(case)) }
                    }
                    "\n"
                }
                @for case in left_out {
                    testcase classname=(case.group()) name={ (case.id) " " (case.title) } {
                        skipped message="it is not right without the box" {}
                    }
                    "\n"
                }
                @for Unseen { why, cases, .. } in unseen {
                    @for id in cases {
                        testcase classname="unseen" name=(id) { skipped message=(why) {} }
                        "\n"
                    }
                }
                @for end in &ends {
                    testcase classname="run" name="the whole run" { error message=(end) {} }
                    "\n"
                }
                system-out {
                    @for unlike in &report.unlike { "different: " (unlike) "\n" }
                    @for it in &report.measurements {
                        (it.of.text()) ": " (it.direct.text) " directly, " (it.through.text)
                        " through the box\n"
                    }
                    (summary(report)) "\n"
                }
                "\n"
            }
            "\n"
        }
        "\n"
    })
}

fn changed(what: &str, case: &ComparedCase) -> Markup {
    html! {
        testcase classname=(case.group()) name={ (case.id) " " (case.title) } {
            @if case.through.verdict == VerdictName::Fail {
                failure type="fail" message=(what) { (both(case)) }
            } @else {
                system-out { (what) "\n" (both(case)) }
            }
        }
    }
}

fn both(case: &ComparedCase) -> String {
    let line = |name: &str, side: &SideOutcome| {
        let said = side.said.as_deref().unwrap_or_default();
        format!("{name}: {} {said}\nagain: {}\n", side.verdict.word(), side.again)
    };
    line("directly", &case.direct) + &line("through the box", &case.through)
}
