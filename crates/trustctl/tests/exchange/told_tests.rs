//! Cases that are tried only where the exchange file or a flag says something about the server:
//! what changes its state, that it speaks first, what upgrades a connection, that a proxy is in
//! front.

use trust_check::case::Needs;
use trust_check::cases;
use trust_check::report::json::{CaseReport, CheckReport, VerdictName};
use trust_testkit::suite::Named;
use trust_testkit::tests;

use super::json;
use super::tests::{NO_WAIT, case, check, odd};

pub(crate) const TESTS: &[Named] = tests![
    every_case_of_these_finds_its_wrong_server,
    a_right_server_is_not_accused_by_any_of_these,
    a_request_that_was_cut_is_shown_by_the_state,
    a_state_that_does_not_change_shows_nothing_and_says_so,
    what_comes_with_a_request_to_upgrade_is_measured,
    what_comes_before_a_greeting_is_measured,
    a_server_that_does_not_upgrade_is_not_judged,
    what_is_executed_late_is_not_taken_for_a_part,
    another_answer_in_plain_text_is_a_warning,
    answers_that_cross_are_a_failure_though_they_go_on_to,
    without_these_tables_the_cases_say_what_they_need,
];

/// Lines, of which one changes what another one reads, and two upgrade.
const TOLD: &str = r#"
[message]
end = "line"
[[exchange]]
name = "hello"
send = "hello\n"
[effect]
name = "set"
send = "set {n:04}\n"
[effect.read]
name = "get"
send = "get\n"
[upgrade]
to = "tls"
send = "tls\n"
want = '\+ [a-z ]*\n'
after = "hello\n"
"#;

/// The same with an upgrade to another protocol.
fn to_dots() -> String {
    TOLD.replace("\"tls\"", "\"dots\"").replace("\"tls\\n\"", "\"dots\\n\"")
}

/// The same of a server that speaks first, and wants a name.
fn greeted() -> String {
    let before = "[[before]]\nsend = \"\"\n[[before]]\nsend = \"name x\\n\"\n[[exchange]]";
    TOLD.replace("[[exchange]]", before)
}

/// A run that leaves nothing out.
fn report(kind: &str, file: &str, flags: &[&str]) -> CheckReport {
    let flags = [&[NO_WAIT, "--json"], flags].concat();
    json::read(check(kind, file, &flags).text())
}

const PROXIED: [&str; 2] = ["--send-proxy", "v1"];

/// A case, a server that it finds wrong, and what it is checked with.
struct Wrong {
    case: &'static str,
    server: &'static str,
    file: fn() -> String,
    flags: &'static [&'static str],
    /// What the report says of it, in part.
    says: &'static str,
}

fn told() -> String {
    TOLD.to_owned()
}

const WRONG: &[Wrong] = &[
    Wrong {
        case: "effect/1",
        server: "executes-cut",
        file: told,
        flags: &[],
        says: "5 of 8 parts were executed: a FIN after bytes 4 to 8 of 9; in the answer to get \
               after the first of them, it is '\\n', and was",
    },
    Wrong {
        case: "effect/2",
        server: "executes-early",
        file: told,
        flags: &[],
        says: "a RST after bytes ",
    },
    Wrong {
        case: "greeting/1",
        server: "waits-for-a-byte",
        file: greeted,
        flags: &[],
        says: "no answer came",
    },
    Wrong {
        case: "upgrade/1",
        server: "goes-on-in-plain-text",
        file: told,
        flags: &[],
        says: "its answer came in plain text: 'HELLO\\n'",
    },
    Wrong {
        case: "upgrade/3",
        server: "drops-part-after-header",
        file: told,
        flags: &PROXIED,
        says: "it is 'LO\\n'",
    },
];

/// Cases that measure, and judge nothing.
const MEASURED: [&str; 2] = ["greeting/2", "upgrade/2"];

fn every_case_of_these_finds_its_wrong_server() {
    for told in cases::all().filter(|case| case.needs.is_told()) {
        let is_proved = WRONG.iter().any(|wrong| wrong.case == told.id);
        assert!(is_proved || MEASURED.contains(&told.id), "no server is wrong in {}", told.id);
    }
    for wrong in WRONG {
        let cases = format!("framing/1,{}", wrong.case);
        let flags = [wrong.flags, &["--case", &cases]].concat();
        let report = report(wrong.server, &(wrong.file)(), &flags);
        assert_eq!(odd(&report), [wrong.case], "{}: {:?}", wrong.server, report.cases);
        let found = case(&report, wrong.case);
        assert_eq!(found.verdict, VerdictName::Fail, "{found:?}");
        let got = found.got.as_deref().expect("what came");
        assert!(got.contains(wrong.says), "{}: {got}", wrong.case);
    }
}

const OF_THESE: &str = "framing/1,effect/*,greeting/*,upgrade/*";

fn a_right_server_is_not_accused_by_any_of_these() {
    let runs: [(&str, String, &[&str], usize); 4] = [
        ("right", told(), &[], 3),
        ("right", to_dots(), &[], 3),
        ("greets", greeted(), &[], 4),
        ("proxied", told(), &PROXIED, 4),
    ];
    for (server, file, flags, passed) in runs {
        let report = report(server, &file, &[flags, &["--case", OF_THESE]].concat());
        assert_eq!(odd(&report), [""; 0], "{server}: {:?}", report.cases);
        assert_eq!(report.counts.pass, passed, "{server}: {:?}", report.cases);
        assert_eq!(report.exit, 0);
    }
}

