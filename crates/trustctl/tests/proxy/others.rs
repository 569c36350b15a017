//! Servers, clients and checks through a proxy: they find what they find without one.

use std::collections::BTreeMap;

use serde_json::Value;
use trust_testkit::program::Home;
use trust_testkit::server::{NO_FLAGS, Server};

use crate::proxy::Proxy;

/// Longer than a whole check takes on a busy machine.
const CHECK_DEADLINE: std::time::Duration = std::time::Duration::from_secs(300);

#[test]
fn a_check_through_a_proxy_says_the_same_as_directly_case_by_case() {
    let server = Server::start(["--timeout", "5"]);
    let proxy = Proxy::start(server.address(), &[]);
    let verdicts = |port: u16| {
        let launch = Home::new().trustctl(["check", &port.to_string(), "--timeout", "5", "--json"]);
        let finished = launch.args(["--jobs", "8"]).start().wait_for(CHECK_DEADLINE);
        let report: Value = serde_json::from_str(finished.text()).expect("a document");
        let cases = report["cases"].as_array().expect("a list").clone();
        cases.iter().map(verdict).collect::<BTreeMap<_, _>>()
    };
    let (directly, through) = (verdicts(server.port()), verdicts(proxy.port()));
    assert!(directly.len() > 70, "{directly:?}");
    let differ: Vec<_> = directly.iter().filter(|(id, it)| through.get(*id) != Some(*it)).collect();
    assert!(differ.is_empty(), "directly: {differ:?}, through the proxy: {through:?}");
    proxy.stop();
    server.stop();
}

fn verdict(case: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&case["id"]), text(&case["verdict"]))
}

#[test]
fn a_load_through_a_proxy_loses_nothing() {
    let server = Server::start(NO_FLAGS);
    let proxy = Proxy::start(server.address(), &[]);
    let port = proxy.port().to_string();
    let flags = ["--concurrency=50", "--messages=2000", "--messages-per-connection=500", "--json"];
    let launch = Home::new().trustctl(["load", &port]).args(flags);
    let finished = launch.start().wait_for(CHECK_DEADLINE).exits_with(0);
    let document: Value = serde_json::from_str(finished.text()).expect("a document");
    assert_eq!(document["messages"]["answered"], 100_000, "{document}");
    assert_eq!(document["errors"]["total"], 0, "{document}");
    let events = proxy.stop();
    let stop = trust_testkit::event::only(&events, "proxy_stop");
    assert_eq!(stop.count("bytes_up"), stop.count("bytes_down"));
    server.stop();
}
