//! Times, rates and sizes with three significant digits and a unit.

use trust_cli::text::grouped;

const TIMES: [&str; 4] = ["ns", "µs", "ms", "s"];

/// A time in the unit that makes it short: `850 ns`, `98.1 µs`, `7.31 ms`, `1.02 s`, `3,600 s`.
pub fn time(ns: u64) -> String {
    let (digits, unit) = scaled(ns as f64, &TIMES);
    format!("{digits} {unit}")
}

/// The same for a round number of few digits: `20 µs`.
pub fn round_time(ns: u64) -> String {
    let (digits, unit) = scaled(ns as f64, &TIMES);
    format!("{} {unit}", trimmed(&digits))
}

/// A number per second, as exact as three digits or whole numbers: `0.001`, `0.25`, `12.5`,
/// `19,998`.
pub fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 1.0 {
        return small_rate(per_second);
    }
    match three_digits(per_second) {
        // `20`, not `20.0`: rates are asked for in whole numbers.
        Some(digits) => trimmed(&digits).to_owned(),
        None => grouped(per_second.round() as u64),
    }
}

/// Three significant digits of a number below 1, however small: of `0.0012345` it is `0.00123`.
fn small_rate(per_second: f64) -> String {
    // The digits in front of the first that counts, and three from there on.
    let decimals = (2.0 - per_second.log10().floor()).clamp(0.0, 17.0) as usize;
    trimmed(&format!("{per_second:.decimals$}")).to_owned()
}

/// Without meaningless zeros after the point.
fn trimmed(digits: &str) -> &str {
    match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    }
}

/// A size in units of thousands: `512 B`, `12.8 MB`.
pub fn bytes(count: f64) -> String {
    let (digits, unit) = scaled(count, &["B", "kB", "MB", "GB", "TB"]);
    format!("{digits} {unit}")
}

/// A number in the unit that makes it short, each a thousand of the one before: whole in the
/// first, and with three significant digits in the others.
fn scaled<'u>(number: f64, units: &[&'u str]) -> (String, &'u str) {
    if number.round() < 1000.0 {
        return (format!("{number:.0}"), units[0]);
    }
    let within = |power: usize| number / 1000f64.powi(power as i32);
    let fits = (1..units.len()).find_map(|power| Some((three_digits(within(power))?, power)));
    let last = units.len() - 1;
    let (digits, power) = fits.unwrap_or_else(|| (grouped(within(last).round() as u64), last));
    (digits, units[power])
}

/// A share of a whole: `34.2 %`. What is not all of it is never shown as 100 %, and what is not
/// nothing never as 0 %.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let text = match percent {
        percent if percent > 99.9 && percent < 100.0 => format!("{:.2}", percent.min(99.99)),
        percent if percent > 0.0 && percent < 0.1 => format!("{:.2}", percent.max(0.01)),
        percent => format!("{percent:.1}"),
    };
    let text = text.strip_suffix(".0").unwrap_or(&text);
    format!("{text} %")
}

/// Three significant digits of a number that is less than 1000 when it is rounded, else nothing.
fn three_digits(value: f64) -> Option<String> {
    [(2, 10.0), (1, 100.0), (0, 1000.0)].into_iter().find_map(|(decimals, limit)| {
        let scale = 10f64.powi(decimals);
        let rounded = (value * scale).round() / scale;
        let decimals = usize::try_from(decimals).unwrap_or(0);
        (rounded < limit).then(|| format!("{rounded:.decimals$}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_digits_and_the_unit_that_fits() {
        let cases = [
            (0, "0 ns"),
            (7, "7 ns"),
            (850, "850 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (9_994, "9.99 µs"),
            (9_996, "10.0 µs"),
            (98_123, "98.1 µs"),
            (99_940, "99.9 µs"),
            (99_960, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (7_312_000, "7.31 ms"),
            (1_020_000_000, "1.02 s"),
            (59_960_000_000, "60.0 s"),
            (999_600_000_000, "1,000 s"),
            (3_600_000_000_000, "3,600 s"),
            (u64::MAX, "18,446,744,074 s"),
        ];
        for (ns, expected) in cases {
            assert_eq!(time(ns), expected, "{ns}");
        }
    }

    #[test]
    fn a_rate_is_whole_from_a_hundred_on() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.25"),
            (0.001, "0.001"),
            (0.001_234_5, "0.00123"),
            (0.999_9, "1"),
            (0.000_000_1, "0.0000001"),
            (1.0, "1"),
            (12.5, "12.5"),
            (20.0, "20"),
            (100.0, "100"),
            (999.7, "1,000"),
            (19_998.4, "19,998"),
            (1_234_567.0, "1,234,567"),
        ];
        for (per_second, expected) in cases {
            assert_eq!(rate(per_second), expected, "{per_second}");
        }
    }

    #[test]
    fn a_size_is_told_in_thousands() {
        let cases = [
            (0.0, "0 B"),
            (512.0, "512 B"),
            (999.6, "1.00 kB"),
            (12_800_000.0, "12.8 MB"),
            (4e15, "4,000 TB"),
        ];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }

    #[test]
    fn almost_all_is_not_all() {
        let cases = [
            (0.0, "0 %"),
            (0.000_001, "0.01 %"),
            (0.342, "34.2 %"),
            (0.5, "50 %"),
            (0.999_999_9, "99.99 %"),
            (1.0, "100 %"),
            (1.25, "125 %"),
        ];
        for (share, expected) in cases {
            assert_eq!(percent(share), expected, "{share}");
        }
    }
}
