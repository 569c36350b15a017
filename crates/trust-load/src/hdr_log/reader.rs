//! Reads a log line by line, without trust in it.

use std::io::{self, BufRead, Read as _};

use super::line::{self, Fields, Line};
use super::note::{End, Header};
use super::payload::{Decoder, Precision};
use crate::timings::SIGNIFICANT_DIGITS;

/// Bytes of a line: more than any histogram of nanoseconds up to a day has with three digits,
/// deflated or not.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// A time of an interval that is so long before that of the log is no time from 1970 but one from
/// the log's begin, as all readers have it. In nanoseconds: a year.
const RELATIVE_NS: u64 = 365 * 24 * 3600 * 1_000_000_000;

/// Why a log cannot be read.
#[derive(Debug)]
pub enum BadLog {
    /// A line is wrong.
    Line {
        /// From 1.
        number: u64,
        /// What is wrong with it, in words and without control characters.
        problem: String,
    },
    /// Reading failed.
    Io(io::Error),
}

/// An interval of a log.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// The number of its line, from 1.
    pub line: u64,
    /// Its start, in nanoseconds from 1970, or from the log's start if that is not known.
    pub begin: u64,
    /// What stands there.
    pub fields: Fields<'a>,
    /// Which values its histogram can tell apart.
    pub precision: Precision,
    /// The lowest value and the count of each group of values that came.
    pub counts: &'a [(u64, u64)],
}

/// A log, read as far as to an interval that was not taken yet.
///
/// Holds a line of it, and nothing that grows with its length.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: Vec<u8>,
    /// Of the line that is held, or of the last one.
    number: u64,
    /// A line said that this is a log.
    is_log: bool,
    start_time: Option<u64>,
    base_time: Option<u64>,
    header: Option<Header>,
    end: Option<End>,
    cut: bool,
    /// Begin of the interval in `line`; `None` at the end of the log.
    waiting: Option<u64>,
    /// Begin of the last interval, if there was one.
    last_begin: Option<u64>,
    precision: Option<Precision>,
}

impl<R: BufRead> Reader<R> {
    /// Reads as far as to the first interval.
    ///
    /// # Errors
    ///
    /// The first line that is wrong; what is no log at all is wrong in its first one.
    pub fn open(input: R) -> Result<Reader<R>, BadLog> {
        let mut reader = Reader {
            input,
            line: vec![],
            number: 0,
            is_log: false,
            start_time: None,
            base_time: None,
            header: None,
            end: None,
            cut: false,
            waiting: None,
            last_begin: None,
            precision: None,
        };
        reader.advance()?;
        Ok(reader)
    }

    /// What is known of the run, if the log is one of ours.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// How the run ended, once everything was read.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The last line, if it has no end: the log was cut off in it. It is not read.
    pub fn cut(&self) -> Option<u64> {
        self.cut.then_some(self.number)
    }

    /// The start of the interval that is next, as in [`Interval::begin`]; `None` when there is no
    /// more.
    pub fn next_begin(&self) -> Option<u64> {
        self.waiting
    }

