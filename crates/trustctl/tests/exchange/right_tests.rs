//! Right servers with limits and habits of their own, which are not accused.

use trust_check::report::json::{CheckReport, VerdictName};
use trust_testkit::suite::Named;
use trust_testkit::tests;

use super::json;
use super::tests::{LINES, NO_WAIT, case, check, greeted_lines, odd, report};

pub(crate) const TESTS: &[Named] = tests![
    a_goodbye_to_a_client_that_has_finished_is_no_answer,
    a_client_too_many_may_be_told_so,
    a_limit_on_requests_that_is_told_is_allowed,
    a_limit_that_the_last_answer_tells_is_allowed,
    what_a_server_says_by_itself_is_no_answer,
    a_limit_that_whole_requests_meet_too_is_not_put_down_to_pieces,
    a_client_too_many_may_be_told_so_when_it_begins,
    a_client_too_many_may_get_no_answer_when_it_begins,
    a_server_that_greets_one_client_at_a_time_is_noticed,
    a_server_that_lets_a_client_too_many_wait_is_noticed,
    a_body_that_does_not_belong_there_leaves_its_exchange_out,
    an_answer_may_go_as_far_as_its_exchange_says,
    an_answer_may_come_before_its_request_is_whole,
    workers_that_retire_and_are_replaced_are_no_finding,
];

/// The lines, with a goodbye.
fn lines_with_goodbye() -> String {
    format!("{LINES}\n[allow]\ngoodbye = {{ instead = '~ ', why = 'section 9' }}\n")
}

fn a_goodbye_to_a_client_that_has_finished_is_no_answer() {
    let of = |file: &str| report("says-goodbye", file, &["--case", "framing/1,closing/*,half-*"]);
    let allowed = of(&lines_with_goodbye());
    assert_eq!(odd(&allowed), [""; 0], "{:?}", allowed.cases);
    let got = case(&of(LINES), "framing/1").got.clone();
    let expected = "hello: 6 bytes more: 7e 20 62 79 65 0a (goodbye in [allow] says what a right \
                    server may say)";
    assert_eq!(got.as_deref(), Some(expected));
}

fn a_client_too_many_may_be_told_so() {
    let flags = [NO_WAIT, "--json", "--case", "framing/1,limits/5"];
    let report = json::read(check("two-at-a-time", &lines_with_goodbye(), &flags).text());
    assert_eq!(odd(&report), [""; 0], "{:?}", report.cases);
}

fn a_limit_on_requests_that_is_told_is_allowed() {
    let flags = ["--case", "framing/1,pipelining/1,pipelining/2"];
    let report = report("ten-requests", &lines_with_goodbye(), &flags);
    assert_eq!(odd(&report), [""; 0], "{:?}", report.cases);
    let many = case(&report, "pipelining/2");
    assert_eq!(many.verdict, VerdictName::Allowed);
    let said = many.said.as_deref().expect("why");
    assert!(said.contains("after 10 answers, and says so: '~ enough\\n"), "{said}");
}

fn a_limit_that_the_last_answer_tells_is_allowed() {
    let http = "[message]\nend = 'http'\nignore = ['Connection:[^\\n]*\\n']\n\
                [[exchange]]\nsend = \"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n\"\n";
    let flags = [NO_WAIT, "--json", "--case", "framing/1,timing/6"];
    let report = json::read(check("http-ten-requests", http, &flags).text());
    let pairs = case(&report, "timing/6");
    assert_eq!(pairs.verdict, VerdictName::Allowed, "{pairs:?}");
    let said = pairs.said.as_deref();
    assert_eq!(said, Some("it ends the connection after 10 answers, and says so"));
}

fn what_a_server_says_by_itself_is_no_answer() {
    let cases = ["--case", "framing/1,framing/14,timing/1,partial/6,closing/11,limits/2"];
    let alone = report("heartbeats", LINES, &cases);
    assert_eq!(alone.exit, 1, "{:?}", alone.cases);
    let told = LINES.replace("end = \"line\"", "end = \"line\"\nunasked = ['\\* tick']");
    let flags =
        [NO_WAIT, "--json", "--case", "framing/*,partial/*,timing/*,closing/*,half-close/*"];
    let heartbeats = json::read(check("heartbeats", &told, &flags).text());
    assert_eq!(odd(&heartbeats), [""; 0], "{:?}", heartbeats.cases);
    assert!(heartbeats.counts.pass >= 20, "{:?}", heartbeats.counts);
    // A connection may be shorter than the time between two of them, but not all are.
    let lines = heartbeats.cases.iter().flat_map(|case| &case.transcript);
    let mut notes = lines.filter_map(|line| line.text.as_deref());
    let noted = notes.any(|text| text == r"said unasked, and left out: '* tick\n'");
    assert!(noted, "{:?}", heartbeats.cases);
    // What is wrong is found all the same.
    let wrong = report("one-receive", &told, &["--case", "framing/1,partial/6"]);
    assert_eq!(odd(&wrong), ["partial/6"], "{:?}", wrong.cases);
}

fn a_limit_that_whole_requests_meet_too_is_not_put_down_to_pieces() {
    let report = report("complains", LINES, &["--case", "framing/1,pipelining/1,pipelining/2"]);
    assert_eq!(report.counts.fail, 0, "{:?}", report.cases);
    let many = case(&report, "pipelining/2");
    assert_eq!(many.verdict, VerdictName::Inconclusive);
    let said = many.said.as_deref().expect("why");
    assert!(said.contains("when a connection asks it again"), "{said}");
    assert!(said.contains("after 3 right answers"), "{said}");
    assert!(said.contains("it is '! slow down\\n'"), "{said}");
}

