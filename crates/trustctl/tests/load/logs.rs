//! The log of histograms, and the agreement of all reports of a run.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use hdrhistogram::Histogram;
use trust_load::hdr_log::{Decoder, End, Header, Reader, Series};
use trust_load::summary::Counts;
use trust_load::timings::times;

use super::command::{RUN_DEADLINE, load};
use super::csv::Csv;
use super::document::{Document, all as all_of};
use super::server::Server;
use trust_load::report::json::Messages;
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] =
    tests![the_log_adds_up_to_the_percentiles_of_the_result, csv_has_a_line_a_second_that_adds_up,];

/// A log, added up.
pub(crate) struct Log {
    /// Start and length of each interval of the latency, in nanoseconds.
    pub(crate) rows: Vec<(u64, u64)>,
    /// The latencies of each.
    pub(crate) intervals: Vec<Histogram<u64>>,
    pub(crate) latency: Histogram<u64>,
    pub(crate) service: Histogram<u64>,
    pub(crate) header: Header,
    /// The last line of a complete run's log.
    pub(crate) end: Option<End>,
}

impl Log {
    #[track_caller]
    pub(crate) fn read(path: &Path) -> Log {
        let file = BufReader::new(File::open(path).expect("the log is there"));
        let mut reader = Reader::open(file).expect("a log");
        let header = reader.header().cloned().expect("the log of a run has a header");
        let mut decoder = Decoder::default();
        let (mut rows, mut intervals, mut services) = (vec![], vec![], 0);
        let (mut latency, mut service) = (times(), times());
        while let Some(interval) = reader.interval(&mut decoder).expect("a right line") {
            let sum = match interval.fields.series {
                Series::Latency => {
                    rows.push((interval.begin, interval.fields.length));
                    &mut latency
                }
                Series::Service => {
                    services += 1;
                    &mut service
                }
            };
            let mut histogram = times();
            for (value, count) in interval.counts {
                histogram.record_n(*value, *count).expect("it is in range");
            }
            sum.add(&histogram).expect("it has the same bounds");
            if interval.fields.series == Series::Latency {
                intervals.push(histogram);
            }
            reader.advance().expect("a right line");
        }
        assert!(services == 0 || services == rows.len(), "{services} of {}", rows.len());
        if services == 0 {
            service = latency.clone();
        }
        Log { rows, intervals, latency, service, header, end: reader.end().cloned() }
    }

    /// Checks that the log has the same numbers as the result.
    #[track_caller]
    pub(crate) fn says_the_same_as(&self, document: &Document) {
        for (logged, told) in
            [(&self.latency, &document.latency), (&self.service, &document.service)]
        {
            let told_all =
                all_of(told).map(|time| time.map(|time| logged.highest_equivalent(time)));
            assert_eq!(all(logged), (told.count, told_all));
        }
        let seed = self.header.seed.map(|seed| seed.to_string());
        assert_eq!(seed.as_ref(), document.facts.get("seed"));
        let Some(end) = &self.end else { panic!("the log has no end") };
        let Messages { sent, answered, answered_in_time, failed, unsent, outstanding, .. } =
            document.messages;
        let counts = Counts {
            sent,
            answered,
            answered_in_time,
            failed,
            unsent,
            outstanding,
            ..Counts::default()
        };
        assert_eq!((end.counts, end.took_ns), (counts, document.duration_ns));
        assert_eq!(end.achieved_rate, document.rate.achieved_per_second);
        assert_eq!(end.client_limits, document.client.limits);
        assert_eq!(end.errors, document.errors.by_cause.clone().into());
    }
}

/// The count, and the percentiles in the order of [`all_of`], each as the highest time that the
/// histogram cannot distinguish from it. The document has the shortest and the longest time
/// exactly.
fn all(times: &Histogram<u64>) -> (u64, [Option<u64>; 9]) {
    let quantiles = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999];
    let mut all = vec![times.highest_equivalent(times.min())];
    all.extend(quantiles.map(|quantile| times.value_at_quantile(quantile)));
    all.push(times.max());
    let all: Vec<Option<u64>> =
        all.into_iter().map(|time| (!times.is_empty()).then_some(time)).collect();
    (times.len(), all.try_into().expect("there are nine"))
}

/// Checks that there are rows for two seconds and for the remainder, with these lengths in seconds.
#[track_caller]
fn has_a_row_a_second(lengths: &[f64]) {
    let [1.0, 1.0, last] = lengths else { panic!("{lengths:?}") };
    assert!((0.5..=1.0).contains(last), "{lengths:?}");
}

fn the_log_adds_up_to_the_percentiles_of_the_result() {
    for (flags, is_open) in [("--rate 400 --concurrency 3", true), ("--think 0.002", false)] {
        let (home, server) = (Home::new(), Server::echo());
        let path = home.elsewhere("a.hlog");
        let path_flag = format!("--hdr-log {}", path.display());
        let flags = format!("{flags} --duration 2.5 --warm-up 0.5 --size 0-500 --json {path_flag}");
        let finished = load(&home, &server, &flags).start().wait_for(RUN_DEADLINE).exits_with(0);
        let document = Document::read(&finished);
        let log = Log::read(&path);
        log.says_the_same_as(&document);
        let count = document.latency.count;
        assert!(if is_open { count == 1_000 } else { count > 100 }, "{document:?}");

        let lengths: Vec<f64> = log.rows.iter().map(|(_, length)| *length as f64 / 1e9).collect();
        has_a_row_a_second(&lengths);
        for pair in log.rows.windows(2) {
            assert_eq!(pair[0].0 + pair[0].1, pair[1].0, "{:?}", log.rows);
        }
    }
}

fn csv_has_a_line_a_second_that_adds_up() {
    let (home, server) = (Home::new(), Server::echo());
    let flags = "--rate 400 --duration 2.5 --warm-up 0.5 --csv";
    let finished = load(&home, &server, flags).start().wait_for(RUN_DEADLINE).exits_with(0);
    let csv = Csv::read(finished.text());
    csv.is_sound();
    has_a_row_a_second(&csv.rows.iter().map(|row| row.length).collect::<Vec<f64>>());
    // The last messages of the warm-up may have come back after it, and so their bytes.
    let answered = csv.rows.iter().map(|row| row.answered).sum::<u64>();
    assert!((1_000..=1_200).contains(&answered), "{csv:?}");
    assert!(csv.rows.iter().all(|row| row.errors == 0), "{csv:?}");
    let bytes = csv.rows.iter().map(|row| row.bytes_received).sum::<u64>();
    assert!((68_000..=68_000 + 200 * 68).contains(&bytes), "{csv:?}");
}
