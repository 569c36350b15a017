//! Servers with different kinds of addresses, and names with several.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use super::command::document;
use super::document::Document;
use super::server::{Client, Server};
use trust_testkit::net::with_addresses;
use trust_testkit::program::Home;
use trust_testkit::runner::skip;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_server_is_loaded_over_ipv6,
    a_name_whose_first_address_refuses_is_reached,
    every_report_has_the_address_that_was_used,
    connections_are_spread_over_all_addresses_in_turn,
];

fn a_server_is_loaded_over_ipv6() {
    let address: SocketAddr = (Ipv6Addr::LOCALHOST, 0).into();
    if std::net::TcpListener::bind(address).is_err() {
        skip("IPv6");
    }
    let server = Server::on(address, Client::echo);
    let seen = document(&server, "--concurrency 3 --messages 5", 0);
    seen.is_all_right(15);
    assert_eq!(seen.target, format!("[::1]:{}", server.address().port()));
}

fn a_name_whose_first_address_refuses_is_reached() {
    let home = Home::new();
    with_addresses("several.test", &["127.0.0.2", "127.0.0.3"], || {
        let addresses = ("several.test", 0).to_socket_addrs().expect("two addresses");
        let addresses: Vec<SocketAddr> = addresses.collect();
        let second = Ipv4Addr::new(127, 0, 0, 3);
        let [_, last] = addresses[..] else { panic!("not two: {addresses:?}") };
        assert!(addresses.contains(&(second, 0).into()), "{addresses:?}");
        let server = Server::on(last, Client::echo);
        let port = server.address().port().to_string();
        let flags = ["load", "--host", "several.test", "--port", &port, "--concurrency", "4"];
        let finished = home.trustctl(flags).args(["--json"]).run().exits_with(0);
        let seen = Document::read(&finished);
        seen.is_all_right(40);
        assert_eq!(seen.target, format!("several.test:{port}"));
        assert_eq!(server.seen().len(), 4);
        assert_eq!(seen.addresses, [server.address().to_string()]);
        finished.complains_about_nothing();
    });
}

fn every_report_has_the_address_that_was_used() {
    let (home, server) = (Home::new(), Server::echo());
    let address = server.address().to_string();
    let target = format!("localhost:{}", server.address().port());
    let [log, page] = ["a.hlog", "a.html"].map(|name| home.elsewhere(name));
    let load = || home.trustctl(["load", "-4", &target, "--messages=3"]);
    let sequential = load().run().exits_with(0);
    let line = format!("address: {address}");
    assert!(sequential.text().lines().any(|it| it == line), "{}", sequential.text());
    let launch = load().args(["--concurrency=2", "--hdr-log"]).args([&log]);
    let text = launch.args(["--html"]).args([&page]).run().exits_with(0);
    let is_row = |it: &str| it.split_whitespace().eq(["address", &address]);
    assert!(text.text().lines().any(is_row), "{}", text.text());
    let read = |path| std::fs::read_to_string(path).expect("a report");
    let key = format!("\"addresses\":[\"{address}\"]");
    assert!(read(&log).contains(&key), "{}", read(&log));
    assert!(
        read(&page).contains(&format!("<dt>address</dt><dd>{address}</dd>")),
        "{}",
        read(&page)
    );
    let csv = load().args(["--csv"]).run().exits_with(0);
    assert!(csv.text().lines().nth(1).expect("a row").ends_with(&format!(",{address}")));
    let merged = home.trustctl(["load", "merge", "--json"]).args([&log]).run().exits_with(0);
    let compact: String = merged.text().split_whitespace().collect();
    assert!(compact.contains(&key), "{compact}");
}

fn connections_are_spread_over_all_addresses_in_turn() {
    with_addresses("several.test", &["127.0.0.2", "127.0.0.3"], || {
        let first = Server::on((Ipv4Addr::new(127, 0, 0, 2), 0).into(), Client::echo);
        let port = first.address().port();
        let last = Server::on((Ipv4Addr::new(127, 0, 0, 3), port).into(), Client::echo);
        let home = Home::new();
        let target = format!("several.test:{port}");
        let load = || home.trustctl(["load", &target, "--concurrency=6", "--json"]);
        let spread = load().args(["--spread-addresses"]).run().exits_with(0);
        let spread = Document::read(&spread);
        spread.is_all_right(60);
        let mut addresses = spread.addresses.clone();
        addresses.sort_unstable();
        assert_eq!(addresses, [first.address().to_string(), last.address().to_string()]);
        assert!(spread.again.contains("--spread-addresses"), "{}", spread.again);
        assert_eq!([first.seen().len(), last.seen().len()], [3, 3]);
        let one = Document::read(&load().run().exits_with(0));
        assert_eq!(one.addresses.len(), 1);
        let all = [first.seen().len(), last.seen().len()];
        assert!(all == [9, 3] || all == [3, 9], "{all:?}");
    });
}
