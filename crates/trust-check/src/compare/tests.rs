//! Reports that differ, and what is said about it.

use serde_json::json;

use super::*;
use crate::cases;
use crate::report::json::RunState;

const PASS: VerdictName = VerdictName::Pass;
const FAIL: VerdictName = VerdictName::Fail;
const WARN: VerdictName = VerdictName::Warn;
const INFO: VerdictName = VerdictName::Info;
const INCONCLUSIVE: VerdictName = VerdictName::Inconclusive;
const SKIPPED: VerdictName = VerdictName::Skipped;

/// A complete run in which this came of these cases.
fn report(outcomes: &[(&str, VerdictName, &str)]) -> CheckReport {
    let case = |(id, verdict, said): &(&str, VerdictName, &str)| {
        let about = cases::all().find(|case| case.id == *id).expect("a case");
        let said = Some(*said).filter(|said| !said.is_empty());
        json!({
            "id": id, "title": about.title, "requirement": "", "source": "", "bug": "",
            "verdict": verdict, "tries": 1, "failed_tries": 0, "beside": 0, "listed": false,
            "expected": null, "got": null, "said": said, "hint": null, "duration_ms": 1.0,
            "again": "trustctl check", "transcript": [], "transcript_left_out": 0,
        })
    };
    let cases: Vec<_> = outcomes.iter().map(case).collect();
    let report = json!({
        "schema": "trustctl-check", "version": 1, "state": "complete", "detail": null, "exit": 0,
        "started": "2026-01-01T00:00:00.000Z", "duration_ms": 1.0,
        "server": {
            "target": "localhost:1", "address": null, "command": null, "pid": null,
            "send_proxy": null, "protocol": null, "framing": "u32be", "max_frame_bytes": 65_536,
            "timeout_sec": null, "one_at_a_time": false, "max_clients": null,
            "turned_away_beside": null, "was_killed": false,
        },
        "settings": {
            "patience_sec": 5.0, "settle_sec": 0.02, "strict": false, "seed": 1, "jobs": 8,
        },
        "counts": {
            "pass": 0, "fail": 0, "known": 0, "unexpected_pass": 0, "warn": 0, "allowed": 0,
            "info": 0, "inconclusive": 0, "skipped": 0,
        },
        "deaths": [], "causes": [], "cases": cases,
    });
    serde_json::from_value(report).expect("a report")
}

fn compared(direct: &CheckReport, through: &CheckReport) -> CompareReport {
    compare(["direct".to_owned(), "box".to_owned()], direct, through)
}

fn ids(cases: &[ComparedCase]) -> Vec<&str> {
    cases.iter().map(|case| case.id.as_str()).collect()
}

