//! The report as one page that needs nothing else.

use std::fmt::Write as _;

use trust_cli::markup::{escaped, page};
use trust_cli::text::seconds;

use crate::cause::Cause;
use crate::outcome::{CaseOutcome, Class};
use crate::report::{Counts, RunEnd, RunReport, caused, transcript};
use crate::setup::NO_LIMIT;
use crate::verdict::{Finding, Verdict};

/// The report as one page. Cases that failed or warned are open.
pub fn report(report: &RunReport<'_>) -> String {
    let RunReport { about, outcomes, end, took, .. } = report;
    let server = escaped(about.server());
    let counts = Counts::of(outcomes);
    let word = match end {
        RunEnd::Unreachable(_) => "UNREACHABLE",
        RunEnd::Stopped(_) => "STOPPED",
        RunEnd::Complete if counts.is_success() => "PASSED",
        RunEnd::Complete | RunEnd::ServerDied(_) | RunEnd::Unwritten(_) => "FAILED",
    };
    let mut body = format!(
        "<h1><span class=\"word {}\">{word}</span> trustctl check {server}</h1>\n",
        word.to_lowercase()
    );
    let _ = writeln!(body, "<p><b>{}</b></p>", escaped(&counts.line()));
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
    if let Some(said) = said {
        let _ = writeln!(body, "<p class=\"fail\">{}</p>", escaped(&said));
    }
    let timeout = about.timeout.map_or_else(|| "not named".to_owned(), seconds);
    let largest = match about.max_frame {
        NO_LIMIT => "no limit".to_owned(),
        limit => format!("{limit} bytes"),
    };
    let facts = [
        ("address", about.address.clone().unwrap_or_default()),
        ("framing", about.framing.clone()),
        ("largest payload", largest),
        ("timeout", timeout),
        ("began", about.started.clone()),
        ("took", seconds(*took)),
        ("seed", about.seed.to_string()),
        ("command", format!("{} --case '*'", about.again)),
    ];
    body.push_str("<dl>\n");
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(body, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
    }
    body.push_str("</dl>\n");
    body.push_str(&list(outcomes));
    for Cause { text, cases } in report.causes {
        let _ = writeln!(body, "<p><b>cause</b> {}</p>", escaped(&caused(text, cases)));
    }
    let mut group = "";
    for outcome in *outcomes {
        if outcome.case.group() != group {
            group = outcome.case.group();
            let _ = writeln!(body, "<h2>{}</h2>", escaped(group));
        }
        body.push_str(&case(outcome, &about.again(outcome.case.id)));
    }
    page(&format!("trustctl check {server}"), "", &body)
}

/// What is wrong, each with a link to all there is about it: a page has too many cases to look for them.
fn list(outcomes: &[CaseOutcome]) -> String {
    let mut html = String::new();
    for outcome in outcomes.iter().filter(|outcome| is_odd(outcome)) {
        let (class, id) = (outcome.class().word(), escaped(outcome.case.id));
        let title = escaped(outcome.case.title);
        let _ = writeln!(
            html,
            "<li><b class=\"{class}\">{class}</b> <a href=\"#{id}\">{id}</a> {title}</li>"
        );
    }
    match html.is_empty() {
        true => html,
        false => format!("<h2>What is wrong</h2>\n<ul>\n{html}</ul>\n"),
    }
}

fn is_odd(outcome: &CaseOutcome) -> bool {
    matches!(outcome.class(), Class::Fail | Class::Warn | Class::UnexpectedPass)
}

fn case(outcome: &CaseOutcome, again: &str) -> String {
    let (case, class) = (outcome.case, outcome.class());
    let mut html = format!(
        "<details id=\"{2}\"{0}>\n<summary><b class=\"{1}\">{1}</b> <code>{2}</code> {3} \
         <span class=\"soft\">{4} ms</span></summary>\n<dl>\n",
        if is_odd(outcome) { " open" } else { "" },
        class.word(),
        escaped(case.id),
        escaped(case.title),
        outcome.took.as_millis()
    );
    let mut facts = vec![];
    match &outcome.verdict {
        Verdict::Pass => {}
        Verdict::Info(said) => facts.push(("measured", said.as_str())),
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
    for (name, value) in facts {
        let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
    }
    html.push_str("</dl>\n");
    let lines = transcript(&outcome.log, usize::MAX);
    if !lines.is_empty() {
        let _ = writeln!(html, "<pre>{}</pre>", escaped(&lines.join("\n")));
    }
    html.push_str("</details>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::outcome;

    #[test]
    fn what_is_wrong_is_listed_with_links_to_it() {
        let outcomes = [outcome(Verdict::fail("a", "b"), false), outcome(Verdict::Pass, false)];
        let id = outcomes[0].case.id;
        let html = list(&outcomes);
        assert_eq!(html.matches("<li>").count(), 1, "{html}");
        assert!(
            html.contains(&format!("<b class=\"fail\">fail</b> <a href=\"#{id}\">{id}</a>")),
            "{html}"
        );
        assert!(case(&outcomes[0], "again").starts_with(&format!("<details id=\"{id}\" open>")));
        assert!(case(&outcomes[1], "again").starts_with(&format!("<details id=\"{id}\">")));
        assert_eq!(list(&outcomes[1..]), "");
    }
}
