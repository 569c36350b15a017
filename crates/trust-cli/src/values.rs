//! The texts of settings: what they may be, and how they are shown.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::settings::ValueKind;

/// A text between quotes that is safe in one line for a terminal, and of bounded length.
pub fn quoted(text: impl AsRef<OsStr>) -> String {
    let text = text.as_ref().to_string_lossy();
    let mut quoted = String::from("'");
    for (index, character) in text.chars().enumerate() {
        if index == QUOTED_CHARACTERS_MAX {
            quoted.push('…');
            break;
        }
        if character.is_control() {
            let _ = write!(quoted, "{}", character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    quoted.push('\'');
    quoted
}

/// A TCP port to listen on.
pub const PORT: ValueKind<u16> = ValueKind::of_text("PORT", "a port from 0 to 65535", parse_port);

/// A limit that 0 turns off.
pub const LIMIT: ValueKind<Duration> =
    ValueKind::of_text("SECONDS", "a number of seconds, 0 (off) or at least 0.001", parse_limit);

/// A time where 0 means at once.
pub const DELAY: ValueKind<Duration> = ValueKind::of_text(
    "SECONDS",
    "a number of seconds, 0 (at once) or at least 0.001",
    parse_limit,
);

/// A time that is not 0.
pub const SECONDS: ValueKind<Duration> =
    ValueKind::of_text("SECONDS", "a number of seconds of at least 0.001", |text| {
        parse_limit(text).filter(|time| !time.is_zero())
    });

/// A number of things.
pub const COUNT: ValueKind<u64> = ValueKind::of_text("COUNT", "a whole number from 1", parse_count);

/// A number of bytes.
pub const SIZE: ValueKind<u32> =
    ValueKind::of_text("BYTES", "a whole number of bytes from 0 to 4294967295", parse_size);

/// A number of bytes that is not 0.
pub const POSITIVE_SIZE: ValueKind<u32> =
    ValueKind::of_text("BYTES", "a whole number of bytes from 1 to 4294967295", |text| {
        parse_size(text).filter(|size| *size > 0)
    });

/// What decides random choices.
pub const SEED: ValueKind<u64> =
    ValueKind::of_text("NUMBER", "a whole number from 0", |text| text.parse().ok());

/// Whether something is on: the flag alone says yes.
pub const SWITCH: ValueKind<bool> =
    ValueKind { is_switch: true, ..ValueKind::of_text("BOOL", "true or false", parse_bool) };

/// The name of a file.
pub const FILE: ValueKind<PathBuf> = ValueKind::of_bytes("FILE", "a file name", parse_path);

/// A TCP port.
pub fn parse_port(text: &str) -> Option<u16> {
    digits(text)?.parse().ok()
}

/// A time in seconds, with fractions: 0, or at least a millisecond.
pub fn parse_limit(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    if seconds.is_sign_negative() || !seconds.is_finite() {
        return None;
    }
    // A positive number too small for a float must not become 0, which means something else.
    let mantissa = text.split(['e', 'E']).next()?;
    let is_positive = mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    match is_positive && seconds < 0.001 {
        true => None,
        false => Duration::try_from_secs_f64(seconds.min(LIMIT_SECONDS_MAX)).ok(),
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
    digits(text)?.parse().ok()
}

/// Yes or no; 1 and 0 too, as variables often have them.
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

/// The name of a file, which is not empty and need not be UTF-8.
pub fn parse_path(text: &OsStr) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

/// Characters of a value that an error message repeats.
const QUOTED_CHARACTERS_MAX: usize = 200;

/// Seconds in 31 years: longer limits are cut to it, as no run sees their end and every clock can
/// still be added to.
const LIMIT_SECONDS_MAX: f64 = 1e9;

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
            "-inf", "infinity", "1e400", "5s", " 5", "1,5", "0x10", "1_000", "five",
        ];
        for text in refused {
            assert_eq!(parse_limit(text), None, "{text}");
        }
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
        assert_eq!(quoted(OsStr::from_bytes(b"\xff")), "'\u{fffd}'");
        assert_eq!(quoted("x".repeat(5000)).chars().count(), QUOTED_CHARACTERS_MAX + 3);
    }
}
