//! What a proxy passes on: bytes, and how each side ends.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use trust_testkit::kernel;
use trust_testkit::peer::{Peer, pattern};

use crate::proxy::{Proxy, Through, accept, upstream};

/// More than both kernels and the proxy hold.
const LOTS: usize = 20_000_000;

#[test]
fn bytes_go_both_ways_at_once() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    let (up, down) = (pattern(LOTS), pattern(LOTS / 2));
    thread::scope(|scope| {
        let (up, down) = (&up, &down);
        let (mut client_sends, mut server_sends) = (client.twin(), server.twin());
        scope.spawn(move || client_sends.send(up));
        scope.spawn(move || server_sends.send(down));
        scope.spawn(|| server.receives(up));
        client.receives(down);
    });
    let peer = client.address();
    client.half_close();
    server.receives_end();
    server.half_close();
    client.receives_end();
    let close = proxy.ends(peer, "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!(close.count("bytes_up"), LOTS as u64);
    assert_eq!(close.count("bytes_down"), LOTS as u64 / 2);
    assert_eq!((close.count("undelivered_up"), close.count("undelivered_down")), (0, 0));
    proxy.stop();
}

#[test]
fn a_half_closed_connection_gets_its_whole_answer() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    client.send(b"question");
    client.half_close();
    server.receives_to_end(b"question");
    let answer = pattern(LOTS);
    thread::scope(|scope| {
        scope.spawn(|| {
            server.send(&answer);
            server.half_close();
        });
        client.receives_to_end(&answer);
    });
    proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}

#[test]
fn a_server_may_close_first_and_the_client_go_on() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    server.send(b"greeting");
    server.half_close();
    client.receives_to_end(b"greeting");
    client.send(b"still there");
    server.receives(b"still there");
    client.half_close();
    server.receives_end();
    proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}

#[test]
fn a_reset_of_the_server_reaches_the_client_after_what_came_before_it() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    let answer = pattern(100_000);
    server.send(&answer);
    server.is_received();
    server.reset();
    client.receives(&answer);
    client.receives_reset();
    let close = proxy.ends(client.address(), "upstream_failed", ["open", "rst", "rst", "none"]);
    assert_eq!((close.count("bytes_down"), close.count("undelivered_down")), (100_000, 0));
    proxy.stop();
}

#[test]
fn a_reset_of_the_client_reaches_the_server_after_what_came_before_it() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    client.send(b"question");
    client.is_received();
    let peer = client.address();
    client.reset();
    server.receives(b"question");
    server.receives_reset();
    proxy.ends(peer, "client_failed", ["rst", "none", "open", "rst"]);
    proxy.stop();
}

#[test]
fn a_reset_of_an_idle_connection_is_passed_on() {
    let Through { proxy, client, mut server } = Through::start(&[]);
    let peer = client.address();
    client.reset();
    server.receives_reset();
    proxy.ends(peer, "client_failed", ["rst", "none", "open", "rst"]);
    proxy.stop();
}

#[test]
fn a_reset_after_a_fin_is_passed_on_after_the_fin() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    let peer = client.address();
    client.half_close();
    server.receives_end();
    client.reset();
    // To the kernel the stream has ended; what is sent shows the rest.
    kernel::wait_until("the reset having come", || {
        server.stream().take_error().expect("read SO_ERROR").is_some()
    });
    proxy.ends(peer, "client_failed", ["rst", "none", "open", "rst"]);
    proxy.stop();
}

#[test]
fn a_reset_is_passed_on_in_time_to_a_server_that_does_not_read() {
    let Through { proxy, client, mut server } = Through::start(&["--linger-timeout", "200ms"]);
    let peer = client.address();
    overfill(&client);
    client.reset();
    let close = proxy.ends(peer, "client_failed", ["rst", "none", "open", "rst"]);
    assert!(close.count("undelivered_up") > 0, "{close:?}");
    server.receives_reset();
    proxy.stop();
}

/// Sends until neither the proxy nor the kernels take more.
fn overfill(client: &Peer) {
    let bytes = pattern(65_536);
    let mut idle_looks = 0;
    kernel::wait_until("nothing being taken", || {
        idle_looks = if client.sends_what_fits(&bytes) == 0 { idle_looks + 1 } else { 0 };
        idle_looks > 20
    });
}

#[test]
fn reading_stops_while_the_other_side_is_full() {
    let listener = upstream();
    let proxy = Proxy::start(listener.local_addr().expect("an address"), &[]);
    let mut clients = vec![proxy.client()];
    overfill(&clients[0]);
    let before = kernel::status_bytes(proxy.pid(), "VmRSS");
    for _ in 0..20 {
        let client = proxy.client();
        overfill(&client);
        clients.push(client);
    }
    let held = kernel::status_bytes(proxy.pid(), "VmRSS").saturating_sub(before);
    assert!(held <= 20 * 256 * 1024, "{held} bytes for 20 connections");
    proxy.signal(Signal::USR1);
    assert_eq!(proxy.event("proxy_stats", |_| true).count("active"), 21);
}

#[test]
fn an_idle_connection_costs_nothing() {
    let listener = upstream();
    let proxy = Proxy::start(listener.local_addr().expect("an address"), &[]);
    let mut clients = vec![];
    for _ in 0..50 {
        let client = proxy.client();
        clients.push((client, accept(&listener)));
    }
    // Half of them half-closed, which is what a loop spins on.
    for (client, server) in clients.iter_mut().step_by(2) {
        client.half_close();
        server.receives_end();
    }
    kernel::wait_until_quiet(|| vec![proxy.pid()]);
    let before = kernel::Efforts::of([proxy.pid()]);
    thread::sleep(Duration::from_secs(1));
    let effort = kernel::Efforts::of([proxy.pid()]).since(&before);
    assert!(effort.cpu < Duration::from_millis(10), "{effort:?}");
}

#[test]
fn urgent_bytes_stay_in_the_stream() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    client.send(b"a");
    client.send_urgent(b'!');
    client.send(b"b");
    client.half_close();
    server.receives_to_end(b"a!b");
    server.half_close();
    client.receives_end();
    proxy.stop();
}
