//! Which cases run, how they count, and how a run ends.

use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::Signal;
use trust_check::cases;

use super::json;
use super::server::{self, check};
use super::xml;
use trust_check::report::json::{CaseList, RunState, VerdictName};
use trust_testkit::document;
use trust_testkit::files::Files;
use trust_testkit::program::{Home, Running};
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_right_server_passes,
    a_failure_can_be_tried_again,
    a_wrong_framing_comes_with_the_right_one,
    another_protocol_is_shown_and_named,
    a_narrower_length_field_is_no_success,
    a_server_that_dies_of_half_a_header_is_told_once,
    a_known_failure_does_not_fail_the_run,
    an_unexpected_pass_fails_the_run,
    a_bad_list_is_told_with_its_line,
    strict_makes_a_warning_a_failure,
    a_run_in_which_nothing_ran_is_no_success,
    what_does_not_go_together_is_refused,
    nobody_answers,
    cases_are_listed,
    a_signal_ends_the_run_with_what_is_known,
    a_reader_that_leaves_ends_the_run_quietly,
];

const NO_WAIT: &str = "--patience=1";

fn a_right_server_passes() {
    let finished = check("right", &["--case", "framing/*"]).exits_with(0);
    finished.text().lines().for_each(|line| {
        let words = ["pass ", "skipped ", "              because "];
        let is_summary = line.ends_with("skipped") && line.contains(" tried: ");
        assert!(is_summary || words.iter().any(|word| line.starts_with(word)), "{line}");
    });
    finished.complains_about_nothing();
}

