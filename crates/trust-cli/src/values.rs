//! The texts of settings: which are valid, and how to display them.

use std::ffi::OsStr;
use std::fmt::{Display, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::quantity::{RATES, SIZES, TIMES, with_unit};
use crate::settings::ValueKind;

/// A quoted text of bounded length, safe for a terminal on one line.
pub fn quoted(text: impl AsRef<OsStr>) -> String {
    let text = text.as_ref().to_string_lossy();
    let mut quoted = String::from("'");
    let mut shown = 0;
    for character in text.chars() {
        if shown >= QUOTED_CHARACTERS_MAX {
            quoted.push('…');
            break;
        }
        if character.is_control() {
            let escaped = character.escape_default();
            shown += escaped.len();
            let _ = write!(quoted, "{escaped}");
        } else {
            shown += 1;
            quoted.push(character);
        }
    }
    quoted.push('\'');
    quoted
}

/// That a value, quoted, cannot be what `place` wants: a flag, a variable or an argument.
pub(crate) fn invalid(value: impl Display, place: impl Display, fault: impl Display) -> String {
    format!("invalid value {value} for {place}: {fault}")
}

/// The same as [`quoted`] without the quotes around it.
pub fn bare(text: impl AsRef<OsStr>) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}

/// A TCP port to listen on.
pub const PORT: ValueKind<u16> = ValueKind::of_text("PORT", "a port from 0 to 65535", parse_port);

/// What a time may be, and what 0 means if it is allowed.
macro_rules! a_time {
    ($zero:literal) => {
        concat!(
            "a time from 1ms to 277777h",
            $zero,
            ", with ns, us, ms, s, m or h as in 500ms, or in seconds as 2.5"
        )
    };
}

/// What a size in this range may be.
macro_rules! a_size {
    ($range:literal) => {
        concat!(
            "a size ",
            $range,
            ", plain or with k, M or G (of 1000), Ki, Mi or Gi (of 1024), as 64k or 64KiB"
        )
    };
}

/// A limit, disabled by 0.
pub const LIMIT: ValueKind<Duration> =
    ValueKind::of_text("DURATION", a_time!(", or 0 (off)"), parse_limit);

/// A time, where 0 means immediately.
pub const DELAY: ValueKind<Duration> =
    ValueKind::of_text("DURATION", a_time!(", or 0 (at once)"), parse_limit);

/// A time, where 0 means none.
pub const OPTIONAL_TIME: ValueKind<Duration> =
    ValueKind::of_text("DURATION", a_time!(", or 0 (none)"), parse_limit);

/// A time that is not 0.
pub const TIME: ValueKind<Duration> = ValueKind::of_text("DURATION", a_time!(""), |text| {
    parse_limit(text).filter(|time| !time.is_zero())
});

/// A number of things.
pub const COUNT: ValueKind<u64> = ValueKind::of_text("COUNT", "a whole number from 1", parse_count);

/// A number of things per second.
pub const COUNT_PER_SECOND: ValueKind<u64> = ValueKind::of_text(
    "RATE",
    "a whole number per second from 1, with k or M or without, as 500 or 2k",
    |text| {
        let with_unit = || with_unit(text, RATES).and_then(|(number, unit)| unit.whole(number));
        parse_count(text).or_else(with_unit).filter(|count| *count > 0)
    },
);

/// A number of bytes.
pub const SIZE: ValueKind<u32> =
    ValueKind::of_text("SIZE", a_size!("from 0 to 4294967295 bytes"), parse_size);

/// A number of bytes that is not 0.
pub const POSITIVE_SIZE: ValueKind<u32> =
    ValueKind::of_text("SIZE", a_size!("from 1 to 4294967295 bytes"), |text| {
        parse_size(text).filter(|size| *size > 0)
    });

/// A number of bytes that is not 0, and may exceed a frame.
pub const LARGE_SIZE: ValueKind<u64> =
    ValueKind::of_text("SIZE", a_size!("from 1 byte"), parse_large_size);

/// The seed of random choices.
pub const SEED: ValueKind<u64> =
    ValueKind::of_text("NUMBER", "a whole number from 0", |text| text.parse().ok());

/// Whether something is on; the flag alone turns it on.
pub const SWITCH: ValueKind<bool> =
    ValueKind::of_text("BOOL", "true or false", parse_bool).or_alone("true");

/// The name of a file.
pub const FILE: ValueKind<PathBuf> = ValueKind::of_bytes("FILE", "a file name", parse_path);

/// A TCP port.
pub fn parse_port(text: &str) -> Option<u16> {
    digits(text)?.parse().ok()
}

/// A time with a unit, or in seconds, possibly with a fraction: 0, or at least a millisecond.
pub fn parse_limit(text: &str) -> Option<Duration> {
    match with_unit(text, TIMES) {
        Some(_) => {
            parse_time(text).filter(|time| time.is_zero() || *time >= Duration::from_millis(1))
        }
        None => parse_seconds(text),
    }
}

/// A time with a unit, down to a nanosecond.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = with_unit(text, TIMES)?;
    let time = Duration::from_nanos(unit.whole(number)?);
    (time <= Duration::from_secs(LIMIT_SECONDS_MAX)).then_some(time)
}

/// A time in seconds, possibly with a fraction: 0, or at least a millisecond.
fn parse_seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    if seconds.is_sign_negative() || !seconds.is_finite() {
        return None;
    }
    // A positive number too small for a float must not become 0, which means something else.
    let mantissa = text.split(['e', 'E']).next()?;
    let is_positive = mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    match is_positive && seconds < 0.001 {
        true => None,
        false => Duration::try_from_secs_f64(seconds.min(LIMIT_SECONDS_MAX as f64)).ok(),
    }
}

