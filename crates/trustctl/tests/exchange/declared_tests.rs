//! Lengths that are declared and not sent, in protocols of all kinds.

use super::json;
use super::tests::{LINES, case, check, odd};
use trust_check::report::json::{CheckReport, VerdictName};
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_declared_length_that_fills_memory_is_a_failure,
    memory_that_grows_with_what_arrives_or_is_only_set_aside_is_right,
    what_a_client_costs_by_itself_is_not_taken_for_what_it_declares,
    a_server_that_refuses_every_length_is_not_judged,
    requests_without_a_length_declare_none,
    a_declared_length_that_takes_a_place_from_others_is_a_failure,
    declared_bytes_that_are_secret_are_not_shown,
];

/// Four bytes of length, as `limits/1` and `resources/8` meet them.
const LENGTH: &str = r#"
name = "lengths"
[message]
length = "u32be"
[[exchange]]
name = "hi"
send = { framed = "hi" }
[[exchange]]
name = "hello"
send = { framed = "hello" }
"#;

/// A line that says how many bytes follow it.
const COUNTED: &str = r#"
name = "counts"
[message]
counted = { put = 1 }
[[exchange]]
name = "hello"
send = "put 5\r\nhello\r\n"
"#;

/// Little, so that a single client shows it.
const ALLOWANCE: &str = "--memory-allowance=8388608";

fn report(kind: &str, file: &str, cases: &str) -> CheckReport {
    let flags = ["--patience=1", ALLOWANCE, "--json", "--case", cases];
    json::read(check(kind, file, &flags).text())
}

fn a_declared_length_that_fills_memory_is_a_failure() {
    for (kind, file) in [("length-fills", LENGTH), ("counted-fills", COUNTED)] {
        let report = report(kind, file, "framing/1,resources/8");
        assert_eq!(odd(&report), ["resources/8"], "{kind}: {:?}", report.cases);
        let case = case(&report, "resources/8");
        assert_eq!(case.verdict, VerdictName::Fail);
        let got = case.got.as_deref().expect("what was seen");
        let told = " MiB more while one client had declared 64.0 MiB and sent a byte of it";
        assert!(got.ends_with(told), "{kind}: {got}");
    }
}

fn memory_that_grows_with_what_arrives_or_is_only_set_aside_is_right() {
    let all = "framing/1,limits/1,limits/7,resources/8";
    let servers = [
        ("length-grows", LENGTH, all, 4),
        ("length-reserves", LENGTH, "framing/1,resources/8", 2),
        ("counted-grows", COUNTED, all, 4),
    ];
    for (kind, file, cases, count) in servers {
        let report = report(kind, file, cases);
        assert_eq!((report.counts.pass, report.exit), (count, 0), "{kind}: {:?}", report.cases);
    }
}

fn what_a_client_costs_by_itself_is_not_taken_for_what_it_declares() {
    // Many clients, as it takes nothing that few would have to declare.
    let allowance = "--memory-allowance=4194304";
    let flags = [allowance, "--json", "--case", "framing/1,resources/8"];
    let report = json::read(check("length-costly", LENGTH, &flags).text());
    assert_eq!((report.counts.pass, report.exit), (2, 0), "{:?}", report.cases);
}

fn a_server_that_refuses_every_length_is_not_judged() {
    let flags = ["--json", "--case", "framing/1,resources/8"];
    // The lengths that it takes are too short to be seen.
    let report = json::read(check("counted-refuses", COUNTED, &flags).text());
    let case = case(&report, "resources/8");
    assert_eq!(case.verdict, VerdictName::Skipped, "{case:?}");
    assert_eq!(case.said.as_deref(), Some("it refuses every length that was declared"));
}

fn requests_without_a_length_declare_none() {
    let report = report("right", LINES, "framing/1,limits/1,limits/7,resources/8");
    for id in ["limits/1", "limits/7", "resources/8"] {
        let case = case(&report, id);
        assert_eq!(case.verdict, VerdictName::Skipped, "{case:?}");
        assert_eq!(case.said.as_deref(), Some("no exchange declares a length"));
    }
}

fn a_declared_length_that_takes_a_place_from_others_is_a_failure() {
    let flags = ["--patience=1", "--max-clients=20", "--json", "--case", "framing/1,limits/1"];
    let report = json::read(check("length-charges", LENGTH, &flags).text());
    assert_eq!(odd(&report), ["limits/1"], "{:?}", report.cases);
    let expected = case(&report, "limits/1").expected.as_deref();
    let told = "a new client is served beside 19 clients that declared a long message";
    assert_eq!(expected, Some(told));
}

fn declared_bytes_that_are_secret_are_not_shown() {
    let secret = format!("{}secret = true\n", COUNTED.replace("hello", "sesame").replace("5", "6"));
    let report = report("counted-fills", &secret, "framing/1,resources/8");
    assert_eq!(odd(&report), ["resources/8"], "{:?}", report.cases);
    let case = case(&report, "resources/8");
    let sent = case.transcript.iter().filter(|line| format!("{line:?}").contains("ent"));
    assert!(sent.count() > 0, "{case:?}");
    let text = format!("{case:?}");
    // `put `, as it is sent.
    assert!(!text.contains("70 75 74 20") && !text.contains("70757420"), "{text}");
}
