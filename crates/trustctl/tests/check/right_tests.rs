//! Servers that are right in a way that is easily mistaken for a bug: slow ones, and ones that hold
//! few clients.

use std::time::Duration;

use super::json;
use super::server::launch;
use trust_check::report::json::{CaseReport, CheckReport, RunState, VerdictName};
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_server_that_sends_urgent_data_is_right,
    a_slow_server_is_not_said_to_go_on_for_ever,
    a_slow_server_is_not_waited_for_without_end,
    a_timeout_that_may_have_met_a_slow_check_is_no_failure,
    a_server_with_a_limit_on_clients_is_right,
    a_limit_on_clients_can_be_said,
    what_only_took_long_beside_others_is_a_warning,
    bytes_that_are_wrong_beside_others_are_a_failure,
    a_server_that_dies_of_a_reset_is_blamed_for_that_alone,
    a_pool_that_has_grown_is_no_leak,
    a_heap_that_has_grown_is_no_leak,
    a_heap_that_is_not_collected_yet_is_no_leak,
    a_little_that_each_client_leaves_is_a_warning,
    a_leak_of_one_kind_of_ending_is_found,
    a_reset_ends_the_wait_for_an_acknowledgement,
    the_time_of_an_answer_is_not_nagles,
    a_limit_that_was_said_wrong_is_named,
    a_timeout_that_was_said_wrong_is_named,
    a_timeout_that_was_said_right_is_no_cause,
    a_short_timeout_that_was_not_said_is_measured,
    a_server_without_a_limit_is_right,
    a_framing_that_works_after_all_gets_no_other_as_a_hint,
    no_case_but_those_about_a_reset_sends_one,
];

/// Longest time for a run: some of them wait for a timeout, and the machine may be busy.
const RUN_DEADLINE: Duration = Duration::from_secs(120);

fn report(kind: &str, flags: &[&str]) -> CheckReport {
    let flags = [flags, &["--json"]].concat();
    json::read(launch(&Home::new(), kind, &flags).start().wait_for(RUN_DEADLINE).text())
}

/// The same with a case of this verdict, which some only get beside others: on one core it may be
/// that none of them met another one.
#[track_caller]
fn report_with(verdict: VerdictName, kind: &str, flags: &[&str]) -> CheckReport {
    let mut reports = std::iter::repeat_with(|| report(kind, flags)).take(5);
    let has_one = |report: &CheckReport| report.cases.iter().any(|case| case.verdict == verdict);
    reports.find(has_one).expect("a case of that verdict in one of five runs")
}

#[track_caller]
fn case<'r>(report: &'r CheckReport, id: &str) -> &'r CaseReport {
    report.cases.iter().find(|case| case.about.id == id).expect("the case was asked for")
}

fn a_server_that_sends_urgent_data_is_right() {
    let report = report("urgent", &["--case=framing/1,partial/1,pipelining/1,pipelining/3"]);
    for case in &report.cases {
        assert_eq!(case.verdict, VerdictName::Pass, "{}: {:?}", case.about.id, case.got);
    }
}

fn a_slow_server_is_not_said_to_go_on_for_ever() {
    let report = report("slow", &["--case", "timing/8,closing/8,limits/3,limits/6", "--timeout=2"]);
    for id in ["timing/8", "closing/8", "limits/3", "limits/6"] {
        let case = case(&report, id);
        assert_eq!(case.verdict, VerdictName::Inconclusive, "{id}: {:?}", case.got);
        let said = case.said.as_deref().unwrap_or_default();
        assert!(
            said.contains("too slow to be made to wait") && said.contains("messages per second"),
            "{said}"
        );
    }
}

fn a_slow_server_is_not_waited_for_without_end() {
    let report = report("slow", &["--case", "pipelining/6,pipelining/8"]);
    for case in &report.cases {
        assert_eq!(case.verdict, VerdictName::Inconclusive, "{}: {:?}", case.about.id, case.got);
        let said = case.said.as_deref().unwrap_or_default();
        assert!(said.contains("too slow") && said.contains("messages per second"), "{said}");
        assert!(case.duration_ms < 60_000.0, "{}: {} ms", case.about.id, case.duration_ms);
    }
}

fn a_timeout_that_may_have_met_a_slow_check_is_no_failure() {
    for (kind, verdict) in [
        ("gives-up-late", VerdictName::Inconclusive),
        ("gives-up-soon", VerdictName::Fail),
        ("loses", VerdictName::Fail),
    ] {
        let report = report(kind, &["--case=pipelining/9", "--timeout=2"]);
        let case = case(&report, "pipelining/9");
        assert_eq!(case.verdict, verdict, "{kind}: {:?}, {:?}", case.got, case.said);
    }
}

fn no_case_but_those_about_a_reset_sends_one() {
    let cases =
        "framing/*,partial/*,pipelining/*,closing/1,closing/4,closing/10,half-close/*,limits/*";
    let report = report("dies-of-a-reset", &["--case", cases, "--patience=2"]);
    assert_eq!(report.state, RunState::Complete, "{:?}", report.detail);
    for case in &report.cases {
        assert!(case.verdict != VerdictName::Fail, "{}: {:?}", case.about.id, case.got);
    }
}

