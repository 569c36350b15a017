//! Bandwidth and slices.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use trust_testkit::peer::{Peer, pattern};

use crate::server::{Pair, Toxiproxy, takes_ms};

#[test]
fn bandwidth_is_kept_to() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("bandwidth", "downstream", json!({"rate": 1000}));
    let Pair { mut client, mut server } = proxy.connect();
    let answer = pattern(480_000);
    // But for a millisecond of data, which is sent first. On a busy machine each late wake-up adds
    // to it, because a rate makes up for no lost time.
    takes_ms(479, 600, || {
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| server.send(&answer));
            client.receives(&answer);
        });
        began.elapsed()
    });
}

#[test]
fn each_connection_and_direction_has_the_whole_bandwidth() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    proxy.add("bandwidth", "downstream", json!({"rate": 100}));
    proxy.add("bandwidth", "upstream", json!({"rate": 100}));
    let mut pairs = [proxy.connect(), proxy.connect()];
    let bytes = pattern(10_000);
    takes_ms(99, 150, || {
        let began = Instant::now();
        for Pair { client, server } in &mut pairs {
            client.send(&bytes);
            server.send(&bytes);
        }
        for Pair { client, server } in &mut pairs {
            client.receives(&bytes);
            server.receives(&bytes);
        }
        began.elapsed()
    });
}

#[test]
fn no_bandwidth_holds_everything_until_there_is_some() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let Pair { mut client, mut server } = proxy.connect();
    for end in ["raised", "removed"] {
        proxy.add("bandwidth", "downstream", json!({"rate": 0}));
        server.send(end.as_bytes());
        proxy.holds(&server, &client);
        if end == "raised" {
            proxy.update("bandwidth_downstream", json!({"rate": 1000}));
            client.receives(end.as_bytes());
        }
        proxy.remove("bandwidth_downstream");
        if end == "removed" {
            client.receives(end.as_bytes());
        }
    }
}

#[test]
fn data_comes_in_slices_of_about_a_size() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let slices = json!({"average_size": 1024, "size_variation": 512, "delay": 1000});
    proxy.add("slicer", "downstream", slices);
    let Pair { mut client, mut server } = proxy.connect();
    let answer = pattern(480_000);
    let mut most = 0;
    // On a busy machine several slices may have come before they are read.
    for _ in 0..10 {
        let began = Instant::now();
        let received = thread::scope(|scope| {
            scope.spawn(|| server.send(&answer));
            receive(&mut client, answer.len())
        });
        let took = began.elapsed();
        let pieces = received.len();
        assert!(received.concat() == answer, "other bytes");
        assert!(pieces <= 720, "{pieces} pieces");
        // At the largest size there are 312 pauses between slices, of 1 ms.
        assert!(took >= Duration::from_millis(312), "{took:?}");
        most = most.max(pieces);
        if most >= 240 {
            return;
        }
    }
    panic!("{most} pieces at most");
}

/// That many bytes, in the pieces in which they came.
#[track_caller]
fn receive(peer: &mut Peer, length: usize) -> Vec<Vec<u8>> {
    let (mut pieces, mut left) = (vec![], length);
    let mut buffer = vec![0; length];
    while left > 0 {
        let count = peer.stream().read(&mut buffer).expect("more comes");
        assert!(count > 0 && count <= left, "{count} of {left} bytes");
        pieces.push(buffer[..count].to_vec());
        left -= count;
    }
    pieces
}
