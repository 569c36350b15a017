//! What there is beyond Toxiproxy: live connections, schedules, events and waiting, over HTTP.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trust_testkit::STEP_DEADLINE;
use trust_testkit::http::{Client, WireAnswer};
use trust_toxiproxy::server::{ApiServer, ApiSettings, ApiTimeouts, loopback};
use trust_toxiproxy::traffic::{
    BothWays, ConnectionReport, ProxyTraffic, RuleReport, StreamReport, StreamTotals,
};

use crate::fake::{Calls, FakeTraffic, api_of, take};

/// A server with a fake data plane, and a client of it.
struct Scene {
    traffic: FakeTraffic,
    calls: Calls,
    server: ApiServer,
    client: Client,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(ApiSettings::default())
    }

    fn with(settings: ApiSettings) -> Scene {
        let (traffic, calls) = (FakeTraffic::default(), Calls::default());
        let api = api_of(traffic.clone(), calls.clone());
        let server = ApiServer::start(&loopback(0), settings, api, |_| {}).expect("it can listen");
        let client = Client::connect(server.addresses()[0]);
        Scene { traffic, calls, server, client }
    }

    fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    /// Another client.
    fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// The body of an answer with this status; `null` if it is empty.
    fn ask(&mut self, status: u16, request: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.client.ask(request, &body);
        assert_eq!(answer.status, status, "{request}: {}", answer.body);
        match &*answer.body {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
        }
    }

    /// The text of the error with this status.
    fn refused(&mut self, status: u16, request: &str, body: &Value) -> String {
        let answer = self.ask(status, request, body);
        assert_eq!(answer["status"], status);
        answer["error"].as_str().expect("a text").to_owned()
    }

    fn create(&mut self, proxy: &str) {
        let body = json!({"name": proxy, "listen": "localhost:0", "upstream": "u:1"});
        self.ask(201, "POST /trustctl/proxies", &body);
        take(&self.calls);
    }
}

pub(crate) fn connection(conn: u64, proxy: &str) -> ConnectionReport {
    let stream = StreamReport { received: 10, sent: 8, held: 2, frames: Some(1) };
    ConnectionReport {
        conn,
        proxy: proxy.to_owned(),
        client: format!("127.0.0.1:{}", 50_000 + conn),
        upstream: Some("127.0.0.1:6379".to_owned()),
        state: "open",
        age: Duration::from_micros(1_500),
        streams: BothWays { up: stream, down: StreamReport::default() },
        toxics: vec!["latency_downstream".to_owned()],
        rules: vec!["delay 100ms down".to_owned()],
    }
}

pub(crate) fn rule(rule: &str, proxy: &str, toxic: Option<&str>) -> RuleReport {
    let (rule, proxy) = (rule.to_owned(), Some(proxy.to_owned()));
    RuleReport { rule, proxy, toxic: toxic.map(str::to_owned), fired: 0 }
}

/// So short that it passes in a test, and so long that no request takes as long on a busy machine.
fn short() -> ApiSettings {
    ApiTimeouts { read: Duration::from_secs(1), idle: Duration::from_secs(1) }.into()
}

#[test]
fn it_has_its_own_version_beside_that_of_toxiproxy() {
    let mut scene = Scene::new();
    let version = json!({"version": env!("CARGO_PKG_VERSION"), "toxiproxy": "2.12.0"});
    assert_eq!(scene.ask(200, "GET /trustctl/version", &Value::Null), version);
    assert_eq!(scene.refused(404, "GET /trustctl/x", &Value::Null), "page not found");
    assert_eq!(scene.refused(404, "GET /trustctl/", &Value::Null), "page not found");
    let method = scene.refused(405, "PUT /trustctl/version", &Value::Null);
    assert_eq!(method, "method not allowed: expected GET");
}

