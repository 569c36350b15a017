//! Times at which clients are refused or left waiting.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event;
use trust_testkit::peer::Peer;
use trust_testkit::program::Home;

use crate::proxy::{Proxy, accept, refused, upstream};

/// Connects once; why that failed.
fn connect(proxy: &Proxy, timeout: Duration) -> Result<Peer, ErrorKind> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    match socket.connect_timeout(&proxy.address().into(), timeout) {
        Ok(()) => Ok(Peer::over(socket.into())),
        Err(error) => Err(error.kind()),
    }
}

#[test]
fn clients_are_refused_for_a_time_and_the_port_is_kept() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(address, &["--fault", "refuse for 1s"]);
    proxy.event("fault", |event| event.text("rule") == "refuse for 1s");
    let began = Instant::now();
    assert_eq!(connect(&proxy, STEP_DEADLINE).err(), Some(ErrorKind::ConnectionRefused));
    let mut client = loop {
        match connect(&proxy, STEP_DEADLINE) {
            Ok(client) => break client,
            Err(kind) => assert_eq!(kind, ErrorKind::ConnectionRefused),
        }
        assert!(began.elapsed() < STEP_DEADLINE, "still refused");
    };
    client.send(b"question");
    let mut server = accept(&listener);
    server.receives(b"question");
    drop(client);
    server.receives_end();
    drop(server);
    proxy.stop();
}

#[test]
fn who_is_ignored_gets_in_when_it_tries_again() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(address, &["--fault", "ignore for 500ms"]);
    proxy.event("fault", |event| event.text("rule") == "ignore for 500ms");
    let began = Instant::now();
    let mut client = connect(&proxy, STEP_DEADLINE).expect("it is accepted later");
    // The kernel sends the first SYN again after a second.
    assert!(began.elapsed() >= Duration::from_millis(800));
    client.send(b"question");
    let mut server = accept(&listener);
    server.receives(b"question");
    drop(client);
    server.receives_end();
    drop(server);
    let events = proxy.stop();
    assert_eq!(event::only(&events, "proxy_stop").count("connections"), 1);
}

#[test]
fn a_proxy_that_refuses_still_serves_and_stops() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(address, &["--fault", "refuse @ time 300ms"]);
    let mut client = proxy.client();
    let mut server = accept(&listener);
    proxy.event("fault", |event| event.text("rule") == "refuse @ time 300ms");
    client.send(b"question");
    server.receives(b"question");
    client.half_close();
    server.receives_end();
    server.half_close();
    client.receives_end();
    proxy.stop();
}

#[test]
fn states_of_the_listener_are_for_no_connection_and_no_unix_socket() {
    let rule = ["proxy", "0", "localhost:7", "--fault", "conn 2: refuse for 2s"];
    let refusal = Home::new().trustctl(rule).run().exits_with(64);
    refusal.complains_about(&["accept-rst can be used instead"]);
    let rule = ["unix:@trustctl-refuse", "localhost:7", "--fault", "refuse for 2s"];
    refused(&rule, 64).complains_about(&["a unix socket neither refuses nor ignores"]);
}