fn a_failure_can_be_tried_again() {
    let finished = check("no-empty", &["--case", "framing/2,framing/3", NO_WAIT]).exits_with(1);
    let text = finished.text();
    assert!(
        text.starts_with("fail          framing/2       an empty message comes back"),
        "{text}"
    );
    for part in [
        "\n    expected  the echo of a message of 0 bytes\n",
        "\n    got       nothing came back; then nothing more came for 1 s\n",
        "\n    usually   a receive of 0 bytes for the payload is taken for the end of the stream\n",
        "\n    source    docs/PROTOCOL.md",
        " #1   -> 00 00 00 00 (4 bytes)\n",
        "\npass          framing/3 ",
        "\n2 cases tried: 1 passed, 1 failed; 0 skipped\n",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let again = text.lines().find_map(|line| line.strip_prefix("    again     trustctl "));
    let again = again.expect("the command that tries it again");
    // As a shell would parse it.
    let home = Home::new();
    let script = format!("exec \"$0\" {again}");
    let finished = home.trustctl_in_shell(&script, [""; 0]).run().exits_with(1);
    let text = finished.text();
    assert!(text.starts_with("fail          framing/2 "), "{text}");
    assert!(text.contains(&format!("    again     trustctl {again}\n")), "{text}");
    assert!(text.ends_with("1 case tried: 0 passed, 1 failed; 0 skipped\n"), "{text}");
}

fn a_wrong_framing_comes_with_the_right_one() {
    let finished = check("u16le", &[NO_WAIT, "--json"]).exits_with(1);
    let report = json::read(finished.text());
    let first = &report.cases[0];
    assert_eq!((first.about.id.as_str(), first.verdict), ("framing/1", VerdictName::Fail));
    assert_eq!(first.hint.as_deref(), Some("it echoes with --framing u16le"));
    for case in &report.cases[1..] {
        assert_eq!(case.verdict, VerdictName::Skipped, "{}", case.about.id);
        assert_eq!(case.hint, None, "{}", case.about.id);
    }
    let flags = ["--framing", "u16le", "--max-frame", "65535", "--case", "framing/1,framing/4"];
    check("u16le", &flags).exits_with(0);
}

fn another_protocol_is_shown_and_named() {
    let flags = ["--json", NO_WAIT, "--case", "framing/1,framing/2"];
    let report = json::read(check("http", &flags).exits_with(1).text());
    let expected = "its answer began with \"HTTP/1.1 400 Bad Request\\r\\n\\r\\n\", \
                    which looks like an HTTP response";
    assert_eq!(report.cases[0].hint.as_deref(), Some(expected));
}

fn a_narrower_length_field_is_no_success() {
    let is_told = |kind: &str, asked: &str, right: &str| {
        let flags = ["--json", NO_WAIT, "--framing", asked, "--case", "framing/1,framing/2"];
        let report = json::read(check(kind, &flags).exits_with(1).text());
        let [first, second] = &report.cases[..] else { panic!("two cases: {:?}", report.cases) };
        assert_eq!((first.verdict, second.verdict), (VerdictName::Fail, VerdictName::Skipped));
        let hint = format!("it echoes with --framing {right}");
        assert_eq!(first.hint.as_ref(), Some(&hint), "{kind} as {asked}");
        assert!(first.got.as_ref().is_some_and(|got| got.starts_with("they came back: 00")));
    };
    is_told("u16be", "u32be", "u16be");
    is_told("u16be", "u64be", "u16be");
    is_told("right", "u64be", "u32be");
    is_told("raw", "u32be", "raw");
}

fn a_server_that_dies_of_half_a_header_is_told_once() {
    // Long enough that it sees half a header even if it is not scheduled for a while.
    let flags = ["--json", NO_WAIT, "--settle=0.5", "--case", "framing/1,framing/2"];
    let report = json::read(check("dies-of-half-a-header", &flags).exits_with(1).text());
    let [first, second] = &report.cases[..] else { panic!("two cases: {:?}", report.cases) };
    assert_eq!((first.verdict, second.verdict), (VerdictName::Fail, VerdictName::Pass));
    let got = first.got.as_deref().expect("what happened");
    assert!(got.starts_with("the server died, ") && got.contains("#2 -> 00 00"), "{got}");
    assert_eq!((first.hint.as_ref(), report.deaths.len()), (None, 1));
}

fn a_known_failure_does_not_fail_the_run() {
    let files = Files::new();
    let known = files.write("known", "# of the old parser\nframing/2  # an empty message\n");
    let flags = ["--case", "framing/2,framing/3", NO_WAIT, "--expect", &known];
    let finished = check("no-empty", &flags).exits_with(0);
    let text = finished.text();
    assert!(text.starts_with("known         framing/2 "), "{text}");
    let summary = "2 cases tried: 1 passed, 0 failed, 1 known to fail; 0 skipped\n";
    assert!(text.ends_with(summary), "{text}");
}

fn an_unexpected_pass_fails_the_run() {
    let files = Files::new();
    let known = files.write("known", "framing/*\n");
    let flags = ["--case", "framing/2,framing/3", NO_WAIT, "--expect", &known];
    let finished = check("no-empty", &flags).exits_with(1);
    let text = finished.text();
    assert!(text.starts_with("known         framing/2 "), "{text}");
    assert!(text.contains("\nunexpected    framing/3 "), "{text}");
    assert!(text.contains("take it off the list\n"), "{text}");
    assert!(text.contains(", 1 of the passes unexpected;"), "{text}");
}

fn a_bad_list_is_told_with_its_line() {
    let files = Files::new();
    let marker = files.path("started");
    let known = files.write("known", "framing/1\n\nframing/one\n");
    let command = format!("touch {marker}; sleep 1000 # {{port}}");
    let flags = ["check", "--command", &command, "--expect", &known];
    let finished = Home::new().trustctl(flags).run().exits_with(65).prints("");
    let words = ["known', line 3: 'framing/one' is no case"];
    finished.complains_about(&words).complains_in_one_line();
    let missing = files.path("missing");
    let flags = ["check", "--command", &command, "--expect", &missing];
    let finished = Home::new().trustctl(flags).run().exits_with(74).prints("");
    finished.complains_about(&["--expect: cannot read", "No such file"]);
    assert!(!std::path::Path::new(&marker).exists(), "the server was started before");
}

fn strict_makes_a_warning_a_failure() {
    let flags = ["--case", "framing/7", NO_WAIT];
    let finished = check("resets", &flags).exits_with(0);
    assert!(finished.text().starts_with("warn          framing/7 "), "{}", finished.text());
    let finished = check("resets", &[&flags[..], &["--strict"]].concat()).exits_with(1);
    let text = finished.text();
    assert!(text.starts_with("fail          framing/7 "), "{text}");
    assert!(text.contains(" --strict --seed 1 --case framing/7\n"), "{text}");
    let finished = check("resets", &[&flags[..], &["--reset", "pass", "--strict"]].concat());
    finished.exits_with(0);
}

fn a_run_in_which_nothing_ran_is_no_success() {
    let flags = ["--framing", "line", "--case", "framing/6"];
    // A newline does not answer a server that expects headers, so the line is another server's
    // framing.
    let finished = check("right", &[&flags[..], &[NO_WAIT]].concat()).exits_with(1);
    let text = finished.text();
    assert!(text.contains("because this framing has no length field\n"), "{text}");
    assert!(text.ends_with("nothing was tried, which says nothing about the server\n"), "{text}");
}

#[track_caller]
fn refused(flags: &[&str], words: &[&str]) {
    let finished = Home::new().trustctl([&["check"], flags].concat()).run().exits_with(64);
    finished.prints("").complains_about(words).complains_in_one_line();
}

fn what_does_not_go_together_is_refused() {
    refused(&[], &["missing server: expected HOST:PORT,", "or --command"]);
    let command = ["--command", "serve {port}"];
    refused(&[&command[..], &["localhost:1"]].concat(), &["--command", "HOST:PORT is not given"]);
    refused(
        &[&command[..], &["--pid", "1"]].concat(),
        &["--command", "--pid cannot be used with --command"],
    );
    refused(&["--command", "serve"], &["invalid value 'serve' for --command: expected", "{port}"]);
    refused(
        &["localhost:1", "--case", "framing/1,no/1"],
        &["--case", "'no/1' names no case", "ids of cases"],
    );
    refused(&["localhost:1", "--pid", "0"], &["invalid value '0' for --pid"]);
    refused(&["localhost:1", "2", "3"], &["unexpected argument"]);
}

fn nobody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let files = Files::new();
    let (junit, html) = (files.path("a.xml"), files.path("a.html"));
    let flags = ["check", &address, "--json", "--junit", &junit, "--html", &html];
    let finished = Home::new().trustctl(flags).run().exits_with(69);
    let report = json::read(finished.text());
    assert_eq!((report.state, report.exit), (RunState::Unreachable, 69));
    assert!(report.detail.is_some_and(|why| why.contains("refused")));
    assert!(report.cases.is_empty());
    finished.complains_about(&["refused"]).complains_in_one_line();
    let junit = xml::read(&files.read("a.xml"));
    assert_eq!((junit.count("tests"), junit.count("errors"), junit.count("failures")), (1, 1, 0));
    assert!(files.read("a.html").contains("Nothing was tried: "));
    let finished = Home::new().trustctl(["check", &address]).run().exits_with(69);
    finished.prints("").complains_about(&["refused"]);
}

