//! How a proxy gets to its upstream, and what clients get if it does not.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use trust_testkit::net::with_addresses;
use trust_testkit::peer::Peer;
use trust_testkit::{event, kernel};

use crate::proxy::{Proxy, accept, upstream};

/// An address of this host on which nothing listens.
fn closed() -> SocketAddr {
    upstream().local_addr().expect("an address")
}

/// A server that drops SYNs, as its accept queue is full, and what fills it.
fn silent() -> (SocketAddr, Vec<Socket>) {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    full.listen(0).expect("listen");
    let address = full.local_addr().expect("an address");
    let mut held = vec![full];
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if client.connect_timeout(&address, Duration::from_millis(50)).is_err() {
            return (address.as_socket().expect("of TCP"), held);
        }
        held.push(client);
    }
}

/// Makes room in the accept queue of a silent server; the connection that comes then. Its SYN is
/// sent again after a second.
fn admit(held: Vec<Socket>) -> Peer {
    let mut held = held.into_iter();
    let listener: TcpListener = held.next().expect("the listener").into();
    for _ in 0..held.count() {
        drop(accept(&listener));
    }
    accept(&listener)
}

#[test]
fn a_client_whose_upstream_refuses_is_reset() {
    let address = closed();
    let proxy = Proxy::start(address, &[]);
    let peer = proxy.resets_a_client();
    let failed = proxy.event_about(peer, "upstream_failed");
    let message = failed.text("message");
    assert_eq!(message, format!("cannot connect to {address}: Connection refused"));
    proxy.ends(peer, "connect_failed", ["open", "rst", "open", "none"]);
    proxy.stop();
}

#[test]
fn a_client_whose_upstream_refuses_is_closed_if_asked_for() {
    let proxy = Proxy::start(closed(), &["--connect-failure", "close"]);
    let mut client = proxy.client();
    client.send(b"question");
    client.receives_end();
    client.half_close();
    let close = proxy.ends(client.address(), "connect_failed", ["fin", "fin", "open", "none"]);
    assert_eq!((close.count("bytes_up"), close.count("undelivered_up")), (8, 8));
    client.has_no_error();
    proxy.stop();
}

#[test]
fn an_upstream_that_does_not_answer_is_given_up_in_time_and_keeps_nobody_waiting() {
    let (address, _held) = silent();
    let proxy = Proxy::start(address, &["--connect-timeout", "1s"]);
    let began = Instant::now();
    let mut clients: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    assert!(began.elapsed() < Duration::from_secs(1), "accepting waits for connecting");
    for client in &mut clients {
        client.receives_reset();
        let failed = proxy.event_about(client.address(), "upstream_failed");
        assert!(failed.text("message").ends_with("no answer within 1 s"), "{failed:?}");
    }
    assert!(began.elapsed() >= Duration::from_secs(1));
    proxy.stop();
}

#[test]
fn an_upstream_that_cannot_be_resolved_is_told_of_each_client() {
    // Longer than a label may be, so that no name server is asked.
    let name = format!("{}:7", "x".repeat(64));
    let proxy = Proxy::start(name, &[]);
    for _ in 0..2 {
        let peer = proxy.resets_a_client();
        let failed = proxy.event_about(peer, "upstream_failed");
        assert!(failed.text("message").starts_with("cannot resolve host 'xxx"), "{failed:?}");
    }
    proxy.stop();
}

#[test]
fn all_addresses_of_the_upstream_are_tried() {
    // One of the two refuses, whichever is tried first.
    let addresses = ["127.0.0.2", "127.0.0.3"];
    with_addresses("several.test", &addresses, || {
        for address in addresses {
            let listener = TcpListener::bind((address, 0)).expect("a free port");
            let own = listener.local_addr().expect("an address");
            let proxy = Proxy::start(format!("several.test:{}", own.port()), &[]);
            let mut client = proxy.client();
            let mut server = accept(&listener);
            client.send(b"question");
            server.receives(b"question");
            let connect = proxy.event_about(client.address(), "proxy_connect");
            assert_eq!(connect.text("upstream"), own.to_string());
            let local = server.stream().peer_addr().expect("an address").to_string();
            assert_eq!(connect.text("local"), local);
            drop((client, server));
            proxy.stop();
        }
    });
}

#[test]
fn what_a_client_sends_before_its_upstream_is_there_is_passed_on() {
    let (address, held) = silent();
    let proxy = Proxy::start(address, &["--connect-timeout", "30s"]);
    let mut client = proxy.client();
    client.send(b"early");
    client.half_close();
    client.is_received();
    let mut server = admit(held);
    server.receives_to_end(b"early");
    server.half_close();
    client.receives_end();
    proxy.stop();
}