#[test]
fn a_report_has_what_the_api_and_what_the_data_plane_know() {
    let mut scene = Scene::new();
    scene.create("b");
    scene.create("a");
    scene.ask(200, "POST /trustctl/proxies/a/toxics", &json!({"type": "noop"}));
    let body = "rst  @ byte 5 up";
    assert_eq!(scene.client.ask("PUT /trustctl/proxies/a/schedule", body).status, 200);
    {
        let mut parts = scene.traffic.lock();
        let totals = StreamTotals { received: 5, sent: 3, held: 2 };
        let streams = BothWays { up: totals, down: StreamTotals::default() };
        let proxy = "a".to_owned();
        parts.report.proxies =
            vec![ProxyTraffic { proxy, streams, connections: 7, open: 1, ..Default::default() }];
        parts.report.rules = vec![rule("rst @ byte 5 up", "a", None)];
        parts.report.uptime = Duration::from_millis(1_250);
        parts.report.lateness.record(Duration::from_micros(60));
        parts.connections = (1..=150).map(|conn| connection(conn, "a")).collect();
    }
    let report = scene.ask(200, "GET /trustctl/report", &Value::Null);
    assert_eq!((&report["uptime_ms"], &report["seed"]), (&json!(1250.0), &json!(0)));
    let [a, b] = [0, 1].map(|index| &report["proxies"][index]);
    assert_eq!(
        (&a["name"], &a["enabled"], &a["upstream"]),
        (&json!("a"), &json!(true), &json!("u:1"))
    );
    assert_eq!(a["toxics"][0]["name"], "noop_downstream");
    assert_eq!(a["schedule"], "rst @ byte 5 up\n");
    assert_eq!(a["up"], json!({"received": 5, "sent": 3, "held": 2}));
    assert_eq!((&a["connections"], &a["open"], &a["rejected"]), (&json!(7), &json!(1), &json!(0)));
    assert_eq!(
        (&b["name"], &b["connections"], &b["schedule"]),
        (&json!("b"), &json!(0), &json!(""))
    );
    let rules = json!([{"rule": "rst @ byte 5 up", "proxy": "a", "toxic": null, "fired": 0}]);
    assert_eq!(report["rules"], rules);
    assert_eq!(report["lateness"]["counts"][1], 1);
    let connections = report["connections"].as_array().expect("a list");
    assert_eq!((connections.len(), &connections[0]["conn"]), (100, &json!(51)), "the newest");
}

