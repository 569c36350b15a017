//! Servers that expect a PROXY header, and ones that do not.

use std::time::Duration;

use super::server::{NO_HEADER, check, launch};
use super::{json, xml};
use trust_check::report::json::{CaseReport, CheckReport, VerdictName, WireEvent};
use trust_testkit::files::Files;
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_right_server_behind_a_header_is_right_in_every_group,
    the_header_is_a_piece_of_its_own,
    every_report_says_that_a_header_was_sent,
    a_header_that_the_server_does_not_expect_is_the_hint,
    a_connection_without_a_header_is_seen_by_these_servers,
];

/// Longest time for a run of all cases.
const RUN_DEADLINE: Duration = Duration::from_secs(120);

/// Cases of every group, with all that connect and send nothing, cut a stream or reset.
const EVERY_GROUP: &str = "framing/*,partial/*,pipelining/1,pipelining/9,closing/*,half-close/*,\
                           recovery/*,limits/1,limits/5,timing/6,timing/9,resources/1,resources/2";

/// The header of `v2=203.0.113.7:4711` but for the last two bytes, which are the server's port.
const V2: &str = "0d0a0d0a000d0a515549540a2111000ccb0071077f0000011267";

fn report(kind: &str, flags: &[&str]) -> CheckReport {
    let flags = [flags, &["--json"]].concat();
    json::read(launch(&Home::new(), kind, &flags).start().wait_for(RUN_DEADLINE).text())
}

/// What went over the wire first, on each connection.
fn first_sent(case: &CaseReport) -> Vec<(u32, WireEvent)> {
    let mut first: Vec<(u32, WireEvent)> = vec![];
    for entry in &case.transcript {
        let is_sent = !matches!(entry.what, WireEvent::Connected | WireEvent::Note);
        if is_sent && first.iter().all(|(connection, _)| *connection != entry.connection) {
            first.push((entry.connection, entry.what));
        }
    }
    first
}

fn a_right_server_behind_a_header_is_right_in_every_group() {
    // It dies of a connection that begins otherwise, be it one that has nothing to say.
    let flags = ["--send-proxy", "v2=203.0.113.7:4711", "--case", EVERY_GROUP];
    let report = report("behind-header-right", &flags);
    for case in &report.cases {
        assert_ne!(case.verdict, VerdictName::Fail, "{}: {:?}", case.about.id, case.got);
        for (connection, what) in first_sent(case) {
            assert_eq!(what, WireEvent::SentProxyHeader, "{} #{connection}", case.about.id);
        }
    }
    assert!(report.counts.pass > 50, "{:?}", report.counts);
    let first = report.cases[0].transcript.iter().find(|it| it.what == WireEvent::SentProxyHeader);
    let first = first.expect("a header");
    assert!(first.hex.as_deref().expect("bytes").starts_with(V2), "{first:?}");
    assert_eq!(first.bytes, Some(28));
}

fn the_header_is_a_piece_of_its_own() {
    let flags = ["--send-proxy", "v1", "--case", "partial/1"];
    let report = report("behind-header-reads-once", &flags);
    let case = &report.cases[0];
    assert_eq!(case.verdict, VerdictName::Fail, "{case:?}");
    let events: Vec<WireEvent> = case.transcript.iter().map(|entry| entry.what).collect();
    let expected =
        [WireEvent::Connected, WireEvent::SentProxyHeader, WireEvent::LeftAlone, WireEvent::Sent];
    assert_eq!(events[..4], expected, "{case:?}");
}

fn every_report_says_that_a_header_was_sent() {
    let (files, said) = (Files::new(), "v1, from the address of each connection");
    let [page, junit] = ["page.html", "junit.xml"].map(|name| files.path(name));
    let flags = ["--send-proxy=v1", "--case=framing/1", "--html", &page, "--junit", &junit];
    let text = check("behind-header-right", &flags).exits_with(0);
    let line = format!("each connection began with a PROXY header: {said}");
    assert!(text.text().lines().any(|it| it == line), "{}", text.text());
    let row = format!("<dt>PROXY header</dt><dd>{said}</dd>");
    assert!(files.read("page.html").contains(&row));
    let document = xml::read(&files.read("junit.xml"));
    let suite = document.all("testsuite").next().expect("a suite");
    let properties = suite.all("properties").next().expect("properties");
    let property = properties.all("property").next().expect("a property");
    assert_eq!((property.attribute("name"), property.attribute("value")), ("send-proxy", said));
    let report = report("behind-header-right", &["--send-proxy=v1", "--case=framing/1"]);
    assert_eq!(report.server.send_proxy.as_deref(), Some(said));
    assert!(report.cases[0].again.contains("--send-proxy v1 "), "{}", report.cases[0].again);
}

fn a_header_that_the_server_does_not_expect_is_the_hint() {
    let flags = ["--case=framing/1", "--patience=1", "--send-proxy=v2"];
    let hint = |kind: &str, flags: &[&str]| {
        let report = report(kind, flags);
        assert_eq!(report.cases[0].verdict, VerdictName::Fail, "{report:?}");
        report.cases[0].hint.clone()
    };
    let needless = "it echoes without --send-proxy: the server does not expect a PROXY header";
    assert_eq!(hint("right", &flags).as_deref(), Some(needless));
    let perhaps = "a PROXY header (v2) was sent first, and perhaps the server does not expect one";
    assert_eq!(hint("silent", &flags).as_deref(), Some(perhaps));
    assert_eq!(hint("silent", &flags[..2]), None);
}

fn a_connection_without_a_header_is_seen_by_these_servers() {
    let seen = check("behind-header-right", &["--case=framing/1", "--patience=1"]).exits_with(1);
    assert!(seen.text().contains(NO_HEADER), "{}", seen.text());
}
