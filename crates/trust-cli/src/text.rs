//! Numbers, times and errors in messages for people.

use std::io;
use std::time::Duration;

/// A number with commas between groups of three digits: `70,004`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 error`, `1,204 errors`.
pub fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A time in seconds, to the millisecond and no longer than needed: `5 s`, `0.25 s`.
pub fn seconds(time: Duration) -> String {
    let millis = time.as_millis();
    let fraction = format!("{:03}", millis % 1000);
    match fraction.trim_end_matches('0') {
        "" => format!("{} s", millis / 1000),
        fraction => format!("{}.{fraction} s", millis / 1000),
    }
}

/// The system's text for an error, without its number: `Connection refused`.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(errno) => text.trim_end_matches(&format!(" (os error {errno})")).to_owned(),
        None => text,
    }
}

/// Milliseconds with a fraction: most connections of a busy server last less than one.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (70_004, "70,004"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn times_are_as_short_as_they_can_be() {
        let cases = [(0, "0 s"), (5000, "5 s"), (250, "0.25 s"), (61_001, "61.001 s")];
        for (millis, expected) in cases {
            assert_eq!(seconds(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn a_reason_has_no_number() {
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert_eq!(reason(&refused), "Connection refused");
        assert_eq!(reason(&io::Error::other("odd")), "odd");
    }
}
