//! Which connections have a toxic.

use std::io::Read;

use serde_json::json;

use crate::server::{Pair, Proxy, Toxiproxy};

const CONNECTIONS: usize = 40;

/// Whether a connection that may carry no data to the client is ended by some.
#[track_caller]
fn is_ended(pair: &mut Pair) -> bool {
    pair.server.send(b"x");
    let count = pair.client.stream().read(&mut [0; 2]).expect("a byte or an end");
    assert!(count <= 1);
    count == 0
}

/// Which of new connections have a toxic of this toxicity that is there before them.
#[track_caller]
fn drawn(proxy: &Proxy<'_>, toxicity: f64) -> Vec<bool> {
    proxy.add_some("limit_data", "downstream", json!({"bytes": 0}), toxicity);
    (0..CONNECTIONS).map(|_| is_ended(&mut proxy.connect())).collect()
}

#[test]
fn all_connections_have_a_toxic_or_none() {
    for (toxicity, expected) in [(0.0, false), (-1.0, false), (1.0, true), (2.0, true)] {
        let toxiproxy = Toxiproxy::start(&[]);
        let drawn = drawn(&toxiproxy.proxy("p"), toxicity);
        assert!(drawn.iter().all(|is_ended| *is_ended == expected), "{toxicity}: {drawn:?}");
    }
}

#[test]
fn the_seed_decides_which_connections_have_a_toxic() {
    let drawn = |seed| {
        let toxiproxy = Toxiproxy::start(&["-seed", seed]);
        drawn(&toxiproxy.proxy("p"), 0.5)
    };
    let seven = drawn("7");
    let count = seven.iter().filter(|is_ended| **is_ended).count();
    assert!((5..=35).contains(&count), "{count} of {CONNECTIONS}");
    assert_eq!(drawn("7"), seven);
    assert_ne!(drawn("8"), seven);
}

#[test]
fn whether_a_connection_has_a_toxic_is_drawn_once() {
    let flags = ["-seed", "7"];
    let expected = {
        let toxiproxy = Toxiproxy::start(&flags);
        drawn(&toxiproxy.proxy("p"), 0.5)
    };
    let toxiproxy = Toxiproxy::start(&flags);
    let proxy = toxiproxy.proxy("p");
    // Some are open before there is a toxic.
    let connect = |count| (0..count).map(|_| proxy.connect()).collect::<Vec<Pair>>();
    let mut pairs = connect(CONNECTIONS / 2);
    proxy.add_some("limit_data", "downstream", json!({"bytes": 1000}), 0.5);
    pairs.extend(connect(CONNECTIONS - CONNECTIONS / 2));
    for pair in &mut pairs {
        pair.carries(b"some");
    }
    // None of these draws again.
    proxy.add("noop", "downstream", json!({}));
    proxy.update("limit_data_downstream", json!({"bytes": 500}));
    proxy.remove("noop_downstream");
    proxy.update("limit_data_downstream", json!({"bytes": 0}));
    let ended: Vec<bool> = pairs.iter_mut().map(is_ended).collect();
    assert_eq!(ended, expected);
}
