//! Servers that do not echo: what is found, and who is not accused.

use std::process::Command;
use std::time::Duration;

use super::json;
use super::server;
use trust_check::report::json::{CaseReport, CheckReport, VerdictName};
use trust_testkit::files::Files;
use trust_testkit::program::{Finished, Home};
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    right_servers_are_not_accused,
    an_answer_that_waits_for_the_rest_of_the_next_request_is_a_warning,
    a_refusal_that_a_reset_overtakes_is_a_warning,
    a_request_that_the_file_takes_for_refused_is_one_finding,
    a_request_that_is_expected_in_one_receive_is_one_finding_with_its_places,
    a_second_request_in_the_same_segment_is_answered,
    an_answer_that_depends_on_the_request_before_is_wrong,
    a_request_that_was_cut_is_not_answered,
    a_client_that_has_finished_is_answered,
    what_the_protocol_allows_is_not_a_failure_and_says_why,
    answers_that_differ_each_time_are_inconclusive,
    a_server_that_changes_meanwhile_is_not_accused,
    a_server_that_answers_nothing_is_told,
    an_exchange_that_is_not_answered_as_wanted_fails_alone,
    a_server_that_expects_tls_is_told,
    a_server_that_wants_a_login_is_not_accused,
    one_request_is_enough,
    a_dialect_is_printed_and_can_be_used_as_a_file,
    what_is_wrong_with_an_exchange_is_told_in_one_line,
    a_failure_is_shown_without_this_program_too,
    secret_bytes_are_in_no_output,
    reports_are_put_side_by_side,
];

pub(super) const NO_WAIT: &str = "--patience=1";

/// How long a run may take on a machine with other work.
const RUN_DEADLINE: Duration = Duration::from_secs(60);

/// A protocol of lines, without anything that is allowed.
pub(super) const LINES: &str = r#"
name = "lines"
[message]
end = "line"
[[exchange]]
name = "hello"
send = "hello\n"
[[exchange]]
name = "a number"
send = "number {n:04}\n"
want = "NUMBER {n:04}\n"
[refused]
send = "!\n"
want = '! refused\n'
"#;

/// The same of a server that speaks first, and wants a name.
pub(super) fn greeted_lines() -> String {
    LINES.replace(
        "[[exchange]]\nname = \"hello\"",
        "[[before]]\nsend = \"\"\n[[before]]\nsend = \"name x\\n\"\n[[exchange]]\nname = \"hello\"",
    )
}

/// Runs a check with that exchange file on a server of this kind.
pub(super) fn check(kind: &str, file: &str, flags: &[&str]) -> Finished {
    let files = Files::new();
    let path = files.write("exchange.toml", file);
    check_with(kind, &[&["--exchange", &path], flags].concat())
}

fn check_with(kind: &str, flags: &[&str]) -> Finished {
    let own = std::env::current_exe().expect("the path of this program");
    let own = own.to_str().expect("a path of ours is UTF-8");
    let command = format!("exec '{own}' serve {kind} {{port}}");
    let check = Home::new().trustctl(["check", "--command", &command]).args(flags);
    check.start().wait_for(RUN_DEADLINE)
}

pub(super) fn report(kind: &str, file: &str, flags: &[&str]) -> CheckReport {
    let flags = [&[NO_WAIT, "--quick", "--json"], flags].concat();
    json::read(check(kind, file, &flags).text())
}

#[track_caller]
pub(super) fn case<'r>(report: &'r CheckReport, id: &str) -> &'r CaseReport {
    report.cases.iter().find(|case| case.about.id == id).expect("a case")
}

/// Those that failed, warned or were inconclusive.
pub(super) fn odd(report: &CheckReport) -> Vec<&str> {
    let is_odd = |case: &&CaseReport| {
        matches!(case.verdict, VerdictName::Fail | VerdictName::Warn | VerdictName::Inconclusive)
    };
    report.cases.iter().filter(is_odd).map(|case| case.about.id.as_str()).collect()
}

