//! Toxics that come and go while data flows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::server::{Pair, Toxiproxy};

#[test]
fn no_data_is_lost_while_a_toxic_comes_and_goes() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let Pair { mut client, mut server } = proxy.connect();
    let numbers: Vec<[u8; 2]> = (1..=u16::MAX).map(u16::to_be_bytes).collect();
    let expected = numbers.concat();
    let is_over = AtomicBool::new(false);
    let mut changes = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in &numbers {
                server.send(number);
            }
            server.half_close();
        });
        scope.spawn(|| {
            client.receives_to_end(&expected);
            is_over.store(true, Ordering::SeqCst);
        });
        // At least once when all has been sent before.
        while !is_over.load(Ordering::SeqCst) || changes == 0 {
            proxy.add("latency", "downstream", json!({"latency": 5, "jitter": 2}));
            proxy.update("latency_downstream", json!({"latency": 1}));
            proxy.remove("latency_downstream");
            changes += 1;
        }
    });
    client.half_close();
    server.receives_end();
}

#[test]
fn echoes_come_while_toxics_come_and_go() {
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let mut pair = proxy.connect();
    for round in 0..100 {
        let toxic = ["latency", "slicer", "bandwidth", "slow_close", "noop"][round % 5];
        let stream = ["upstream", "downstream"][round % 2];
        let attributes = json!({"latency": 1, "average_size": 3, "rate": 1000, "delay": 10});
        proxy.add(toxic, stream, attributes);
        pair.carries(b"an echo");
        proxy.remove(&format!("{toxic}_{stream}"));
        pair.carries(b"another one");
    }
    let Pair { mut client, mut server } = pair;
    client.half_close();
    server.receives_end();
    server.half_close();
    client.receives_end();
}