fn a_server_with_a_limit_on_clients_is_right() {
    let report = report("limited", &["--patience=2", "--jobs=16"]);
    for case in &report.cases {
        assert!(case.verdict != VerdictName::Fail, "{}: {:?}", case.about.id, case.got);
        assert!(case.verdict != VerdictName::Warn, "{}: {:?}", case.about.id, case.got);
    }
    let said = case(&report, "limits/5").said.as_deref().unwrap_or_default();
    assert!(said.starts_with("it sends a new client away beside 10 others"), "{said}");
    assert!(report.server.turned_away_beside.is_some() && report.server.max_clients.is_none());
}

fn a_limit_on_clients_can_be_said() {
    let flags = ["--patience=2", "--max-clients=10", "--case=limits/*,recovery/*"];
    let report = report("limited", &flags);
    for case in &report.cases {
        let said = case.said.as_deref().unwrap_or_default();
        // On a busy machine it may be too slow for limits/6, which sends a lot.
        let is_slow = case.verdict == VerdictName::Inconclusive && said.contains("too slow");
        let is_right = matches!(case.verdict, VerdictName::Pass | VerdictName::Info) || is_slow;
        assert!(is_right, "{}: {:?}, {said}", case.about.id, case.got);
    }
    assert_eq!(case(&report, "limits/5").verdict, VerdictName::Pass);
    assert_eq!(report.server.max_clients, Some(10));
}

fn what_only_took_long_beside_others_is_a_warning() {
    // Most are inside a message for a while, and one for a second: whichever begins first.
    let flags = ["--patience=0.5", "--case=partial/*"];
    let report = report_with(VerdictName::Warn, "blocks-others", &flags);
    for case in report.cases.iter().filter(|case| case.verdict == VerdictName::Warn) {
        assert_eq!((case.tries, case.failed_tries), (2, 1), "{}: {:?}", case.about.id, case.got);
        assert!(case.beside > 0, "{}", case.about.id);
    }
    assert_eq!((report.counts.fail, report.exit), (0, 0));
}

fn bytes_that_are_wrong_beside_others_are_a_failure() {
    // On a busy machine the server takes a while to notice who has left.
    let flags = ["--patience=1", "--settle=0.25", "--case=framing/11,framing/12,framing/13"];
    let report = report_with(VerdictName::Fail, "mixes", &flags);
    for case in report.cases.iter().filter(|case| case.verdict == VerdictName::Fail) {
        assert_eq!((case.tries, case.failed_tries), (2, 1), "{}: {:?}", case.about.id, case.got);
        assert!(case.beside > 0, "{}", case.about.id);
    }
}

fn a_server_that_dies_of_a_reset_is_blamed_for_that_alone() {
    let cases = "framing/1,framing/11,closing/*,half-close/*,recovery/5,recovery/8";
    // On a busy machine the server takes a while to see an RST.
    let flags = ["--case", cases, "--patience=2", "--settle=0.25"];
    let report = report("dies-of-a-reset", &flags);
    assert_eq!(report.state, RunState::Complete);
    let resets = ["closing/5", "closing/6", "closing/7", "closing/8", "closing/9", "recovery/8"];
    for case in &report.cases {
        let is_due = resets.contains(&case.about.id.as_str());
        assert_eq!(case.verdict == VerdictName::Fail, is_due, "{}: {:?}", case.about.id, case.got);
        let got = case.got.as_deref().unwrap_or_default();
        assert!(!is_due || got.contains("the server died") && got.contains("RST"), "{got}");
    }
    assert!(report.deaths.len() >= resets.len());
}

fn a_pool_that_has_grown_is_no_leak() {
    let report = report("pools-pipes", &["--case=recovery/6,resources/2", "--patience=2"]);
    let case = case(&report, "resources/2");
    assert_eq!(case.verdict, VerdictName::Info, "{:?}", case.got);
    let said = case.said.as_deref().unwrap_or_default();
    assert!(said.contains(" pipes at the end and ") && said.contains("used again"), "{said}");
}

fn a_heap_that_has_grown_is_no_leak() {
    let report = report("grows-a-heap", &["--case=recovery/5,resources/3", "--patience=2"]);
    let case = case(&report, "resources/3");
    assert_eq!(case.verdict, VerdictName::Info, "{:?}", case.got);
    let said = case.said.as_deref().unwrap_or_default();
    assert!(said.contains("it did not go on growing"), "{said}");
}

fn a_heap_that_is_not_collected_yet_is_no_leak() {
    let report = report("uses-its-heap", &["--case=resources/3", "--patience=2"]);
    let case = case(&report, "resources/3");
    assert_eq!(case.verdict, VerdictName::Info, "{:?}", case.got);
    let said = case.said.as_deref().unwrap_or_default();
    assert!(said.contains("in memory that it had asked for before"), "{said}");
}