fn right_servers_are_not_accused() {
    let by_id = r#"
        name = "messages with ids"
        [message]
        length = "u16be"
        id = { send = "2..4", want = "2..4" }
        [allow]
        order = { any = true, why = "each answer has the id of its request" }
        [[exchange]]
        send_hex = "0005 0000 6f6e65"
        [[exchange]]
        send_hex = "0007 0000 6e756d626572"
    "#
    .replace("0007 0000", "0008 0000");
    for (kind, file) in [("right", LINES), ("greets", &greeted_lines()), ("closes", LINES)] {
        let report = report(kind, file, &[]);
        assert_eq!(odd(&report), [""; 0], "{kind}: {:?}", report.cases);
        assert_eq!(report.exit, 0);
        assert!(report.counts.pass >= 8, "{kind}: {:?}", report.counts);
        assert_eq!(report.server.protocol.as_deref(), Some("lines"));
    }
    let report = report("out-of-order", &by_id, &["--case", "framing/1,pipelining/1"]);
    assert_eq!(odd(&report), [""; 0], "{:?}", report.cases);
}

fn an_answer_that_waits_for_the_rest_of_the_next_request_is_a_warning() {
    let report = report("answers-behind", LINES, &["--case", "framing/1,pipelining/3"]);
    let late = case(&report, "pipelining/3");
    assert_eq!(late.verdict, VerdictName::Warn);
    let got = late.got.as_deref();
    assert_eq!(got, Some("a number: it came only when the next message was whole"));
}

fn a_refusal_that_a_reset_overtakes_is_a_warning() {
    let report = report("resets", LINES, &["--case", "framing/1,closing/12"]);
    assert_eq!(case(&report, "closing/12").verdict, VerdictName::Warn);
}

fn a_request_that_the_file_takes_for_refused_is_one_finding() {
    let file = LINES.replace("[refused]\nsend = \"!\\n\"", "[refused]\nsend = \"fine\\n\"");
    let report = report("right", &file, &["--case", "framing/1,framing/6,closing/*"]);
    let why = "the request of [refused] is not refused as it has to be";
    let cause = report.causes.iter().find(|cause| cause.text == why).expect("a cause");
    assert!(cause.cases.contains(&"framing/6".to_owned()), "{cause:?}");
    assert_eq!(odd(&report).len(), cause.cases.len(), "{:?}", report.cases);
}

fn a_request_that_is_expected_in_one_receive_is_one_finding_with_its_places() {
    let report = report("one-receive", LINES, &["--case", "framing/1,partial/6"]);
    assert_eq!(odd(&report), ["partial/6"]);
    let case = case(&report, "partial/6");
    assert_eq!(case.verdict, VerdictName::Fail);
    let got = case.got.as_deref().expect("what came");
    assert!(
        got.starts_with("hello: all 5 cuts failed; at the first of them, after byte 1, "),
        "{got}"
    );
    assert!(got.contains("it is 'H"), "{got}");
}

fn a_second_request_in_the_same_segment_is_answered() {
    let report = report("drops-second", LINES, &["--case", "framing/1,partial/6,pipelining/1"]);
    assert_eq!(odd(&report), ["pipelining/1"]);
    let case = case(&report, "pipelining/1");
    assert_eq!(case.expected.as_deref(), Some("the answers to 2 messages, in order"));
    let got = case.got.as_deref().expect("what came");
    assert!(got.contains("1 answer came right, then no answer came"), "{got}");
}

fn an_answer_that_depends_on_the_request_before_is_wrong() {
    let other = "[[exchange]]\nname = \"other\"\nsend = \"other\\n\"\n";
    let file = format!("[message]\nend = 'line'\n{other}{}", other.replace("other", "hello"));
    let report = report("remembers", &file, &["--case", "framing/1,pipelining/1"]);
    assert_eq!(odd(&report), ["pipelining/1"], "{:?}", report.cases);
    let got = case(&report, "pipelining/1").got.as_deref().expect("what came");
    assert!(got.contains("1 answer came right, then another answer came"), "{got}");
}

fn a_request_that_was_cut_is_not_answered() {
    let report = report("executes-cut", LINES, &["--case", "framing/1,closing/3"]);
    assert_eq!(odd(&report), ["closing/3"]);
    assert_eq!(case(&report, "closing/3").verdict, VerdictName::Fail);
}

fn a_client_that_has_finished_is_answered() {
    let report = report("no-half-close", LINES, &["--case", "framing/1,half-close/4"]);
    assert_eq!(odd(&report), ["half-close/4"]);
    assert_eq!(case(&report, "half-close/4").verdict, VerdictName::Fail);
}

