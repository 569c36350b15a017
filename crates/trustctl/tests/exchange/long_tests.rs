//! Long answers of servers that do not echo: to clients that do not read them at once, that have
//! finished, or that are refused.

use super::json;
use super::tests::{LINES, case, check, odd};
use trust_check::report::json::{CheckReport, VerdictName};
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    right_servers_with_long_answers_are_not_accused,
    a_server_without_a_long_answer_is_not_tried_with_one,
    what_a_send_does_not_take_of_an_answer_comes_later,
    the_rest_of_a_large_answer_comes_before_the_others,
    answers_that_are_not_read_are_not_dropped,
    requests_that_wait_in_the_input_are_answered_without_more,
    a_client_that_has_finished_gets_its_large_answers,
    a_client_that_is_refused_gets_its_large_answers,
    large_answers_that_a_reset_overtakes_are_a_warning,
    what_is_said_about_pipelining_holds_for_large_answers,
    no_more_is_asked_for_than_a_machine_has_room_for,
];

/// Cases that need long answers.
const LONG: [&str; 8] = [
    "pipelining/7",
    "pipelining/8",
    "pipelining/9",
    "pipelining/14",
    "half-close/3",
    "closing/13",
    "limits/3",
    "limits/6",
];

/// The lines, and two whose answers have 70 kB.
fn long_lines() -> String {
    let long = |word: &str| format!("\n[[exchange]]\nsend = \"{word}\\n\"\n");
    [LINES, &long("long"), &long("long too")].concat()
}

/// All cases with these ids, slow ones too. The patience is long enough for eight large answers on
/// a busy machine.
fn long_report(kind: &str, file: &str, cases: &str, flags: &[&str]) -> CheckReport {
    let cases = format!("framing/1,{cases}");
    let flags = [&["--patience=3", "--json", "--case", &cases], flags].concat();
    json::read(check(kind, file, &flags).text())
}

/// The case fails with long answers, and nothing is found without; what the report says of it.
#[track_caller]
fn failure(kind: &str, id: &str) -> String {
    let cases = "partial/6,pipelining/1,pipelining/2,half-close/2,half-close/4,closing/4";
    let short = long_report(kind, LINES, cases, &[]);
    assert_eq!(found(&short), [""; 0]);
    let long = long_report(kind, &long_lines(), id, &[]);
    assert_eq!(odd(&long), [id], "{:?}", found(&long));
    let case = case(&long, id);
    assert_eq!(case.verdict, VerdictName::Fail);
    case.got.clone().expect("what came")
}

/// What the report says of the cases that failed, warned or were inconclusive.
fn found(report: &CheckReport) -> Vec<String> {
    let said = |id: &str| {
        let case = case(report, id);
        format!("{id}: {:?}", case.got.as_ref().or(case.said.as_ref()))
    };
    odd(report).into_iter().map(said).collect()
}

fn right_servers_with_long_answers_are_not_accused() {
    for kind in ["right", "queues"] {
        let report = long_report(kind, &long_lines(), &LONG.join(","), &[]);
        assert_eq!(found(&report), [""; 0], "{kind}");
        for id in LONG {
            let verdict = case(&report, id).verdict;
            assert!(matches!(verdict, VerdictName::Pass | VerdictName::Info), "{kind}: {id}");
        }
    }
}

fn a_server_without_a_long_answer_is_not_tried_with_one() {
    let report = long_report("right", LINES, &LONG.join(","), &[]);
    for id in LONG {
        let case = case(&report, id);
        assert_eq!(case.verdict, VerdictName::Skipped);
        assert_eq!(case.said.as_deref(), Some("no exchange has a long answer"));
    }
}

fn what_a_send_does_not_take_of_an_answer_comes_later() {
    let got = failure("one-send", "pipelining/8");
    assert!(got.contains("another answer came: after "), "{got}");
}

fn the_rest_of_a_large_answer_comes_before_the_others() {
    let got = failure("rest-last", "pipelining/7");
    assert!(got.contains("another answer came: after "), "{got}");
}

fn answers_that_are_not_read_are_not_dropped() {
    let got = failure("drops-when-full", "pipelining/9");
    assert!(got.contains(" answers came right, then "), "{got}");
}

fn requests_that_wait_in_the_input_are_answered_without_more() {
    let got = failure("wakes-for-input", "pipelining/14");
    assert!(got.contains("then no answer came; then nothing more came"), "{got}");
}

fn a_client_that_has_finished_gets_its_large_answers() {
    let got = failure("drops-at-fin", "half-close/3");
    assert!(got.ends_with("; then the server closed the connection"), "{got}");
}

fn a_client_that_is_refused_gets_its_large_answers() {
    let got = failure("drops-at-refusal", "closing/13");
    assert!(got.contains("! refused"), "{got}");
}

fn large_answers_that_a_reset_overtakes_are_a_warning() {
    let of = |flags: &[&str]| {
        let report = long_report("resets-at-refusal", &long_lines(), "closing/13", flags);
        case(&report, "closing/13").clone()
    };
    let warned = of(&[]);
    assert_eq!(warned.verdict, VerdictName::Warn);
    let got = warned.got.as_deref().expect("what came");
    assert!(
        got.ends_with("no answer came to exchange 4; then the server reset the connection"),
        "{got}"
    );
    assert_eq!(of(&["--reset", "fail"]).verdict, VerdictName::Fail);
}

fn what_is_said_about_pipelining_holds_for_large_answers() {
    let allow = "[allow]\npipelining = { instead = 'first', why = 'section 10' }\n";
    let ids = ["pipelining/7", "pipelining/8", "pipelining/9", "pipelining/14", "half-close/3"];
    let of = |file: &str| {
        let report = long_report("drops-second", file, &ids.join(","), &[]);
        ids.map(|id| case(&report, id).verdict)
    };
    assert_eq!(of(&long_lines()), [VerdictName::Fail; 5]);
    assert_eq!(of(&format!("{}{allow}", long_lines())), [VerdictName::Allowed; 5]);
}

/// The server's memory stays as it is, which is right, and so is what the check asks for.
fn no_more_is_asked_for_than_a_machine_has_room_for() {
    let report = long_report("reads-on", &long_lines(), "limits/3,limits/6", &[]);
    assert_eq!(found(&report), [""; 0]);
    let said = case(&report, "limits/6").said.as_deref().expect("what was measured");
    let asked = said.strip_prefix("it took ").and_then(|rest| rest.split_once(" bytes, whose"));
    let (bytes, rest) = asked.expect(said);
    assert_eq!(rest, " answers are more than kernels hold");
    let answers = bytes.replace(',', "").parse::<u64>().expect("a number") / "long\n".len() as u64;
    let answered = answers * 70_000;
    assert!((250 << 20..=257 << 20).contains(&answered), "{said}");
}
