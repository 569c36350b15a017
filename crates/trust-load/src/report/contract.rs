//! `docs/LOAD-REPORT.md` against what is written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use trust_cli::output;

use crate::report::csv;
use crate::report::fields::{ByPercentile, Loop, Percentiles, Support};
use crate::report::json::{Connections, EndState, LoadDocument, Messages};
use crate::report::sample;
use crate::search::SearchEnd;
use crate::summary::{Cause, Judgement};
use crate::timings::Timings;

fn text(sample: &sample::Sample) -> String {
    output::document(&LoadDocument::of(&sample.run()))
}

fn document_of(name: &str) -> LoadDocument {
    LoadDocument::of(&sample::named(name).run())
}

#[test]
fn every_end_of_a_run_gives_one_valid_document() {
    for (name, sample) in sample::ALL.iter() {
        let text = text(sample);
        assert!(text.ends_with("}\n"), "{name}");
        let document: LoadDocument = serde_json::from_str(&text).expect(name);
        assert_eq!(document, LoadDocument::of(&sample.run()), "{name}");
        assert_eq!(document.exit, sample.exit.code(), "{name}");
        assert_eq!(document.target, sample.about.target, "{name}");
        assert_eq!(document.again, sample.about.again, "{name}");
        assert!(document.errors.by_cause.keys().copied().eq(Cause::ALL), "{name}");
        assert_eq!(document.errors.by_cause.values().sum::<u64>(), document.errors.total, "{name}");
    }
}

#[test]
fn numbers_are_those_of_the_run() {
    let sample = sample::named("open");
    let (document, summary) = (LoadDocument::of(&sample.run()), &sample.summary);
    assert_eq!((document.end.state, document.end.detail), (EndState::Complete, None));
    assert_eq!(document.r#loop, Loop::Open);
    assert_eq!(document.facts["in_flight"], "100");
    assert_eq!(document.began, summary.began);
    assert_eq!(document.duration_ns, 120_000_000_000);
    assert_eq!(document.rate.requested_per_second, Some(20_000.0));
    let achieved = summary.counts.answered_in_time as f64 / 120.0;
    assert!((document.rate.achieved_per_second - achieved).abs() < 1e-6);
    let Messages {
        sent,
        answered,
        answered_in_time,
        failed,
        past_grace,
        unsent,
        outstanding,
        warm_up,
        ..
    } = document.messages;
    let counts = &summary.counts;
    assert_eq!((sent, answered, failed), (counts.sent, counts.answered, counts.failed));
    assert_eq!((answered_in_time, unsent, warm_up), (counts.answered_in_time, 12, 100_000));
    assert_eq!((past_grace, outstanding), (31, 7));
    let Connections { made, peak, connect_time, .. } = document.connections;
    assert_eq!((made, peak, connect_time.count), (counts.connections, 64, 64));
    let bytes = document.bytes;
    assert_eq!((bytes.sent, bytes.received), (counts.bytes_sent, counts.bytes_received));
    assert_eq!(bytes.received_in_time, counts.bytes_received_in_time);
    assert!((bytes.received_per_second * 120.0 - bytes.received_in_time as f64).abs() < 1.0);
    for (times, histogram) in
        [(&document.latency, &summary.latency), (&document.service, &summary.service)]
    {
        let at = |quantile| Some(histogram.value_at_quantile(quantile));
        let expected = Percentiles {
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
            support: ByPercentile::of(|quantile| {
                let (low_ns, high_ns) = histogram.confidence(quantile);
                Support { supported: true, low_ns, high_ns }
            }),
        };
        assert_eq!(times, &expected);
    }
    assert_eq!(document.errors.by_cause[&Cause::ResetBeforeAnswer], 31);
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
    assert_eq!(document.budgets[0], Judgement { budget, measured, is_missed: true, note: None });
    assert!(!document.budgets[2].is_missed);
}

#[test]
fn what_was_not_measured_is_null() {
    let document = document_of("unreachable");
    assert_eq!(document.end.state, EndState::Unreachable);
    assert!(document.end.detail.is_some_and(|why| why.contains("Connection refused")));
    assert_eq!((document.exit, document.errors.total), (69, 1));
    assert_eq!((document.latency.count, document.latency.p99_ns), (0, None));
    assert_eq!(document.rate.requested_per_second, None);
    let document = document_of("interrupted");
    assert_eq!((document.end.state, document.exit), (EndState::Stopped, 130));
    assert_eq!(document.end.detail.as_deref(), Some("SIGINT"));
    assert!(document.latency.p99_ns.is_some());
}

#[test]
fn percentiles_without_a_sample_beyond_them_stay_and_are_marked() {
    let mut sample = sample::named("closed");
    sample.summary.latency = Timings::default();
    (1..=20).for_each(|ms| sample.summary.latency.add(ms * 1_000_000));
    let latency = LoadDocument::of(&sample.run()).latency;
    assert_eq!((latency.p99_9_ns, latency.p99_99_ns), (latency.max_ns, latency.max_ns));
    let ByPercentile { p50, p95, p99, p99_99, .. } = &latency.support;
    let supported = [p50, p95, p99, p99_99].map(|support| support.supported);
    assert_eq!(supported, [true, true, false, false]);
    // The histogram tells the 19th from the 20th.
    let low = p99.low_ns.expect("a bound");
    assert!(low < latency.max_ns.expect("there are some") && p99.high_ns.is_none(), "{p99:?}");
    assert!(p50.low_ns < latency.p50_ns && p50.high_ns > latency.p50_ns, "{p50:?}");
    assert!(!document_of("unreachable").latency.support.p50.supported);
}

#[test]
fn a_search_has_its_trials_in_order() {
    assert_eq!(document_of("open").search, None);
    let search = document_of("searched").search.expect("a search");
    assert_eq!((search.budgets, search.found_per_second), (vec!["p99<5ms".into()], Some(1000.0)));
    assert_eq!(search.end, SearchEnd::Bracketed);
    assert_eq!(search.disagreement, None);
    let [holds, fails] = &search.trials[..] else { panic!("{:?}", search.trials) };
    assert_eq!((holds.asked_per_second, &holds.why_not), (1000.0, &None));
    assert_eq!((fails.asked_per_second, fails.achieved_per_second), (1050.0, 1049.5));
    assert_eq!(fails.why_not.as_deref(), Some("p99<5ms: 7.31 ms"));
    assert_eq!((fails.due_per_second, fails.errors, fails.is_client_limit), (1050.0, 0, false));
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
