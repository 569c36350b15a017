//! `--baseline` and `check compare`: what a box between changes.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use trust_check::compare::json::CompareReport;
use trust_check::compare::measure::{MeasuredValue, Measurement, MeasurementName};
use trust_check::report::json::VerdictName;
use trust_testkit::document;
use trust_testkit::files::Files;
use trust_testkit::kernel;
use trust_testkit::program::{Finished, Home};
use trust_testkit::suite::Named;
use trust_testkit::tests;

use super::relay::{OnIdle, PIECE_MAX, Relay};
use super::server;
use super::tests::{LINES, NO_WAIT};

pub(crate) const TESTS: &[Named] = tests![
    a_relay_that_passes_everything_on_changes_nothing,
    what_a_relay_does_to_half_closed_clients_is_told,
    two_reports_are_compared_as_two_servers_are,
    what_fails_without_the_box_is_left_out,
    what_cannot_be_compared_is_told_in_one_line,
    the_idle_timeout_of_a_relay_is_measured,
    a_relay_that_forgets_idle_connections_is_found_out,
    what_a_relay_merges_and_whom_it_turns_away_is_measured,
    a_header_that_a_relay_adds_is_found,
    what_a_relay_does_while_the_server_is_down_is_told,
    a_signal_while_idle_clients_are_waited_for_loses_no_case,
];

/// How long a run of both sides may take on a machine with other work.
const RUN_DEADLINE: Duration = Duration::from_secs(90);

const CASES: &str = "framing/1,partial/6,pipelining/1,half-close/1,half-close/2,closing/1";

/// What is said of a server that keeps idle clients. On a busy machine they are asked a little
/// later than after the 3 s that the tests wait.
const KEPT: &str = "not ended within 3";

/// Connections that came to the relay of one of the tests.
static RELAYED: AtomicUsize = AtomicUsize::new(0);

/// Checks a server of this kind directly and through such a relay.
fn check_both(kind: &str, relay: Relay, flags: &[&str]) -> Finished {
    let files = Files::new();
    let file = files.write("lines.toml", LINES);
    let direct = server::start(kind);
    let [direct, through] = [direct, relay.start(direct)].map(|address| address.to_string());
    // A relay that is slow with answers needs a while for each client that is measured.
    let file = ["--exchange", &file, NO_WAIT, "--idle-max=0", "--max-clients=8"];
    let both = [&["check", &through, "--baseline", &direct][..], &file].concat();
    Home::new().trustctl(both).args(flags).start().wait_for(RUN_DEADLINE)
}

fn compared(kind: &str, relay: Relay) -> CompareReport {
    let finished = check_both(kind, relay, &["--json", "--case", CASES]);
    let report: CompareReport = document::read(finished.text(), "check-compare");
    assert_eq!(finished.code(), Some(i32::from(report.exit)));
    report
}

fn changed(report: &CompareReport) -> Vec<&str> {
    let cases = report.changes.iter().flat_map(|change| &change.cases);
    cases.map(|case| case.id.as_str()).collect()
}

fn a_relay_that_passes_everything_on_changes_nothing() {
    let report = compared("right", Relay::TRUE);
    assert_eq!(changed(&report), [""; 0], "{report:?}");
    assert_eq!((report.same, report.exit), (6, 0), "{report:?}");
}

fn what_a_relay_does_to_half_closed_clients_is_told() {
    let report = compared("right", Relay::CLOSES_BOTH);
    assert_eq!(changed(&report), ["half-close/1", "half-close/2"], "{report:?}");
    let change = &report.changes[0];
    let told = "half-closed clients lose their answer: the box closes both directions on a FIN";
    assert_eq!((change.text.as_str(), report.exit), (told, 1));
    let case = &change.cases[0];
    assert_eq!(case.direct.verdict, VerdictName::Pass);
    assert_eq!(case.through.verdict, VerdictName::Fail);
    assert!(case.through.again.ends_with(" --case half-close/1"), "{}", case.through.again);
    for flag in ["--baseline", "--idle-max"] {
        assert!(!case.through.again.contains(flag), "{}", case.through.again);
    }
    let flags = ["--quick", "--case", "half-close/1,half-close/2"];
    let text = check_both("right", Relay::CLOSES_BOTH, &flags).exits_with(1);
    let text = text.text().to_owned();
    assert!(text.starts_with(told), "{text}");
    assert!(text.ends_with("2 cases compared: the box changes 2\n"), "{text}");
}

