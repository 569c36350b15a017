//! What a line of a log is.

use std::fmt;

use trust_cli::values::quoted;

use super::note::{END_PREFIX, End, HEADER_PREFIX, Header, NOTE_BYTES_MAX};
use super::{SECONDS_MAX, SERVICE_TAG, Series};

const NANOS: u64 = 1_000_000_000;

/// Digits of a part of a second that count.
const FRACTION_DIGITS: usize = 9;

/// The most that the format's own comments may say of their version: other tools write 1.0 to 1.3.
const FORMAT_MAJOR: &str = "1";

/// A line, as far as it matters.
#[derive(Debug)]
pub enum Line<'a> {
    /// A comment of no meaning here.
    Comment,
    /// One that says that this is a log, and nothing else: the version or the names of the fields.
    Mark,
    /// When the log began, in nanoseconds from 1970.
    StartTime(u64),
    /// What times of intervals count from, in nanoseconds from 1970.
    BaseTime(u64),
    /// What is known of a run of ours.
    Header(Header),
    /// How it ended.
    End(End),
    /// An interval.
    Interval(Fields<'a>),
}

/// The fields of an interval's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// What its histogram is of.
    pub series: Series,
    /// Its start as it stands there, in nanoseconds.
    pub start: u64,
    /// Its length, in nanoseconds.
    pub length: u64,
    /// Its largest value in some unit, as it stands there.
    pub max: &'a str,
    /// Its histogram, encoded.
    pub histogram: &'a str,
}

impl fmt::Display for Fields<'_> {
    /// The line, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fields { series, start, length, max, histogram } = *self;
        if series == Series::Service {
            write!(f, "Tag={SERVICE_TAG},")?;
        }
        write!(f, "{},{},{max},{histogram}", Seconds(start), Seconds(length))
    }
}

/// Nanoseconds in seconds, with as many decimals as they have and at least the three that other
/// tools write.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = format!("{:09}", self.0 % NANOS);
        let (millis, rest) = nanos.split_at(3);
        write!(f, "{}.{millis}{}", self.0 / NANOS, rest.trim_end_matches('0'))
    }
}

/// Reads a line, which is without its end.
///
/// # Errors
///
/// What is wrong, in words.
pub fn parse(line: &[u8]) -> Result<Line<'_>, String> {
    if line.starts_with(b"#") {
        return comment(line);
    }
    if line.starts_with(b"\"StartTimestamp\"") {
        return Ok(Line::Mark);
    }
    let text = std::str::from_utf8(line).map_err(|_| "neither a comment nor text".to_owned())?;
    fields(text).map(Line::Interval)
}

fn comment(line: &[u8]) -> Result<Line<'_>, String> {
    let Ok(text) = std::str::from_utf8(line) else { return Ok(Line::Comment) };
    if let Some(rest) = text.strip_prefix("#[Histogram log format version ") {
        let version = rest.strip_suffix(']').unwrap_or(rest);
        return match version.split_once('.') {
            Some((FORMAT_MAJOR, minor)) if minor.parse::<u8>().is_ok() => Ok(Line::Mark),
            _ => Err(format!("version {} of the format: only 1 is read", quoted(version))),
        };
    }
    if let Some(rest) = text.strip_prefix("#[StartTime: ") {
        return first_word_time(rest).map(Line::StartTime);
    }
    if let Some(rest) = text.strip_prefix("#[BaseTime: ") {
        return first_word_time(rest).map(Line::BaseTime);
    }
    if !text.starts_with("#[trustctl") {
        return Ok(Line::Comment);
    }
    if text.len() > NOTE_BYTES_MAX {
        return Err(format!("a comment of trustctl with more than {NOTE_BYTES_MAX} bytes"));
    }
    let wrong = |problem| format!("the comment of trustctl is wrong: {problem}");
    let within = |prefix| text.strip_prefix(prefix)?.strip_suffix(']');
    if let Some(json) = within(HEADER_PREFIX) {
        return Header::parse(json).map(Line::Header).map_err(wrong);
    }
    match within(END_PREFIX) {
        Some(json) => End::parse(json).map(Line::End).map_err(wrong),
        None => Err(wrong("it is neither that of a start nor that of an end".to_owned())),
    }
}

fn fields(text: &str) -> Result<Fields<'_>, String> {
    let (series, text) = match text.strip_prefix("Tag=") {
        None => (Series::Latency, text),
        Some(rest) => match rest.split_once(',') {
            Some((SERVICE_TAG, rest)) => (Series::Service, rest),
            Some((tag, _)) => {
                let tag = quoted(tag);
                return Err(format!("the tag {tag} is unknown: only {SERVICE_TAG} is read"));
            }
            None => (Series::Service, rest),
        },
    };
    let mut parts = text.split(',');
    let mut next = || parts.next();
    let (Some(start), Some(length), Some(max), Some(histogram), None) =
        (next(), next(), next(), next(), next())
    else {
        let count = text.split(',').count();
        return Err(format!(
            "neither a comment nor an interval, which has 4 fields and not {count}"
        ));
    };
    let start = time(start)?;
    let length = time(length)?;
    match max.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => {}
        _ => return Err(format!("the largest value {} is no number", quoted(max))),
    }
    Ok(Fields { series, start, length, max, histogram })
}

