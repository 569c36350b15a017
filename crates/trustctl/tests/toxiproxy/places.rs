//! Where a proxy listens and connects to, and when it does.

use std::io::ErrorKind;
use std::net::TcpStream;

use serde_json::json;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::files::Files;
use trust_testkit::peer::{Peer, upstream};

use crate::server::{Pair, Toxiproxy, takes_ms};

#[test]
fn a_disabled_proxy_refuses_clients_and_closes_those_that_it_has() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("latency", "downstream", json!({"latency": 50}));
    let address = proxy.address();
    for _ in 0..3 {
        let mut pair = proxy.connect();
        pair.carries(b"before");
        assert_eq!(proxy.change(&json!({"enabled": false}))["enabled"], false);
        let refused = TcpStream::connect_timeout(&address, STEP_DEADLINE).err();
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
        pair.client.is_gone();
        pair.server.is_gone();
        let enabled = proxy.change(&json!({"enabled": true}));
        assert_eq!(enabled["listen"], address.to_string());
        assert_eq!(proxy.toxics(), ["latency_downstream"]);
        // Whether it really has that.
        takes_ms(50, 60, || proxy.connect().takes_down());
    }
    toxiproxy.stop();
}

#[test]
fn a_proxy_that_is_removed_refuses_clients_and_closes_those_that_it_has() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let mut pair = proxy.connect();
    pair.carries(b"before");
    toxiproxy.answer("DELETE /proxies/p", &json!(null), 204);
    let refused = TcpStream::connect_timeout(&proxy.address(), STEP_DEADLINE).err();
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
    pair.client.is_gone();
    pair.server.is_gone();
}

#[test]
fn a_client_is_closed_at_once_if_the_upstream_is_down() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.connect().carries(b"before");
    let address = proxy.address();
    proxy.lose_upstream();
    takes_ms(0, 1000, || {
        let began = std::time::Instant::now();
        Peer::connect(address).is_gone();
        began.elapsed()
    });
}

#[test]
fn another_upstream_is_for_those_who_come_then() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let mut before = proxy.connect();
    before.carries(b"before");
    let other = upstream();
    let to = other.local_addr().expect("an address").to_string();
    proxy.change(&json!({"upstream": to}));
    before.client.is_gone();
    before.server.is_gone();
    toxiproxy.proxy_before("p", other).connect().carries(b"after");
}

#[test]
fn an_end_is_passed_on_as_a_half_close() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    for latency in [None, Some(20)] {
        if let Some(latency) = latency {
            proxy.add("latency", "upstream", json!({"latency": latency}));
            proxy.add("latency", "downstream", json!({"latency": latency}));
        }
        let Pair { mut client, mut server } = proxy.connect();
        client.send(b"question");
        client.half_close();
        server.receives_to_end(b"question");
        server.send(b"answer");
        server.half_close();
        client.receives_to_end(b"answer");
    }
}

#[test]
fn a_config_file_has_proxies_and_their_toxics() {
    let files = Files::new();
    let (one, two) = (upstream(), upstream());
    let [to_one, to_two] = [&one, &two].map(|it| it.local_addr().expect("an address").to_string());
    let slow = json!({"type": "latency", "attributes": {"latency": 80}});
    let toxics = json!([slow, {"name": "up", "type": "noop", "stream": "upstream"}]);
    let list = json!([
        {"name": "one", "listen": "127.0.0.1:0", "upstream": to_one, "toxics": toxics},
        {"name": "two", "listen": "127.0.0.1:0", "upstream": to_two, "enabled": false},
    ]);
    let config = files.write("toxiproxy.json", &list.to_string());
    let toxiproxy = Toxiproxy::start(&["-config", &config]);
    let listed = toxiproxy.get("/proxies");
    assert_eq!(listed["two"]["enabled"], false);
    let proxy = toxiproxy.proxy_before("one", one);
    assert_eq!(proxy.toxics(), ["up", "latency_downstream"]);
    takes_ms(80, 90, || proxy.connect().takes_down());
    // A reset is for toxics of a file too.
    toxiproxy.reset();
    assert_eq!(proxy.toxics(), [""; 0]);
    proxy.connect().carries(b"without");
    toxiproxy.proxy_before("two", two).connect().carries(b"enabled");
}