#[test]
fn what_the_box_changes_is_told_in_words_about_the_box() {
    let direct = report(&[("framing/1", PASS, ""), ("half-close/1", PASS, "")]);
    let through = report(&[("framing/1", PASS, ""), ("half-close/1", FAIL, "no answer came")]);
    let comparison = compared(&direct, &through);
    assert_eq!((comparison.same, comparison.exit, comparison.changes.len()), (1, 1, 1));
    let change = &comparison.changes[0];
    assert!(change.text.ends_with("the box closes both directions on a FIN"), "{}", change.text);
    assert_eq!(ids(&change.cases), ["half-close/1"]);
    let text = text::report(&comparison);
    for line in [
        "half-closed clients lose their answer: the box closes both directions on a FIN",
        "fail          half-close/1    one message and a FIN: the answer still comes",
        "    directly  pass",
        "    the box   fail: no answer came",
        "2 cases compared: the box changes 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(!text.contains("framing/1"), "what is the same is not shown: {text}");
}

#[test]
fn a_box_that_changes_nothing_is_a_success() {
    let one = report(&[("framing/1", PASS, ""), ("closing/4", WARN, "a RST")]);
    let comparison = compared(&one, &one);
    assert_eq!((comparison.same, comparison.exit), (2, 0));
    let text = text::report(&comparison);
    assert!(text.starts_with("not visible from outside: "), "{text}");
    assert!(text.ends_with("\n2 cases compared: the box changes none\n"), "{text}");
}

#[test]
fn what_fails_directly_says_nothing_about_the_box_and_is_told_first() {
    let direct = report(&[
        ("framing/1", PASS, ""),
        ("framing/6", FAIL, ""),
        ("framing/7", INCONCLUSIVE, ""),
    ]);
    let through =
        report(&[("framing/1", PASS, ""), ("framing/6", PASS, ""), ("framing/7", FAIL, "")]);
    let comparison = compared(&direct, &through);
    assert_eq!(ids(&comparison.left_out), ["framing/6", "framing/7"]);
    assert_eq!((comparison.exit, comparison.changes.len()), (0, 0));
    let text = text::report(&comparison);
    assert!(
        text.starts_with("left out, because they are not right without the box: framing/6, 7\n"),
        "{text}"
    );
}

#[test]
fn what_is_measured_is_shown_side_by_side_and_not_judged() {
    let direct = report(&[("limits/6", INFO, "it took 6,291,456 bytes"), ("framing/1", PASS, "")]);
    let through =
        report(&[("limits/6", INFO, "it took 60,291,456 bytes"), ("framing/1", PASS, "")]);
    let comparison = compared(&direct, &through);
    assert_eq!((ids(&comparison.measured), comparison.exit), (vec!["limits/6"], 0));
    let text = text::report(&comparison);
    assert!(text.contains("    directly  it took 6,291,456 bytes\n"), "{text}");
    assert!(text.contains("    the box   it took 60,291,456 bytes\n"), "{text}");
}

#[test]
fn cases_that_were_not_tried_are_named_with_the_reason() {
    let direct = report(&[("framing/1", PASS, ""), ("limits/1", SKIPPED, "left out by --quick")]);
    let mut through = report(&[("framing/1", SKIPPED, "why"), ("limits/1", PASS, "")]);
    let comparison = compared(&direct, &through);
    let unseen: Vec<_> = comparison.unseen.iter().map(|it| (it.tried, it.why.as_str())).collect();
    let expected =
        [(Some(SideName::Direct), "why"), (Some(SideName::Through), "left out by --quick")];
    assert_eq!(unseen, expected);
    assert_eq!(comparison.exit, 1, "nothing was compared");
    assert!(
        text::report(&comparison)
            .ends_with("nothing could be compared, which says nothing about the box\n")
    );
    through.cases.truncate(1);
    through.server.framing = "raw".to_owned();
    let comparison = compared(&report(&[("framing/2", PASS, "")]), &through);
    assert_eq!(
        comparison.unlike,
        [
            "framing: u32be directly, raw through the box",
            "1 case was tried directly and not through the box",
        ]
    );
}

#[test]
fn a_run_that_was_cut_short_is_no_success() {
    let whole = report(&[("framing/1", PASS, "")]);
    let mut cut = whole.clone();
    (cut.state, cut.detail) = (RunState::Stopped, Some("SIGINT".to_owned()));
    let comparison = compared(&whole, &cut);
    assert_eq!(comparison.exit, 1);
    assert!(text::report(&comparison).starts_with("box: the run was stopped by SIGINT\n"));
    // All cases were tried, and another report could not be written.
    cut.state = RunState::Unwritten;
    assert_eq!(compared(&whole, &cut).exit, 0);
}

#[test]
fn what_the_box_mends_is_told_too() {
    let comparison =
        compared(&report(&[("closing/4", WARN, "a RST")]), &report(&[("closing/4", PASS, "")]));
    assert_eq!(comparison.changes[0].text, "the box hides or mends what the server does");
    assert_eq!(comparison.exit, 0);
}

#[test]
fn what_is_not_judged_through_the_box_is_not_said_to_be_mended() {
    let direct = report(&[("recovery/6", PASS, "")]);
    let through = report(&[("recovery/6", INFO, "it serves 20 clients")]);
    let comparison = compared(&direct, &through);
    assert_eq!(comparison.changes[0].text, "measured or allowed through the box, and not judged");
}

#[test]
fn other_formats_say_the_same() {
    let direct = report(&[("framing/1", PASS, ""), ("half-close/1", PASS, "")]);
    let through = report(&[("framing/1", PASS, ""), ("half-close/1", FAIL, "no <answer>")]);
    let comparison = compared(&direct, &through);
    let junit = junit::report(&comparison);
    assert!(junit.contains("tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\""), "{junit}");
    assert!(junit.contains("no &lt;answer&gt;"), "{junit}");
    let page = html::page(&comparison, &direct, &through);
    assert_eq!(page.matches("<details>").count(), 2, "one a side");
    let again: CompareReport =
        serde_json::from_str(&serde_json::to_string(&comparison).unwrap()).unwrap();
    assert_eq!(again, comparison);
}

#[test]
fn a_measurement_differs_by_its_words_or_by_much() {
    for (one, other) in [
        ("it took 6,291,456 bytes, then it stopped", "it took 7,000,000 bytes, then it stopped"),
        ("after 1.5 s.", "after 2.9 s."),
        ("after 0.008 ms", "after 0.049 ms"),
        ("the same", "the same"),
    ] {
        assert!(!differs(one, other), "{one} {other}");
    }
    for (one, other) in [
        ("it took 6,291,456 bytes", "it took 60,000,000 bytes"),
        ("after 1.5 s", "after 7.0 s"),
        ("it ended", "it did not end"),
        ("0 of 5", "3 of 5"),
    ] {
        assert!(differs(one, other), "{one} {other}");
    }
}
