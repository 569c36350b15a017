//! Latency: never less than it says, hardly more, and of every byte.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use trust_testkit::peer::pattern;

use crate::server::{Pair, Toxiproxy, takes_ms};

/// Checks how long a byte takes with latency in one direction.
#[track_caller]
fn one_way(stream: &str, latency: u64, take: fn(&mut Pair) -> Duration) {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("latency", stream, json!({"latency": latency}));
    let mut pair = proxy.connect();
    takes_ms(latency, latency + 10, || take(&mut pair));
    drop(pair);
    toxiproxy.stop();
}

#[test]
fn a_latency_of_nothing_takes_no_time() {
    one_way("downstream", 0, Pair::takes_down);
}

#[test]
fn bytes_to_the_client_come_100_ms_later() {
    one_way("downstream", 100, Pair::takes_down);
}

#[test]
fn bytes_to_the_upstream_come_100_ms_later() {
    one_way("upstream", 100, Pair::takes_up);
}

#[test]
fn bytes_come_a_second_later() {
    one_way("downstream", 1000, Pair::takes_down);
}

#[test]
fn both_directions_can_have_latency() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    // One is added to a connection, and the other one before there is any.
    proxy.add("latency", "upstream", json!({"latency": 100}));
    let mut pair = proxy.connect();
    proxy.add("latency", "downstream", json!({"latency": 60}));
    takes_ms(160, 180, || pair.takes_up() + pair.takes_down());
}

#[test]
fn two_latencies_add_up() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    for name in ["first", "second"] {
        let latency = json!({"name": name, "type": "latency", "attributes": {"latency": 500}});
        toxiproxy.answer("POST /proxies/p/toxics", &latency, 200);
    }
    let mut pair = proxy.connect();
    takes_ms(1000, 1010, || pair.takes_down());
    proxy.remove("first");
    takes_ms(500, 510, || pair.takes_down());
}

#[test]
fn jitter_varies_the_latency_and_goes_no_further() {
    let toxiproxy = Toxiproxy::start(&["-seed", "3"]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("latency", "downstream", json!({"latency": 60, "jitter": 50}));
    let mut pair = proxy.connect();
    // A draw holds for that many bytes.
    let piece = pattern(1460);
    let mut times = vec![];
    for _ in 0..20 {
        let began = Instant::now();
        pair.server.send(&piece);
        pair.client.receives(&piece);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let least = Duration::from_millis(10);
    assert!(times[0] >= least, "{times:?}");
    // They differ by more than what a busy machine adds to one of them.
    assert!(times[0] < Duration::from_millis(60), "{times:?}");
    assert!(times[19] - times[0] >= Duration::from_millis(20), "{times:?}");
}

#[test]
fn latency_does_not_limit_how_much_is_under_way() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("latency", "downstream", json!({"latency": 1000}));
    let Pair { mut client, mut server } = proxy.connect();
    // With only what sockets hold under way it would take more than a minute.
    let answer = pattern(16 << 20);
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            server.send(&answer);
            server.half_close();
        });
        client.receives_to_end(&answer);
    });
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_removed_latency_lets_what_it_held_go_at_once() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("latency", "downstream", json!({"latency": 3_600_000}));
    let Pair { mut client, mut server } = proxy.connect();
    server.send(b"answer");
    proxy.holds(&server, &client);
    proxy.remove("latency_downstream");
    client.receives(b"answer");
}
