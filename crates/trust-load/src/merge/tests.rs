//! Logs made here, merged.

use std::io::Sink;

use proptest::prelude::*;

use super::*;
use crate::connection::nanos;
use crate::hdr_log::payload::tests::encoded;
use crate::summary::{Cause, Counts, Errors, QUANTILES};

/// Of a shard; each begins half a second after the one before it, and the first 250 ms late.
fn header(index: u32, of: u32) -> Header {
    let began = "2026-11-30T12:00:02.25Z".parse::<Timestamp>().expect("a time");
    Header {
        shard: Shard::new(index, of),
        start_at: Some("2026-11-30T12:00:00Z".parse().expect("a time")),
        warm_up_ns: 2_000_000_000,
        began: began + Duration::from_millis(500) * index,
        target: "localhost:9900".into(),
        addresses: vec!["127.0.0.1:9900".into()],
        is_open_loop: true,
        rate: Some(100.0),
        rate_of_all: Some(100.0 * f64::from(of)),
        duration_ns: Some(4_000_000_000),
        seed: Some(1),
        is_seed_given: true,
    }
}

fn end(answered: u64) -> End {
    let mut errors = Errors::default();
    errors.add_many(Cause::Timeout, 2);
    End {
        took_ns: 1_000_000_000 * (10 + answered),
        counts: Counts {
            sent: answered + 2,
            answered,
            answered_in_time: answered,
            slow: 1,
            failed: 2,
            outstanding: 1,
            ..Counts::default()
        },
        achieved_rate: answered as f64 / 4.0,
        errors,
        ..End::default()
    }
}

/// Writes an interval of a second.
fn write(writer: &mut Writer<&mut Vec<u8>>, second: usize, latency: &Timings, service: &Timings) {
    let (start, length) = (Duration::from_secs(second as u64), Duration::from_secs(1));
    writer.interval(start, length, [latency, service]).expect("memory takes it");
}

/// A log with an interval of a second for each list of values.
fn log(header: &Header, intervals: &[Vec<u64>], end: Option<&End>) -> Vec<u8> {
    let mut bytes = vec![];
    let mut writer = Writer::new(&mut bytes, header).expect("memory takes it");
    for (second, values) in intervals.iter().enumerate() {
        let (mut latency, mut service) = (Timings::default(), Timings::default());
        for value in values {
            latency.add(*value);
            service.add(value / 2);
        }
        write(&mut writer, second, &latency, &service);
    }
    if let Some(end) = end {
        writer.finish(end).expect("memory takes it");
    }
    bytes
}

/// A log and its name.
type Named<'b> = (&'b str, &'b [u8]);

fn opened<'b>(logs: &[Named<'b>]) -> Result<Vec<Log<&'b [u8]>>, Failure> {
    logs.iter().map(|(name, bytes)| Log::open(name, *bytes)).collect()
}