fn two_reports_are_compared_as_two_servers_are() {
    let files = Files::new();
    let file = files.write("lines.toml", LINES);
    let direct = server::start("right");
    let through = Relay::CLOSES_BOTH.start(direct);
    let reports = [(direct, "direct"), (through, "box")].map(|(address, name)| {
        let address = address.to_string();
        let flags = ["check", &address, "--exchange", &file, NO_WAIT, "--json", "--case", CASES];
        let finished = Home::new().trustctl(flags).start().wait_for(RUN_DEADLINE);
        files.write(&format!("{name}.json"), finished.text())
    });
    let [junit, page] = ["junit.xml", "page.html"].map(|name| files.path(name));
    let compare = |flags: &[&str]| {
        let words = [&["check", "compare", &reports[0], &reports[1]], flags].concat();
        Home::new().trustctl(words).run().exits_with(1)
    };
    let finished = compare(&["--json", "--junit", &junit, "--html", &page]);
    let report: CompareReport = document::read(finished.text(), "check-compare");
    assert_eq!(changed(&report), ["half-close/1", "half-close/2"], "{report:?}");
    assert_eq!([&report.direct.name, &report.through.name], ["direct", "box"]);
    assert!(files.read("junit.xml").contains("failures=\"2\""));
    assert!(files.read("page.html").contains("<h2>half-closed clients lose their answer"));
    let text = compare(&[]).text().to_owned();
    assert!(text.ends_with("6 cases compared: the box changes 2\n"), "{text}");
}

fn what_fails_without_the_box_is_left_out() {
    let report = compared("one-receive", Relay::TRUE);
    let left_out: Vec<&str> = report.left_out.iter().map(|case| case.id.as_str()).collect();
    assert!(left_out.contains(&"partial/6"), "{report:?}");
    assert!(!changed(&report).contains(&"partial/6"), "{report:?}");
}

fn what_cannot_be_compared_is_told_in_one_line() {
    let files = Files::new();
    let no_report = files.write("none.json", "{}");
    let missing = files.path("missing.json");
    let run = |words: &[&str], exit: i32, says: &str| {
        let finished = Home::new().trustctl(words.iter().copied()).run();
        finished.exits_with(exit).complains_about(&[says]);
    };
    let no_report_says = "expected a report of trustctl check --json";
    run(&["check", "compare", &no_report, &no_report], 65, no_report_says);
    run(&["check", "compare", &missing, &no_report], 74, "cannot read ");
    run(&["check", ":1", "--baseline", "localhost"], 64, "it has no port");
    let started = ["check", "--command", "x {port}", "--baseline", ":1"];
    run(&started, 64, "a box stands in front of a server that runs");
    let nothing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = nothing.local_addr().expect("an address").port();
    drop(nothing);
    let address = format!("127.0.0.1:{port}");
    run(&["check", &address, "--baseline", &address], 69, &format!("connect to {address}"));
}

/// What is measured of a right server through such a relay, with idle clients for 3 s at most.
fn measured(relay: Relay, idle_max: &str) -> Vec<Measurement> {
    let files = Files::new();
    let file = files.write("lines.toml", &format!("{LINES}\n[[exchange]]\nsend = \"long\\n\"\n"));
    let direct = server::start("right");
    let [direct, through] = [direct, relay.start(direct)].map(|address| address.to_string());
    let both = ["check", &through, "--baseline", &direct, "--exchange", &file, NO_WAIT];
    let flags = ["--json", "--case=framing/1", "--idle-max", idle_max];
    let finished = Home::new().trustctl(both).args(flags).start().wait_for(RUN_DEADLINE);
    let report: CompareReport = document::read(finished.text(), "check-compare");
    report.measurements
}

/// What was measured of that, directly and through the relay.
fn found(measurements: &[Measurement], of: MeasurementName) -> [MeasuredValue; 2] {
    let found = measurements.iter().find(|it| it.of == of);
    let Measurement { direct, through, .. } = found.expect("a measurement").clone();
    [direct, through]
}

fn the_idle_timeout_of_a_relay_is_measured() {
    let measured = measured(Relay { on_idle: OnIdle::Closes, ..Relay::TRUE }, "3");
    let [direct, through] = found(&measured, MeasurementName::IdleTimeout);
    assert!(direct.text.starts_with(KEPT), "{direct:?}");
    assert_eq!(direct.number, None);
    let after = through.number.expect("a time");
    assert!((1.9..3.0).contains(&after), "{through:?}");
    assert!(through.text.starts_with("ended by a FIN after "), "{through:?}");
    // Its kernel's probes are nothing that a relay sees.
    let [_, through] = found(&measured, MeasurementName::IdleTimeoutWithKeepalive);
    assert!(through.text.starts_with("ended by a FIN after "), "{through:?}");
    // The answers wait in the relay's kernel, so it sees nothing of a client that takes them.
    let [direct, through] = found(&measured, MeasurementName::IdleTimeoutWhileReceiving);
    assert!(direct.text.starts_with(KEPT), "{direct:?}");
    let after = through.number.expect("a time");
    assert!((1.9..3.5).contains(&after), "{through:?}");
    assert!(through.text.starts_with("ended by a FIN after "), "{through:?}");
}

