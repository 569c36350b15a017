//! The reports: for machines, for CI, for people with a browser, and on a terminal.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::json;
use super::server::{check, command};
use super::xml;
use trust_check::report::json::{RunState, WireEvent};
use trust_testkit::files::Files;
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    the_json_report_is_one_document,
    the_junit_report_is_what_ci_systems_read,
    the_page_needs_nothing_else,
    no_text_breaks_out_of_a_report,
    what_cannot_be_written_is_told_first,
    a_terminal_gets_colours_and_progress,
];

const FLAGS: [&str; 3] = ["--case", "framing/1,framing/2,framing/3", "--patience=1"];

fn the_json_report_is_one_document() {
    let flags = ["--json", "--seed=9", "--timeout=3", "--jobs=2", "--settle=0.01"];
    let finished = check("no-empty", &[&FLAGS[..], &flags].concat()).exits_with(1);
    let report = json::read(finished.text());
    finished.complains_about_nothing();
    assert_eq!((report.state, report.exit, report.detail), (RunState::Complete, 1, None));
    assert_eq!((report.counts.pass, report.counts.fail, report.counts.skipped), (2, 1, 0));
    let server = &report.server;
    assert_eq!((server.target.as_deref(), server.framing.as_str()), (None, "u32be"));
    assert_eq!(server.command.as_deref(), Some(command("no-empty").as_str()));
    assert!(server.pid.is_some() && !server.one_at_a_time);
    assert!(server.address.as_deref().is_some_and(|address| address.starts_with("127.0.0.1:")));
    assert_eq!((server.max_frame_bytes, server.timeout_sec), (Some(65_536), Some(3.0)));
    let settings = &report.settings;
    assert_eq!((settings.patience_sec, settings.settle_sec), (1.0, 0.01));
    assert_eq!((settings.strict, settings.seed, settings.jobs), (false, 9, 2));
    let [first, empty, _] = &report.cases[..] else { panic!("three cases") };
    let whats: Vec<WireEvent> = first.transcript.iter().map(|entry| entry.what).collect();
    assert!(
        whats.starts_with(&[WireEvent::Connected, WireEvent::Sent, WireEvent::Received]),
        "{whats:?}"
    );
    assert_eq!(first.transcript[1].bytes, Some(36));
    assert_eq!(first.transcript[1].hex, first.transcript[2].hex);
    let flags = " --timeout 3 --patience 1 --settle 0.01 --jobs 2 --seed 9 --case framing/2";
    assert!(empty.again.ends_with(flags), "{}", empty.again);
    let silence = empty.transcript.iter().find(|entry| entry.what == WireEvent::Silence);
    assert_eq!(silence.and_then(|entry| entry.time_ms), Some(1000.0));
}

fn the_junit_report_is_what_ci_systems_read() {
    let files = Files::new();
    let (path, known) = (files.path("a.xml"), files.write("known", "framing/3\n"));
    let flags = ["--junit", &path, "--expect", &known];
    check("no-empty", &[&FLAGS[..], &flags].concat()).exits_with(1);
    let suites = xml::read(&files.read("a.xml"));
    assert_eq!(suites.name, "testsuites");
    let [suite] = &suites.children[..] else { panic!("one suite: {suites:?}") };
    assert_eq!(suite.name, "testsuite");
    for element in [&suites, suite] {
        let counts = ["tests", "failures", "errors", "skipped"].map(|name| element.count(name));
        // The unexpected pass is a failure too.
        assert_eq!(counts, [3, 2, 0, 0]);
        element.attribute("time").parse::<f64>().expect("seconds");
    }
    assert!(suite.attribute("timestamp").ends_with('Z'));
    let cases: Vec<_> = suite.all("testcase").collect();
    let names: Vec<&str> = cases.iter().map(|case| case.attribute("name")).collect();
    assert_eq!(names[1], "framing/2 an empty message comes back");
    assert!(cases.iter().all(|case| case.attribute("classname") == "framing"));
    let failures: Vec<_> = cases.iter().map(|case| case.all("failure").next()).collect();
    assert!(failures[0].is_none());
    let failure = failures[1].expect("framing/2 failed");
    assert!(failure.attribute("message").starts_with("nothing came back"));
    assert!(failure.text.contains("expected: ") && failure.text.contains("-> 00 00 00 00"));
    let unexpected = failures[2].expect("framing/3 was listed and passed");
    assert!(unexpected.attribute("message").contains("listed as known to fail"));

    let known = files.write("known", "framing/2\n");
    let flags = ["--junit", &path, "--expect", &known];
    check("no-empty", &[&FLAGS[..], &flags].concat()).exits_with(0);
    let suites = xml::read(&files.read("a.xml"));
    assert_eq!((suites.count("failures"), suites.count("skipped")), (0, 1));
    let skipped = suites.children[0].children[1].all("skipped").next().expect("it is skipped");
    assert!(skipped.attribute("message").starts_with("known to fail: nothing came back"));
}