/// The time at the start of a comment such as `1441812279.474 (seconds since epoch), Wed Sep 09`.
fn first_word_time(text: &str) -> Result<u64, String> {
    time(text.split([' ', ',', ']']).next().unwrap_or(text))
}

/// Nanoseconds of a text in seconds with any number of decimals.
fn time(text: &str) -> Result<u64, String> {
    let bad = || format!("{} is no time in seconds", quoted(text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return Err(bad());
    }
    let seconds: u64 = whole.parse().ok().filter(|s| *s < SECONDS_MAX).ok_or_else(bad)?;
    let kept = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let nanos = format!("{kept:0<FRACTION_DIGITS$}").parse::<u64>().map_err(|_| bad())?;
    Ok(seconds * NANOS + nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_to_the_nanosecond() {
        let cases = [
            ("0.127", 127_000_000),
            ("0", 0),
            ("7.", 7_000_000_000),
            ("1441812279.474", 1_441_812_279_474_000_000),
            ("1.0000000019", 1_000_000_001),
            ("8589934591.999999999", 8_589_934_591_999_999_999),
        ];
        for (text, nanos) in cases {
            assert_eq!(time(text), Ok(nanos), "{text}");
        }
        for text in
            ["", ".", ".5", "-1", "+1", "1e3", "1,5", "NaN", "8589934592", "1.x", "٣", "1.5.5"]
        {
            assert_eq!(time(text), Err(format!("'{text}' is no time in seconds")));
        }
    }

    #[test]
    fn a_time_has_the_decimals_that_it_needs() {
        let cases = [
            (1_000_000_000, "1.000"),
            (1_020_000_000, "1.020"),
            (3_000_001_000, "3.000001"),
            (999_999_999, "0.999999999"),
        ];
        for (time, expected) in cases {
            assert_eq!(Seconds(time).to_string(), expected);
        }
    }

    #[test]
    fn lines_of_other_tools_are_read() {
        let interval =
            "0.127,1.007,2.769,HISTFAAAACh4nJNpmSzMwMDAygABTBDKT4GBgdnNYMcCBvsPEBFBlp1MTABwkgWO";
        let Ok(Line::Interval(fields)) = parse(interval.as_bytes()) else { panic!("an interval") };
        assert_eq!((fields.start, fields.length), (127_000_000, 1_007_000_000));
        assert_eq!((fields.series, fields.max), (Series::Latency, "2.769"));
        let start =
            b"#[StartTime: 1441812279.474 (seconds since epoch), Wed Sep 09 08:24:39 PDT 2015]";
        assert!(matches!(parse(start), Ok(Line::StartTime(1_441_812_279_474_000_000))));
        assert!(matches!(
            parse(b"#[BaseTime: 5.25 (seconds since epoch)]"),
            Ok(Line::BaseTime(5_250_000_000))
        ));
        assert!(matches!(parse(b"#[Histogram log format version 1.2]"), Ok(Line::Mark)));
        assert!(matches!(parse(b"#[Logged with \xff]"), Ok(Line::Comment)));
        assert!(matches!(parse(b"\"StartTimestamp\",\"Interval_Length\""), Ok(Line::Mark)));
    }

    #[test]
    fn a_line_that_is_wrong_is_told_in_words() {
        let cases: [(&[u8], &str); 12] = [
            (b"", "neither a comment nor an interval, which has 4 fields and not 1"),
            (b"0,1,2", "neither a comment nor an interval, which has 4 fields and not 3"),
            (b"0,1,2,HIST,5", "neither a comment nor an interval, which has 4 fields and not 5"),
            (b"\xff", "neither a comment nor text"),
            (b"x,1,2,HIST", "'x' is no time in seconds"),
            (b"0,-1,2,HIST", "'-1' is no time in seconds"),
            (b"0,1,NaN,HIST", "the largest value 'NaN' is no number"),
            (b"Tag=\x1bA,0,1,2,HIST", "the tag '\\u{1b}A' is unknown: only service is read"),
            (b"Tag=service", "neither a comment nor an interval, which has 4 fields and not 1"),
            (b"#[Histogram log format version 2.0]", "version '2.0' of the format: only 1 is read"),
            (b"#[StartTime: soon]", "'soon' is no time in seconds"),
            (
                b"#[trustctl: {}",
                "the comment of trustctl is wrong: it is neither that of a start nor that of an \
                 end",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line).expect_err("it is wrong"), expected);
        }
    }
}