fn cases_are_listed() {
    let all = Home::new().trustctl(["check", "--list"]).run().exits_with(0);
    let lines = all.text().lines().count();
    assert!(all.text().starts_with("framing/1       one small message is answered\n"));
    let json = Home::new().trustctl(["check", "--list", "--json"]).run().exits_with(0);
    let list: CaseList = document::read(json.text(), "check-list");
    assert_eq!(list.version, 1);
    assert_eq!(list.cases.len(), lines);
    for case in &list.cases {
        let texts = [&case.id, &case.title, &case.requirement, &case.source, &case.bug];
        assert!(texts.iter().all(|text| !text.is_empty()), "{}", case.id);
    }
    let some = ["check", "--list", "--case", "resources/*,framing/2"];
    let some = Home::new().trustctl(some).run().exits_with(0);
    let shown: Vec<&str> =
        some.text().lines().filter_map(|line| line.split_whitespace().next()).collect();
    let is_asked_for = |id: &&str| *id == "framing/2" || id.starts_with("resources/");
    let expected: Vec<&str> = cases::all().map(|case| case.id).filter(is_asked_for).collect();
    assert_eq!(shown, expected);
}

/// Starts a check of a server that accepts connections and sends nothing. Waits until it has
/// connected twice: the first connection only checks that the server is there.
fn waiting(files: &Files, flags: &[&str]) -> (Running, TcpListener, Home) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let home = Home::new();
    let (junit, html) = (files.path("a.xml"), files.path("a.html"));
    let reports = ["--patience=600", "--junit", &junit, "--html", &html];
    let running = home.trustctl(["check", &address]).args(reports).args(flags).start();
    for _ in 0..2 {
        listener.accept().map(std::mem::forget).expect("a connection");
    }
    (running, listener, home)
}

fn a_signal_ends_the_run_with_what_is_known() {
    for (signal, name, code) in [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143)] {
        let files = Files::new();
        let (running, _listener, _home) = waiting(&files, &[]);
        running.signal(signal);
        let finished = running.wait().exits_with(code);
        let text = finished.text();
        assert!(text.contains(&format!("stopped by {name}; what was not tried is skipped\n")));
        assert!(text.contains("\nnothing was tried, "), "{text}");
        finished.complains_about_nothing();
        let junit = xml::read(&files.read("a.xml"));
        assert_eq!(junit.count("errors"), 1);
        assert!(files.read("a.html").contains(&format!("Stopped by {name};")));

        let files = Files::new();
        let (running, _listener, _home) = waiting(&files, &["--json"]);
        running.signal(signal);
        let finished = running.wait().exits_with(code);
        let report = json::read(finished.text());
        assert_eq!((report.state, i32::from(report.exit)), (RunState::Stopped, code));
        assert_eq!(report.detail.as_deref(), Some(name));
        assert!(report.cases.iter().all(|case| case.verdict == VerdictName::Skipped));
        assert!(!report.cases.is_empty());
    }
}

fn a_reader_that_leaves_ends_the_run_quietly() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let launch = server::launch(&home, "no-empty", &["--patience=600"]).stdout(Stdio::from(writer));
    launch.start().wait().exits_with(0).complains_about_nothing();

    // Reports in files have other readers, so they are written all the same.
    let files = Files::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let (junit, known) = (files.path("a.xml"), ["--case", "framing/2,framing/3", NO_WAIT]);
    let flags = [&known[..], &["--junit", &junit]].concat();
    let launch = server::launch(&home, "no-empty", &flags).stdout(Stdio::from(writer));
    launch.run().exits_with(1).complains_about_nothing();
    assert_eq!(xml::read(&files.read("a.xml")).count("failures"), 1);
}
