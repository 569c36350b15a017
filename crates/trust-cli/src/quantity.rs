//! Numbers followed by a unit: `500ms`, `10k`, `64KiB`.

/// The factor for a number: `times`, multiplied by this power of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The unit's name.
    pub name: &'static str,
    times: u32,
    exponent: u32,
}

/// Units of time, in nanoseconds. Keyboards have a u, and two different characters look like the
/// Greek letter.
pub const TIMES: &[Unit] = &[
    Unit::new("ns", 1, 0),
    Unit::new("us", 1, 3),
    Unit::new("µs", 1, 3),
    Unit::new("μs", 1, 3),
    Unit::new("ms", 1, 6),
    Unit::new("s", 1, 9),
    Unit::new("m", 60, 9),
    Unit::new("h", 3600, 9),
];

/// Units of a rate.
pub const RATES: &[Unit] = &[Unit::new("k", 1, 3), Unit::new("M", 1, 6)];

/// Units of a share, in millionths.
pub const SHARES: &[Unit] = &[Unit::new("%", 1, 4)];

/// Units of size, in bytes. There is no K, because some read it as 1000 and some as 1024.
pub const SIZES: &[Unit] = &[
    Unit::new("B", 1, 0),
    Unit::new("k", 1, 3),
    Unit::new("kB", 1, 3),
    Unit::new("Ki", 1 << 10, 0),
    Unit::new("KiB", 1 << 10, 0),
    Unit::new("M", 1, 6),
    Unit::new("MB", 1, 6),
    Unit::new("Mi", 1 << 20, 0),
    Unit::new("MiB", 1 << 20, 0),
    Unit::new("G", 1, 9),
    Unit::new("GB", 1, 9),
    Unit::new("Gi", 1 << 30, 0),
    Unit::new("GiB", 1 << 30, 0),
];

/// The most digits after the point that count. Further ones are finer than anything here.
const FRACTION_DIGITS_MAX: usize = 18;

/// The digits that a text begins with, including a point, and the rest of the text.
pub fn split(text: &str) -> (&str, &str) {
    let is_number = |character: char| character.is_ascii_digit() || character == '.';
    text.split_at(text.find(|character| !is_number(character)).unwrap_or(text.len()))
}

/// The number and the unit of a text; `None` if the digits are not followed by one of the units.
pub fn with_unit<'t>(text: &'t str, units: &'static [Unit]) -> Option<(&'t str, Unit)> {
    let (number, name) = split(text);
    units.iter().find(|unit| unit.name == name).map(|unit| (number, *unit))
}

impl Unit {
    const fn new(name: &'static str, times: u32, exponent: u32) -> Unit {
        Unit { name, times, exponent }
    }

    /// The amount of a number with this unit; `None` if it is not whole, exceeds 2^64, or the text
    /// is not a number.
    pub fn whole(self, number: &str) -> Option<u64> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > FRACTION_DIGITS_MAX {
            return None;
        }
        let digits = |digits: &str| -> Option<u128> {
            let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
            match digits.trim_start_matches('0') {
                _ if !are_digits => None,
                "" => Some(0),
                significant => significant.parse().ok(),
            }
        };
        let factor = u128::from(self.times) * 10u128.pow(self.exponent);
        let parts = 10u128.pow(fraction.len() as u32);
        // At most 10^18 times 3600 times 10^9, far below 2^128.
        let below_one = digits(fraction)? * factor;
        let above_one = digits(whole)?.checked_mul(factor)?;
        let sum = above_one.checked_add(below_one / parts)?;
        below_one.is_multiple_of(parts).then_some(sum)?.try_into().ok()
    }

    /// The same as a floating-point number, which may be rounded or infinite.
    pub fn float(self, number: &str) -> Option<f64> {
        // The power of ten goes into the exponent: 0.3 ms are 300,000 ns, which multiplication
        // would miss by a little.
        let value: f64 = format!("{number}e{}", self.exponent).parse().ok()?;
        Some(value * f64::from(self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str, units: &'static [Unit]) -> Option<u64> {
        let (number, unit) = with_unit(text, units)?;
        unit.whole(number)
    }

    #[test]
    fn every_unit_has_its_factor() {
        let times = [
            ("7ns", 7),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("7μs", 7_000),
            ("7ms", 7_000_000),
            ("7s", 7_000_000_000),
            ("7m", 420_000_000_000),
            ("7h", 25_200_000_000_000),
        ];
        for (text, nanoseconds) in times {
            assert_eq!(whole(text, TIMES), Some(nanoseconds), "{text}");
        }
        let sizes = [
            ("7", 1),
            ("7k", 1_000),
            ("7Ki", 1 << 10),
            ("7M", 1_000_000),
            ("7Mi", 1 << 20),
            ("7G", 1_000_000_000),
            ("7Gi", 1 << 30),
        ];
        for (text, factor) in sizes {
            let with_b = format!("{text}B");
            assert_eq!(whole(&with_b, SIZES), Some(7 * factor), "{with_b}");
            let without = whole(text, SIZES);
            assert_eq!(without, (factor > 1).then_some(7 * factor), "{text}");
        }
        assert_eq!(["7k", "7M"].map(|text| whole(text, RATES)), [Some(7_000), Some(7_000_000)]);
    }

    #[test]
    fn fractions_are_exact_and_refused_where_they_are_too_fine() {
        let taken = [
            ("0.3ms", 300_000),
            (".5us", 500),
            ("5.us", 5_000),
            ("1.50m", 90_000_000_000),
            ("1.07s", 1_070_000_000),
            ("0.0s", 0),
            ("0.000000000000000000000000s", 0),
        ];
        for (text, nanoseconds) in taken {
            assert_eq!(whole(text, TIMES), Some(nanoseconds), "{text}");
        }
        for text in ["0.5ns", "1.0000000001s", "0.0000000000000000001h", "0.33333333333333h"] {
            assert_eq!(whole(text, TIMES), None, "{text}");
        }
        assert_eq!(whole("1.5Ki", SIZES), Some(1536));
        assert_eq!(whole("0.0001k", SIZES), None);
    }

    #[test]
    fn what_is_too_large_is_refused_and_overflows_nowhere() {
        assert_eq!(whole("18446744073709551615ns", TIMES), Some(u64::MAX));
        assert_eq!(whole("0018446744073709551615ns", TIMES), Some(u64::MAX));
        assert_eq!(whole("18446744073709551616ns", TIMES), None);
        assert_eq!(whole("17179869183.999999999068677425Gi", SIZES), None);
        for digits in [20, 30, 38, 39, 40, 1000] {
            for unit in ["h", "ns"] {
                assert_eq!(whole(&format!("{}{unit}", "9".repeat(digits)), TIMES), None);
            }
        }
    }

    #[test]
    fn anything_else_is_no_number_with_a_unit() {
        for text in [
            "", "s", ".s", "1.2.3s", "-1s", "+1s", "1e3s", "1 s", " 1s", "1s ", "1S", "1sec",
            "1MS", "1d", "٣s", "1_000s", "infs", "nans",
        ] {
            assert_eq!(whole(text, TIMES), None, "{text}");
        }
        for text in ["1K", "1KB", "1kiB", "1b", "1m", "1T", "1kBB", "1kb"] {
            assert_eq!(whole(text, SIZES), None, "{text}");
        }
    }
}