fn what_the_protocol_allows_is_not_a_failure_and_says_why() {
    let allowed = format!(
        "{LINES}\n[allow]\nhalf_close = {{ instead = \"close\", why = \"section 7\" }}\n\
         truncated = {{ instead = '! ', verdict = \"warn\", why = \"section 8\" }}\n"
    );
    let flags = ["--case", "framing/1,half-close/4"];
    let half_close = report("no-half-close", &allowed, &flags);
    assert_eq!(half_close.exit, 0);
    let it = case(&half_close, "half-close/4");
    assert_eq!(it.verdict, VerdictName::Allowed);
    assert!(it.said.as_ref().is_some_and(|said| said.ends_with(": section 7")), "{:?}", it.said);

    let flags = ["--case", "framing/1,closing/3"];
    let truncated = report("says-so", &allowed, &flags);
    let it = case(&truncated, "closing/3");
    assert_eq!(it.verdict, VerdictName::Warn);
    assert!(it.got.as_ref().is_some_and(|got| got.ends_with(": section 8")), "{:?}", it.got);
    // Something else is not allowed.
    let executed = report("executes-cut", &allowed, &flags);
    assert_eq!(case(&executed, "closing/3").verdict, VerdictName::Fail);
}

fn answers_that_differ_each_time_are_inconclusive() {
    let report = report("counts", LINES, &["--case", "framing/*"]);
    let first = case(&report, "framing/1");
    assert_eq!(first.verdict, VerdictName::Inconclusive);
    let said = first.said.as_deref().expect("why");
    assert!(said.starts_with("hello is answered differently each time: "), "{said}");
    assert!(said.contains("ignore"), "{said}");
    assert_eq!(report.counts.fail, 0);
    assert_eq!(report.counts.pass, 0);

    let ignoring = LINES
        .replace("end = \"line\"", "end = \"line\"\nignore = [' [0-9]+$']")
        .replace("want = \"NUMBER {n:04}\\n\"", "ignore = ['[0-9]+']");
    let ignoring = ignoring.replace("' [0-9]+$'", "' [0-9]+\\n'");
    let report = self::report("counts", &ignoring, &["--case", "framing/1,partial/6"]);
    assert_eq!(odd(&report), [""; 0], "{:?}", report.cases);
}

fn a_server_that_changes_meanwhile_is_not_accused() {
    let report = report("changes", LINES, &["--case", "framing/1,partial/*,half-close/*"]);
    assert_eq!(report.counts.fail, 0, "{:?}", report.cases);
    assert!(report.counts.inconclusive > 0, "{:?}", report.cases);
    let is_so = |case: &&CaseReport| case.verdict == VerdictName::Inconclusive;
    let said = report.cases.iter().find(is_so).and_then(|case| case.said.as_deref());
    assert!(said.is_some_and(|said| said.contains("is answered differently now too")), "{said:?}");
}

fn a_server_that_answers_nothing_is_told() {
    let report = report("silent", LINES, &["--case", "framing/*"]);
    let first = case(&report, "framing/1");
    assert_eq!(first.verdict, VerdictName::Fail);
    assert_eq!(first.expected.as_deref(), Some("an answer to hello, sent in one piece"));
    assert_eq!(first.got.as_deref(), Some("nothing came for 1 s"));
    assert!(!first.transcript.is_empty());
    assert_eq!(report.counts.fail, 1);
    assert_eq!(report.exit, 1);
}

fn an_exchange_that_is_not_answered_as_wanted_fails_alone() {
    for (first, second) in [("odd", "hello"), ("hello", "odd")] {
        let exchange =
            |name: &str| format!("[[exchange]]\nname = '{name}'\nsend = \"{name}\\n\"\n");
        let file = format!("[message]\nend = 'line'\n{}{}", exchange(first), exchange(second));
        let file = file.replace("send = \"odd\\n\"", "send = \"odd\\n\"\nwant = \"EVEN\\n\"");
        let report = report("right", &file, &["--case", "framing/*,partial/*,half-close/*"]);
        assert_eq!(odd(&report), ["framing/1"], "{:?}", report.cases);
        assert!(report.counts.pass >= 8, "{:?}", report.counts);
        let got = case(&report, "framing/1").got.as_deref();
        let expected = "another answer came: it is 'ODD\\n', and should be 'EVEN\\n'; the other \
                        cases are tried without odd";
        assert_eq!(got, Some(expected));
        assert_eq!(report.exit, 1);
    }
}

