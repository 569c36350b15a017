//! Servers that are right in a way that is easily taken for a bug: slow ones, and ones that hold few clients.

use std::time::Duration;

use super::Test;
use super::json::{self, Case, Report, State, Verdict};
use super::server::launch;
use super::support::program::Home;

pub(crate) const TESTS: &[Test] = &[
    ("a_slow_server_is_not_said_to_go_on_for_ever", a_slow_server_is_not_said_to_go_on_for_ever),
    ("no_case_but_those_about_a_reset_sends_one", no_case_but_those_about_a_reset_sends_one),
];

/// Longest time for a run: some of them wait for a timeout, and the machine may be busy.
const RUN_DEADLINE: Duration = Duration::from_secs(45);

fn report(kind: &str, flags: &[&str]) -> Report {
    let flags = [flags, &["--json"]].concat();
    json::read(launch(&Home::new(), kind, &flags).start().wait_for(RUN_DEADLINE).text())
}

#[track_caller]
fn case<'r>(report: &'r Report, id: &str) -> &'r Case {
    report.cases.iter().find(|case| case.id == id).expect("the case was asked for")
}

fn a_slow_server_is_not_said_to_go_on_for_ever() {
    let report = report("slow", &["--case", "timing/8,closing/8,limits/3,limits/6", "--timeout=2"]);
    for id in ["timing/8", "closing/8", "limits/3", "limits/6"] {
        let case = case(&report, id);
        assert_eq!(case.verdict, Verdict::Inconclusive, "{id}: {:?}", case.got);
        let said = case.said.as_deref().unwrap_or_default();
        assert!(
            said.contains("too slow to be made to wait") && said.contains("a second"),
            "{said}"
        );
    }
}

fn no_case_but_those_about_a_reset_sends_one() {
    let cases =
        "framing/*,partial/*,pipelining/*,closing/1,closing/4,closing/10,half-close/*,limits/*";
    let report = report("dies-of-a-reset", &["--case", cases, "--patience=2"]);
    assert_eq!(report.state, State::Complete, "{:?}", report.detail);
    for case in &report.cases {
        assert!(case.verdict != Verdict::Fail, "{}: {:?}", case.id, case.got);
    }
}