fn a_request_that_was_cut_is_shown_by_the_state() {
    let report = report("executes-cut", TOLD, &["--case", "framing/1,effect/*"]);
    let found = case(&report, "effect/1");
    let expected = Some("get shows the same state after a part of set");
    assert_eq!(found.expected.as_deref(), expected);
    // A RST takes the connection away before the end of the line is made up.
    assert_eq!(case(&report, "effect/2").verdict, VerdictName::Pass);
    let allowed = format!("{TOLD}[allow.truncated]\nany = true\nwhy = 'section 9'\n");
    let report = self::report("executes-cut", &allowed, &["--case", "framing/1,effect/1"]);
    assert_eq!(case(&report, "effect/1").verdict, VerdictName::Allowed);
}

fn said(case: &CaseReport) -> &str {
    case.said.as_deref().unwrap_or_default()
}

fn a_state_that_does_not_change_shows_nothing_and_says_so() {
    for same in ["send = \"set 0000\\n\"", "send = \"hello {n}\\n\""] {
        let file = TOLD.replace("send = \"set {n:04}\\n\"", same);
        let report = report("executes-cut", &file, &["--case", "framing/1,effect/1"]);
        let it = case(&report, "effect/1");
        assert_eq!(it.verdict, VerdictName::Skipped, "{it:?}");
        assert!(said(it).starts_with("the answer to get is the same before and after set: "));
    }
}

fn what_comes_with_a_request_to_upgrade_is_measured() {
    for (server, expected) in [
        ("right", "the 6 bytes of dots with it are answered as those after it"),
        ("drops-with-upgrade", "the 6 bytes of dots with it are lost; those after it are answered"),
    ] {
        let report = report(server, &to_dots(), &["--case", "framing/1,upgrade/*"]);
        let it = case(&report, "upgrade/2");
        assert_eq!((it.verdict, said(it)), (VerdictName::Info, expected));
        assert_eq!(case(&report, "upgrade/1").verdict, VerdictName::Skipped);
    }
    let report = report("right", TOLD, &["--case", "framing/1,upgrade/*"]);
    let it = case(&report, "upgrade/1");
    assert_eq!(it.verdict, VerdictName::Info);
    assert!(said(it).ends_with("whether it is answered inside of TLS is not looked at"), "{it:?}");
}

fn what_comes_before_a_greeting_is_measured() {
    for (server, expected) in [
        ("greets", "it is answered, after the greeting"),
        ("drops-what-is-early", "it is not answered as it is after the greeting: "),
    ] {
        let report = report(server, &greeted(), &["--case", "framing/1,greeting/2"]);
        let it = case(&report, "greeting/2");
        assert_eq!(it.verdict, VerdictName::Info);
        assert!(said(it).starts_with(expected), "{it:?}");
    }
}

fn a_server_that_does_not_upgrade_is_not_judged() {
    let file = TOLD.replace("want = '\\+ ", "want = '2");
    let report = report("right", &file, &["--case", "framing/1,upgrade/1"]);
    let it = case(&report, "upgrade/1");
    assert_eq!(it.verdict, VerdictName::Skipped);
    let expected = "the server does not accept the upgrade: it answers '+ go ahead\\n'";
    assert_eq!(said(it), expected);
}

fn what_is_executed_late_is_not_taken_for_a_part() {
    let report = report("executes-late", TOLD, &["--case", "framing/1,effect/*"]);
    assert_eq!((odd(&report).len(), report.counts.pass), (0, 3), "{:?}", report.cases);
}

fn another_answer_in_plain_text_is_a_warning() {
    let file = TOLD.replace("to = \"tls\"", "to = \"TLS\"").replace("[a-z ]*\\n'", "[a-z ]*'");
    let report = report("complains-in-plain-text", &file, &["--case", "framing/1,upgrade/1"]);
    let it = case(&report, "upgrade/1");
    assert_eq!(it.verdict, VerdictName::Warn, "{it:?}");
    let expected = "another answer came in plain text: '! no TLS\\n'";
    assert_eq!(it.got.as_deref(), Some(expected));
}

fn answers_that_cross_are_a_failure_though_they_go_on_to() {
    let file = "[message]\nend = 'line'\n[[exchange]]\nname = 'number'\n\
                send = \"number {n:04}\\n\"\nwant = \"NUMBER {n:04}\\n\"\n";
    let report = report("crosses", file, &["--case", "framing/1,recovery/11"]);
    let it = case(&report, "recovery/11");
    assert_eq!(it.verdict, VerdictName::Fail, "{it:?}");
    let got = it.got.as_deref().expect("what came");
    assert!(got.ends_with(", which is the answer to a request of another connection"), "{got}");
    assert_eq!(report.exit, 1);
}

fn without_these_tables_the_cases_say_what_they_need() {
    let file = "[[exchange]]\nsend = \"hello\\n\"\n";
    let report = report("right", file, &["--case", OF_THESE]);
    for told in cases::all().filter(|case| case.needs.is_told()) {
        let it = case(&report, told.id);
        assert_eq!(it.verdict, VerdictName::Skipped);
        let expected = match told.needs {
            Needs::Effect => "needs [effect] in an exchange file",
            Needs::Greeting => "needs a server that speaks first",
            Needs::Upgrade => "needs [upgrade] in an exchange file",
            _ => "needs --send-proxy",
        };
        assert_eq!(said(it), expected);
    }
    check("right", "[effect]\nsend = 'x'\n[[exchange]]\nsend = 'x'\n", &[])
        .exits_with(65)
        .complains_about(&["exchange.toml:1", "[effect]", "[effect.read]"]);
}
