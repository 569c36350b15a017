//! The live page: what is sent, and, in a browser, what it shows and does.

use std::env;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use trust_testkit::http::Client;
use trust_toxiproxy::server::{ApiServer, ApiSettings, loopback};
use trust_toxiproxy::traffic::{ProxyTraffic, StreamTotals};

use crate::control::{connection, rule};
use crate::fake::{Calls, FakeTraffic, api_of};

fn start(traffic: &FakeTraffic) -> ApiServer {
    let api = api_of(traffic.clone(), Calls::default());
    ApiServer::start(&loopback(0), ApiSettings::default(), api, |_| {}).expect("it can listen")
}

#[test]
fn the_page_is_there_for_browsers_of_this_host() {
    let server = start(&FakeTraffic::default());
    let mut client = Client::connect(server.addresses()[0]);
    client.send("GET /", &["User-Agent: Mozilla/5.0".to_owned()], "");
    let page = client.receive(false);
    assert_eq!((page.status, &*page.headers["content-type"]), (200, "text/html; charset=utf-8"));
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'; "));
    assert!(page.body.contains("<h1>Fault proxy</h1>"));
    client.send("HEAD /", &[], "");
    assert_eq!(client.receive(true).status, 200);
    client.send("GET /", &["Origin: http://evil.test".to_owned()], "");
    assert_eq!(client.receive(false).status, 403);
    assert_eq!(client.ask("POST /", "").status, 405);
}

/// Traffic as a page is to show it: two proxies, of which one has a toxic and rules.
fn prepare(traffic: &FakeTraffic, client: &mut Client) {
    for (proxy, upstream) in [("orders-db", "db.internal:5432"), ("redis", "127.0.0.1:6379")] {
        let body = json!({"name": proxy, "listen": "localhost:0", "upstream": upstream});
        assert_eq!(client.ask("POST /proxies", &body.to_string()).status, 201);
    }
    let toxic = json!({"type": "latency", "attributes": {"latency": 100, "jitter": 10}});
    assert_eq!(client.ask("POST /proxies/redis/toxics", &toxic.to_string()).status, 200);
    let rules = "rst @ frame 7 byte 13 down\nconn every 3: accept-rst @ connect";
    assert_eq!(client.ask("PUT /trustctl/proxies/redis/schedule", rules).status, 200);
    let disabled = json!({"enabled": false});
    assert_eq!(client.ask("POST /proxies/orders-db", &disabled.to_string()).status, 200);
    let mut parts = traffic.lock();
    parts.connections = (1..=4).map(|conn| connection(conn, "redis")).collect();
    parts.report.rules = vec![
        rule("delay 100ms ±10ms down", "redis", Some("latency_downstream")),
        rule("rst @ frame 7 byte 13 down", "redis", None),
        rule("conn every 3: accept-rst @ connect", "redis", None),
    ];
    parts.report.proxies = vec![ProxyTraffic { proxy: "redis".to_owned(), ..Default::default() }];
}

/// What happens within a fifth of a second.
fn go_on(traffic: &FakeTraffic, turn: u64) {
    let mut parts = traffic.lock();
    parts.report.uptime += Duration::from_millis(200);
    let proxy = &mut parts.report.proxies[0];
    (proxy.connections, proxy.open, proxy.rejected) = (40 + turn / 5, 4, 2);
    for (totals, bytes) in [
        (&mut proxy.streams.up, 3_000 + turn % 23 * 700),
        (&mut proxy.streams.down, 240_000 + turn % 31 * 9_000),
    ] {
        let StreamTotals { received, sent, held } = *totals;
        *totals = StreamTotals { received: received + bytes, sent: sent + bytes, held };
    }
    (proxy.streams.up.held, proxy.streams.down.held) = (0, 48_000);
    for connection in &mut parts.connections {
        connection.age += Duration::from_millis(200);
        connection.streams.down.received += 60_000;
    }
    if turn.is_multiple_of(5) {
        let index = (turn / 5 % 3) as usize;
        parts.report.rules[index].fired += 1;
        let rule = parts.report.rules[index].rule.clone();
        drop(parts);
        let event = json!({
            "ts": "2026-11-20T07:43:16.250Z", "event": "fault", "conn": turn / 5, "rule": rule,
            "direction": "down", "byte": 1_000 * turn, "frame": 7, "frame_byte": 13,
        });
        traffic.note(&event.to_string());
    }
}

/// `make pages` runs it. `TRUSTCTL_PAGES` is where screenshots go.
#[test]
#[ignore = "needs chromium and chromium-driver"]
fn the_page_works_in_a_browser() {
    let traffic = FakeTraffic::default();
    let server = start(&traffic);
    let address = server.addresses()[0];
    prepare(&traffic, &mut Client::connect(address));
    let is_over = Arc::new(AtomicBool::new(false));
    let (ticking, seen) = (traffic.clone(), is_over.clone());
    let ticker = thread::spawn(move || {
        for turn in 0.. {
            if seen.load(Ordering::Relaxed) {
                break;
            }
            go_on(&ticking, turn);
            thread::sleep(Duration::from_millis(200));
        }
    });
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut check = Command::new(root.join("ci/page"));
    check.arg("--steps").arg(root.join("crates/trust-toxiproxy/tests/api/page_steps.js"));
    if let Some(pages) = env::var_os("TRUSTCTL_PAGES") {
        check.arg("--shots").arg(Path::new(&pages).join("shots"));
    }
    let status = check.arg(format!("http://{address}/")).status().expect("ci/page is there");
    is_over.store(true, Ordering::Relaxed);
    ticker.join().expect("it has not failed");
    assert!(status.success(), "what is above is wrong");
}
