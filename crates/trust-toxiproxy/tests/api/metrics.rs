//! `/metrics` over HTTP: for Prometheus, and as its own tool judges it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use trust_testkit::http::{Client, WireAnswer};
use trust_toxiproxy::metrics::MetricsChoice;
use trust_toxiproxy::server::{ApiServer, ApiSettings, loopback};
use trust_toxiproxy::traffic::{BothWays, ProxyTraffic, StreamTotals};

use crate::control::rule;
use crate::fake::{Calls, FakeTraffic, api_of};

const ALL: MetricsChoice = MetricsChoice { traffic: true, process: true };

fn start(traffic: &FakeTraffic, metrics: MetricsChoice) -> ApiServer {
    let settings = ApiSettings { metrics, ..ApiSettings::default() };
    let api = api_of(traffic.clone(), Calls::default());
    ApiServer::start(&loopback(0), settings, api, |_| {}).expect("it can listen")
}

fn get(server: &ApiServer, headers: &[&str]) -> WireAnswer {
    let mut client = Client::connect(server.addresses()[0]);
    let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
    client.send("GET /metrics", &headers, "");
    client.receive(false)
}

/// Traffic with everything that metrics can have.
fn traffic() -> FakeTraffic {
    let traffic = FakeTraffic::default();
    let mut parts = traffic.lock();
    for name in ["redis", "a \"b\" \\ \n c"] {
        let [proxy, listen, upstream] =
            [name, "127.0.0.1:20000", "localhost:20002"].map(str::to_owned);
        let totals = StreamTotals { received: 5, sent: 5, held: 0 };
        let streams = BothWays { up: totals, down: totals };
        let known = ProxyTraffic { proxy, listen, upstream, streams, ..Default::default() };
        parts.report.proxies.push(known);
        parts.report.rules.push(rule("rst @ byte 5 up", name, None));
        parts.report.rules.push(rule("delay 100ms ±10ms down", name, Some("latency_downstream")));
    }
    parts.report.lateness.record(Duration::from_micros(70));
    drop(parts);
    traffic
}

#[test]
fn without_a_choice_there_are_no_metrics() {
    let server = start(&traffic(), MetricsChoice::default());
    let answer = get(&server, &[]);
    assert_eq!((answer.status, &*answer.body), (404, "404 page not found\n"));
    assert!(!answer.headers.contains_key("x-toxiproxy-request-id"));
}

#[test]
fn metrics_are_counted_live_with_the_labels_of_toxiproxy() {
    let traffic = traffic();
    let server = start(&traffic, MetricsChoice { traffic: true, process: false });
    let line = |value: u64| {
        format!(
            "toxiproxy_proxy_sent_bytes_total{{direction=\"upstream\",listener=\"127.0.0.1:20000\",\
             proxy=\"redis\",upstream=\"localhost:20002\"}} {value}"
        )
    };
    let answer = get(&server, &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(answer.headers.contains_key("x-toxiproxy-request-id"));
    assert!(answer.body.lines().any(|it| it == line(5)), "{}", answer.body);
    assert!(!answer.body.contains("process_"));
    traffic.lock().report.proxies[0].streams.up.sent = 6;
    let later = get(&server, &[]).body;
    assert!(later.lines().any(|it| it == line(6)), "{later}");
}

#[test]
fn open_metrics_is_an_answer_to_those_who_accept_it() {
    let server = start(&traffic(), ALL);
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
    let answer = get(&server, &[accept]);
    let expected = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.headers["content-type"], expected);
    assert!(answer.body.ends_with("\n# EOF\n"));
}

#[test]
fn metrics_are_as_guarded_as_all_of_toxiproxy() {
    let server = start(&traffic(), ALL);
    let refused = get(&server, &["User-Agent: Mozilla/5.0"]);
    assert_eq!((refused.status, &*refused.body), (403, "User agent not allowed\n"));
    assert_eq!(get(&server, &["Origin: http://localhost"]).status, 403);
    assert_eq!(get(&server, &["User-Agent: Prometheus/3.5.0"]).status, 200);
    let mut client = Client::connect(server.addresses()[0]);
    assert_eq!(client.ask("POST /metrics", "").status, 200, "any method, as there");
    assert_eq!(client.ask("GET /metrics/", "").status, 404);
}

#[test]
fn process_metrics_can_be_all_there_is() {
    let server = start(&traffic(), MetricsChoice { traffic: false, process: true });
    let body = get(&server, &[]).body;
    assert!(body.starts_with("# HELP process_"), "{body}");
    assert!(!body.contains("proxy"), "{body}");
}

/// `make promtool` runs it.
#[test]
#[ignore = "needs promtool, which is in Debian's package prometheus"]
fn the_tool_of_prometheus_finds_nothing_wrong() {
    for traffic in [traffic(), FakeTraffic::default()] {
        let body = get(&start(&traffic, ALL), &[]).body;
        let mut tool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is there");
        let mut input = tool.stdin.take().expect("a pipe");
        input.write_all(body.as_bytes()).expect("it reads everything");
        drop(input);
        let output = tool.wait_with_output().expect("it ends");
        let found = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && found.is_empty(), "{found}\n{body}");
    }
}
