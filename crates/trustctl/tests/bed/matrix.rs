//! What `trustctl check` finds in a server, against what is known of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use trust_check::case;
use trust_check::report::json::{CaseReport, CheckReport, RunState, VerdictName};
use trust_testkit::program::Home;

use super::launch::{self, Started};
use super::servers::{BedServer, Finding, Kind, Occurs, Speaks};

/// Set for runs of all cases, instead of those of `--quick`.
const FULL: &str = "TRUSTCTL_BED_FULL";

/// How long one run may take on a machine with other work: what hangs must end.
const RUN_DEADLINE: Duration = Duration::from_secs(240);

/// Which cases are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Those of `--quick`.
    Quick,
    /// All, and the process is watched if it is the whole server.
    Full,
}

/// Checks a server with everything that it speaks.
///
/// # Panics
///
/// If something else is found than is known of it.
pub(crate) fn holds(server: &'static BedServer) {
    let extent = match std::env::var_os(FULL).is_some_and(|value| !value.is_empty()) {
        true => Extent::Full,
        false => Extent::Quick,
    };
    let version = launch::version_of(server);
    let mut problems = vec![];
    let mut is_seen = vec![false; server.findings.len()];
    for speaks in server.speaks {
        // Each has a server of its own: what one run leaves behind does not concern the next.
        let report = check(server, &launch::start(server), *speaks, extent);
        print(server, &version, *speaks, extent, &report);
        // What a server died of is in the cases.
        if !matches!(report.state, RunState::Complete | RunState::ServerDied) {
            let detail = report.detail.as_deref().unwrap_or_default();
            problems.push(format!("{speaks}: the run is {:?}: {detail}", report.state));
        }
        if !report.cases.iter().any(|case| case.verdict == VerdictName::Pass) {
            problems.push(format!("{speaks}: no case passes"));
        }
        for case in &report.cases {
            match server.findings.iter().position(|finding| is_about(finding, case)) {
                Some(place) => is_seen[place] = true,
                None if !is_noteworthy(case.verdict) || is_too_slow(case) => {}
                None => problems.push(format!("{speaks}: {}", line(case))),
            }
        }
    }
    for (finding, is_seen) in server.findings.iter().zip(is_seen) {
        let must = match finding.occurs {
            Occurs::Always => true,
            Occurs::InFull => extent == Extent::Full,
            Occurs::Sometimes => false,
        };
        if must && !is_seen {
            let Finding { cases, verdict, says, .. } = finding;
            problems.push(format!("no {} of {cases} that says {says:?}", verdict.word()));
        }
    }
    let is_wrong = |verdict| matches!(verdict, VerdictName::Fail | VerdictName::Inconclusive);
    let has_fault = server.findings.iter().any(|finding| is_wrong(finding.verdict));
    if has_fault == (server.kind == Kind::Right) {
        problems.push(format!("its findings are not those of a server that is {}", server.kind));
    }
    assert!(problems.is_empty(), "{} {version}:\n{}", server.name, problems.join("\n"));
}

/// One run of `trustctl check`.
fn check(server: &BedServer, started: &Started, speaks: Speaks, extent: Extent) -> CheckReport {
    let mut arguments = vec!["check".to_owned(), started.address.to_string(), "--json".to_owned()];
    arguments.extend(server.check_arguments(speaks));
    match extent {
        Extent::Quick => arguments.push("--quick".to_owned()),
        Extent::Full if server.is_one_process => {
            arguments.extend(["--pid".to_owned(), started.pid.to_string()]);
        }
        Extent::Full => {}
    }
    let run = Home::new().trustctl(&arguments).start().wait_for(RUN_DEADLINE);
    let report = serde_json::from_slice(&run.stdout);
    let report = report.unwrap_or_else(|error| panic!("no report: {error}: {}", run.stderr));
    // Kept to be looked at.
    let name = format!("{}-{}.json", server.name, speaks.name());
    let kept = launch::bed().join("reports");
    fs::create_dir_all(&kept).and_then(|()| fs::write(kept.join(name), run.stdout)).expect("write");
    report
}

/// Prints how long the run took, and how many cases had which verdict.
fn print(server: &BedServer, version: &str, speaks: Speaks, extent: Extent, report: &CheckReport) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &report.cases {
        *counts.entry(case.verdict.word()).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let took = report.duration_ms / 1_000.0;
    let text = format!(
        "{} {version}, {speaks}: {extent:?} run in {took:.1} s: {}\n",
        server.name,
        counts.join(", ")
    );
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Whether a verdict needs a reason.
fn is_noteworthy(verdict: VerdictName) -> bool {
    match verdict {
        VerdictName::Fail
        | VerdictName::Warn
        | VerdictName::Inconclusive
        | VerdictName::Allowed => true,
        VerdictName::Pass | VerdictName::Info | VerdictName::Skipped => false,
    }
}

/// Whether a case says that this machine has other work, which says nothing about the server. The
/// suite runs beside busy loops too.
fn is_too_slow(case: &CaseReport) -> bool {
    let is_about_speed =
        ["this machine is too busy", "too slow: "].map(|it| said(case).contains(it));
    case.verdict == VerdictName::Inconclusive && is_about_speed.contains(&true)
}

/// Whether that is what was found.
fn is_about(finding: &Finding, case: &CaseReport) -> bool {
    let mut names = finding.cases.split_whitespace();
    finding.verdict == case.verdict
        && names.any(|name| case::matches(name, &case.about.id))
        && said(case).contains(finding.says)
}

/// What the report says of a case.
fn said(case: &CaseReport) -> &str {
    case.got.as_deref().or(case.said.as_deref()).unwrap_or_default()
}

/// A case, its verdict, and what the report says.
fn line(case: &CaseReport) -> String {
    let tries = format!("{} of {} tries failed", case.failed_tries, case.tries);
    format!("{} {}, {tries}: {}", case.about.id, case.verdict.word(), said(case))
}
