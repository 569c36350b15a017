//! Interval logs: any bytes are a log or an error with its line, histograms mean the same to
//! another decoder, and what is written is read and merged unchanged.

use std::io::Write;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use jiff::Timestamp;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output;
use trust_cli::signals::Stopped;
use trust_load::hdr_log::{BadLog, Decoder, End, Header, Reader, Series, Writer};
use trust_load::merge::json::MergeDocument;
use trust_load::merge::{Log, Merged, merge, table};
use trust_load::shard::Shard;
use trust_load::timings::{Timings, times};

use crate::choices::Choices;
use crate::oneline::{check_failure, check_line};

/// The cookies of a plain and of a deflated histogram.
const COOKIES: [[u8; 4]; 2] = [[0x1c, 0x84, 0x93, 0x13], [0x1c, 0x84, 0x93, 0x14]];

/// The most shards of a written run.
const SHARDS_MAX: u32 = 2;

/// The most intervals of a written log, and the most values in each.
const INTERVALS_MAX: u8 = 3;
const VALUES_MAX: u8 = 8;

/// Input: after a first byte of 0 the inside of a histogram, after 1 a deflate stream, after 2
/// measurements of runs to be written and read back; anything else is a log.
///
/// # Panics
///
/// If an error does not name an existing line, another decoder reads a histogram differently, or
/// the log read differs from the log written.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((0, plain)) => histogram(plain),
        Some((1, stream)) => deflated(stream),
        Some((2, choices)) => written(&mut Choices::new(choices)),
        _ => log(data),
    }
}

/// A log from anywhere, to be read and merged.
fn log(data: &[u8]) {
    let lines = data.split_inclusive(|byte| *byte == b'\n').count().max(1) as u64;
    let read = read_all(data);
    let mut output = vec![];
    let merged = merged(&[data], Some(&mut output));
    match (read, merged) {
        (Ok(intervals), Ok(merged)) => {
            let sum: u64 = merged.latency.len() + merged.service.len();
            assert_eq!(sum, intervals.iter().map(|interval| interval.2).sum::<u64>());
            assert!(intervals.len() as u64 <= lines);
            let again = read_all(&output).expect("a merged log is a log");
            assert_eq!(again.len(), intervals.len(), "every interval is copied");
            // Only our own comments contain texts that reports show.
            if merged.header.is_some() {
                check_reports(&merged);
            }
        }
        (Err((line, problem)), Err(failure)) => {
            assert!((1..=lines).contains(&line), "line {line} of {lines}: {problem}");
            check_line(&problem);
            check_failure(&failure, ExitCode::DataError);
            let place = format!("'A', line {line}: {problem}");
            assert_eq!(failure.message, place);
        }
        // Each line may be valid while their sum is too large, or does not match the end line.
        (Ok(_), Err(failure)) => {
            let is_known =
                ["all counts together exceed 64 bits", "lines are missing or were changed"]
                    .iter()
                    .any(|problem| failure.message.ends_with(problem));
            assert!(is_known, "{failure:?}");
        }
        (Err(problem), Ok(_)) => panic!("merged in spite of {problem:?}"),
    }
}

/// Series, start and number of values of an interval.
type Read = (Series, u64, u64);

/// Every interval; or the line with an error, and the error.
fn read_all(data: &[u8]) -> Result<Vec<Read>, (u64, String)> {
    let told = |bad| match bad {
        BadLog::Line { number, problem } => (number, problem),
        BadLog::Io(error) => panic!("memory can be read: {error}"),
    };
    let (mut reader, mut decoder) = (Reader::open(data).map_err(told)?, Decoder::default());
    let mut intervals: Vec<Read> = vec![];
    while let Some(interval) = reader.interval(&mut decoder).map_err(told)? {
        let counts = interval.counts;
        assert!(counts.is_sorted_by(|a, b| a.0 < b.0), "values are told in their order");
        assert!(counts.iter().all(|(_, count)| *count > 0), "what did not come is not told");
        let total = counts.iter().map(|(_, count)| count).sum();
        let before = intervals.last().map_or(0, |(_, begin, _)| *begin);
        assert!(before <= interval.begin, "intervals are told in their order");
        intervals.push((interval.fields.series, interval.begin, total));
        reader.advance().map_err(told)?;
    }
    assert!(reader.cut().is_none() || reader.end().is_none(), "what was cut has no end");
    Ok(intervals)
}

fn merged(logs: &[&[u8]], output: Option<&mut Vec<u8>>) -> Result<Merged, Failure> {
    let names = ["A", "B", "C"];
    let logs: Result<Vec<_>, _> =
        names.iter().zip(logs).map(|(name, bytes)| Log::open(name, *bytes)).collect();
    merge(logs?, output, || None).map_err(|unmerged| match unmerged {
        Stopped::Failed(failure) => failure,
        Stopped::Signal(signal) => panic!("no signal was sent: {signal:?}"),
    })
}

fn check_reports(merged: &Merged) {
    for text in table::report(merged, &[]).lines() {
        assert!(!text.chars().any(char::is_control), "a control character in {text:?}");
    }
    let document = output::document(&MergeDocument::of(merged, &[], ExitCode::Success));
    serde_json::from_str::<MergeDocument>(&document).expect("the document has its form");
}

