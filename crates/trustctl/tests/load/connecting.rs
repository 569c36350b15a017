//! Connections that take long to establish.

use std::fs;

use super::command::RUN_DEADLINE;
use super::document::{Document, time};
use trust_testkit::kernel;
use trust_testkit::net::Network;
use trust_testkit::program::Home;
use trust_testkit::server::Server;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![connections_whose_syn_was_dropped_are_named];

/// Clients that may wait to be accepted; the kernel allows one more.
const BACKLOG: u64 = 16;

const CLIENTS: u64 = 60;

fn connections_whose_syn_was_dropped_are_named() {
    let network = Network::create();
    network.set("core/somaxconn", &BACKLOG.to_string());
    network.inside(|| {
        let server = Server::start(["--host", "127.0.0.1"]);
        assert_eq!(server.start_event().count("backlog"), BACKLOG);
        server.pause();
        let (home, port) = (Home::new(), server.port().to_string());
        let target = ["load", "--host", "127.0.0.1", "--port", &port];
        let clients = CLIENTS.to_string();
        let load = ["--clients", &clients, "--concurrency", &clients, "--messages", "1"];
        let page = home.elsewhere("page.html");
        let reports = ["--json", "--html", &page.display().to_string()];
        let load = home.trustctl(target).args(load).args(reports).start();
        let dropped = CLIENTS - BACKLOG - 1;
        kernel::wait_until("SYNs that are dropped", || overflows() >= dropped);
        server.resume();
        let seen = Document::read(&load.wait_for(RUN_DEADLINE).exits_with(0));
        seen.is_all_right(CLIENTS);
        let connections = &seen.connections;
        assert_eq!((connections.made, connections.syn_repeated), (CLIENTS, dropped), "{seen:?}");
        assert!(time(connections.connect_time.p50_ns).as_millis() >= 1000, "{seen:?}");
        let page = fs::read_to_string(&page).expect("the page");
        let told = format!("{dropped} of {CLIENTS} connections took 1 s or more to make");
        assert!(page.contains(&told), "{page}");
        server.stop();
    });
}

/// SYNs that found an accept queue full, in the network namespace of this thread (netstat(8)).
fn overflows() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").expect("the counters");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(name, _)| *name == "ListenOverflows").expect("the counter");
    value.parse().expect("a number")
}
