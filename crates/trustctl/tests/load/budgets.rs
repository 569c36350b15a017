//! `--fail-if`: budgets that are kept, missed, or invalid.

use std::fs;

use super::command::{document, load, run};
use super::server::{Client, Server};
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_budget_that_is_kept_passes,
    a_budget_that_is_missed_fails_and_is_named,
    a_budget_may_allow_errors_and_the_run_fails_all_the_same,
    a_budget_on_a_percentile_of_too_few_is_judged_by_the_maximum_and_says_so,
    percentiles_of_too_few_are_marked_in_every_report,
    what_is_no_budget_is_told_before_anything_is_sent,
    what_is_no_budget_in_the_file_is_told_with_its_place,
];

const RUN: &str = "--concurrency 2 --messages 10";

fn a_budget_that_is_kept_passes() {
    let server = Server::echo();
    let kept = "p99>30s,max>=30s,errors>0,rate<0.1";
    let seen = document(&server, &format!("{RUN} --fail-if {kept}"), 0);
    let budgets: Vec<&str> = seen.budgets.iter().map(|budget| budget.budget.as_str()).collect();
    assert_eq!(budgets, kept.split(',').collect::<Vec<_>>());
    assert!(seen.budgets.iter().all(|budget| !budget.is_missed && !budget.measured.is_empty()));
    let finished = run(&server, &format!("{RUN} --fail-if {kept}")).exits_with(0);
    let text = finished.text();
    let kept = text.lines().filter(|line| line.trim_start().starts_with("kept "));
    assert_eq!(kept.filter(|line| line.contains(" fail if ")).count(), 4, "{text}");
    assert!(!text.contains("missed"), "{text}");
}

fn a_budget_that_is_missed_fails_and_is_named() {
    let server = Server::echo();
    let flags = format!("{RUN} --fail-if errors>0,p50>1ns,rate<1000000000");
    let seen = document(&server, &flags, 1);
    let missed: Vec<(&str, bool)> =
        seen.budgets.iter().map(|budget| (budget.budget.as_str(), budget.is_missed)).collect();
    assert_eq!(missed, [("errors>0", false), ("p50>1ns", true), ("rate<1000000000", true)]);
    assert!(seen.budgets[1].measured.ends_with('s'), "{:?}", seen.budgets);
    assert_eq!((seen.messages.answered, seen.errors.total), (20, 0));

    let finished = run(&server, &flags).exits_with(1);
    let text = finished.text();
    let line = |budget: &str| {
        let fits = |line: &&str| line.contains(&format!("fail if {budget} "));
        text.lines().find(fits).unwrap_or_else(|| panic!("no {budget} in {text}"))
    };
    assert!(line("errors>0").trim_start().starts_with("kept "), "{text}");
    for budget in ["p50>1ns", "rate<1000000000"] {
        let line = line(budget);
        assert!(line.trim_start().starts_with("missed ") && line.contains(" was "), "{text}");
    }
    finished.complains_about_nothing();
}

fn a_budget_may_allow_errors_and_the_run_fails_all_the_same() {
    let server = Server::start(|client: &mut Client| {
        client.echo_frames(1)?;
        client.leave()
    });
    let seen = document(&server, "--concurrency 1 --messages 2 --fail-if errors>5", 1);
    assert!(!seen.budgets[0].is_missed && seen.errors.total == 1, "{seen:?}");
}

fn a_budget_on_a_percentile_of_too_few_is_judged_by_the_maximum_and_says_so() {
    let server = Server::echo();
    let budgets = "p99.99>1ns,service-p95>1ns,p95>1ns,connect-p50>30s";
    let flags = format!("--concurrency 1 --messages 20 --fail-if {budgets}");
    let seen = document(&server, &flags, 1);
    let notes = seen.budgets.iter().map(|budget| budget.note.as_deref());
    let expected = [
        Some("p99.99 of 20 messages is their maximum"),
        None,
        None,
        Some("connect-p50 of 1 connection is its maximum"),
    ];
    assert_eq!(notes.collect::<Vec<_>>(), expected, "{:?}", seen.budgets);
    let text = run(&server, &flags).exits_with(1);
    let text = text.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("(p99.99 of 20 messages is their maximum)"), "{text}");
}