fn a_server_that_expects_tls_is_told() {
    let answers = "7 bytes came, which are no whole answer: '\\x15\\x03\\x03\\x00\\x02\\x02('; it \
                   looks like a TLS record, and the check speaks no TLS";
    let closes = "the server ended the connection; it answers a TLS ClientHello, and the check \
                  speaks no TLS";
    for (kind, expected) in [("tls", answers), ("tls-alone", closes)] {
        let report = report(kind, LINES, &["--case", "framing/1"]);
        let first = case(&report, "framing/1");
        assert_eq!(first.verdict, VerdictName::Inconclusive);
        assert_eq!(first.said.as_deref(), Some(expected));
        assert_eq!(report.exit, 1);
    }
}

fn a_server_that_wants_a_login_is_not_accused() {
    let without = format!("{LINES}\n[[before]]\nname = 'greeting'\n");
    let login = "[allow.login]\ninstead = '! who '\nwhy = 'put a name into [[before]]'\n";
    let report = report("greets", &(without + login), &["--case", "framing/1,partial/*"]);
    let first = case(&report, "framing/1");
    assert_eq!(first.verdict, VerdictName::Inconclusive, "{first:?}");
    let expected = "the answer to hello is '! who are you?\\n': put a name into [[before]]";
    assert_eq!(first.said.as_deref(), Some(expected));
    assert_eq!((report.counts.fail, report.counts.pass), (0, 0));
    assert_eq!(report.exit, 1);
}

fn one_request_is_enough() {
    let flags = [NO_WAIT, "--quick", "--send", "hello\\n"];
    let text = check_with("right", &flags).exits_with(0).text().to_owned();
    assert!(text.contains("pass          partial/6 "), "{text}");
    let flags = [NO_WAIT, "--quick", "--send-hex", "68 65 6c6c6f 0a", "--case", "partial/6"];
    let text = check_with("one-receive", &flags).exits_with(1).text().to_owned();
    // On a busy machine the server may receive both pieces of one of them at once.
    assert!(text.contains(" 5 cuts failed"), "{text}");
    assert!(text.contains(" --send-hex '68 65 6c6c6f 0a' "), "{text}");
}

fn a_dialect_is_printed_and_can_be_used_as_a_file() {
    let home = Home::new();
    let printed = home.trustctl(["check", "--dialect", "line", "--print"]).run().exits_with(0);
    let report = report("right", printed.text(), &["--case", "framing/1,partial/6"]);
    assert_eq!(odd(&report), [""; 0], "{:?}", report.cases);
}

fn what_is_wrong_with_an_exchange_is_told_in_one_line() {
    let home = Home::new();
    let files = Files::new();
    let unknown = files.write("unknown.toml", "[[exchange]]\nsned = \"x\"\n");
    let odd = files.write("odd.toml", "[[exchange]]\nsend_hex = \"abc\"\n");
    let missing = files.path("missing.toml");
    let wrong: [(&[&str], i32, &[&str]); 10] = [
        (&["--exchange", &unknown], 65, &["unknown.toml:2", "sned", "send"]),
        (&["--exchange", &odd], 65, &["odd.toml:2"]),
        (&["--exchange", &missing], 74, &["missing.toml"]),
        (&["--dialect", "reddis"], 64, &["'reddis'", "--dialect", "redis"]),
        (&["--send", "a\\q"], 64, &["--send", "column 2"]),
        (&["--send-hex", "4"], 64, &["--send-hex", "column 1"]),
        (&["--path", "/x"], 64, &["--path", "--dialect http"]),
        (&["--dialect", "redis", "--framing", "u16be"], 64, &["--dialect", "--framing"]),
        (&["--send", "x", "--offset", "2"], 64, &["--send", "--offset"]),
        (&["--print"], 64, &["--print", "--dialect"]),
    ];
    for (flags, exit, parts) in wrong {
        home.trustctl(["check", ":9"]).args(flags).run().exits_with(exit).complains_about(parts);
    }
}