/// The inside of a histogram, which another implementation must read the same way.
fn histogram(plain: &[u8]) {
    let mut decoder = Decoder::default();
    let bytes = [&COOKIES[0], plain].concat();
    let decoded = decoder.decode(STANDARD.encode(&bytes).as_bytes());
    if let Err(problem) = &decoded {
        check_line(problem);
    }
    let counts = decoded.is_ok().then(|| decoder.counts().to_vec());
    let mut stream = ZlibEncoder::new(vec![], Compression::fast());
    stream.write_all(&bytes).expect("memory takes it");
    let stream = stream.finish().expect("memory takes it");
    let again = decoder.decode(framed(&stream).as_bytes());
    // The cookie of a deflated histogram is invalid inside one.
    assert_eq!(again.is_ok(), decoded.is_ok(), "deflated or not: {again:?}, {decoded:?}");
    let (Ok(precision), Some(counts)) = (decoded, counts) else { return };
    assert_eq!((again, decoder.counts()), (Ok(precision), &*counts));
    let other: Histogram<u64> =
        Deserializer::new().deserialize(&mut &*bytes).expect("another implementation takes it");
    assert_eq!((other.sigfig(), other.low()), (precision.digits, precision.lowest));
    let mut of_other = other
        .iter_recorded()
        .map(|step| (other.lowest_equivalent(step.value_iterated_to()), step.count_at_value()));
    assert!(counts.iter().copied().eq(of_other.by_ref()), "{counts:?} is {other:?}");
}

/// A time of any magnitude, up to beyond the longest that histograms distinguish.
fn value(choices: &mut Choices<'_>) -> u64 {
    let shift = 64 - u32::from(choices.byte() % 43);
    choices.number().checked_shr(shift).unwrap_or(0)
}

/// A deflate stream, possibly broken.
fn deflated(stream: &[u8]) {
    if let Err(problem) = Decoder::default().decode(framed(stream).as_bytes()) {
        check_line(&problem);
    }
}

/// The text of a deflated histogram.
fn framed(stream: &[u8]) -> String {
    let len = (stream.len() as u32).to_be_bytes();
    STANDARD.encode([&COOKIES[1][..], &len, stream].concat())
}

/// Shards of a run are written and merged, and the merged log is merged again: all give one
/// histogram.
fn written(choices: &mut Choices<'_>) {
    let of = u32::from(choices.byte()) % SHARDS_MAX + 1;
    let (mut latency, mut service) = (times(), times());
    let (mut logs, mut intervals) = (vec![], 0);
    let target = String::from_utf8_lossy(choices.short_bytes()).into_owned();
    let warm_up_ns = choices.number();
    let is_open_loop = choices.byte().is_multiple_of(2);
    let duration_ns = is_open_loop.then(|| choices.number());
    let rate_of_all = is_open_loop.then(|| f64::from(choices.byte()) / 7.0);
    for index in 0..of {
        let header = Header {
            shard: Shard::new(index, of),
            warm_up_ns,
            began: Timestamp::constant(1_796_040_000, 0)
                // Shards run at the same time.
                + Duration::from_nanos(choices.number() % 100_000_000),
            target: target.clone(),
            addresses: vec![target.clone()],
            is_open_loop,
            rate: Some(f64::from(choices.byte()) / 7.0),
            rate_of_all,
            duration_ns,
            seed: Some(7),
            is_seed_given: true,
            ..Header::default()
        };
        let (mut log, mut expected): (Vec<u8>, Vec<Read>) = (vec![], vec![]);
        let began = header.began.as_nanosecond() as u64;
        let mut writer = Writer::new(&mut log, &header).expect("memory takes it");
        let mut start = Duration::ZERO;
        let mut end = End::default();
        for _ in 0..choices.byte() % INTERVALS_MAX {
            let length = Duration::from_nanos(choices.number() % 100_000_000_000);
            let (mut of_latency, mut of_service) = (Timings::default(), Timings::default());
            for _ in 0..choices.byte() % VALUES_MAX {
                // A count of 0 would change the largest value without counting anything.
                let count = u64::from(choices.byte()) + 1;
                let value = value(choices);
                of_latency.add_many(value, count);
                latency.saturating_record_n(value, count);
                of_service.add(value / 2);
                service.saturating_record(value / 2);
            }
            let histograms = [&of_latency, &of_service];
            writer.interval(start, length, histograms).expect("memory takes it");
            end.counts.answered += of_service.len();
            end.counts.failed += of_latency.len() - of_service.len();
            let begin = began + start.as_nanos() as u64;
            expected.push((Series::Latency, begin, of_latency.len()));
            expected.push((Series::Service, begin, of_service.len()));
            start += length;
            intervals += 2;
        }
        writer.finish(&end).expect("memory takes it");
        assert_eq!(read_all(&log).as_ref(), Ok(&expected), "begins and counts are kept");
        assert_eq!(Reader::open(&*log).expect("it is a log").header(), Some(&header));
        logs.push(log);
    }
    let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
    let mut output = vec![];
    let first = merged(&logs, Some(&mut output)).expect("they go together");
    let again = merged(&[&output], None).expect("a merged log is a log");
    for merged in [&first, &again] {
        assert!(*merged.latency == latency && *merged.service == service, "counts are kept");
        let of_parts: u64 = merged.parts.iter().map(|part| part.intervals).sum();
        assert_eq!((of_parts, merged.is_whole()), (intervals, true));
        check_reports(merged);
    }
}
