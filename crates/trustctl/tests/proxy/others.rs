//! Servers, clients and checks through a proxy: they find what they find without one.

use std::collections::BTreeMap;

use serde_json::Value;
use trust_testkit::program::Home;
use trust_testkit::server::{NO_FLAGS, Server};

use crate::proxy::Proxy;

/// Longer than a whole check takes on a busy machine.
const CHECK_DEADLINE: std::time::Duration = std::time::Duration::from_secs(300);

/// How often a case is tried that says something else through the proxy: on a busy machine a few
/// are inconclusive now and then.
const LOOKS: u32 = 3;

#[test]
fn a_check_through_a_proxy_says_the_same_as_directly_case_by_case() {
    let server = Server::start(["--timeout", "5"]);
    let proxy = Proxy::start(server.address(), &[]);
    let mut cases = "*".to_owned();
    let mut differences = vec![];
    for look in 1..=LOOKS {
        let directly = verdicts(server.port(), &cases);
        let through = verdicts(proxy.port(), &cases);
        assert!(cases != "*" || directly.len() > 70, "{directly:?}");
        let ids: Vec<&str> = directly
            .iter()
            .filter(|(id, it)| {
                let there = &through[*id];
                // On a slow machine a proxy makes it slower still, and the check says so.
                let is_judged = look < LOOKS || (there != "inconclusive" && *it != "inconclusive");
                there != *it && is_judged
            })
            .map(|(id, _)| id.as_str())
            .collect();
        if ids.is_empty() {
            proxy.stop();
            server.stop();
            return;
        }
        let told = |id: &&str| format!("{id}: {}, not {}", through[*id], directly[*id]);
        differences.push(ids.iter().map(told).collect::<Vec<_>>().join(", "));
        cases = ids.join(",");
    }
    panic!("what the proxy changes, again and again: {}", differences.join("; "));
}

/// What a check of these cases says, by case.
fn verdicts(port: u16, cases: &str) -> BTreeMap<String, String> {
    let flags = ["--timeout", "5", "--json", "--jobs", "8", "--case", cases];
    let launch = Home::new().trustctl(["check", &port.to_string()]).args(flags);
    let finished = launch.start().wait_for(CHECK_DEADLINE);
    let report: Value = serde_json::from_str(finished.text()).expect("a document");
    report["cases"].as_array().expect("a list").iter().map(verdict).collect()
}

fn verdict(case: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&case["id"]), text(&case["verdict"]))
}

/// Messages of a load through the proxy; `make proxy-load` has more.
const MESSAGES: u64 = 100_000;

/// Clients at a time.
const CLIENTS: u64 = 50;

#[test]
fn a_load_through_a_proxy_loses_nothing() {
    let wanted = std::env::var("MESSAGES").ok();
    let wanted = wanted.map_or(MESSAGES, |text| text.parse().expect("a number in MESSAGES"));
    let each = format!("--messages={}", wanted / CLIENTS);
    let server = Server::start(NO_FLAGS);
    let proxy = Proxy::start(server.address(), &[]);
    let port = proxy.port().to_string();
    let flags = ["--concurrency=50", &each, "--messages-per-connection=500", "--json"];
    let launch = Home::new().trustctl(["load", &port]).args(flags);
    let finished = launch.start().wait_for(CHECK_DEADLINE).exits_with(0);
    let document: Value = serde_json::from_str(finished.text()).expect("a document");
    assert_eq!(document["messages"]["answered"], wanted, "{document}");
    assert_eq!(document["errors"]["total"], 0, "{document}");
    let events = proxy.stop();
    let stop = trust_testkit::event::only(&events, "proxy_stop");
    assert_eq!(stop.count("bytes_up"), stop.count("bytes_down"));
    server.stop();
}
