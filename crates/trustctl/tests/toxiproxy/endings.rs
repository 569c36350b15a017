//! Toxics that end connections, or that ends have to wait for.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use trust_testkit::peer::pattern;

use crate::server::{Pair, Toxiproxy, takes_ms};

#[test]
fn new_connections_are_reset_some_time_after_their_first_data() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("reset_peer", "upstream", json!({"timeout": 100}));
    let idle = proxy.connect();
    takes_ms(100, 210, || {
        let Pair { mut client, mut server } = proxy.connect();
        let began = Instant::now();
        client.send(b"question");
        client.is_reset();
        let took = began.elapsed();
        server.is_reset();
        took
    });
    proxy.holds(&idle.client, &idle.server);
    proxy.holds(&idle.server, &idle.client);
}

#[test]
fn open_connections_are_reset_some_time_after_their_next_data() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let mut pair = proxy.connect();
    pair.carries(b"before");
    proxy.add("reset_peer", "downstream", json!({"timeout": 100}));
    // The other direction is as it was.
    pair.takes_up();
    let Pair { mut client, mut server } = pair;
    let began = Instant::now();
    server.send(b"answer");
    client.is_reset();
    assert!(began.elapsed() >= Duration::from_millis(100));
    server.is_reset();
}

#[test]
fn an_end_is_what_a_reset_waits_for_too() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("reset_peer", "upstream", json!({"timeout": 0}));
    let Pair { mut client, mut server } = proxy.connect();
    client.half_close();
    client.is_reset();
    server.is_reset();
}

#[test]
fn exactly_the_data_up_to_a_limit_comes() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    for limit in [1, 100, 100_000] {
        proxy.add("limit_data", "downstream", json!({"bytes": limit}));
        for more in [0, 1, 1000] {
            let Pair { mut client, mut server } = proxy.connect();
            let answer = pattern(limit + more);
            server.send(&answer);
            client.receives_to_end(&answer[..limit]);
            // What was too much may be left unread.
            server.is_gone();
        }
        proxy.remove("limit_data_downstream");
    }
}

#[test]
fn data_is_counted_on_when_the_limit_is_changed() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("limit_data", "upstream", json!({"bytes": 100}));
    let [mut raised, mut lowered] = [proxy.connect(), proxy.connect()];
    for pair in [&mut raised, &mut lowered] {
        pair.client.send(&pattern(60));
        pair.server.receives(&pattern(60));
    }
    proxy.update("limit_data_upstream", json!({"bytes": 120}));
    raised.client.send(&pattern(200)[60..]);
    raised.server.receives_to_end(&pattern(120)[60..]);
    raised.client.is_gone();
    // There is more of it already than there may be; more data must come for its end.
    proxy.update("limit_data_upstream", json!({"bytes": 50}));
    proxy.holds(&lowered.server, &lowered.client);
    proxy.holds(&lowered.client, &lowered.server);
    lowered.client.send(b"more");
    lowered.server.receives_end();
    lowered.client.is_gone();
}

#[test]
fn the_first_data_ends_a_connection_that_may_carry_none() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("limit_data", "downstream", json!({"bytes": 0}));
    let mut pair = proxy.connect();
    pair.takes_up();
    proxy.holds(&pair.server, &pair.client);
    pair.server.send(b"answer");
    pair.client.receives_end();
    pair.server.is_gone();
}

#[test]
fn a_timeout_ends_connections_when_it_is_removed() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    takes_ms(0, 1000, || {
        let Pair { mut client, mut server } = proxy.connect();
        proxy.add("timeout", "downstream", json!({"timeout": 0}));
        server.send(b"dropped");
        proxy.holds(&server, &client);
        let began = Instant::now();
        proxy.remove("timeout_downstream");
        client.receives_end();
        server.receives_end();
        began.elapsed()
    });
}

#[test]
fn a_timeout_ends_connections_also_while_data_comes() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("timeout", "upstream", json!({"timeout": 300}));
    let began = Instant::now();
    let Pair { client, mut server } = proxy.connect();
    thread::scope(|scope| {
        let mut sender = client.twin().into_stream();
        scope.spawn(move || {
            // More often than the timeout, until there is no connection.
            while sender.write_all(b"more").is_ok() {
                thread::park_timeout(Duration::from_millis(10));
            }
        });
        server.is_gone();
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300), "{took:?}");
    });
}

#[test]
fn the_end_of_a_stream_comes_later_than_its_data() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("slow_close", "downstream", json!({"delay": 200}));
    takes_ms(200, 210, || {
        let Pair { mut client, mut server } = proxy.connect();
        let began = Instant::now();
        server.send(b"answer");
        server.half_close();
        client.receives(b"answer");
        client.receives_end();
        let took = began.elapsed();
        // The other direction has an end of its own.
        client.send(b"thanks");
        client.half_close();
        server.receives_to_end(b"thanks");
        took
    });
}