fn a_relay_that_forgets_idle_connections_is_found_out() {
    let measured = measured(Relay { on_idle: OnIdle::Forgets, ..Relay::TRUE }, "3");
    let [direct, through] = found(&measured, MeasurementName::IdleTimeout);
    assert!(direct.text.starts_with(KEPT), "{direct:?}");
    // Somewhere between two clients, of which one was answered.
    let after = through.number.expect("a time");
    assert!((1.9..3.5).contains(&after), "{through:?}");
    assert!(through.text.starts_with("forgotten without a word after "), "{through:?}");
    assert!(through.text.ends_with(": what is sent then is lost"), "{through:?}");
}

fn what_a_relay_merges_and_whom_it_turns_away_is_measured() {
    let slow = Relay { holds: Duration::from_millis(100), most: 6, ..Relay::TRUE };
    let measured = measured(slow, "0");
    let [direct, through] = found(&measured, MeasurementName::SmallAnswers);
    let [direct, through] = [direct, through].map(|it| it.number.expect("a number"));
    assert!(through < direct, "{measured:?}");
    let [direct, through] = found(&measured, MeasurementName::LongAnswer);
    let least = 70_000 / PIECE_MAX;
    assert!(through.number.is_some_and(|pieces| pieces >= least as f64), "{through:?}");
    assert!(direct.text.starts_with("70,0"), "{direct:?}");
    let [direct, through] = found(&measured, MeasurementName::Clients);
    let turned_away = "6 clients are served at the same time, then others are turned away";
    assert_eq!((through.text.as_str(), through.number), (turned_away, Some(6.0)));
    assert!(direct.number.is_some_and(|clients| clients > 6.0), "{direct:?}");
    let [direct, through] = found(&measured, MeasurementName::UnreadBytes);
    let [direct, through] = [direct, through].map(|it| it.number.expect("a number"));
    assert!(direct > 0.0 && through > 0.0, "{measured:?}");
    let [direct, through] = found(&measured, MeasurementName::UrgentData);
    assert_eq!(direct.text, through.text);
}

fn a_header_that_a_relay_adds_is_found() {
    let header = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n";
    let measured = measured(Relay { header, ..Relay::TRUE }, "0");
    let [direct, through] = found(&measured, MeasurementName::ProxyHeader);
    assert_eq!(direct.text, "none came back");
    assert_eq!(through.text, "adds a PROXY header of version 1, which came back");
}

fn what_a_relay_does_while_the_server_is_down_is_told() {
    let nothing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let direct = nothing.local_addr().expect("an address");
    let through = Relay::TRUE.start(direct).to_string();
    drop(nothing);
    let both = ["check", &through, "--baseline", &direct.to_string()];
    let finished = Home::new().trustctl(both).run();
    finished.exits_with(69).complains_about(&["without a server the box accepts a client, and "]);
}

fn a_signal_while_idle_clients_are_waited_for_loses_no_case() {
    let files = Files::new();
    let file = files.write("lines.toml", LINES);
    let direct = server::start("right");
    let counting = Relay { count: Some(&RELAYED), ..Relay::CLOSES_BOTH };
    let through = counting.start(direct).to_string();
    let flags = ["--exchange", &file, NO_WAIT, "--json", "--idle-max", "60"];
    let cases = ["--case", "framing/1,half-close/1", "--baseline", &direct.to_string()];
    let words = [&["check", &through][..], &cases, &flags].concat();
    let running = Home::new().trustctl(words).start();
    // The cases take a few connections, and the measurement begins with thirty.
    kernel::wait_until("idle clients", || RELAYED.load(Ordering::SeqCst) >= 30);
    running.signal(Signal::INT);
    let finished = running.wait_for(RUN_DEADLINE).exits_with(130);
    let report: CompareReport = document::read(finished.text(), "check-compare");
    assert_eq!(changed(&report), ["half-close/1"], "{report:?}");
    assert_eq!(report.through.detail.as_deref(), Some("SIGINT"));
}