/// A number of things, at least one.
pub fn parse_count(text: &str) -> Option<u64> {
    digits(text)?.parse().ok().filter(|count| *count > 0)
}

/// A number of things, from one to `MAX`.
pub fn parse_up_to<const MAX: u64>(text: &str) -> Option<u64> {
    parse_count(text).filter(|count| *count <= MAX)
}

/// A number of bytes that a frame's length field can hold.
pub fn parse_size(text: &str) -> Option<u32> {
    parse_bytes(text)?.try_into().ok()
}

/// A number of bytes, at least one.
pub fn parse_large_size(text: &str) -> Option<u64> {
    parse_bytes(text).filter(|bytes| *bytes > 0)
}

/// A number of bytes, plain or with a unit.
fn parse_bytes(text: &str) -> Option<u64> {
    match with_unit(text, SIZES) {
        Some((number, unit)) => unit.whole(number),
        None => digits(text)?.parse().ok(),
    }
}

/// Yes or no; also 1 and 0, which are common in variables.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A text that is not empty.
pub fn parse_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The name of a file, not empty and not necessarily UTF-8.
pub fn parse_path(text: &OsStr) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

/// The most characters of a value that an error message repeats.
const QUOTED_CHARACTERS_MAX: usize = 200;

/// Seconds in 31 years, or a little over 277,777 hours. Longer limits in plain seconds are cut to
/// this: no run sees their end, and they can still be added to any clock.
const LIMIT_SECONDS_MAX: u64 = 1_000_000_000;

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn times_are_0_or_from_a_millisecond_up() {
        let taken = [
            ("0", 0),
            ("0.0", 0),
            ("0e9", 0),
            ("0.001", 1),
            ("1e-3", 1),
            ("2.5", 2500),
            (".5", 500),
            ("5.", 5000),
            ("1e3", 1_000_000),
            ("1e300", 1_000_000_000_000),
        ];
        for (text, milliseconds) in taken {
            assert_eq!(parse_limit(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        let refused = [
            "", " ", "-1", "-0", "0.0005", "0.000999", "1e-400", "nan", "NaN", "-nan", "inf",
            "-inf", "infinity", "1e400", "5 s", " 5", "1,5", "0x10", "1_000", "five",
        ];
        for text in refused {
            assert_eq!(parse_limit(text), None, "{text}");
        }
    }

    #[test]
    fn times_take_a_unit() {
        let taken = [
            ("0ms", 0),
            ("1ms", 1),
            ("1000us", 1),
            ("1000000ns", 1),
            ("500ms", 500),
            ("2.5s", 2500),
            ("1.5m", 90_000),
            ("1h", 3_600_000),
            ("277777h", 999_997_200_000),
            ("1000000000s", 1_000_000_000_000),
        ];
        for (text, milliseconds) in taken {
            assert_eq!(parse_limit(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        let refused = [
            "999us",
            "0.5ms",
            "1ns",
            "1.0000000001s",
            "277778h",
            "1000000001s",
            "1e3s",
            "-1s",
            "18446744073709551616h",
            "1d",
            "5S",
        ];
        for text in refused {
            assert_eq!(parse_limit(text), None, "{text}");
        }
        assert_eq!(parse_time("1ns"), Some(Duration::from_nanos(1)));
        assert_eq!(parse_time("1"), None);
    }

    #[test]
    fn sizes_take_a_unit() {
        let taken =
            [("64k", 64_000), ("64KiB", 65_536), ("1.5Mi", 1_572_864), ("7B", 7), ("0k", 0)];
        for (text, bytes) in taken {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        assert_eq!(
            ["4194303.9990234375Ki", "4Gi", "4.3G"].map(parse_size),
            [Some(u32::MAX), None, None]
        );
        for text in ["64K", "64 k", "0.5B", "1.0", "-1k", "1e3k"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(["4Gi", "0k"].map(parse_large_size), [Some(1 << 32), None]);
    }

    #[test]
    fn whole_numbers_are_digits_within_their_range() {
        assert_eq!(["0", "65535"].map(parse_port), [Some(0), Some(65535)]);
        for text in ["65536", "-1", "+1", "", "1.0", "1e3", "http", "٣", "99999999999999999999"] {
            assert_eq!(parse_port(text), None, "{text}");
            assert_eq!(parse_count(text).filter(|_| text != "65536"), None, "{text}");
        }
        assert_eq!(["1", "0"].map(parse_count), [Some(1), None]);
        assert_eq!(["4294967295", "4294967296"].map(parse_size), [Some(u32::MAX), None]);
    }

    #[test]
    fn switches_take_true_and_false() {
        assert_eq!(["true", "1"].map(parse_bool), [Some(true); 2]);
        assert_eq!(["false", "0"].map(parse_bool), [Some(false); 2]);
        assert_eq!(["", "yes", "TRUE", "2"].map(parse_bool), [None; 4]);
    }

    #[test]
    fn quoted_values_cannot_break_a_line_or_fill_the_screen() {
        assert_eq!(quoted("a\nb\x1b[1m\0"), "'a\\nb\\u{1b}[1m\\u{0}'");
        let escapes = quoted("\0".repeat(1000));
        assert_eq!(escapes.chars().count(), QUOTED_CHARACTERS_MAX + 3, "{escapes}");
        assert_eq!(quoted(OsStr::from_bytes(b"\xff")), "'\u{fffd}'");
        assert_eq!(quoted("x".repeat(5000)).chars().count(), QUOTED_CHARACTERS_MAX + 3);
    }
}
