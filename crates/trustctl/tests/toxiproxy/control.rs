//! What there is beyond Toxiproxy, of connections that carry traffic.

use std::net::TcpStream;

use serde_json::json;
use trust_testkit::http::Client;
use trust_testkit::peer::Peer;

use crate::server::{Pair, Toxiproxy};

/// Puts the rules of the proxy `p`.
#[track_caller]
fn put(toxiproxy: &Toxiproxy, rules: &str, status: u16) -> String {
    let mut client = Client::connect(toxiproxy.api());
    client.send("PUT /trustctl/proxies/p/schedule", &[], rules);
    let answer = client.receive(false);
    assert_eq!(answer.status, status, "{rules}: {}", answer.body);
    answer.body
}

#[test]
fn rules_are_put_while_data_flows_and_taken_back() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let mut pair = proxy.connect();
    pair.carries(b"before");
    let rules = put(&toxiproxy, "insert  \"!\" @ byte 8 up\nrate 0B/s down\nrst @ byte 3 up", 200);
    assert_eq!(rules, "insert \"!\" @ byte 8 up\nrate 0B/s down\nrst @ byte 3 up\n");
    let Pair { mut client, mut server } = pair;
    client.send(b"1234");
    server.receives(b"12!34");
    server.send(b"held");
    proxy.holds(&server, &client);
    put(&toxiproxy, "", 200);
    client.receives(b"held");
    let mut pair = Pair { client, server };
    pair.carries(b"after");
    let refused = put(&toxiproxy, "split 10 down\n rust", 400);
    assert!(refused.contains(r"\nrust\n^"), "{refused}");
}

#[test]
fn a_connection_is_shown_with_what_acts_on_it_and_can_be_ended() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let Pair { mut client, mut server } = proxy.connect();
    proxy.add("latency", "upstream", json!({"latency": 1}));
    client.send(b"ask");
    client.half_close();
    server.receives_to_end(b"ask");
    let shown = &toxiproxy.get("/trustctl/connections?proxy=p")[0];
    assert_eq!(shown["toxics"], json!(["latency_upstream"]));
    assert_eq!(shown["rules"], json!(["delay 1ms up"]));
    assert_eq!((&shown["up"]["received"], &shown["up"]["sent"]), (&json!(3), &json!(3)));
    // Of the direction that is over too.
    proxy.remove("latency_upstream");
    assert_eq!(toxiproxy.get("/trustctl/connections")[0]["rules"], json!([]));
    toxiproxy.answer("DELETE /trustctl/connections/1?by=rst", &json!(null), 204);
    client.receives_reset();
    toxiproxy.answer("DELETE /trustctl/connections/1?by=rst", &json!(null), 404);
}

#[test]
fn a_client_without_an_upstream_ends_with_its_proxy() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    put(&toxiproxy, "accept-silent @ connect", 200);
    let mut client = Peer::over(TcpStream::connect(proxy.address()).expect("it listens"));
    let fired = json!({"rule": "accept-silent @ connect"});
    toxiproxy.answer("POST /trustctl/wait", &fired, 200);
    proxy.change(&json!({"enabled": false}));
    client.receives_end();
    proxy.change(&json!({"enabled": true}));
    put(&toxiproxy, "", 200);
    proxy.connect().carries(b"another");
}

#[test]
fn connections_that_are_closing_are_shown_without_what_they_had() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let pair = proxy.connect();
    proxy.add("timeout", "downstream", json!({"timeout": 1_000}));
    proxy.add("latency", "upstream", json!({"latency": 1_000}));
    proxy.remove("timeout_downstream");
    toxiproxy.reset();
    // Both ends are still open here, so it may wait for their FIN.
    let listed = toxiproxy.get("/trustctl/connections");
    let all_rules = listed.as_array().expect("a list").iter().map(|shown| &shown["rules"]);
    assert!(all_rules.clone().all(|rules| *rules == json!([])), "{listed}");
    let Pair { mut client, mut server } = pair;
    client.receives_end();
    server.receives_end();
}