fn percentiles_of_too_few_are_marked_in_every_report() {
    let (home, server) = (Home::new(), Server::echo());
    let [page, log] = ["few.html", "few.hlog"].map(|name| home.elsewhere(name));
    let (page_name, log_name) = (page.display().to_string(), log.display().to_string());
    let flags = "--concurrency 1 --messages 3";
    let files = ["--html", &page_name, "--hdr-log", &log_name];
    let table = load(&home, &server, flags).args(files).run().exits_with(0);
    let merged = home.trustctl(["load", "merge", &log_name]).run().exits_with(0);
    for text in [table.text(), merged.text()] {
        let row = |name: &str| {
            let fits = |line: &&str| line.split_whitespace().next() == Some(name);
            text.lines().find(fits).unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        for name in ["p75", "p90", "p95", "p99", "p99.9", "p99.99"] {
            assert!(row(name).contains(" *"), "{text}");
        }
        assert!(!row("p50").contains('*') && !row("max").contains('*'), "{text}");
        assert!(text.contains("Too few samples"), "{text}");
    }
    let page = fs::read_to_string(&page).expect("the page");
    assert!(page.contains("99th percentile: the maximum"), "{page}");
    assert!(page.contains("* Too few samples for this percentile"), "{page}");
    let csv = run(&server, &format!("{flags} --csv")).exits_with(0);
    let row = csv.text().lines().nth(1).expect("an interval");
    assert!(row.contains(",p90_ns p99_ns p99_9_ns service_p99_ns,"), "{row}");
}

/// Texts that are not valid budgets, and words from the message about each.
const BAD: [(&str, &[&str]); 10] = [
    ("p99", &["'p99'", "no comparison", "<, <=, > or >="]),
    ("p99>5", &["'p99>5'", "a time without a unit", "s, m or h"]),
    ("p99>5d", &["unknown unit 'd'", "ms"]),
    ("rate<5ms", &["unknown unit 'ms'", "k, M or none"]),
    ("p99=5ms", &["unknown comparison '='", "<, <=, > or >="]),
    ("p98.x>5ms", &["unknown metric 'p98.x'", "expected p50"]),
    ("rate<fast", &["'fast' does not begin with a number"]),
    ("errors>-1", &["'-1' does not begin with a number"]),
    ("errors>0,", &["a budget is empty"]),
    ("p99>9999999s", &["too large", "1h"]),
];

fn what_is_no_budget_is_told_before_anything_is_sent() {
    let (home, server) = (Home::new(), Server::echo());
    for (text, words) in BAD {
        let finished = load(&home, &server, RUN).args(["--fail-if", text]).run().exits_with(64);
        finished
            .prints("")
            .complains_in_one_line()
            .complains_about(&["--fail-if"])
            .complains_about(words);
    }
    let variable = load(&home, &server, RUN).env("TRUST_LOAD_FAIL_IF", "p99>5");
    let finished = variable.run().exits_with(64).prints("").complains_in_one_line();
    finished.complains_about(&["TRUST_LOAD_FAIL_IF", "without a unit"]);
    assert!(server.seen().is_empty(), "a client connected");
}

fn what_is_no_budget_in_the_file_is_told_with_its_place() {
    let (home, server) = (Home::new(), Server::echo());
    home.configure("[load]\nfail-if = \"p99>5\"\n");
    let finished = load(&home, &server, RUN).run().exits_with(78).prints("");
    let words = ["config.toml", "fail-if", "'p99>5'", "without a unit"];
    finished.complains_about(&words).complains_in_one_line();
    assert!(server.seen().is_empty(), "a client connected");

    home.configure("[load]\nfail-if = \"p50>1ns\"\n");
    let finished = load(&home, &server, RUN).run().exits_with(1);
    assert!(finished.text().contains("fail if p50>1ns "), "{}", finished.text());
}