fn the_page_needs_nothing_else() {
    let files = Files::new();
    let path = files.path("a.html");
    check("no-empty", &[&FLAGS[..], &["--html", &path]].concat()).exits_with(1);
    let page = files.read("a.html");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "{outside} in the page");
    }
    assert_eq!(page.matches("href=").count(), page.matches("href=\"#").count(), "{page}");
    for needed in [
        "<meta charset=\"utf-8\">",
        "<meta name=\"viewport\" content=\"width=device-width",
        "@media print",
        "prefers-color-scheme: dark",
        "<span class=\"word failed\">FAILED</span>",
        "<b class=\"fail\">fail</b> <a href=\"#framing/2\">framing/2</a>",
        "<details id=\"framing/2\" open><summary><b class=\"fail\">fail</b> <code>framing/2</code>",
        "<details id=\"framing/1\"><summary><b class=\"pass\">pass</b> <code>framing/1</code>",
        "-&gt; 00 00 00 00 (4 bytes)",
        "<dt>again</dt><dd>trustctl check --command '",
        " --case framing/1,framing/2,framing/3</dd>",
    ] {
        assert!(page.contains(needed), "no {needed:?} in:\n{page}");
    }
    assert_eq!(page.matches("<details").count(), page.matches("</details>").count());
    assert_eq!(page.matches("<details").count(), 3);
}

fn no_text_breaks_out_of_a_report() {
    let files = Files::new();
    let (junit, html) = (files.path("a.xml"), files.path("a.html"));
    let command = format!(": '</title><script>&\"\u{1b}[1m'; {}", command("no-empty"));
    let flags = ["check", "--command", &command, "--junit", &junit, "--html", &html, "--json"];
    let finished = Home::new().trustctl(flags).args(FLAGS).run().exits_with(1);
    let report = json::read(finished.text());
    assert_eq!(report.server.command, Some(command));
    let page = files.read("a.html");
    assert!(!page.contains("<script") && !page.contains('\u{1b}'), "{page}");
    assert!(page.contains("&lt;/title&gt;&lt;script&gt;&amp;&quot;"));
    let suites = xml::read(&files.read("a.xml"));
    let name = suites.children[0].attribute("name");
    assert!(name.starts_with(": '</title><script>&\"\u{fffd}[1m'; exec "), "{name}");
}

fn what_cannot_be_written_is_told_first() {
    for flag in ["--junit", "--html"] {
        let files = Files::new();
        let (started, path) = (files.path("started"), files.path("no/such/directory/report"));
        let command = format!("touch '{started}'; {}", command("right"));
        let flags = ["check", "--command", &command, flag, &path];
        let finished = Home::new().trustctl(flags).run().exits_with(73).prints("");
        let words = [&format!("{flag}: cannot create"), "No such file"];
        finished.complains_about(&words).complains_in_one_line();
        assert!(!Path::new(&started).exists(), "the server was started before");
    }
    let finished = check("right", &["--case", "framing/1", "--html", "/dev/full"]).exits_with(74);
    finished.complains_about(&["cannot write '/dev/full'", "No space left"]);
}

/// What the check writes to a terminal that is both its stdout and its stderr.
fn on_a_terminal(environment: &[(&str, &str)]) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("its other end");
    let path: CString = ptsname(&terminal, vec![]).expect("the name of its other end");
    let path = path.to_str().expect("a path").to_owned();
    // The other end stays open until everything has been read.
    let other = File::options().read(true).write(true).open(&path).expect("the other end");
    let script = format!("exec \"$0\" \"$@\" >{path} 2>&1");
    let home = Home::new();
    let mut launch = home
        .trustctl_in_shell(&script, ["check", "--command", &command("no-empty")])
        .args(FLAGS)
        .without_env("NO_COLOR")
        .env("TERM", "xterm");
    for (name, value) in environment {
        launch = launch.env(name, value);
    }
    launch.run().exits_with(1);
    drop(other);
    let (mut terminal, mut bytes, mut buffer) = (File::from(terminal), vec![], [0; 4096]);
    // EIO is the end of a terminal.
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn a_terminal_gets_colours_and_progress() {
    let coloured = on_a_terminal(&[]);
    assert!(coloured.contains("\x1b[32mpass        \x1b[0m  framing/1 "), "{coloured:?}");
    assert!(coloured.contains("\x1b[1m\x1b[31mfail        \x1b[0m  framing/2 "), "{coloured:?}");
    // While framing/2 waits for a second.
    assert!(coloured.contains("2 of 3  framing/2"), "{coloured:?}");
    let last_progress = coloured.rfind(" of 3  ").expect("progress");
    assert!(coloured[last_progress..].contains("\r\x1b[2K\x1b["), "it is taken away: {coloured:?}");
    for plain in [on_a_terminal(&[("NO_COLOR", "1")]), on_a_terminal(&[("TERM", "dumb")])] {
        assert!(plain.contains("pass          framing/1 "), "{plain:?}");
        assert!(!plain.contains("\x1b[0m"), "{plain:?}");
    }
    let finished = check("no-empty", &FLAGS).exits_with(1);
    assert!(!finished.text().contains('\x1b') && !finished.text().contains('\r'));
    finished.complains_about_nothing();
}
