//! Writes a log while the run goes on.
//!
//! The library's log writer is not used: it rounds times to the millisecond, writes a line in
//! pieces and cannot copy a histogram that is encoded already.

use std::io::{self, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use jiff::Timestamp;

use super::note::{End, Header};
use super::{Fields, Series};
use crate::connection::nanos;
use crate::timings::Timings;

/// By what other tools divide the largest value to tell it: nanoseconds in a millisecond.
const MAX_VALUE_RATIO: f64 = 1e6;

/// A log that is written to.
///
/// Every interval is one write and is not kept, so that a run that is killed loses at most the last
/// interval, and a long run needs no more memory than a short one.
pub struct Writer<W: Write> {
    output: W,
    text: Vec<u8>,
    encoded: Vec<u8>,
    serializer: V2DeflateSerializer,
}

impl<W: Write> Writer<W> {
    /// Begins the log of a run when its measured part begins.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn new(output: W, header: &Header) -> io::Result<Writer<W>> {
        Writer::begin(output, header.began, Some(header))
    }

    /// Begins a log at this time; without a header the unit of its values is unknown.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn begin(output: W, began: Timestamp, header: Option<&Header>) -> io::Result<Writer<W>> {
        let (text, encoded, serializer) = (vec![], vec![], V2DeflateSerializer::new());
        let mut writer = Writer { output, text, encoded, serializer };
        // Both are cut alike, so that no interval is before the start: some readers skip such a one
        // in silence.
        let seconds = format!("{}.{:03}", began.as_second(), began.subsec_millisecond());
        let text = &mut writer.text;
        writeln!(text, "#[Histogram log format version 1.3]")?;
        writeln!(text, "#[StartTime: {seconds} (seconds since epoch), {began:.3}]")?;
        writeln!(text, "#[BaseTime: {seconds} (seconds since epoch)]")?;
        if let Some(header) = header {
            writeln!(text, "{}", header.line())?;
        }
        writeln!(
            text,
            r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#
        )?;
        writer.flush()?;
        Ok(writer)
    }

    /// Writes an interval, which starts so long after the log: its latencies and its service times.
    /// Intervals come in the order of their begins.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn interval(
        &mut self,
        start: Duration,
        length: Duration,
        [latency, service]: [&Timings; 2],
    ) -> io::Result<()> {
        let (start, length) = (nanos(start), nanos(length));
        for (series, histogram) in [(Series::Latency, latency), (Series::Service, service)] {
            self.encoded.clear();
            self.serializer.serialize(histogram, &mut self.encoded).map_err(io::Error::other)?;
            let max = histogram.max() as f64 / MAX_VALUE_RATIO;
            let (max, histogram) = (&*format!("{max:.3}"), &*STANDARD.encode(&self.encoded));
            let fields = Fields { series, start, length, max, histogram };
            writeln!(self.text, "{fields}")?;
        }
        self.flush()
    }

    /// Writes an interval as it stands in another log.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn copy(&mut self, fields: Fields<'_>) -> io::Result<()> {
        writeln!(self.text, "{fields}")?;
        self.flush()
    }

    /// Ends the log. Without it a log counts as that of a run that was killed.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn finish(mut self, end: &End) -> io::Result<()> {
        writeln!(self.text, "{}", end.line())?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.output.write_all(&self.text);
        self.text.clear();
        written.and_then(|()| self.output.flush())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hdr_log::{Decoder, Reader};
    use crate::timings::times;

    fn header() -> Header {
        Header {
            began: "2026-11-30T12:00:02.000912709Z".parse().expect("a time"),
            target: "localhost:9900".into(),
            addresses: vec!["127.0.0.1:9900".into()],
            seed: Some(1),
            is_seed_given: true,
            ..Header::default()
        }
    }

    /// Counts writes.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_interval_is_one_write_and_an_empty_one_is_written_too() {
        let mut writes = Writes::default();
        let mut writer = Writer::new(&mut writes, &header()).expect("it is written");
        let (empty, mut stalled) = (Timings::default(), Timings::default());
        stalled.add(1_234_567_890);
        let second = Duration::from_secs(1);
        writer.interval(Duration::ZERO, second, [&empty, &empty]).expect("it is written");
        writer.interval(second, second, [&stalled, &empty]).expect("it is written");
        writer.finish(&End::default()).expect("it is written");
        assert_eq!(writes.0.len(), 4);
        let [begin, first, second, end] =
            [0, 1, 2, 3].map(|index| String::from_utf8(writes.0[index].clone()).expect("UTF-8"));
        let begin: Vec<&str> = begin.lines().collect();
        assert_eq!(begin[0], "#[Histogram log format version 1.3]");
        let start = "#[StartTime: 1796040002.000 (seconds since epoch), 2026-11-30T12:00:02.000Z]";
        assert_eq!(begin[1], start);
        assert_eq!(begin[2], "#[BaseTime: 1796040002.000 (seconds since epoch)]");
        assert!(
            begin[3].starts_with("#[trustctl: {\"version\":1,\"unit\":\"ns\","),
            "{}",
            begin[3]
        );
        assert!(begin[4].starts_with("\"StartTimestamp\","), "{}", begin[4]);
        assert!(first.starts_with("0.000,1.000,0.000,HIST"), "{first}");
        assert!(
            first
                .lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("Tag=service,0.000,1.000,0.000,HIST"))
        );
        assert!(second.starts_with("1.000,1.000,1234.568,HIST"), "{second}");
        assert!(end.starts_with("#[trustctl end: {") && end.ends_with("}]\n"), "{end}");
    }

    proptest! {
        // Each makes and compares hundreds of thousands of counts.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_written_is_read_back(
            intervals in prop::collection::vec(
                (
                    0u64..2_000_000_000,
                    prop::collection::vec((0u64..4_000_000_000_000, 1u64..1000), 0..9),
                ),
                0..9,
            ),
        ) {
            let mut bytes = vec![];
            let mut writer = Writer::new(&mut bytes, &header()).expect("memory takes it");
            let mut expected = vec![];
            let mut start = Duration::ZERO;
            for (length, values) in intervals {
                let length = Duration::from_nanos(length);
                let mut histograms = [Timings::default(), Timings::default()];
                for (index, (value, count)) in values.into_iter().enumerate() {
                    histograms[index % 2].add_many(value, count);
                }
                let [latency, service] = &histograms;
                writer.interval(start, length, [latency, service]).expect("memory takes it");
                let both = [Series::Latency, Series::Service];
                for (series, histogram) in both.into_iter().zip(histograms) {
                    expected.push((series, start, length, histogram));
                }
                start += length;
            }
            writer.finish(&End::default()).expect("memory takes it");
            let mut reader = Reader::open(&*bytes).expect("a log");
            let mut decoder = Decoder::default();
            prop_assert_eq!(reader.header(), Some(&header()));
            let began = header().began.as_nanosecond() as u64;
            for (series, start, length, histogram) in expected {
                let found = reader.interval(&mut decoder).expect("it is good");
                let found = found.expect("it is there");
                let begin = Duration::from_nanos(found.begin - began);
                prop_assert_eq!((found.fields.series, begin), (series, start));
                prop_assert_eq!(Duration::from_nanos(found.fields.length), length);
                let mut read = times();
                for (value, count) in found.counts {
                    read.record_n(*value, *count).expect("it is in range");
                }
                prop_assert_eq!(&read, &*histogram);
                reader.advance().expect("the next one is good");
            }
            prop_assert_eq!(reader.next_begin(), None);
            prop_assert_eq!((reader.end(), reader.cut()), (Some(&End::default()), None));
        }
    }
}
