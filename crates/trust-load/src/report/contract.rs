//! `docs/LOAD-REPORT.md` against what is written, read strictly and with types of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::report::{csv, json, sample};
use crate::summary::Cause;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    end: End,
    exit: u8,
    target: String,
    r#loop: Loop,
    facts: BTreeMap<String, String>,
    again: String,
    began: String,
    duration_ns: u64,
    rate: Rate,
    messages: Messages,
    connections: Connections,
    bytes: Bytes,
    latency: Times,
    service: Times,
    errors: Errors,
    wrong: Vec<Wrong>,
    client: Client,
    budgets: Vec<Budget>,
    #[serde(deserialize_with = "there")]
    search: Option<Search>,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Search {
    budgets: Vec<String>,
    #[serde(deserialize_with = "there")]
    found_per_second: Option<f64>,
    end: String,
    #[serde(deserialize_with = "there")]
    disagreement: Option<Disagreement>,
    trials: Vec<Trial>,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Disagreement {
    from_per_second: f64,
    to_per_second: f64,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Trial {
    asked_per_second: f64,
    due_per_second: f64,
    achieved_per_second: f64,
    errors: u64,
    #[serde(deserialize_with = "there")]
    why_not: Option<String>,
    is_client_limit: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    state: State,
    // serde takes a missing Option for None; a field that has a function of its own must be there.
    #[serde(deserialize_with = "there")]
    detail: Option<String>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
enum State {
    Complete,
    Stopped,
    Unreachable,
    Unwritten,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
enum Loop {
    Open,
    Closed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    #[serde(deserialize_with = "there")]
    requested_per_second: Option<f64>,
    achieved_per_second: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Messages {
    sent: u64,
    answered: u64,
    answered_in_time: u64,
    failed: u64,
    unsent: u64,
    outstanding: u64,
    warm_up: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connections {
    made: u64,
    peak: u64,
    connect_time: Times,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes {
    sent: u64,
    received: u64,
    received_in_time: u64,
    received_per_second: f64,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Times {
    count: u64,
    #[serde(deserialize_with = "there")]
    min_ns: Option<u64>,
    #[serde(deserialize_with = "there")]
    p50_ns: Option<u64>,
    #[serde(deserialize_with = "there")]
    p75_ns: Option<u64>,
    #[serde(deserialize_with = "there")]
    p90_ns: Option<u64>,
    #[serde(deserialize_with = "there")]
    p95_ns: Option<u64>,
    #[serde(deserialize_with = "there")]
    p99_ns: Option<u64>,
    #[serde(deserialize_with = "there")]
    p99_9_ns: Option<u64>,
    #[serde(deserialize_with = "there")]
    p99_99_ns: Option<u64>,
    #[serde(deserialize_with = "there")]
    max_ns: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Errors {
    total: u64,
    by_cause: BTreeMap<String, u64>,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Wrong {
    connection: u64,
    message: u64,
    offset: u64,
    header_bytes: u64,
    #[serde(deserialize_with = "there")]
    payload_offset: Option<u64>,
    expected: u8,
    got: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    cpu_ns: u64,
    busy: f64,
    late: Times,
    held_back: u64,
    put_off: u64,
    limits: Vec<String>,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Budget {
    budget: String,
    measured: String,
    missed: bool,
}

fn there<'d, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'d>,
    T: Deserialize<'d>,
{
    Option::deserialize(deserializer)
}

fn text(sample: &sample::Sample) -> String {
    json::report(&sample.run()).expect("a document")
}

fn read(sample: &sample::Sample) -> Document {
    serde_json::from_str(&text(sample)).expect("a document after the contract")
}

#[test]
fn every_end_of_a_run_gives_one_valid_document() {
    for (name, sample) in sample::ALL.iter() {
        let text = text(sample);
        assert!(text.ends_with("}\n"), "{name}");
        let document: Document = serde_json::from_str(&text).expect(name);
        assert_eq!(document.schema, "trustctl-load/1", "{name}");
        assert_eq!(document.exit, sample.exit.code(), "{name}");
        assert_eq!(document.target, sample.about.target, "{name}");
        assert_eq!(document.again, sample.about.again, "{name}");
        let names: BTreeSet<&str> = Cause::ALL.map(Cause::name).into();
        let keys: BTreeSet<&str> = document.errors.by_cause.keys().map(String::as_str).collect();
        assert_eq!(keys, names, "{name}");
        assert_eq!(document.errors.by_cause.values().sum::<u64>(), document.errors.total, "{name}");
    }
}

#[test]
fn numbers_are_those_of_the_run() {
    let sample = sample::named("open");
    let (document, summary) = (read(&sample), &sample.summary);
    assert_eq!((document.end.state, document.end.detail), (State::Complete, None));
    assert_eq!(document.r#loop, Loop::Open);
    assert_eq!(document.facts["in_flight"], "100");
    let began: jiff::Timestamp = document.began.parse().expect("a time");
    assert_eq!(began, summary.began);
    assert_eq!(document.duration_ns, 120_000_000_000);
    assert_eq!(document.rate.requested_per_second, Some(20_000.0));
    let achieved = summary.counts.answered_in_time as f64 / 120.0;
    assert!((document.rate.achieved_per_second - achieved).abs() < 1e-6);
    let Messages { sent, answered, answered_in_time, failed, unsent, outstanding, warm_up } =
        document.messages;
    let counts = &summary.counts;
    assert_eq!((sent, answered, failed), (counts.sent, counts.answered, counts.failed));
    assert_eq!((answered_in_time, unsent, warm_up), (counts.answered_in_time, 12, 100_000));
    assert_eq!(outstanding, 7);
    let Connections { made, peak, connect_time } = document.connections;
    assert_eq!((made, peak, connect_time.count), (counts.connections, 64, 64));
    let bytes = document.bytes;
    assert_eq!((bytes.sent, bytes.received), (counts.bytes_sent, counts.bytes_received));
    assert_eq!(bytes.received_in_time, counts.bytes_received_in_time);
    assert!((bytes.received_per_second * 120.0 - bytes.received_in_time as f64).abs() < 1.0);
    for (times, histogram) in
        [(&document.latency, &summary.latency), (&document.service, &summary.service)]
    {
        let at = |quantile| Some(histogram.value_at_quantile(quantile));
        let expected = Times {
            count: histogram.len(),
            min_ns: Some(histogram.min()),
            p50_ns: at(0.5),
            p75_ns: at(0.75),
            p90_ns: at(0.9),
            p95_ns: at(0.95),
            p99_ns: at(0.99),
            p99_9_ns: at(0.999),
            p99_99_ns: at(0.9999),
            max_ns: Some(histogram.max()),
        };
        assert_eq!(times, &expected);
    }
    assert_eq!(document.errors.by_cause["reset_before_answer"], 31);
    let header = &document.wrong[2];
    assert_eq!((header.connection, header.message), (51, 3_612));
    assert_eq!((header.offset, header.header_bytes, header.payload_offset), (2, 4, None));
    assert_eq!((header.expected, header.got), (0x4c, 0x4d));
    assert_eq!(document.wrong[0].payload_offset, Some(13));
    let client = document.client;
    assert_eq!((client.cpu_ns, client.late.count), (40_800_000_000, summary.client.late.len()));
    assert!((client.busy - 0.342).abs() < 1e-9);
    assert_eq!((client.held_back, client.put_off), (1_730, 60));
    assert_eq!(client.limits, summary.client.limits);
    let (budget, measured) = ("p99>5ms".to_owned(), "1.02 s".to_owned());
    assert_eq!(document.budgets[0], Budget { budget, measured, missed: true });
    assert!(!document.budgets[2].missed);
}

#[test]
fn what_was_not_measured_is_null() {
    let document = read(&sample::named("unreachable"));
    assert_eq!(document.end.state, State::Unreachable);
    assert!(document.end.detail.is_some_and(|why| why.contains("Connection refused")));
    assert_eq!((document.exit, document.errors.total), (69, 1));
    assert_eq!((document.latency.count, document.latency.p99_ns), (0, None));
    assert_eq!(document.rate.requested_per_second, None);
    let document = read(&sample::named("interrupted"));
    assert_eq!((document.end.state, document.exit), (State::Stopped, 130));
    assert_eq!(document.end.detail.as_deref(), Some("SIGINT"));
    assert!(document.latency.p99_ns.is_some());
}

#[test]
fn a_search_has_its_trials_in_order() {
    assert_eq!(read(&sample::named("open")).search, None);
    let search = read(&sample::named("searched")).search.expect("a search");
    assert_eq!((search.budgets, search.found_per_second), (vec!["p99<5ms".into()], Some(1000.0)));
    assert_eq!(search.end, "bracketed");
    assert_eq!(search.disagreement, None);
    let [holds, fails] = &search.trials[..] else { panic!("{:?}", search.trials) };
    assert_eq!((holds.asked_per_second, &holds.why_not), (1000.0, &None));
    assert_eq!((fails.asked_per_second, fails.achieved_per_second), (1050.0, 1049.5));
    assert_eq!(fails.why_not.as_deref(), Some("p99<5ms: 7.31 ms"));
    assert_eq!((fails.due_per_second, fails.errors, fails.is_client_limit), (1050.0, 0, false));
}

/// Names of all fields at any depth, but for the facts, whose names are those of flags.
fn fields(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                names.insert(name.clone());
                if name != "facts" {
                    fields(value, names);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
        _ => {}
    }
}

/// The first cells of the tables in a section, as far as they are names.
fn documented(section: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/LOAD-REPORT.md");
    let text = fs::read_to_string(path).expect("the document");
    let (_, rest) = text.split_once(&format!("## {section}\n")).expect("the section");
    let rest = rest.split("\n## ").next().unwrap_or(rest);
    let rows = rest.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split(", ")).filter_map(|name| {
        let path = name.strip_prefix('`')?.strip_suffix('`')?;
        path.rsplit('.').next().map(str::to_owned)
    });
    names.collect()
}

#[test]
fn the_document_names_every_field_and_no_other() {
    let mut names = BTreeSet::new();
    for (_, sample) in sample::ALL.iter() {
        fields(&serde_json::from_str(&text(sample)).expect("JSON"), &mut names);
    }
    assert_eq!(documented("JSON"), names);
}

#[test]
fn the_document_names_every_column_and_no_other() {
    let header = csv::header();
    let columns: BTreeSet<String> = header.trim_end().split(',').map(str::to_owned).collect();
    assert_eq!(documented("CSV"), columns);
}

#[test]
fn every_line_of_a_run_has_every_column() {
    let sample = sample::named("open");
    let lines: Vec<&str> = sample.csv.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 121);
    let columns = lines[0].split(',').count();
    for line in lines {
        assert_eq!(line.split(',').count(), columns, "{line}");
    }
}
