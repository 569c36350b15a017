//! Servers beyond a middlebox that ends a connection when one side has finished sending.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::json;
use trust_check::report::json::{CheckReport, VerdictName};
use trust_testkit::net::{Hosts, Network};
use trust_testkit::program::Home;
use trust_testkit::server::{NO_FLAGS, Server};
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_box_that_does_not_keep_half_close_is_thought_of,
    a_box_on_this_host_is_the_server_s,
    a_server_on_another_host_is_not_loaded_unasked,
];

/// How long the middlebox holds back the server's bytes: longer than an immediate FIN takes.
const DELAY: Duration = Duration::from_millis(100);

/// A server and a middlebox in front of it, on a private network; returns the middlebox's address.
fn boxed(network: &Network) -> (Server, SocketAddr) {
    let (server, listener) = network.inside(|| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        (Server::start(NO_FLAGS), listener)
    });
    let (to, port) = (server.address(), listener.local_addr().expect("an address").port());
    network.inside(|| {
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a client");
                thread::spawn(move || relay(&client, to));
            }
        })
    });
    (server, SocketAddr::from((Hosts::SERVER, port)))
}

fn relay(client: &TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    thread::scope(|scope| {
        scope.spawn(|| pass_on(client, &server, Duration::ZERO));
        pass_on(&server, client, DELAY)
    })
}

/// Forwards what one side sends until its FIN, which ends both sides.
fn pass_on(mut from: &TcpStream, mut to: &TcpStream, delay: Duration) -> io::Result<()> {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        thread::sleep(delay);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    from.shutdown(Shutdown::Both)?;
    to.shutdown(Shutdown::Both)
}

/// Checks half-close across the middlebox, from that network.
fn check(network: &Network, address: SocketAddr) -> CheckReport {
    let flags = ["--json", "--case", "framing/1,half-close/1,half-close/4,half-close/5"];
    let check = ["check".to_owned(), address.to_string()];
    let report = network.inside(|| Home::new().trustctl(check).args(flags).run().exits_with(1));
    let report = json::read(report.text());
    let verdicts = report.cases.iter().map(|case| case.verdict).collect::<Vec<_>>();
    let expected = [VerdictName::Pass, VerdictName::Fail, VerdictName::Fail, VerdictName::Fail];
    assert_eq!(verdicts, expected, "{report:?}");
    report
}

fn a_server_on_another_host_is_not_loaded_unasked() {
    let hosts = Hosts::create();
    let server = hosts.server.inside(|| Server::start(NO_FLAGS));
    let address = SocketAddr::from((Hosts::SERVER, server.address().port())).to_string();
    let check = |flags: &[&str]| {
        let cases = ["--json", "--case", "framing/1,limits/5", "--send-hex", "00000001 61"];
        let all = [&["check", &address][..], &cases, flags].concat();
        hosts.client.inside(|| Home::new().trustctl(all).run().exits_with(0))
    };
    let finished = check(&[]);
    let announced =
        format!("{address} gets up to 15 connections, 0 resets, and 2 requests in pieces");
    let report = json::read(finished.text());
    finished.complains_about(&[&announced]);
    let verdicts = |report: &CheckReport| -> Vec<VerdictName> {
        report.cases.iter().map(|case| case.verdict).collect()
    };
    assert_eq!(verdicts(&report), [VerdictName::Pass, VerdictName::Skipped]);
    let why = "the server is on another host: needs --heavy";
    assert_eq!(report.cases[1].said.as_deref(), Some(why));
    let finished = check(&["--heavy"]);
    assert_eq!(verdicts(&json::read(finished.text())), [VerdictName::Pass, VerdictName::Pass]);
    finished.complains_about(&["gets up to 315 connections"]);
    let proposing = ["check", &address, "--send-hex", "00000001 61", "--propose", "/dev/null"];
    let finished = hosts.client.inside(|| Home::new().trustctl(proposing).run().exits_with(0));
    let announced = format!("{address} gets up to 52 connections, all with whole requests");
    finished.complains_about(&[&announced]);
}

fn a_box_that_does_not_keep_half_close_is_thought_of() {
    let hosts = Hosts::create();
    let (server, address) = boxed(&hosts.server);
    let report = check(&hosts.client, address);
    let got = report.cases[1].got.as_deref().unwrap_or_default();
    assert!(got.ends_with("then the server, or a box between, closed the connection"), "{got}");
    let [cause] = &report.causes[..] else { panic!("one cause: {:?}", report.causes) };
    assert!(cause.text.starts_with("the server, or a box between, does not keep half-close"));
    assert_eq!(cause.cases, ["half-close/1", "half-close/4", "half-close/5"]);

    let client = ["echo-client", "--raw", &address.to_string()].map(str::to_owned);
    let finished = hosts.client.inside(|| Home::new().trustctl(client).run_with_input(b"hello"));
    let words = ["or a box between", "after the end of the input", "got 0 of 5 bytes"];
    finished.exits_with(76).complains_about(&words).complains_in_one_line();
    hosts.server.inside(|| server.stop());
}

fn a_box_on_this_host_is_the_server_s() {
    let hosts = Hosts::create();
    let (server, address) = boxed(&hosts.server);
    let report = check(&hosts.server, address);
    let got = report.cases[1].got.as_deref().unwrap_or_default();
    assert!(got.ends_with("then the server closed the connection"), "{got}");
    assert!(report.causes.is_empty(), "{:?}", report.causes);
    hosts.server.inside(|| server.stop());
}