    /// The interval that is next; `None` when there is no more. [`Reader::advance`] moves on.
    ///
    /// # Errors
    ///
    /// Its histogram is none, or of another precision than those before.
    pub fn interval<'a>(
        &'a mut self,
        decoder: &'a mut Decoder,
    ) -> Result<Option<Interval<'a>>, BadLog> {
        let Some(begin) = self.waiting else { return Ok(None) };
        let wrong = |problem| BadLog::Line { number: self.number, problem };
        let Ok(Line::Interval(fields)) = line::parse(content(&self.line)) else {
            unreachable!("only an interval waits");
        };
        let precision = decoder.decode(fields.histogram.as_bytes()).map_err(wrong)?;
        if let Some(problem) = self.difference(precision) {
            return Err(wrong(problem));
        }
        self.precision = Some(precision);
        let (line, counts) = (self.number, decoder.counts());
        Ok(Some(Interval { line, begin, fields, precision, counts }))
    }

    /// Goes on to the next interval.
    ///
    /// # Errors
    ///
    /// A line up to there is wrong.
    pub fn advance(&mut self) -> Result<(), BadLog> {
        self.waiting = None;
        while self.read_line()? {
            let handled = self.handle_line();
            if handled.map_err(|problem| BadLog::Line { number: self.number, problem })? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Why histograms do not add up with those that came before; `None` if they do.
    fn difference(&self, precision: Precision) -> Option<String> {
        let Precision { digits, lowest } = precision;
        let wanted = match (&self.header, self.precision) {
            (_, Some(before)) => before,
            (Some(_), None) => Precision { digits: SIGNIFICANT_DIGITS, lowest: 1 },
            (None, None) => return None,
        };
        (precision != wanted).then(|| {
            format!(
                "the histogram has {digits} significant digits from {lowest} on, where {} \
                 from {} on are due",
                wanted.digits, wanted.lowest
            )
        })
    }

    /// Whether there was another line.
    fn read_line(&mut self) -> Result<bool, BadLog> {
        self.line.clear();
        let mut input = (&mut self.input).take(LINE_BYTES_MAX as u64 + 1);
        input.read_until(b'\n', &mut self.line).map_err(BadLog::Io)?;
        self.number += u64::from(!self.line.is_empty());
        let is_long = self.line.len() > LINE_BYTES_MAX;
        if self.line.ends_with(b"\n") && !is_long {
            return Ok(true);
        }
        self.cut = !self.line.is_empty();
        let problem = match self.number {
            _ if self.is_log && is_long => format!("it has more than {LINE_BYTES_MAX} bytes"),
            _ if self.is_log => return Ok(false),
            0 => "the file is empty".to_owned(),
            _ => NO_LOG.to_owned(),
        };
        Err(BadLog::Line { number: self.number.max(1), problem })
    }

    /// Takes a line in; says whether it is an interval.
    fn handle_line(&mut self) -> Result<bool, String> {
        let parsed = line::parse(content(&self.line)).map_err(|problem| match self.is_log {
            true => problem,
            false => NO_LOG.to_owned(),
        })?;
        if self.end.is_some() {
            return Err("there is more after the end of the log".to_owned());
        }
        self.is_log |= !matches!(parsed, Line::Comment);
        match parsed {
            Line::Comment | Line::Mark => {}
            Line::StartTime(time) => self.start_time = Some(time),
            Line::BaseTime(time) => self.base_time = Some(time),
            Line::Header(_) if self.header.is_some() || self.last_begin.is_some() => {
                return Err("a log begins in the middle of another".to_owned());
            }
            Line::Header(header) => self.header = Some(header),
            Line::End(end) => match self.header {
                Some(_) => self.end = Some(end),
                None => return Err("the end of a run that did not begin".to_owned()),
            },
            Line::Interval(Fields { start, .. }) => {
                let begin = self.begin(start);
                if Some(begin) < self.last_begin {
                    return Err("the interval begins before the one above it".to_owned());
                }
                self.last_begin = Some(begin);
                self.waiting = Some(begin);
            }
        }
        Ok(self.waiting.is_some())
    }

    /// Where an interval begins that is stamped with this time.
    fn begin(&self, start: u64) -> u64 {
        let base = match (&self.header, self.base_time, self.start_time) {
            (Some(header), _, _) => u64::try_from(header.began.as_nanosecond()).unwrap_or(0),
            (None, Some(base), _) => base,
            (None, None, Some(begin)) if start.saturating_add(RELATIVE_NS) < begin => begin,
            (None, None, _) => 0,
        };
        base.saturating_add(start)
    }
}

/// What is said of a file that has nothing of a log up to there.
const NO_LOG: &str = "this is no HDR histogram log";

/// A line without its end, which is that of Windows too.
fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::hdr_log::payload::tests::encoded;

    /// Three values with two digits from 20,000 on, encoded by another tool.
    const FOREIGN: &str = "HISTFAAAACh4nJNpmSzMwMDAygABTBDKT4GBgdnNYMcCBvsPEBFBlp1MTABwkgWO";
    const HEADER: &str = "#[trustctl: {\"version\":1,\"unit\":\"ns\",\"significant_digits\":3,\"shard\":null,\"start_at\":null,\"warm_up_ns\":0,\"began\":\"2026-11-30T12:00:02.5Z\",\"target\":\"localhost:9900\",\"open_loop\":false,\"rate\":null,\"seed\":1}]";
    const END: &str = "#[trustctl end: {\"took_ns\":1,\"sent\":1,\"answered\":1,\"answered_in_time\":1,\"failed\":0,\"unsent\":0,\"achieved_rate\":1.0,\"errors\":{},\"stopped_by\":null,\"client_limits\":[],\"gaps\":[]}]";
    const MARK: &str = "#[Histogram log format version 1.3]";

    /// Begins and counts of all intervals, and the reader at the end.
    type Read<'b> = (Vec<(u64, u64)>, Reader<&'b [u8]>);

    /// Reads all of it.
    fn read(bytes: &[u8]) -> Result<Read<'_>, String> {
        let told = |bad| match bad {
            BadLog::Line { number, problem } => format!("{number}: {problem}"),
            BadLog::Io(error) => panic!("memory can be read: {error}"),
        };
        let (mut reader, mut decoder) = (Reader::open(bytes).map_err(told)?, Decoder::default());
        let mut intervals = vec![];
        while let Some(interval) = reader.interval(&mut decoder).map_err(told)? {
            let total = interval.counts.iter().map(|(_, count)| count).sum();
            intervals.push((interval.begin, total));
            reader.advance().map_err(told)?;
        }
        Ok((intervals, reader))
    }

    fn log(lines: &[&str]) -> Vec<u8> {
        lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
    }

    /// An interval at a second, of ours or of another tool.
    fn at(second: &str, histogram: &str) -> String {
        format!("{second},1.000,2.769,{histogram}")
    }

    /// Seven values, with so many digits.
    fn seven(digits: u8) -> String {
        let mut histogram = Histogram::new_with_bounds(1, 1 << 40, digits).expect("legal");
        histogram.record_n(5_000, 7).expect("it is in range");
        encoded(&histogram)
    }

    fn ours() -> String {
        seven(SIGNIFICANT_DIGITS)
    }

    #[test]
    fn intervals_begin_where_other_readers_have_it() {
        let start = "#[StartTime: 1441812279.474 (seconds since epoch), Wed]";
        let base = "#[BaseTime: 1441812279.000 (seconds since epoch)]";
        let begin = |head: &[&str], second: &str| {
            let interval = at(second, FOREIGN);
            let lines = [head, &[&interval]].concat();
            read(&log(&lines)).expect("it is a log").0[0].0
        };
        assert_eq!(begin(&[start], "0.127"), 1_441_812_279_601_000_000, "from the start");
        assert_eq!(begin(&[start], "1441812279.5"), 1_441_812_279_500_000_000, "from 1970");
        let early = begin(&[start], "1441812279.4");
        assert_eq!(early, 1_441_812_279_400_000_000, "from 1970, and a little early");
        assert_eq!(begin(&[start, base], "0.5"), 1_441_812_279_500_000_000, "from the base");
        assert_eq!(begin(&[MARK], "0.5"), 500_000_000, "from an unknown start");
        let interval = at("0.25", &ours());
        let whole = log(&[start, HEADER, &interval, END]);
        let (intervals, reader) = read(&whole).expect("a log");
        assert_eq!(intervals, [(1_796_040_002_750_000_000, 7)], "from the run's own begin");
        assert!(reader.header().is_some() && reader.end().is_some() && reader.cut().is_none());
    }

    #[test]
    fn a_log_of_another_tool_needs_no_comment_of_ours() {
        let (first, second) = (at("0.1", FOREIGN), at("1.1", FOREIGN));
        let text =
            log(&["#[Logged with a tool]", MARK, "\"StartTimestamp\",…", &first, "# x", &second]);
        let windows = String::from_utf8(text.clone()).expect("UTF-8").replace('\n', "\r\n");
        for text in [&text, windows.as_bytes()] {
            let (intervals, reader) = read(text).expect("a log");
            assert_eq!(intervals.len(), 2);
            assert!(reader.header().is_none() && reader.end().is_none());
        }
    }

    #[test]
    fn the_line_that_is_wrong_is_named() {
        let (ours, early, foreign) = (at("5", &ours()), at("4.9", &ours()), at("5", FOREIGN));
        let bad = at("5", "HISTFA==");
        let finer = at("5", &seven(4));
        let other = HEADER.replace("\"version\":1", "\"version\":9");
        let unknown = foreign.replacen("5,", "Tag=x,5,", 1);
        let cases: [(&[&str], &str); 17] = [
            (&[], "1: the file is empty"),
            (&["hello"], "1: this is no HDR histogram log"),
            (&["#!/bin/sh", "#", "exit"], "3: this is no HDR histogram log"),
            (&["# nothing", "# else"], "2: this is no HDR histogram log"),
            (&[""], "1: this is no HDR histogram log"),
            (&["#[Histogram log format version 2.0]"], "1: this is no HDR histogram log"),
            (&[MARK, ""], "2: neither a comment nor an interval, which has 4 fields and not 1"),
            (&[MARK, &ours, &early], "3: the interval begins before the one above it"),
            (&[MARK, &bad], "2: the histogram is too short"),
            (&[MARK, &unknown], "2: the tag 'x' is unknown: only service is read"),
            (
                &[MARK, &ours, &foreign],
                "3: the histogram has 2 significant digits from 20000 on, where 3 from 1 on are \
                 due",
            ),
            (
                &[MARK, &ours, &finer],
                "3: the histogram has 4 significant digits from 1 on, where 3 from 1 on are due",
            ),
            (
                &[HEADER, &foreign],
                "2: the histogram has 2 significant digits from 20000 on, where 3 from 1 on are \
                 due",
            ),
            (
                &[MARK, &other],
                "2: the comment of trustctl is wrong: its version is 9: only 1 is read",
            ),
            (&[HEADER, &ours, END, &ours], "4: there is more after the end of the log"),
            (&[HEADER, &ours, HEADER], "3: a log begins in the middle of another"),
            (&[MARK, END], "2: the end of a run that did not begin"),
        ];
        for (lines, expected) in cases {
            assert_eq!(read(&log(lines)).err().as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_log_that_is_cut_anywhere_is_not_taken_for_a_whole_one() {
        let interval = at("0.25", &ours());
        let whole = log(&[MARK, HEADER, &interval, &interval, END]);
        let (intervals, _) = read(&whole).expect("a log");
        assert_eq!(intervals.len(), 2);
        for len in 1..whole.len() {
            let lines = whole[..len].iter().filter(|byte| **byte == b'\n').count() as u64;
            match read(&whole[..len]) {
                Err(problem) => {
                    assert!(len <= MARK.len(), "{len}");
                    assert_eq!(problem, "1: this is no HDR histogram log");
                }
                Ok((intervals, reader)) => {
                    assert!(reader.end().is_none(), "{len}");
                    let cut = (whole[len - 1] != b'\n').then_some(lines + 1);
                    assert_eq!(reader.cut(), cut, "{len}");
                    assert_eq!(intervals.len() as u64, lines.saturating_sub(2), "{len}");
                }
            }
        }
    }

    #[test]
    fn a_line_without_end_costs_bounded_memory() {
        struct Endless;
        impl io::Read for Endless {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                bytes.fill(b'#');
                Ok(bytes.len())
            }
        }
        let begin = [MARK.as_bytes(), b"\n"].concat();
        let input = io::BufReader::new(io::Read::chain(&*begin, Endless));
        let Err(BadLog::Line { number: 2, problem }) = Reader::open(input) else {
            panic!("it is refused");
        };
        assert_eq!(problem, "it has more than 4194304 bytes");
    }
}