fn a_client_too_many_may_be_told_so_when_it_begins() {
    let flags = [NO_WAIT, "--json", "--case", "framing/*,partial/*,recovery/*,limits/5"];
    let told = [&flags[..], &["--max-clients", "2"]].concat();
    let report = json::read(check("greets-two", &greeted_lines(), &told).text());
    assert_eq!(odd(&report), [""; 0], "{:?}", report.cases);
    // Without that it is found out.
    let report = json::read(check("greets-two", &greeted_lines(), &flags).text());
    assert_limit_is_found(&report);
}

fn a_client_too_many_may_get_no_answer_when_it_begins() {
    let flags = [NO_WAIT, "--json", "--case", "framing/1,recovery/6,recovery/12,limits/5"];
    let report = json::read(check("admits-two", &greeted_lines(), &flags).text());
    assert_limit_is_found(&report);
}

#[track_caller]
fn assert_limit_is_found(report: &CheckReport) {
    assert_eq!((report.counts.fail, report.counts.warn), (0, 0), "{:?}", report.cases);
    let limit = report.causes.iter().any(|cause| cause.text.contains("--max-clients says"));
    assert!(limit, "{:?}", report.causes);
    let said = case(report, "limits/5").said.as_deref();
    assert!(said.is_some_and(|said| said.contains("a limit on clients")), "{said:?}");
}

fn a_server_that_greets_one_client_at_a_time_is_noticed() {
    let flags = ["--case", "framing/*,partial/*,recovery/*"];
    let report = report("greets-one-at-a-time", &greeted_lines(), &flags);
    assert_eq!(odd(&report), [""; 0], "{:?}", report.cases);
    assert!(report.server.one_at_a_time, "{:?}", report.server);
}

fn a_server_that_lets_a_client_too_many_wait_is_noticed() {
    let flags = [NO_WAIT, "--json", "--case", "framing/1,recovery/*"];
    let report = json::read(check("serves-three", LINES, &flags).text());
    assert_eq!((report.counts.fail, report.counts.warn), (0, 0), "{:?}", report.cases);
    let said = case(&report, "recovery/6").said.as_deref();
    let expected = "it serves 3 clients at a time, and lets others wait: --max-clients 3";
    assert_eq!(said, Some(expected));
    let told = [&flags[..], &["--max-clients", "3"]].concat();
    let report = json::read(check("serves-three", LINES, &told).text());
    assert_eq!(odd(&report), [""; 0], "{:?}", report.cases);
}

fn a_body_that_does_not_belong_there_leaves_its_exchange_out() {
    let of = |method: &str| {
        let request = format!("{method} / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n");
        format!("[[exchange]]\nname = '{method}'\nsend = \"{request}\"\n")
    };
    let file = format!("[message]\nend = 'http'\n{}{}", of("HEAD"), of("GET"));
    let report = report("http-ten-requests", &file, &["--case", "framing/1,partial/*"]);
    assert_eq!(odd(&report), ["framing/1"], "{:?}", report.cases);
    let got = case(&report, "framing/1").got.as_deref().expect("what came");
    assert!(got.contains(" comes 'ok' ("), "{got}");
    assert!(got.ends_with("; the other cases are tried without HEAD"), "{got}");
    assert!(report.counts.pass >= 5, "{:?}", report.counts);
}

fn an_answer_may_go_as_far_as_its_exchange_says() {
    // The right server answers each of three lines with one.
    let list = "[[exchange]]\nname = 'list'\nsend = \"a\\nb\\n.\\n\"\nlast = '\\.'\n";
    let early = "[allow]\nearly = { any = true, why = 'it answers each line' }\n";
    let other = "[[exchange]]\nsend = \"c\\n\"\n";
    let file = format!("[message.answer]\nend = 'line'\n{early}{list}{other}");
    let report = report("right", &file, &["--case", "framing/1,partial/*,pipelining/*"]);
    assert_eq!(odd(&report), [""; 0], "{:?}", report.cases);
    assert!(report.counts.pass >= 8, "{:?}", report.counts);
}

fn an_answer_may_come_before_its_request_is_whole() {
    let request = format!("early{}\\n", ".".repeat(100));
    let file = format!("[message]\nend = 'line'\n[[exchange]]\nsend = \"{request}\"\n");
    let flags = [NO_WAIT, "--json", "--case", "framing/1,partial/12"];
    let report = json::read(check("answers-early", &file, &flags).text());
    assert_eq!(case(&report, "partial/12").verdict, VerdictName::Pass, "{:?}", report.cases);
}

fn workers_that_retire_and_are_replaced_are_no_finding() {
    let of = |kind: &str| {
        let flags = [NO_WAIT, "--json", "--case", "framing/*,resources/1"];
        let report = json::read(check(kind, LINES, &flags).text());
        case(&report, "resources/1").clone()
    };
    let replaced = of("workers-replaced");
    assert_eq!(replaced.verdict, VerdictName::Info, "{replaced:?}");
    let said = replaced.said.as_deref().expect("what was seen");
    assert!(said.contains("others came in their place"), "{said}");
    let missed = of("worker-missed");
    assert_eq!(missed.verdict, VerdictName::Warn, "{missed:?}");
    let got = missed.got.as_deref().expect("what was seen");
    assert!(got.ends_with("with whatever other clients it had; others go on"), "{got}");
}
