//! The command line of a proxy, and what is refused before it listens.

use std::net::TcpListener;

use trust_testkit::event;
use trust_testkit::files::Files;
use trust_testkit::peer::Peer;
use trust_testkit::program::Home;

use crate::proxy::{Proxy, accept, refused, upstream};

#[test]
fn a_port_alone_is_one_of_this_host_in_both_families() {
    let listener = upstream();
    let proxy = Proxy::start(listener.local_addr().expect("an address"), &[]);
    let port = proxy.port();
    let listening = proxy.event("proxy_listen", |_| true);
    let expected = [format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    assert_eq!(listening.texts("addresses"), expected);
    for address in expected {
        let mut client = Peer::connect(address.parse().expect("an address"));
        client.send(b"question");
        accept(&listener).receives(b"question");
    }
    assert_eq!(proxy.start_event().count("pairs"), 1);
}

#[test]
fn several_pairs_come_from_a_file() {
    let (one, two) = (upstream(), upstream());
    let of = |listener: &TcpListener| listener.local_addr().expect("an address").to_string();
    let files = Files::new();
    let text = format!("# first\n0 {}\n\n127.0.0.1:0 {} # second\n", of(&one), of(&two));
    let path = files.write("pairs", &text);
    let proxy = Proxy::of(&["--pairs", &path]);
    assert_eq!(proxy.start_event().count("pairs"), 2);
    for listener in [&one, &two] {
        let upstream = of(listener);
        let listening = proxy.event("proxy_listen", |event| event.text("upstream") == upstream);
        let address = listening.texts("addresses")[0].parse().expect("an address");
        let mut client = Peer::connect(address);
        client.send(upstream.as_bytes());
        accept(listener).receives(upstream.as_bytes());
    }
}

#[test]
fn flags_the_environment_and_the_file_name_the_pair_too() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address").to_string();
    let serves = |proxy: &Proxy| {
        let mut client = proxy.client();
        client.send(b"question");
        accept(&listener).receives(b"question");
    };
    serves(&Proxy::of(&["--listen", "0", "--upstream", &address]));
    serves(&Proxy::of(&["--listen", "0", &address]));
    let home = Home::new();
    home.configure(&format!("[proxy]\nlisten = \"0\"\nupstream = \"{address}\"\n"));
    let running = home.trustctl(["proxy"]).start();
    running.wait_for_event("proxy_start", |_| true, trust_testkit::STEP_DEADLINE);
    running.signal(rustix::process::Signal::TERM);
    running.wait().exits_with(0);
}

#[test]
fn wrong_words_are_named_in_one_line() {
    refused(&[], 64).complains_about(&["missing LISTEN and UPSTREAM"]);
    refused(&["7000"], 64).complains_about(&["missing UPSTREAM: expected HOST:PORT"]);
    refused(&["70000", "7"], 64).complains_about(&["invalid LISTEN '70000'", "0 to 65535"]);
    refused(&["localhost", "7"], 64).complains_about(&["invalid LISTEN 'localhost'", "*:PORT"]);
    refused(&["0", "localhost"], 64).complains_about(&["invalid UPSTREAM 'localhost'"]);
    refused(&["0", "localhost:0"], 64).complains_about(&["invalid UPSTREAM 'localhost:0'"]);
    refused(&["/run/x", "7"], 64).complains_about(&["expected unix:/run/x for a unix socket"]);
    refused(&["0", "7", "8"], 64).complains_about(&["8"]);
}

#[test]
fn a_wrong_file_of_pairs_is_named_with_its_line() {
    let files = Files::new();
    let path = files.write("pairs", "0 localhost:7\n0 localhost\n");
    refused(&["--pairs", &path], 65).complains_about(&["pairs', line 2: invalid UPSTREAM"]);
    let path = files.write("empty", "# nothing\n");
    refused(&["--pairs", &path], 65).complains_about(&["no pair in it"]);
    refused(&["--pairs", "/nowhere/at-all"], 74)
        .complains_about(&["cannot read '/nowhere/at-all'"]);
}

#[test]
fn a_port_that_is_taken_is_told_with_who_has_it() {
    let taken = upstream().local_addr().expect("an address");
    let _holder = TcpListener::bind(taken).expect("the same port");
    let port = taken.port().to_string();
    let finished = refused(&[&port, "localhost:7"], 69);
    finished.complains_about(&["cannot listen on port", "Address already in use: process"]);
}

#[test]
fn an_upstream_is_checked_if_that_is_asked_for() {
    let name = format!("{}:7", "x".repeat(64));
    refused(&["0", &name, "--check-upstream"], 68).complains_about(&["cannot resolve host"]);
    let closed = upstream().local_addr().expect("an address").to_string();
    refused(&["0", &closed, "--check-upstream"], 69).complains_about(&["Connection refused"]);
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(address, &["--check-upstream"]);
    accept(&listener).receives_end();
    let events = proxy.stop();
    assert_eq!(event::only(&events, "proxy_stop").count("connections"), 0);
}