fn a_little_that_each_client_leaves_is_a_warning() {
    let report = report("keeps-a-little", &["--case=resources/3", "--patience=2"]);
    let case = case(&report, "resources/3");
    assert_eq!(case.verdict, VerdictName::Warn, "{:?}", case.said);
}

fn a_leak_of_one_kind_of_ending_is_found() {
    let report = report("keeps-files-of-resets", &["--case=resources/2", "--patience=2"]);
    let case = case(&report, "resources/2");
    assert_eq!(case.verdict, VerdictName::Fail, "{:?}", case.said);
    let got = case.got.as_deref().unwrap_or_default();
    assert!(got.contains(" files and other descriptors at the end"), "{got}");
}

fn a_reset_ends_the_wait_for_an_acknowledgement() {
    let report = report("reads-once", &["--case=partial/1,partial/4", "--patience=30"]);
    for id in ["partial/1", "partial/4"] {
        let case = case(&report, id);
        assert_eq!(case.verdict, VerdictName::Fail, "{id}: {:?}", case.said);
        let got = case.got.as_deref().unwrap_or_default();
        assert!(got.ends_with("then the server reset the connection"), "{id}: {got}");
        assert!(case.duration_ms < 30_000.0, "{id}: it waited");
    }
}

fn the_time_of_an_answer_is_not_nagles() {
    let report = report("takes-moments", &["--case=timing/6"]);
    let case = case(&report, "timing/6");
    assert_eq!(case.verdict, VerdictName::Info, "{:?}", case.got);
}

/// Checks that the findings of a run have one cause.
#[track_caller]
fn explained(kind: &str, flags: &[&str], text: &str) {
    let report = report(kind, flags);
    let [cause] = &report.causes[..] else { panic!("one cause: {:?}", report.causes) };
    assert!(cause.text.contains(text), "{}", cause.text);
    let failed = report.cases.iter().filter(|case| case.verdict == VerdictName::Fail);
    let failed: Vec<&str> = failed.map(|case| case.about.id.as_str()).collect();
    assert!(failed.len() > 1 && failed.iter().all(|id| cause.cases.iter().any(|case| case == id)));
}

fn a_limit_that_was_said_wrong_is_named() {
    let flags = ["--case=framing/*", "--patience=1", "--max-frame"];
    explained("right", &[&flags[..], &["100000"]].concat(), ": --max-frame 65536");
    explained("right", &[&flags[..], &["1000"]].concat(), ": --max-frame 65536");
}

fn a_timeout_that_was_said_wrong_is_named() {
    explained("slow", &["--case=timing/1,timing/9", "--timeout=6"], ": --timeout 2.");
}

fn a_timeout_that_was_said_right_is_no_cause() {
    let report =
        report("waits-for-the-rest", &["--case=timing/1,timing/2,timing/3", "--timeout=2"]);
    let verdicts = ["timing/1", "timing/2", "timing/3"].map(|id| case(&report, id).verdict);
    assert_eq!(verdicts, [VerdictName::Pass, VerdictName::Fail, VerdictName::Fail]);
    assert!(report.causes.is_empty(), "{:?}", report.causes);
}

fn a_short_timeout_that_was_not_said_is_measured() {
    let ours = env!("CARGO_BIN_EXE_trustctl");
    let command = format!(
        "exec '{ours}' echo-server --mode framed --host 127.0.0.1 --timeout 0.2 --log-file none \
         --port {{port}}"
    );
    let flags = ["check", "--command", &command, "--case", "timing/5,timing/10", "--json"];
    let finished = Home::new().trustctl(flags).start().wait_for(RUN_DEADLINE).exits_with(0);
    for case in &json::read(finished.text()).cases {
        assert_eq!(case.verdict, VerdictName::Info, "{}: {:?}", case.about.id, case.got);
        let said = case.said.as_deref().unwrap_or_default();
        // A busy machine makes it longer, and far from the five seconds that are the default.
        let is_short = |tenths| said.starts_with(&format!("the server ended it after 0.{tenths}"));
        assert!((2..=5).any(is_short), "{said}");
    }
}

fn a_server_without_a_limit_is_right() {
    let flags = ["--framing=u16le", "--max-frame=none", "--case=framing/*"];
    let report = report("u16le", &flags);
    assert_eq!((report.exit, report.server.max_frame_bytes), (0, None));
    assert!(report.causes.is_empty());
    assert_eq!(case(&report, "framing/6").verdict, VerdictName::Skipped);
}

fn a_framing_that_works_after_all_gets_no_other_as_a_hint() {
    let report = report("wrong-once", &["--case=framing/1,framing/3", "--patience=1"]);
    let first = case(&report, "framing/1");
    assert_eq!(
        (first.verdict, first.hint.as_deref()),
        (VerdictName::Fail, None),
        "{:?}",
        first.got
    );
    assert_eq!(case(&report, "framing/3").verdict, VerdictName::Pass);
}
