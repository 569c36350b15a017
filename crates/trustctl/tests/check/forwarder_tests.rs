//! A server behind a forwarder that dies of the first RST, like programs that take an error on one
//! connection for the end of everything.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::json;
use trust_check::report::json::{CaseReport, CheckReport, VerdictName, WireEvent};
use trust_testkit::net::Network;
use trust_testkit::program::Home;
use trust_testkit::server::Server;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_forwarder_that_ends_with_a_reset_costs_no_other_case_its_name,
    a_forwarder_that_comes_back_has_the_others_tried_again,
    a_forwarder_that_is_back_after_a_moment_is_found_to_have_ended,
];

const CASES: &str = "framing/1,framing/11,closing/*,recovery/1,recovery/2,recovery/3";

/// A forwarder in one of its lives.
struct Forwarder {
    listener: TcpListener,
    streams: Mutex<Vec<TcpStream>>,
}

impl Forwarder {
    /// Accepts until an RST ends it.
    fn serve(self: &Arc<Forwarder>, to: SocketAddr) {
        while let Ok((client, _)) = self.listener.accept() {
            let Ok(server) = TcpStream::connect(to) else { return };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let [from, to, kept] = [from, to, from].map(|it| it.try_clone().expect("a copy"));
                self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
                let forwarder = Arc::clone(self);
                thread::spawn(move || forwarder.pass_on(from, to));
            }
        }
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 65_536];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return drop(to.shutdown(Shutdown::Write)),
                Ok(count) if to.write_all(&buffer[..count]).is_ok() => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return self.end(),
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// The listener first, as a process closes its descriptors from the lowest.
    fn end(&self) {
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Tries these cases on a server behind a forwarder with this many lives and a pause between them,
/// on a private network.
fn check(cases: &str, lives: usize, pause: Duration) -> CheckReport {
    Network::create().inside(|| {
        let server = Server::start(["--timeout", "30"]);
        let to = server.address();
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port");
        let listener = bind(0);
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let first = std::iter::once(listener);
            for listener in first.chain((1..lives).map(|_| bind(address.port()))) {
                Arc::new(Forwarder { listener, streams: Mutex::default() }).serve(to);
                thread::sleep(pause);
            }
        });
        let flags = ["--json", "--patience", "2", "--case", cases];
        let check = ["check".to_owned(), address.to_string()];
        json::read(Home::new().trustctl(check).args(flags).run().text())
    })
}

fn has_sent_reset(case: &CaseReport) -> bool {
    case.transcript.iter().any(|entry| entry.what == WireEvent::SentRst)
}

fn a_forwarder_that_ends_with_a_reset_costs_no_other_case_its_name() {
    let report = check(CASES, 1, Duration::ZERO);
    assert_eq!(report.exit, 1, "{report:?}");
    let of = |verdict| report.cases.iter().filter(move |case| case.verdict == verdict);
    for case in of(VerdictName::Fail) {
        assert!(has_sent_reset(case), "{case:?}");
        let got = case.got.as_deref().unwrap_or_default();
        assert!(got.contains("the server accepts no connections since "), "{got}");
        assert!(got.contains("had sent a RST: a forwarder in front of the server"), "{got}");
        assert!(got.contains(&case.about.id), "{got}");
    }
    assert!(of(VerdictName::Fail).count() > 0, "{report:?}");
    let is_later = |case: &&CaseReport| case.about.id.starts_with("recovery/");
    let skipped: Vec<_> = of(VerdictName::Skipped).filter(is_later).collect();
    assert_eq!(skipped.len(), 3, "{report:?}");
    for case in skipped {
        let why = case.said.as_deref().unwrap_or_default();
        assert!(why.contains("a forwarder in front of the server"), "{why}");
    }
}

fn a_forwarder_that_comes_back_has_the_others_tried_again() {
    let report = check(CASES, 100, Duration::ZERO);
    for case in &report.cases {
        let is_tried = case.verdict != VerdictName::Skipped
            || !case.said.as_deref().unwrap_or_default().contains("accepts no connections");
        assert!(is_tried, "{case:?}");
        assert!(case.verdict != VerdictName::Fail || may_fail(case), "{case:?}");
    }
}

/// Whether the case may have ended the forwarder, or lost its answers with it and did not alone.
fn may_fail(case: &CaseReport) -> bool {
    has_sent_reset(case) || (case.tries, case.failed_tries) == (2, 1)
}

fn a_forwarder_that_is_back_after_a_moment_is_found_to_have_ended() {
    // One that sees the RST late serves the next client before it ends.
    const LOOKS: usize = 5;
    let is_found = |_| {
        let report = check("framing/1,closing/5", 100, Duration::from_millis(100));
        let failed = report.cases.iter().filter(|case| case.verdict == VerdictName::Fail);
        let failed: Vec<&str> = failed.map(|case| case.about.id.as_str()).collect();
        assert!(matches!(failed[..], [] | ["closing/5"]), "{report:?}");
        !failed.is_empty()
    };
    assert!((0..LOOKS).any(is_found), "it was never found");
}