fn merged(logs: &[Named<'_>]) -> Result<Merged, String> {
    let failed = |stopped| match stopped {
        Stopped::Failed(failure) => {
            assert_eq!(failure.exit, ExitCode::DataError, "{}", failure.message);
            failure.message
        }
        Stopped::Signal(signal) => panic!("no signal was sent: {signal:?}"),
    };
    let logs = opened(logs).map_err(|failure| failed(failure.into()))?;
    merge(logs, None::<Sink>, || None).map_err(failed)
}

/// The logs merged, and the log of that.
fn merged_log(logs: &[Named<'_>]) -> (Merged, Vec<u8>) {
    let mut output = vec![];
    let merged = merge(opened(logs).expect("logs"), Some(&mut output), || None);
    (merged.expect("they go together"), output)
}

#[test]
fn two_shards_are_one_run_of_both() {
    let first = log(&header(0, 2), &[vec![1_000, 2_000], vec![3_000]], Some(&end(3)));
    let second = log(&header(1, 2), &[vec![], vec![4_000_000_000]], Some(&end(1)));
    let merged = merged(&[("a", &first), ("b", &second)]).expect("they go together");
    let (mut latency, mut service) = (times(), times());
    for value in [1_000, 2_000, 3_000, 4_000_000_000] {
        latency.record(value).expect("it is in range");
        service.record(value / 2).expect("it is in range");
    }
    assert_eq!((&*merged.latency, &*merged.service), (&latency, &service));
    let sum = &merged.end;
    let counts = Counts {
        sent: 8,
        answered: 4,
        answered_in_time: 4,
        slow: 2,
        failed: 4,
        outstanding: 2,
        ..Counts::default()
    };
    assert_eq!((sum.took_ns, sum.achieved_rate, sum.counts), (13_000_000_000, 1.0, counts));
    assert_eq!((sum.errors.count(Cause::Timeout), sum.errors.total()), (4, 4));
    assert_eq!(merged.skew, Some(Duration::from_millis(500)));
    let late: Vec<_> = merged.parts.iter().map(|part| part.late_ns).collect();
    assert_eq!(late, [Some(250_000_000), Some(750_000_000)], "the warm-up is not late");
    assert_eq!(merged.header.as_ref().and_then(|header| header.rate), Some(200.0));
    assert!(merged.is_whole());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_split_into_shards_and_intervals_gives_the_percentiles_of_one_histogram(
        values in prop::collection::vec((0u64..5_000_000_000_000, 0usize..4, 0usize..4), 0..200),
    ) {
        const SHARDS: usize = 4;
        let mut split = vec![vec![vec![]; 4]; SHARDS];
        let mut one = times();
        for (value, shard, second) in values {
            split[shard][second].push(value);
            one.saturating_record(value);
        }
        let logs: Vec<Vec<u8>> = (0..SHARDS)
            .map(|shard| {
                let answered = split[shard].iter().map(|values| values.len() as u64).sum();
                log(&header(shard as u32, SHARDS as u32), &split[shard], Some(&end(answered)))
            })
            .collect();
        let named: Vec<Named<'_>> =
            ["a", "b", "c", "d"].into_iter().zip(logs.iter().map(Vec::as_slice)).collect();
        let (merged, bytes) = merged_log(&named);
        prop_assert_eq!(&*merged.latency, &one);
        for (quantile, _) in QUANTILES {
            let expected = one.value_at_quantile(quantile);
            prop_assert_eq!(merged.latency.value_at_quantile(quantile), expected);
        }
        let (again, _) = merged_log(&[("all", &bytes)]);
        prop_assert_eq!(&*again.latency, &one);
        prop_assert_eq!(&again.service, &merged.service);
        prop_assert_eq!(&again.end, &merged.end);
    }
}

#[test]
fn the_merged_log_has_all_intervals_in_the_order_of_their_begins() {
    let first = log(&header(0, 2), &[vec![1], vec![2]], Some(&end(2)));
    let second = log(&header(1, 2), &[vec![3], vec![4]], Some(&end(2)));
    let (_, bytes) = merged_log(&[("b", &second), ("a", &first)]);
    let text = String::from_utf8(bytes).expect("UTF-8");
    let begins: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with(['#', '"']))
        .map(|line| line.split_inclusive("00,").next().expect("a start"))
        .collect();
    let expected = ["0.000,", "0.500,", "1.000,", "1.500,"];
    let expected: Vec<String> = expected
        .iter()
        .flat_map(|time| [(*time).to_owned(), format!("Tag=service,{time}")])
        .collect();
    assert_eq!(begins, expected);
}

#[test]
fn what_is_missing_is_named_and_the_rest_is_told_all_the_same() {
    let [first, second] = [0, 1].map(|index| log(&header(index, 4), &[vec![7]], Some(&end(1))));
    let killed = log(&header(2, 4), &[vec![7]], None);
    let stopped = End { stopped_by: Some("SIGINT".into()), ..end(1) };
    let stopped = log(&header(3, 4), &[vec![7]], Some(&stopped));
    let cut = &second[..second.len() - 1];
    let cases: [(&[Named<'_>], &[&str]); 4] = [
        (&[("a", &first), ("b", &second)], &["shards 2 and 3 of 4 are missing"]),
        (&[("b", &second)], &["shards 0, 2 and 3 of 4 are missing"]),
        (
            &[("a", &first), ("b", &second), ("c", &killed), ("d", &stopped)],
            &[
                "'c' has no end: was its run killed, or is it still going on?",
                "'d': its run ended early, SIGINT",
            ],
        ),
        (
            &[("a", &first), ("b", cut), ("c", &killed)],
            &[
                "shard 3 of 4 is missing",
                "'b' is cut off in line 8: was its run killed, or is it still going on?",
                "'c' has no end: was its run killed, or is it still going on?",
            ],
        ),
    ];
    for (logs, expected) in cases {
        let (merged, bytes) = merged_log(logs);
        assert_eq!(merged.end.gaps, expected);
        assert!(!merged.is_whole());
        assert_eq!(merged.latency.len(), logs.len() as u64);
        // Merging that again reports it too.
        let (again, _) = merged_log(&[("all", &bytes)]);
        assert_eq!(again.end.gaps.len(), expected.len());
        assert_eq!(again.end.gaps[0], format!("'all': {}", expected[0]));
    }
}

#[test]
fn many_missing_shards_are_not_all_named() {
    let first = log(&header(0, 10_000), &[], Some(&end(0)));
    let merged = merged(&[("a", &first)]).expect("a log");
    let gap = &merged.end.gaps[0];
    assert!(gap.ends_with(", 19, 20 and 9979 more of 10000 are missing"), "{gap}");
}

/// Why two logs, `a` and `b`, are not merged.
#[track_caller]
fn refused(first: &[u8], second: &[u8]) -> String {
    merged(&[("a", first), ("b", second)]).map(drop).expect_err("refused")
}

#[test]
fn logs_that_do_not_go_together_are_refused_by_name() {
    let whole = |header: &Header| log(header, &[vec![7]], Some(&end(1)));
    let first = whole(&header(0, 2));
    type Change = fn(&mut Header);
    let runs: [(Change, &str); 8] = [
        (|header| header.shard = Shard::new(1, 3), "numbers of shards are 2 and 3"),
        (|header| header.target = "b:1".into(), "targets are 'localhost:9900' and 'b:1'"),
        (|header| header.seed = None, "seeds are 1 and none"),
        (|header| header.start_at = None, "times to start at are 2026-11-30T12:00:00Z and none"),
        (|header| header.is_open_loop = false, "loops are open and closed"),
        (
            |header| header.rate_of_all = Some(300.5),
            "rates of all shards are 200 messages/s and 300.5 messages/s",
        ),
        (|header| header.warm_up_ns = 0, "warm-ups are 2 s and 0 s"),
        (|header| header.duration_ns = Some(4_500_000_000), "durations are 4 s and 4.5 s"),
    ];
    let rest = "'a' and 'b' do not go together:";
    for (change, expected) in runs {
        let mut other = header(1, 2);
        change(&mut other);
        let expected = format!("{rest} they are shards of different runs, whose {expected}");
        assert_eq!(refused(&first, &whole(&other)), expected);
    }
    assert_eq!(refused(&first, &first), "'a' and 'b' are both shard 0/2");
    let run = whole(&Header { shard: None, ..header(1, 2) });
    assert_eq!(refused(&first, &run), format!("{rest} the second is no shard"));
    assert_eq!(refused(&run, &first), format!("{rest} the first is no shard"));
    let problem = "'b', line 1: this is no HDR histogram log";
    assert_eq!(refused(&first, b"hello\n"), problem);
}

#[test]
fn logs_of_other_tools_go_together_if_they_tell_the_same_values_apart() {
    let foreign = |digits: u8, lowest: u64| {
        let mut histogram =
            Histogram::<u64>::new_with_bounds(lowest, 1 << 40, digits).expect("legal");
        histogram.record(1 << 20).expect("it is in range");
        let encoded = encoded(&histogram);
        format!("#[Histogram log format version 1.2]\n0.5,1.0,1.0,{encoded}\n").into_bytes()
    };
    let three = foreign(3, 1);
    let finer = |found| {
        format!(
            "'b', line 2: its histogram has {found}, and those of 'a' have 3 from 1 on: they do \
             not add up"
        )
    };
    assert_eq!(refused(&three, &foreign(2, 1)), finer("2 significant digits from 1 on"));
    assert_eq!(refused(&three, &foreign(3, 1000)), finer("3 significant digits from 1000 on"));
    let ours = log(&header(0, 2), &[vec![7]], Some(&end(1)));
    let rest = "'a' and 'b' do not go together:";
    let unknown = format!("{rest} 'a' is in nanoseconds and 'b' does not tell its unit");
    assert_eq!(refused(&ours, &three), unknown);
    let unknown = format!("{rest} 'b' is in nanoseconds and 'a' does not tell its unit");
    assert_eq!(refused(&three, &ours), unknown);
    let twice = merged(&[("a", &three), ("b", &three)]).expect("of the same tool");
    assert_eq!((twice.latency.len(), twice.header), (2, None));
}

#[test]
fn shards_that_did_not_run_together_are_named() {
    let began = |later: Duration, took: Duration| {
        let mut second = header(1, 2);
        second.began = header(0, 2).began + later;
        let end = End { took_ns: nanos(took), ..end(1) };
        let first = log(&header(0, 2), &[vec![7]], Some(&end));
        let second = log(&second, &[vec![7]], Some(&end));
        merged(&[("b", &second), ("a", &first)]).expect("they go together").end.gaps
    };
    let (second, three) = (Duration::from_secs(1), Duration::from_secs(3));
    let apart =
        |seconds| vec![format!("'a' and 'b' did not run together: {seconds} s between starts")];
    assert_eq!(began(Duration::from_millis(2_990), three), apart("2.99"));
    assert_eq!(began(second, three), apart("1.00"));
    assert_eq!(began(second / 2, three), Vec::<String>::new());
    // A process takes a while to start.
    assert_eq!(began(second / 20, second / 100), Vec::<String>::new());
    assert_eq!(began(second / 2, second / 100), apart("0.50"));
}

#[test]
fn a_log_whose_intervals_have_not_what_its_end_says_is_refused() {
    let told = |values: u64, end: &End| {
        merged(&[("a", &log(&header(0, 1), &[vec![7; values as usize]], Some(end)))])
    };
    let problem = |values, end: &End| told(values, end).map(drop).expect_err("refused");
    let what = "lines are missing or were changed";
    assert_eq!(
        problem(3, &end(4)),
        format!(
            "'a': its end reports 4 answers and 3 other messages, but its intervals \
             have 3 values: {what}"
        )
    );
    // Three messages were given up, and may have values.
    assert!((4..=7).all(|values| told(values, &end(4)).is_ok()));
    assert!(problem(8, &end(4)).contains("have 8 values"));
    // What was merged may have intervals of a shard whose end is missing.
    let gaps = vec!["'c' has no end".to_owned()];
    assert!(told(8, &End { gaps, ..end(4) }).is_ok());
}

#[test]
fn counts_that_exceed_64_bits_together_are_refused() {
    let mut bytes = vec![];
    let mut writer = Writer::new(&mut bytes, &header(0, 1)).expect("memory takes it");
    let (mut latency, service) = (Timings::default(), Timings::default());
    latency.add_many(7, i64::MAX as u64);
    for second in 0..3 {
        write(&mut writer, second, &latency, &service);
    }
    let problem = merged(&[("a", &bytes)]).expect_err("too many");
    assert_eq!(problem, "'a', line 10: all counts together exceed 64 bits");
}

#[test]
fn a_signal_ends_it_between_two_intervals() {
    let first = log(&header(0, 1), &[vec![7]], Some(&end(1)));
    let logs = opened(&[("a", &first)]).expect("a log");
    let stopped = merge(logs, None::<Sink>, || Some(Signal::Interrupt));
    assert_eq!(stopped.expect_err("it was stopped"), Stopped::Signal(Signal::Interrupt));
}

#[test]
fn the_table_has_the_addresses_of_all_logs_each_once_and_in_one_line() {
    let of = |index, addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        log(&Header { addresses, ..header(index, 2) }, &[vec![7]], Some(&end(1)))
    };
    let first = of(0, &["unix:/run/x.sock", "unix:/a\n\x1b"]);
    let second = of(1, &["unix:/run/x.sock", "127.0.0.1:9900"]);
    let text = table::report(&merged(&[("a", &first), ("b", &second)]).expect("logs"), &[]);
    let lines =
        "\naddress   unix:/run/x.sock\n          unix:/a\\n\\u{1b}\n          127.0.0.1:9900\n";
    assert!(text.contains(lines), "{text}");
    let many: Vec<String> = (0..20).map(|number| format!("192.0.2.{number}:7")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let many = of(0, &many);
    let text = table::report(&merged(&[("a", &many)]).expect("a log"), &[]);
    assert!(text.contains("\n          192.0.2.7:7\n          and 12 more\n"), "{text}");
}

#[test]
fn the_table_fits_eighty_columns_and_names_what_is_missing() {
    let long = format!("{}\x1b[31m.hlog", "directory/".repeat(20));
    let first = log(&header(0, 3), &[vec![999, 1_000, 312_700, 3_000_000_000]], Some(&end(4)));
    let text = table::report(&merged(&[(&long, &first)]).expect("a log"), &[]);
    for line in text.lines().filter(|line| !line.starts_with("incomplete: ")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.contains("\nincomplete: shards 1 and 2 of 3 are missing\n"), "{text}");
    let shown = ["p99.99", "3.00 s", "1.00 µs", "2 no answer in time", "250 ms", "127.0.0.1:9900"];
    for shown in shown {
        assert!(text.contains(shown), "{shown} in {text}");
    }
}