/// How often a program may look at a wrong server until it sees that.
const LOOKS: u32 = 5;

/// What the program says about the server at that port: its exit code.
fn shown(program: &str, port: u16) -> Option<i32> {
    let port = port.to_string();
    let ended = Command::new("python3").args([program, "127.0.0.1", &port]).output();
    ended.expect("run python3").status.code()
}

fn a_failure_is_shown_without_this_program_too() {
    let right = server::start("right").port();
    for (kind, case) in [("one-receive", "partial/6"), ("executes-cut", "closing/3")] {
        let wrong = server::start(kind).port();
        let files = Files::new();
        let exchange = files.write("exchange.toml", LINES);
        let (program, issue) = (files.path("shows.py"), files.path("issue.md"));
        let server = format!("127.0.0.1:{wrong}");
        let flags = [NO_WAIT, "--exchange", &exchange, "--repro", &program, "--issue", &issue];
        let check = Home::new().trustctl(["check", &server, "--case", case]).args(flags);
        check.run().exits_with(1);
        let text = files.read("shows.py");
        assert!(files.read("issue.md").contains(&text), "the report has the program");
        assert!(text.contains(&format!("# {case}: ")), "{text}");
        // On a busy machine two pieces may come as one, which shows nothing.
        let is_shown = (0..LOOKS).any(|_| shown(&program, wrong) == Some(1));
        assert!(is_shown, "{text}");
        assert_eq!(shown(&program, right), Some(0), "{text}");
    }
    let files = Files::new();
    let (exchange, program) = (files.write("exchange.toml", LINES), files.path("shows.py"));
    let server = format!("127.0.0.1:{right}");
    let flags = ["--exchange", &exchange, "--repro", &program, "--case", "framing/1"];
    let finished = Home::new().trustctl(["check", &server]).args(flags).run().exits_with(0);
    finished.complains_about(&["--repro writes nothing"]);
    assert!(!std::path::Path::new(&program).exists());
}

fn secret_bytes_are_in_no_output() {
    let greeting =
        "[[before]]\nsend = \"\"\n[[before]]\nsend = \"name sesame\\n\"\nsecret = true\n";
    let exchange = format!("{LINES}{greeting}");
    let files = Files::new();
    let (program, page) = (files.path("shows.py"), files.path("page.html"));
    let flags = ["--repro", &program, "--html", &page, "--case", "framing/1,partial/6"];
    let report = self::report("greets-one-receive", &exchange, &flags);
    assert_eq!(odd(&report), ["partial/6"]);
    let text = format!("{report:?}{}{}", files.read("shows.py"), files.read("page.html"));
    let hex: String = b"sesame".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!text.contains("sesame") && !text.contains(&hex), "{text}");
    assert!(text.contains("SECRET_1") && text.contains("(12 secret bytes)"), "{text}");
}

fn reports_are_put_side_by_side() {
    let files = Files::new();
    let exchange = files.write("exchange.toml", LINES);
    for kind in ["right", "one-receive"] {
        let flags = ["--exchange", &exchange, NO_WAIT, "--json"];
        let cases = ["--case", "framing/1,partial/4,partial/6,closing/3"];
        let finished = check_with(kind, &[&flags[..], &cases].concat());
        files.write(&format!("{kind}.json"), finished.text());
    }
    let [right, wrong, page] =
        ["right.json", "one-receive.json", "matrix.html"].map(|name| files.path(name));
    let matrix =
        |arguments: &[&str]| Home::new().trustctl([&["check", "matrix"], arguments].concat()).run();
    matrix(&[&right, &wrong, "--html", &page]).exits_with(0).prints(
        "server       framing  partial  closing\n\
         right        1 pass   2 pass   1 pass\n\
         one-receive  1 pass   2 fail   1 fail\n",
    );
    let html = files.read("matrix.html");
    assert!(html.contains("href=\"#1-partial\"") && html.contains("id=\"1-partial\""), "{html}");
    let wrong = matrix(&[&exchange]).exits_with(65);
    wrong.complains_about(&["exchange.toml", "expected a report of trustctl check --json"]);
    matrix(&[&files.path("missing.json")]).exits_with(74);
}
