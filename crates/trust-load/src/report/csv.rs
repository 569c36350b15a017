//! The run as comma-separated values, a line per interval (RFC 4180); `docs/LOAD-REPORT.md` says
//! what the columns are.

use std::fmt::Write as _;

use crate::report::marks::mark;
use crate::summary::{Cause, Interval, per_second};
use crate::timings::Timings;

/// The percentiles of the latency that have a column.
const LATENCY: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];

/// The percentiles of the service time that have a column.
const SERVICE: [(f64, &str); 2] = [(0.5, "p50"), (0.99, "p99")];

/// The first line: the names of the columns.
pub fn header() -> String {
    let mut columns: Vec<String> =
        ["start_seconds", "length_seconds", "answered", "answered_per_second"]
            .map(str::to_owned)
            .into();
    columns.extend(LATENCY.map(|(_, name)| quantile_field(name)));
    columns.extend(SERVICE.map(|(_, name)| format!("service_{}", quantile_field(name))));
    columns.extend(["bytes_received", "errors"].map(str::to_owned));
    columns.extend(Cause::ALL.map(|cause| format!("errors_{}", cause.name())));
    columns.extend(["slow", "unsupported", "addresses"].map(str::to_owned));
    columns.join(",") + "\r\n"
}

/// `p99.9` is `p99_9_ns`.
fn quantile_field(name: &str) -> String {
    format!("{}_ns", name.replace('.', "_"))
}

/// The line of an interval, with the addresses that connections go to. A percentile of nothing is
/// empty.
pub fn row(interval: &Interval<'_>, addresses: &[String]) -> String {
    let Interval { start, length, latency, service, answered, slow, bytes_received, errors } =
        interval;
    let mut row = format!(
        "{:.3},{:.3},{answered},{:.3}",
        start.as_secs_f64(),
        length.as_secs_f64(),
        per_second(*answered, *length)
    );
    percentiles(&mut row, latency, &LATENCY);
    percentiles(&mut row, service, &SERVICE);
    let _ = write!(row, ",{bytes_received},{}", errors.total());
    for cause in Cause::ALL {
        let _ = write!(row, ",{}", errors.count(cause));
    }
    let unsupported: Vec<String> = (unsupported("", latency, &LATENCY))
        .chain(unsupported("service_", service, &SERVICE))
        .collect();
    let (unsupported, addresses) = (unsupported.join(" "), addresses.join(" "));
    let _ = write!(row, ",{slow},{unsupported},{addresses}");
    row + "\r\n"
}

/// The columns of percentiles that the samples are too few for.
fn unsupported(
    prefix: &str,
    times: &Timings,
    quantiles: &[(f64, &str)],
) -> impl Iterator<Item = String> {
    let marked = quantiles.iter().filter(|(quantile, _)| !mark(times, *quantile).is_empty());
    marked.map(move |(_, name)| format!("{prefix}{}", quantile_field(name)))
}

fn percentiles(row: &mut String, times: &Timings, quantiles: &[(f64, &str)]) {
    for (quantile, _) in quantiles {
        row.push(',');
        if !times.is_empty() {
            let _ = write!(row, "{}", times.value_at_quantile(*quantile));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::summary::Errors;

    fn fields(line: &str) -> Vec<&str> {
        line.strip_suffix("\r\n").expect("a line of RFC 4180").split(',').collect()
    }

    #[test]
    fn every_value_stands_under_its_name() {
        let (mut latency, mut service, mut errors) =
            (Timings::default(), Timings::default(), Errors::default());
        for time in 1..=1000 {
            latency.add(time);
        }
        service.add(77);
        errors.add(Cause::Timeout);
        errors.add(Cause::Timeout);
        errors.add(Cause::Refused);
        let (start, length) = (Duration::from_millis(3000), Duration::from_millis(500));
        let (latency, service, errors) = (&latency, &service, &errors);
        let interval = Interval {
            start,
            length,
            latency,
            service,
            answered: 1000,
            slow: 7,
            bytes_received: 12_000,
            errors,
        };
        let row = row(&interval, &["127.0.0.1:7".to_owned(), "[::1]:7".to_owned()]);
        let header = header();
        let (names, values) = (fields(&header), fields(&row));
        assert_eq!(names.len(), values.len());
        let value = |name: &str| {
            values[names.iter().position(|column| *column == name).expect("the column is there")]
        };
        for (name, expected) in [
            ("start_seconds", "3.000"),
            ("length_seconds", "0.500"),
            ("answered", "1000"),
            ("answered_per_second", "2000.000"),
            ("p50_ns", "500"),
            ("p90_ns", "900"),
            ("p99_ns", "990"),
            ("p99_9_ns", "999"),
            ("max_ns", "1000"),
            ("service_p50_ns", "77"),
            ("service_p99_ns", "77"),
            ("bytes_received", "12000"),
            ("errors", "3"),
            ("errors_refused", "1"),
            ("errors_timeout", "2"),
            ("errors_mismatch", "0"),
            ("slow", "7"),
            ("unsupported", "service_p50_ns service_p99_ns"),
            ("addresses", "127.0.0.1:7 [::1]:7"),
        ] {
            assert_eq!(value(name), expected, "{name}");
        }
    }

    #[test]
    fn of_an_interval_without_an_answer_the_percentiles_are_empty() {
        let (latency, errors) = (Timings::default(), Errors::default());
        let second = Duration::from_secs(1);
        let interval = Interval {
            start: second,
            length: second,
            latency: &latency,
            service: &latency,
            answered: 0,
            slow: 0,
            bytes_received: 0,
            errors: &errors,
        };
        let row = row(&interval, &[]);
        let none = ",0".repeat(Cause::ALL.len());
        assert_eq!(row, format!("1.000,1.000,0,0.000,,,,,,,,0,0{none},0,,\r\n"));
    }
}