#[test]
fn live_connections_are_listed_and_ended() {
    let mut scene = Scene::new();
    scene.create("a");
    scene.create("b c");
    scene.traffic.lock().connections =
        vec![connection(1, "a"), connection(2, "b c"), connection(3, "a")];
    let numbers = |list: &Value| {
        let list = list.as_array().expect("a list").iter();
        list.map(|connection| connection["conn"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&scene.ask(200, "GET /trustctl/connections", &Value::Null)), [1, 2, 3]);
    let of_a = scene.ask(200, "GET /trustctl/connections?proxy=a", &Value::Null);
    assert_eq!(numbers(&of_a), [1, 3]);
    let of_b = scene.ask(200, "GET /trustctl/connections?proxy=b%20c", &Value::Null);
    assert_eq!(numbers(&of_b), [2]);
    let expected = json!({
        "conn": 2,
        "proxy": "b c",
        "client": "127.0.0.1:50002",
        "upstream": "127.0.0.1:6379",
        "state": "open",
        "age_ms": 1.5,
        "up": {"received": 10, "sent": 8, "held": 2, "frames": 1},
        "down": {"received": 0, "sent": 0, "held": 0, "frames": null},
        "toxics": ["latency_downstream"],
        "rules": ["delay 100ms down"],
    });
    assert_eq!(scene.ask(200, "GET /trustctl/connections/2", &Value::Null), expected);
    scene.ask(204, "DELETE /trustctl/connections/2?by=rst", &Value::Null);
    scene.ask(204, "DELETE /trustctl/connections/3", &Value::Null);
    assert_eq!(take(&scene.calls), ["end 2 Rst", "end 3 Fin"]);
    assert_eq!(numbers(&scene.ask(200, "GET /trustctl/connections", &Value::Null)), [1]);
    for request in ["GET /trustctl/connections/2", "DELETE /trustctl/connections/2"] {
        assert_eq!(scene.refused(404, request, &Value::Null), "connection not found");
    }
    take(&scene.calls);
    let by = scene.refused(400, "DELETE /trustctl/connections/1?by=x", &Value::Null);
    assert_eq!(by, "invalid by 'x': expected fin or rst");
    let number = scene.refused(400, "DELETE /trustctl/connections/x", &Value::Null);
    assert_eq!(number, "invalid connection 'x': expected its number");
    let proxy = scene.refused(404, "GET /trustctl/connections?proxy=x", &Value::Null);
    assert_eq!(proxy, "proxy not found");
    assert_eq!(take(&scene.calls), [""; 0]);
}

#[test]
fn a_schedule_is_put_seen_and_gone_with_its_proxy() {
    let mut scene = Scene::new();
    scene.create("a");
    let path = "/trustctl/proxies/a/schedule";
    let answer = scene.client.ask(&format!("GET {path}"), "");
    assert_eq!((answer.status, &*answer.body), (200, ""));
    let put = |scene: &mut Scene, text: &str| scene.client.ask(&format!("PUT {path}"), text);
    let answer = put(&mut scene, "rst  @ byte 5 up\nsplit 10 down");
    assert_eq!((answer.status, &*answer.body), (200, "rst @ byte 5 up\nsplit 10 every 10 down\n"));
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    let call = r#"schedule a: "rst @ byte 5 up\nsplit 10 every 10 down\n""#;
    assert_eq!(take(&scene.calls), [call]);
    let answer = put(&mut scene, "split 10 down\nrust");
    assert_eq!(answer.status, 400);
    let error: Value = serde_json::from_str(&answer.body).expect("it is JSON");
    assert_eq!(error, json!({"error": "line 2: no rule\nrust\n^", "status": 400}));
    assert_eq!(scene.client.ask(&format!("GET {path}"), "").body.lines().count(), 2, "as before");
    scene.ask(204, &format!("DELETE {path}"), &Value::Null);
    assert_eq!(take(&scene.calls), [r#"schedule a: """#]);
    // Kept while the proxy is stopped.
    put(&mut scene, "split 10 down");
    scene.ask(200, "POST /proxies/a", &json!({"enabled": false}));
    assert_eq!(scene.client.ask(&format!("GET {path}"), "").body, "split 10 every 10 down\n");
    // A new one of that name has none, and a reset removes it.
    scene.ask(204, "DELETE /proxies/a", &Value::Null);
    scene.create("a");
    assert_eq!(scene.client.ask(&format!("GET {path}"), "").body, "");
    put(&mut scene, "split 10 down");
    scene.ask(204, "POST /reset", &Value::Null);
    assert_eq!(scene.client.ask(&format!("GET {path}"), "").body, "");
    put(&mut scene, "split 10 down");
    let list = json!([{"name": "a", "listen": "localhost:0", "upstream": "other:1"}]);
    scene.ask(201, "POST /populate", &list);
    assert_eq!(scene.client.ask(&format!("GET {path}"), "").body, "", "it was replaced");
    for method in ["GET", "PUT", "DELETE"] {
        let request = format!("{method} /trustctl/proxies/x/schedule");
        assert_eq!(scene.refused(404, &request, &Value::Null), "proxy not found");
    }
}

#[test]
fn a_seed_is_set() {
    let mut scene = Scene::new();
    let seed = json!({"seed": u64::MAX});
    assert_eq!(scene.ask(200, "POST /trustctl/seed", &seed), seed);
    assert_eq!(scene.traffic.lock().report.seed, u64::MAX);
    for body in [json!({"seed": -1}), json!({"seed": "1"}), json!({}), json!({"seed": 1, "x": 2})] {
        let error = scene.refused(400, "POST /trustctl/seed", &body);
        assert!(error.starts_with("bad request body: "), "{error}");
    }
}

#[test]
fn the_operations_of_toxiproxy_are_there_for_browsers() {
    let scene = Scene::new();
    let own = format!("Origin: http://localhost:{}", scene.address().port());
    let browser = ["User-Agent: Mozilla/5.0".to_owned(), own];
    let mut client = scene.connect();
    let mut ask = |request: &str, body: &str| {
        let port = scene.address().port();
        let lines = browser.iter().map(|line| format!("{line}\r\n")).collect::<String>();
        let host = format!("Host: localhost:{port}\r\nContent-Length: {}\r\n", body.len());
        let head = format!("{request} HTTP/1.1\r\n{host}{lines}\r\n");
        client.stream.write_all((head + body).as_bytes()).expect("it is read");
        client.receive(false)
    };
    let body = r#"{"name":"p","listen":"localhost:0","upstream":"u:1"}"#;
    assert_eq!(ask("POST /trustctl/proxies", body).status, 201);
    assert_eq!(ask("POST /trustctl/proxies/p/toxics", r#"{"type":"latency"}"#).status, 200);
    let patch = "PATCH /trustctl/proxies/p/toxics/latency_downstream";
    assert_eq!(ask(patch, r#"{"attributes":{"latency":5}}"#).status, 200);
    let toxics = ask("GET /trustctl/proxies/p/toxics", "").body;
    assert!(toxics.contains(r#""latency":5"#), "{toxics}");
    assert_eq!(ask("DELETE /trustctl/proxies/p/toxics/latency_downstream", "").status, 204);
    let error = ask("DELETE /trustctl/proxies/x", "");
    assert_eq!((error.status, &*error.body), (404, r#"{"error":"proxy not found","status":404}"#));
    assert_eq!(error.headers["content-type"], "application/json");
    // The same browser gets nothing where Toxiproxy gives it nothing.
    assert_eq!(ask("GET /proxies", "").status, 403);
}

#[test]
fn a_browser_is_let_in_by_names_that_are_allowed_and_from_our_own_page() {
    let allowed_hosts = vec!["proxy.test".to_owned()];
    let scene = Scene::with(ApiSettings { allowed_hosts, ..ApiSettings::default() });
    let status = |path: &str, headers: &str| {
        let mut client = scene.connect();
        let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
        client.stream.write_all(request.as_bytes()).expect("it is read");
        let WireAnswer { status, body, .. } = client.receive(false);
        assert!(status != 403 || body.contains("not allowed"), "{body}");
        status
    };
    let version = "/trustctl/version";
    for headers in [
        "Host: 127.0.0.1:8474\r\n",
        "Host: [::1]:8474\r\n",
        "Host: proxy.test:8474\r\n",
        "Host: localhost\r\nOrigin: http://localhost\r\n",
        "Host: localhost:1\r\nOrigin: http://localhost:1\r\nUser-Agent: Mozilla/5.0\r\n",
    ] {
        assert_eq!(status(version, headers), 200, "{headers}");
    }
    for headers in [
        "Host: evil.test\r\n",
        "Host: evil.test\r\nOrigin: http://evil.test\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost:1\r\nOrigin: http://localhost:2\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
    ] {
        assert_eq!(status(version, headers), 403, "{headers}");
    }
    // Toxiproxy's own paths take every host and no origin.
    assert_eq!(status("/version", "Host: toxiproxy.service\r\n"), 200);
    assert_eq!(status("/version", "Host: localhost\r\nOrigin: http://localhost\r\n"), 403);
}

#[test]
fn events_are_followed_as_lines_or_as_an_event_stream() {
    let mut scene = Scene::new();
    let mut lines = scene.connect();
    lines.send("GET /trustctl/events", &[], "");
    assert_eq!(lines.receive_head().headers["content-type"], "application/x-ndjson");
    assert_eq!(lines.receive_piece(), "{\"event\":\"follow_start\"}\n");
    let mut page = scene.connect();
    page.send("GET /trustctl/events", &["Accept: text/event-stream".to_owned()], "");
    assert_eq!(page.receive_head().headers["content-type"], "text/event-stream");
    assert_eq!(page.receive_piece(), "data: {\"event\":\"follow_start\"}\n\n");
    // A client that will send no more still follows.
    lines.stream.shutdown(Shutdown::Write).unwrap();
    scene.traffic.note("{\"event\":\"fault\",\"rule\":\"drop\"}\n");
    assert_eq!(lines.receive_piece(), "{\"event\":\"fault\",\"rule\":\"drop\"}\n");
    assert_eq!(page.receive_piece(), "data: {\"event\":\"fault\",\"rule\":\"drop\"}\n\n");
    let trace = scene.ask(200, "GET /trustctl/trace", &Value::Null);
    assert_eq!(trace["faults"], json!([{"event": "fault", "rule": "drop"}]));
    assert_eq!(trace["dropped"], 0);
    drop(scene.server);
    lines.expect_end();
    page.expect_end();
}

#[test]
fn a_follower_that_never_reads_holds_up_nothing_and_is_closed() {
    let mut scene = Scene::with(short());
    let mut deaf = scene.connect();
    deaf.send("GET /trustctl/events", &[], "");
    // It has its place once it has had the first line.
    assert_eq!(deaf.receive_head().status, 200);
    let line = format!(r#"{{"event":"e","text":"{}"}}"#, "x".repeat(8_000));
    // Far more than all buffers on the way have room for: a loop that waited would never be done.
    for _ in 0..10_000 {
        scene.traffic.note(&line);
    }
    scene.ask(200, "GET /trustctl/version", &Value::Null);
    let mut reader = scene.connect();
    reader.send("GET /trustctl/events", &[], "");
    reader.receive_head();
    assert_eq!(reader.receive_piece(), "{\"event\":\"follow_start\"}\n");
    // One that reads stays for longer than the time that is given for each piece.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let piece = reader.receive_piece();
        assert_eq!(piece, "{\"event\":\"follow_idle\"}\n");
    }
    // What was sent before is there; then comes the end.
    deaf.expect_end();
}

#[test]
fn a_follower_that_is_slow_is_told_what_it_has_missed() {
    let scene = Scene::new();
    let mut slow = scene.connect();
    slow.send("GET /trustctl/events", &[], "");
    slow.receive_head();
    slow.receive_piece();
    let text = "x".repeat(8_000);
    let sent = 10_000;
    for _ in 0..sent {
        scene.traffic.note(&format!(r#"{{"event":"e","text":"{text}"}}"#));
    }
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < sent {
        for line in slow.receive_piece().lines() {
            let event: Value = serde_json::from_str(line).expect("each line is JSON");
            match event["event"].as_str() {
                Some("e") => seen += 1,
                Some("follow_lost") => lost += event["count"].as_u64().expect("a number"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(seen + lost, sent);
    assert!(lost > 0 && seen > 0, "{seen} seen, {lost} lost");
}

#[test]
fn reports_are_followed_with_the_faults_between_them() {
    let mut scene = Scene::with(short());
    scene.create("a");
    let mut page = scene.connect();
    page.send("GET /trustctl/report", &["Accept: text/event-stream".to_owned()], "");
    assert_eq!(page.receive_head().headers["content-type"], "text/event-stream");
    let mut next = || {
        let piece = page.receive_piece();
        let data = piece.strip_prefix("event: report\ndata: ");
        let data = data.and_then(|piece| piece.strip_suffix("\n\n"));
        data.map(|data| serde_json::from_str::<Value>(data).expect("it is JSON")).ok_or(piece)
    };
    let report = next().expect("a report comes first");
    assert_eq!(report["proxies"][0]["name"], "a");
    assert_eq!(next(), Err("data: {\"event\":\"follow_start\"}\n\n".to_owned()));
    scene.traffic.note(r#"{"event":"other"}"#);
    scene.traffic.note(r#"{"event":"fault"}"#);
    scene.traffic.lock().report.seed = 9;
    let fault = loop {
        // One may be on its way.
        if let Err(piece) = next() {
            break piece;
        }
    };
    assert_eq!(fault, "data: {\"event\":\"fault\"}\n\n");
    while next().expect("no more faults")["seed"] != 9 {}
}

/// Waits in another thread.
fn wait_for(scene: &Scene, body: &Value) -> thread::JoinHandle<WireAnswer> {
    let (mut client, body) = (scene.connect(), body.to_string());
    thread::spawn(move || client.ask("POST /trustctl/wait", &body))
}

#[test]
fn a_wait_ends_when_the_rule_has_fired_often_enough() {
    let mut scene = Scene::new();
    scene.create("a");
    scene.ask(200, "POST /proxies/a/toxics", &json!({"type": "reset_peer", "name": "r"}));
    scene.traffic.lock().report.rules = vec![
        rule("rst @ byte 5 up", "a", None),
        rule("drop 1 byte @ byte 0 down", "a", Some("r")),
        rule("rst both @ byte 1 down", "a", Some("r")),
    ];
    let by_rule = json!({"rule": "rst @ byte 5 up", "times": 2, "timeout": "60s"});
    let by_toxic = json!({"toxic": "r", "proxy": "a", "timeout": "60s"});
    let (rule, toxic) = (wait_for(&scene, &by_rule), wait_for(&scene, &by_toxic));
    // The others are answered in the meantime.
    scene.ask(200, "GET /trustctl/version", &Value::Null);
    scene.traffic.fire(0);
    scene.traffic.fire(1);
    let answer = toxic.join().unwrap();
    assert_eq!((answer.status, &*answer.body), (200, r#"{"fired":1}"#));
    assert!(!rule.is_finished(), "once is not enough");
    scene.traffic.note(r#"{"event":"other"}"#);
    scene.traffic.fire(0);
    let answer = rule.join().unwrap();
    assert_eq!((answer.status, &*answer.body), (200, r#"{"fired":2}"#));
    // What has happened before counts, and both rules of a toxic do not count twice.
    scene.traffic.fire(2);
    assert_eq!(scene.ask(200, "POST /trustctl/wait", &by_rule), json!({"fired": 2}));
    assert_eq!(scene.ask(200, "POST /trustctl/wait", &by_toxic), json!({"fired": 1}));
    let of_proxy = json!({"rule": "rst  @ byte 5 up", "proxy": "a"});
    assert_eq!(scene.ask(200, "POST /trustctl/wait", &of_proxy), json!({"fired": 2}));
}

#[test]
fn a_wait_that_is_too_long_says_how_often_it_has_fired() {
    let mut scene = Scene::new();
    scene.create("a");
    scene.ask(200, "POST /proxies/a/toxics", &json!({"type": "noop"}));
    scene.traffic.lock().report.rules = vec![rule("rst @ byte 5 up", "a", None)];
    scene.traffic.fire(0);
    let body = json!({"rule": "rst @ byte 5 up", "times": 3, "timeout": "100ms"});
    let start = Instant::now();
    let error = scene.refused(408, "POST /trustctl/wait", &body);
    assert_eq!(error, "timed out after 100ms: rule rst @ byte 5 up: fired 1 of 3 times");
    assert!(start.elapsed() >= Duration::from_millis(100));
    let body = json!({"toxic": "noop_downstream", "proxy": "a", "timeout": "0s"});
    let error = scene.refused(408, "POST /trustctl/wait", &body);
    assert_eq!(error, "timed out after 0s: toxic noop_downstream of a: fired 0 of 1 times");
    // The connection goes on.
    scene.ask(200, "GET /trustctl/version", &Value::Null);
}

#[test]
fn a_wait_for_something_that_is_not_there_fails_at_once() {
    let mut scene = Scene::new();
    scene.create("a");
    let mut refused = |body: Value| scene.refused(404, "POST /trustctl/wait", &body);
    assert_eq!(refused(json!({"rule": "rst"})), "rule not found: rst: there are no rules");
    assert_eq!(refused(json!({"rule": "rst", "proxy": "x"})), "proxy not found");
    assert_eq!(refused(json!({"toxic": "t", "proxy": "a"})), "toxic not found");
    scene.traffic.lock().report.rules = vec![rule("rst @ byte 5 up", "a", None)];
    let error = scene.refused(404, "POST /trustctl/wait", &json!({"rule": "rst"}));
    assert_eq!(error, "rule not found: rst: expected rst @ byte 5 up");
}

#[test]
fn a_wait_for_a_toxic_that_is_removed_ends() {
    let mut scene = Scene::new();
    scene.create("a");
    scene.ask(200, "POST /proxies/a/toxics", &json!({"type": "noop", "name": "t"}));
    scene.traffic.lock().report.rules = vec![rule("rst @ byte 5 up", "a", None)];
    let wait = wait_for(&scene, &json!({"toxic": "t", "proxy": "a", "timeout": "60s"}));
    // Once it waits, it has asked for the rules.
    let asked = Instant::now();
    while !wait.is_finished() {
        assert!(asked.elapsed() < STEP_DEADLINE, "the wait does not end");
        scene.client.ask("DELETE /proxies/a/toxics/t", "");
        scene.traffic.fire(0);
        thread::yield_now();
    }
    let answer = wait.join().unwrap();
    assert_eq!(
        (answer.status, &*answer.body),
        (404, r#"{"error":"toxic not found","status":404}"#)
    );
}

#[test]
fn waits_and_followers_end_with_the_server() {
    let mut scene = Scene::new();
    scene.create("a");
    scene.traffic.lock().report.rules = vec![rule("rst @ byte 5 up", "a", None)];
    let mut waiting = scene.connect();
    let body = r#"{"rule":"rst @ byte 5 up","timeout":"1h"}"#;
    waiting.send("POST /trustctl/wait", &[], body);
    let mut following = scene.connect();
    following.send("GET /trustctl/events", &[], "");
    following.receive_head();
    drop(scene.server);
    waiting.expect_end();
    following.expect_end();
    scene.traffic.note(r#"{"event":"fault"}"#);
}
