//! The report as one page that needs nothing else.

use std::time::Duration;

use maud::{Markup, html};
use trust_cli::markup::{list, page};
use trust_cli::text::seconds;

use crate::cause::Cause;
use crate::outcome::{CaseOutcome, Class};
use crate::report::json::ServerFields;
use crate::report::{Counts, RunEnd, RunReport, caused, transcript};
use crate::verdict::{Finding, Verdict};

/// The report as one page. Cases that failed or warned are open.
pub fn report(report: &RunReport<'_>) -> String {
    let RunReport { about, outcomes, causes, end, took, .. } = report;
    let counts = Counts::of(outcomes);
    let word = match end {
        RunEnd::Unreachable(_) => "UNREACHABLE",
        RunEnd::Stopped(_) => "STOPPED",
        RunEnd::Complete if counts.is_success() => "PASSED",
        RunEnd::Complete if counts.tried() > 0 && !counts.shows_something() => "INCONCLUSIVE",
        RunEnd::Complete | RunEnd::ServerDied(_) | RunEnd::Unwritten(_) => "FAILED",
    };
    let said = match end {
        RunEnd::Complete if counts.tried() == 0 => {
            Some("Nothing was tried, which says nothing about the server.".to_owned())
        }
        RunEnd::Complete => None,
        RunEnd::ServerDied(during) => Some(format!("The server died during {during}.")),
        RunEnd::Stopped(signal) => {
            Some(format!("Stopped by {signal}; what was not tried is skipped."))
        }
        RunEnd::Unreachable(why) => Some(format!("Nothing was tried: {why}")),
        RunEnd::Unwritten(why) => Some(format!("A report is missing: {why}")),
    };
    let ServerFields {
        address, send_proxy, protocol, framing, max_frame_bytes, timeout_sec, ..
    } = &about.server;
    let timeout = timeout_sec.map(|time| seconds(Duration::from_secs_f64(time)));
    let largest = max_frame_bytes.map(|limit| format!("{limit} bytes"));
    let facts = [
        ("address", address.clone().unwrap_or_default()),
        ("PROXY header", send_proxy.clone().unwrap_or_default()),
        ("protocol", protocol.clone().unwrap_or_default()),
        ("framing", framing.clone()),
        ("largest payload", largest.unwrap_or_else(|| "no limit".to_owned())),
        ("timeout", timeout.unwrap_or_else(|| "not given".to_owned())),
        ("began", about.started.clone()),
        ("took", seconds(*took)),
        ("seed", about.settings.seed.to_string()),
        ("command", about.again(&about.patterns)),
    ];
    let body = html! {
        h1 {
            span class={ "word " (word.to_lowercase()) } { (word) }
            " trustctl check " (about.server())
        }
        p { b { (counts.line()) } }
        @if let Some(said) = said { p .fail { (said) } }
        @if let Some(killed) = about.killed() { p { (killed) } }
        (list("facts", facts.into_iter().filter(|(_, value)| !value.is_empty())))
        (wrong(outcomes))
        @for Cause { text, cases } in *causes { p { b { "cause" } " " (caused(text, cases)) } }
        @for group in outcomes.chunk_by(|one, next| one.case.group() == next.case.group()) {
            h2 { (group[0].case.group()) }
            @for outcome in group { (case(outcome, &about.again(outcome.case.id))) }
        }
    };
    page(&format!("trustctl check {}", about.server()), "", &body)
}

/// What is wrong, each with a link to all there is about it: a page has too many cases to look for
/// them.
fn wrong(outcomes: &[CaseOutcome]) -> Markup {
    let mut odd = outcomes.iter().filter(|outcome| is_odd(outcome)).peekable();
    html! {
        @if odd.peek().is_some() {
            h2 { "What is wrong" }
            ul {
                @for (class, case) in odd.map(|outcome| (outcome.class().word(), outcome.case)) {
                    li {
                        b class=(class) { (class) } " " a href={ "#" (case.id) } { (case.id) } " "
                        (case.title)
                    }
                }
            }
        }
    }
}

fn is_odd(outcome: &CaseOutcome) -> bool {
    matches!(outcome.class(), Class::Fail | Class::Warn | Class::UnexpectedPass)
}

fn case(outcome: &CaseOutcome, again: &str) -> Markup {
    let (case, class) = (outcome.case, outcome.class());
    let mut facts = vec![];
    match &outcome.verdict {
        Verdict::Pass => {}
        Verdict::Info(said) => facts.push(("measured", said.as_str())),
        Verdict::Allowed(said) => facts.push(("allowed", said)),
        Verdict::Inconclusive(said) | Verdict::Skipped(said) => facts.push(("because", said)),
        Verdict::Fail(Finding { expected, got, .. })
        | Verdict::Warn(Finding { expected, got, .. }) => {
            facts.extend([("expected", expected.as_str()), ("got", got)]);
        }
    }
    if class == Class::UnexpectedPass {
        facts.push(("but", "it is listed as known to fail and did not: take it off the list"));
    }
    let seen = outcome.tries.said();
    facts.extend(seen.as_deref().map(|seen| ("seen", seen)));
    facts.extend(outcome.hint.as_deref().map(|hint| ("hint", hint)));
    facts.extend([
        ("requirement", case.requirement),
        ("source", case.source),
        ("usual cause", case.bug),
        ("again", again),
    ]);
    let lines = transcript(&outcome.log, usize::MAX);
    html! {
        details id=(case.id) open[is_odd(outcome)] {
            summary {
                b class=(class.word()) { (class.word()) } " "
                code { (case.id) } " " (case.title) " "
                span .soft { (outcome.took.as_millis()) " ms" }
            }
            (list("facts", facts))
            @if !lines.is_empty() { pre { (lines.join("\n")) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::outcome;

    #[test]
    fn what_is_wrong_is_listed_with_links_to_it() {
        let outcomes = [outcome(Verdict::fail("a", "b"), false), outcome(Verdict::Pass, false)];
        let id = outcomes[0].case.id;
        let html = wrong(&outcomes).into_string();
        assert_eq!(html.matches("<li>").count(), 1, "{html}");
        assert!(
            html.contains(&format!("<b class=\"fail\">fail</b> <a href=\"#{id}\">{id}</a>")),
            "{html}"
        );
        let [failed, passed] =
            outcomes.each_ref().map(|outcome| case(outcome, "again").into_string());
        assert!(failed.starts_with(&format!("<details id=\"{id}\" open>")), "{failed}");
        assert!(passed.starts_with(&format!("<details id=\"{id}\">")), "{passed}");
        assert_eq!(wrong(&outcomes[1..]).into_string(), "");
    }
}