#[test]
fn what_a_client_sends_before_its_upstream_is_there_is_passed_on_even_if_it_resets() {
    let (address, held) = silent();
    let proxy = Proxy::start(address, &["--connect-timeout", "30s"]);
    let mut client = proxy.client();
    let peer = client.address();
    client.send(b"early");
    client.is_received();
    client.reset();
    let mut server = admit(held);
    server.receives(b"early");
    server.receives_reset();
    proxy.ends(peer, "client_failed", ["rst", "none", "open", "rst"]);
    proxy.stop();
}

#[test]
fn a_client_that_leaves_before_its_upstream_is_there_is_not_waited_for() {
    let (address, _held) = silent();
    let proxy = Proxy::start(address, &["--connect-timeout", "30s"]);
    let client = proxy.client();
    let peer = client.address();
    client.reset();
    proxy.ends(peer, "client_failed", ["rst", "none", "open", "none"]);
    let events = proxy.stop();
    assert_eq!(event::named(&events, "upstream_failed").len(), 0);
}

#[test]
fn a_client_that_resets_before_the_proxy_knows_its_upstream_has_that_reset() {
    let listener = upstream();
    let proxy = Proxy::start(listener.local_addr().expect("an address"), &[]);
    // So that it sees both at once: that the client is gone, and that the upstream has accepted.
    proxy.signal(Signal::STOP);
    kernel::wait_until("its stop", || kernel::all_threads_are(proxy.pid(), 'T'));
    let client = proxy.client();
    let peer = client.address();
    client.reset();
    proxy.signal(Signal::CONT);
    accept(&listener).receives_reset();
    proxy.ends(peer, "client_failed", ["rst", "none", "open", "none"]);
    proxy.stop();
}

#[test]
fn a_rule_has_a_client_wait_for_its_upstream_and_no_one_else() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let rule = "conn 1: connect-delay 1s";
    let proxy = Proxy::start(address, &["--fault", rule]);
    let began = Instant::now();
    let mut first = proxy.client();
    first.send(b"early");
    first.half_close();
    let mut second = proxy.client();
    second.send(b"second");
    let mut of_second = accept(&listener);
    of_second.receives(b"second");
    let mut of_first = accept(&listener);
    assert!(began.elapsed() >= Duration::from_secs(1));
    of_first.receives_to_end(b"early");
    of_first.half_close();
    first.receives_end();
    let fault = proxy.event_about(first.address(), "fault");
    assert_eq!((fault.text("rule"), fault.has("direction")), (rule, false));
    proxy.ends(first.address(), "fin", ["fin", "fin", "fin", "fin"]);
    drop(second);
    of_second.receives_end();
    drop(of_second);
    proxy.stop();
}

#[test]
fn rules_for_clients_that_connect_happen_one_after_the_other() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let delay = "connect-delay 100ms";
    let rules = [delay, delay, "accept-rst @ connect", "conn 1: connect-delay 60s"];
    let flags: Vec<&str> = rules.iter().flat_map(|rule| ["--fault", rule]).collect();
    let proxy = Proxy::start(address, &flags);
    let began = Instant::now();
    let peer = proxy.resets_a_client();
    assert!(began.elapsed() >= Duration::from_millis(200));
    proxy.ends(peer, "fault", ["open", "rst", "open", "none"]);
    let events = proxy.stop();
    let fired = event::named(&events, "fault");
    let fired: Vec<&str> = fired.iter().map(|fault| fault.text("rule")).collect();
    assert_eq!(fired, rules[..3]);
    assert_eq!(event::only(&events, "fault_unfired").text("rule"), rules[3]);
}

#[test]
fn a_client_that_leaves_while_a_rule_has_it_wait_is_not_connected() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(address, &["--fault", "connect-delay 60s"]);
    let client = proxy.client();
    let peer = client.address();
    proxy.event_about(peer, "fault");
    client.reset();
    proxy.ends(peer, "client_failed", ["rst", "none", "open", "none"]);
    proxy.stop();
    listener.set_nonblocking(true).expect("set O_NONBLOCK");
    assert!(listener.accept().is_err(), "the upstream was connected to");
}

#[test]
fn the_time_to_connect_begins_when_a_delay_ends() {
    let (address, _held) = silent();
    let flags = ["--fault", "connect-delay 500ms", "--connect-timeout", "500ms"];
    let proxy = Proxy::start(address, &flags);
    let began = Instant::now();
    let peer = proxy.resets_a_client();
    assert!(began.elapsed() >= Duration::from_secs(1));
    proxy.event_about(peer, "upstream_failed");
    proxy.ends(peer, "connect_failed", ["open", "rst", "open", "none"]);
    proxy.stop();
}

#[test]
fn a_client_that_a_rule_has_wait_is_still_served_in_a_drain() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(address, &["--fault", "connect-delay 500ms"]);
    let mut client = proxy.client();
    client.send(b"question");
    proxy.event_about(client.address(), "fault");
    proxy.signal(Signal::TERM);
    proxy.event("drain_start", |event| event.count("active") == 1);
    let mut server = accept(&listener);
    server.receives(b"question");
    client.half_close();
    server.receives_end();
    server.half_close();
    client.receives_end();
    proxy.has_stopped(0);
}
