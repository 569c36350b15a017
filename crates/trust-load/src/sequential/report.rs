//! The lines that the sequential load prints.

use std::fmt::Write as _;

use trust_cli::echo::round_trips::RoundTrips;
use trust_cli::exit_code::Failure;
use trust_cli::send_proxy;
use trust_cli::signals::Stopped;
use trust_cli::text::count;
use trust_cli::zone;
use trust_net::Address;
use trust_net::preface::ProxyPreface;

use crate::report::syn_repeated;
use crate::sequential::client::Outcome;

/// Digits that a client's number has room for at least.
const NUMBER_WIDTH_MIN: usize = 2;

/// What was wanted, and the sums over all clients so far.
#[derive(Debug)]
pub struct Report {
    /// The address that all clients connect to.
    address: Address,
    /// What their connections begin with, if with a PROXY header.
    preface: Option<ProxyPreface>,
    messages: u64,
    width: usize,
    clients: u64,
    ok: u64,
    fail: u64,
    slow: u64,
    connections: u64,
    syn_repeated: u64,
    round_trips: RoundTrips,
}

impl Report {
    /// A report on so many clients with so many messages each.
    pub fn new(
        address: Address,
        preface: Option<ProxyPreface>,
        clients: u64,
        messages: u64,
    ) -> Report {
        Report {
            address,
            preface,
            messages,
            width: clients.to_string().len().max(NUMBER_WIDTH_MIN),
            clients: 0,
            ok: 0,
            fail: 0,
            slow: 0,
            connections: 0,
            syn_repeated: 0,
            round_trips: RoundTrips::default(),
        }
    }

    /// Adds the next client; its line.
    pub fn add(&mut self, outcome: &Outcome) -> String {
        let Outcome { ok, round_trips, slow, connected, syn_repeated, stop } = outcome;
        let messages = self.messages;
        self.clients += 1;
        self.ok += ok;
        self.slow += slow;
        self.connections += u64::from(*connected);
        self.syn_repeated += u64::from(*syn_repeated);
        self.round_trips.merge(round_trips);
        let mut line =
            format!("client {:>width$}: {ok}/{messages} ok", self.clients, width = self.width);
        let _ = match stop {
            Some(Stopped::Failed(Failure { message, .. })) => {
                let fail = messages - ok;
                self.fail += fail;
                writeln!(line, ", {fail} fail: message {}: {message}", ok + 1)
            }
            Some(Stopped::Signal(_)) if *ok < messages => writeln!(line, ", interrupted"),
            _ => writeln!(line, "  rtt {round_trips}"),
        };
        line
    }

    /// Whether anything failed.
    pub fn has_failures(&self) -> bool {
        self.fail > 0
    }

    /// The sums of all clients that were added.
    pub fn totals(&self) -> String {
        let Report { clients, ok, fail, slow, .. } = self;
        let messages = ok + fail;
        let round_trips = match self.round_trips.count() {
            0 => "no echo".to_owned(),
            _ => self.round_trips.to_string(),
        };
        let mut totals = format!(
            "total: {clients} clients, {messages} messages, {ok} ok, {fail} fail\n\
             rtt overall: {round_trips}\n\
             address: {}\n",
            zone::shown_address(&self.address)
        );
        if let Some(preface) = &self.preface {
            let described = send_proxy::described(preface, self.address.ip().is_none());
            let _ = writeln!(totals, "PROXY header: {described}");
            if self.connections > 0 && self.fail > 0 && self.round_trips.count() == 0 {
                let _ = writeln!(totals, "hint: {}", send_proxy::hint(preface));
            }
        }
        if *slow > 0 {
            let slow = count(*slow, "answer");
            let _ = writeln!(totals, "{slow} took longer than --timeout, which limits silence");
        }
        if let Some(said) = syn_repeated(self.syn_repeated, self.connections) {
            let _ = writeln!(totals, "{said}");
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use trust_cli::exit_code::ExitCode;
    use trust_cli::signals::Signal;

    use super::*;

    const ADDRESS: Address = Address::Ip(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7));

    fn outcome(ok: u64, problem: Option<&str>) -> Outcome {
        let stop = problem.map(|problem| Failure::new(ExitCode::Protocol, problem).into());
        let mut outcome = Outcome { ok, stop, ..Outcome::default() };
        for index in 0..ok {
            outcome.round_trips.add(Duration::from_micros(100 + 10 * index));
        }
        outcome
    }

    #[test]
    fn a_line_a_client_and_the_totals() {
        let mut report = Report::new(ADDRESS, None, 2, 3);
        assert_eq!(
            report.add(&outcome(3, None)),
            "client  1: 3/3 ok  rtt min=0.10ms max=0.12ms avg=0.11ms\n"
        );
        assert!(!report.has_failures());
        assert_eq!(
            report.add(&outcome(1, Some("server closed the connection"))),
            "client  2: 1/3 ok, 2 fail: message 2: server closed the connection\n"
        );
        assert!(report.has_failures());
        assert_eq!(
            report.totals(),
            "total: 2 clients, 6 messages, 4 ok, 2 fail\n\
             rtt overall: min=0.10ms max=0.12ms avg=0.11ms\n\
             address: 127.0.0.1:7\n"
        );
    }

    #[test]
    fn answers_that_took_longer_than_the_timeout_are_counted() {
        let mut report = Report::new(ADDRESS, None, 2, 3);
        report.add(&Outcome { slow: 1, ..outcome(3, None) });
        report.add(&Outcome { slow: 1, ..outcome(3, None) });
        let expected = "2 answers took longer than --timeout, which limits silence\n";
        assert!(report.totals().ends_with(expected), "{}", report.totals());
    }

    #[test]
    fn connections_whose_syn_was_sent_again_are_counted() {
        let mut report = Report::new(ADDRESS, None, 3, 3);
        report.add(&Outcome { connected: true, syn_repeated: true, ..outcome(3, None) });
        report.add(&Outcome { connected: true, ..outcome(3, None) });
        report.add(&outcome(0, Some("refused")));
        let totals = report.totals();
        let expected = "\n1 of 2 connections took 1 s or more to make, because a SYN was dropped";
        assert!(totals.contains(expected), "{totals}");
    }

    #[test]
    fn numbers_are_aligned_to_the_last_client() {
        assert!(Report::new(ADDRESS, None, 1, 1).add(&outcome(1, None)).starts_with("client  1: "));
        assert!(
            Report::new(ADDRESS, None, 100, 1).add(&outcome(1, None)).starts_with("client   1: ")
        );
    }

    #[test]
    fn what_was_not_tried_before_a_signal_is_not_counted() {
        let mut report = Report::new(ADDRESS, None, 5, 10);
        let stop = Some(Stopped::Signal(Signal::Interrupt));
        let interrupted = Outcome { stop, ..outcome(4, None) };
        assert_eq!(report.add(&interrupted), "client  1: 4/10 ok, interrupted\n");
        assert!(report.totals().starts_with("total: 1 clients, 4 messages, 4 ok, 0 fail\n"));
    }

    #[test]
    fn without_any_echo_there_are_no_times() {
        let mut report = Report::new(ADDRESS, None, 1, 2);
        report.add(&outcome(0, Some("refused")));
        assert!(report.totals().contains("rtt overall: no echo\n"));
    }
}
