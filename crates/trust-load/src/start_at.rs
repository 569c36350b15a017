//! The time at which all shards of a load start together.

use std::time::Duration;

use jiff::Timestamp;

/// The longest wait for the start. A time further away is mistyped: no pod and no terminal is kept
/// waiting for so long.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What [`parse`] takes.
pub const ALLOWED: &str = "a time as in RFC 3339 with an offset or Z, as 2026-11-20T18:30:00Z or \
     2026-11-20T19:30:00.5+01:00";

/// The time of a text; `None`: not allowed, as a time without an offset, which every machine would
/// take for another one.
pub fn parse(text: &str) -> Option<Timestamp> {
    // jiff takes a time zone's name after it, and other separators, which RFC 3339 does not have.
    let bytes = text.as_bytes();
    let is_dated = bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-');
    let is_parted = bytes.get(10).is_some_and(|byte| matches!(byte, b'T' | b't' | b' '));
    let is_timed = bytes.get(13) == Some(&b':') && bytes.get(16) == Some(&b':');
    let has_offset = match bytes.split_last_chunk::<6>() {
        _ if bytes.ends_with(b"Z") || bytes.ends_with(b"z") => true,
        Some((_, [sign, _, _, colon, _, _])) => matches!(sign, b'+' | b'-') && *colon == b':',
        None => false,
    };
    let is_plain = is_dated && is_parted && is_timed && has_offset;
    text.parse().ok().filter(|_| is_plain && !text.contains(','))
}

/// How far away the start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It comes after this time, at most [`WAIT_MAX`].
    In(Duration),
    /// It passed so long ago: the load starts late, by the clock of this machine.
    Passed(Duration),
    /// It comes after this time, which is longer than anybody waits.
    TooFar(Duration),
}

/// How far away `start` is at `now`.
pub fn start(start: Timestamp, now: Timestamp) -> Start {
    let distance = start.duration_since(now);
    match distance.unsigned_abs() {
        passed if distance.is_negative() => Start::Passed(passed),
        left if left > WAIT_MAX => Start::TooFar(left),
        left => Start::In(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        parse(text).expect("a time")
    }

    #[test]
    fn times_have_an_offset_and_mean_the_same_everywhere() {
        let same = [
            "2026-11-20T18:30:00Z",
            "2026-11-20T18:30:00.000Z",
            "2026-11-20 18:30:00Z",
            "2026-11-20t18:30:00z",
            "2026-11-20T19:30:00+01:00",
            "2026-11-20T13:00:00-05:30",
            "2026-11-21T00:15:00+05:45",
        ];
        for text in same {
            assert_eq!(at(text), at(same[0]), "{text}");
        }
        assert_eq!(at("2026-11-20T18:30:00.123456789Z").subsec_nanosecond(), 123_456_789);
    }

    #[test]
    fn anything_else_is_refused() {
        let refused = [
            "",
            "now",
            "2026-11-20",
            "18:30",
            "18:30:00Z",
            "1795199400",
            "2026-11-20T18:30:00",
            "2026-11-20T18:30Z",
            "2026-11-20T18Z",
            "20261120T183000Z",
            "2026-11-20T18:30:00+01",
            "2026-11-20T18:30:00+0100",
            "2026-11-20T18:30:00+01:00[Europe/Vienna]",
            "2026-11-20T18:30:00[Europe/Vienna]",
            "2026-11-20T18:30:00,5Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-20T25:00:00Z",
            " 2026-11-20T18:30:00Z",
            "2026-11-20T18:30:00Z ",
            "+002026-11-20T18:30:00Z",
        ];
        for text in refused {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_wait_is_what_is_left_and_a_time_that_passed_is_told() {
        let when = at("2026-11-20T18:30:00Z");
        let from = |now: &str| start(when, at(now));
        assert_eq!(from("2026-11-20T18:29:58.75Z"), Start::In(Duration::from_millis(1250)));
        assert_eq!(from("2026-11-20T18:30:00Z"), Start::In(Duration::ZERO));
        assert_eq!(from("2026-11-20T18:30:00.000000001Z"), Start::Passed(Duration::from_nanos(1)));
        assert_eq!(from("2026-11-19T18:30:00Z"), Start::In(WAIT_MAX));
        let too_far = WAIT_MAX + Duration::from_nanos(1);
        assert_eq!(from("2026-11-19T18:29:59.999999999Z"), Start::TooFar(too_far));
        assert_eq!(from("2027-11-20T18:30:00Z"), Start::Passed(WAIT_MAX * 365));
        assert_eq!(start(Timestamp::MIN, Timestamp::MAX), {
            let whole = Timestamp::MAX.duration_since(Timestamp::MIN).unsigned_abs();
            Start::Passed(whole)
        });
    }
}
