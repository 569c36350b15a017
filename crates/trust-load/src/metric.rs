//! What a budget is about: a number of a run, how it is measured and how it is shown.

use trust_cli::text::grouped;

use crate::report::units;
use crate::summary::{Cause, Summary};
use crate::timings::Timings;

/// A number that a run has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Something of all times of a kind.
    Time(TimeKind, Statistic),
    /// Errors of the whole run, whatever their cause.
    Errors,
    /// Errors of the whole run with this cause.
    Cause(Cause),
    /// Messages that came back right and took longer than the timeout.
    Slow,
    /// Messages that were due and did not come back right: those that failed and those that were
    /// not sent.
    Unanswered,
    /// Messages per second that came back right while messages were sent.
    Rate,
    /// Connections that were made.
    Connections,
}

/// Which times a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeKind {
    /// [`Summary::latency`]; its metrics have no prefix.
    Latency,
    /// [`Summary::service`]; `service-`.
    Service,
    /// [`Summary::connect`]; `connect-`.
    Connect,
}

/// A number that stands for many times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// The time that this share of them does not exceed, above 0 and at most 1.
    Quantile(f64),
    /// The shortest.
    Min,
    /// The average.
    Mean,
    /// The longest.
    Max,
}

/// How a metric is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// In nanoseconds.
    Time,
    /// In pieces.
    Count,
    /// In per cent of the messages that were due.
    Share,
    /// In messages per second.
    Rate,
}

impl Metric {
    /// The names that [`Metric::parse`] takes.
    pub const ALLOWED: &str = "p50, p99.9 and so on, min, mean or max, with service- or connect- \
         before it or without; errors; a cause as mismatch or timeout; slow; unanswered; rate; \
         connections";

    /// The metric of a name; `None`: there is none.
    pub fn parse(name: &str) -> Option<Metric> {
        let named = match name {
            "errors" => Some(Metric::Errors),
            "slow" => Some(Metric::Slow),
            "unanswered" => Some(Metric::Unanswered),
            "rate" => Some(Metric::Rate),
            "connections" => Some(Metric::Connections),
            _ => Cause::ALL.into_iter().find(|cause| cause.name() == name).map(Metric::Cause),
        };
        if named.is_some() {
            return named;
        }
        let (times, statistic) = match name.split_once('-') {
            Some(("service", statistic)) => (TimeKind::Service, statistic),
            Some(("connect", statistic)) => (TimeKind::Connect, statistic),
            _ => (TimeKind::Latency, name),
        };
        let statistic = match statistic {
            "min" => Statistic::Min,
            "mean" => Statistic::Mean,
            "max" => Statistic::Max,
            _ => Statistic::Quantile(quantile(statistic.strip_prefix('p')?)?),
        };
        Some(Metric::Time(times, statistic))
    }

    /// How it is counted; all but times and rates also as a share, unless they are connections.
    pub fn quantity(self) -> Quantity {
        match self {
            Metric::Time(..) => Quantity::Time,
            Metric::Rate => Quantity::Rate,
            Metric::Errors
            | Metric::Cause(_)
            | Metric::Slow
            | Metric::Unanswered
            | Metric::Connections => Quantity::Count,
        }
    }

    /// Whether it can be told as a share of the messages.
    pub fn has_share(self) -> bool {
        matches!(self, Metric::Errors | Metric::Cause(_) | Metric::Slow | Metric::Unanswered)
    }

    /// The times, if too few were measured for the percentile that it is.
    pub fn unsupported(self, summary: &Summary) -> Option<(TimeKind, u64)> {
        let Metric::Time(kind, Statistic::Quantile(quantile)) = self else { return None };
        let times = kind.of(summary);
        (!times.is_empty() && !times.supports(quantile)).then(|| (kind, times.len()))
    }

    /// What it was; `None`: there is nothing to tell it from, as a percentile of no message or a
    /// share of none.
    ///
    /// The shortest and the longest are exact; percentiles are rounded up, by a thousandth at most.
    pub fn measure(self, quantity: Quantity, summary: &Summary) -> Option<f64> {
        let counts = &summary.counts;
        let unanswered = counts.failed + counts.unsent;
        let count = match self {
            Metric::Time(times, statistic) => return statistic.of(times.of(summary)),
            Metric::Rate => return Some(summary.achieved_rate),
            Metric::Errors => summary.errors.total(),
            Metric::Cause(cause) => summary.errors.count(cause),
            Metric::Slow => counts.slow,
            Metric::Unanswered => unanswered,
            Metric::Connections => counts.connections,
        };
        let due = counts.answered + unanswered;
        match quantity {
            Quantity::Share if due == 0 => None,
            Quantity::Share => Some(count as f64 / due as f64 * 100.0),
            _ => Some(count as f64),
        }
    }
}

impl TimeKind {
    /// What has such a time, for people.
    pub fn noun(self) -> &'static str {
        match self {
            TimeKind::Latency | TimeKind::Service => "message",
            TimeKind::Connect => "connection",
        }
    }

    fn of(self, summary: &Summary) -> &Timings {
        match self {
            TimeKind::Latency => &summary.latency,
            TimeKind::Service => &summary.service,
            TimeKind::Connect => &summary.connect,
        }
    }
}

impl Statistic {
    /// Nanoseconds.
    fn of(self, times: &Timings) -> Option<f64> {
        if times.is_empty() {
            return None;
        }
        Some(match self {
            Statistic::Quantile(quantile) => times.value_at_quantile(quantile) as f64,
            Statistic::Min => times.min() as f64,
            Statistic::Mean => times.mean(),
            Statistic::Max => times.max() as f64,
        })
    }
}

impl Quantity {
    /// The value with its unit, as exact as reports are: `7.31 ms`, `1,204`, `0.13 %`,
    /// `988 messages/s`.
    pub fn show(self, value: f64) -> String {
        match self {
            Quantity::Time => units::time(value.round() as u64),
            Quantity::Count => grouped(value as u64),
            Quantity::Share => units::percent(value / 100.0),
            Quantity::Rate => format!("{} messages/s", units::rate(value)),
        }
    }

    /// The value with its unit and all its digits, for where rounding hides what matters.
    pub fn show_exactly(self, value: f64) -> String {
        match self {
            Quantity::Time => format!("{value} ns"),
            Quantity::Count => self.show(value),
            Quantity::Share => format!("{value} %"),
            Quantity::Rate => format!("{value} messages/s"),
        }
    }
}

/// `0.999` for `99.9`: the number that this quantile is called by elsewhere, and no neighbour of
/// it, as dividing gives.
fn quantile(percent: &str) -> Option<f64> {
    // The exponent after it leaves no room for another one, and the digit in front for a sign or
    // `inf`.
    let is_plain =
        percent.starts_with(|first: char| first.is_ascii_digit()) && !percent.ends_with('.');
    let quantile: f64 = format!("{percent}e-2").parse().ok()?;
    (is_plain && quantile > 0.0 && quantile <= 1.0).then_some(quantile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::QUANTILES;

    #[test]
    fn every_cause_and_every_quantile_of_the_reports_has_its_name() {
        for cause in Cause::ALL {
            assert_eq!(Metric::parse(cause.name()), Some(Metric::Cause(cause)));
        }
        for (quantile, name) in QUANTILES {
            let expected = match name {
                "max" => Statistic::Max,
                _ => Statistic::Quantile(quantile),
            };
            for (prefix, times) in [
                ("", TimeKind::Latency),
                ("service-", TimeKind::Service),
                ("connect-", TimeKind::Connect),
            ] {
                let metric = Metric::parse(&format!("{prefix}{name}"));
                assert_eq!(metric, Some(Metric::Time(times, expected)), "{prefix}{name}");
            }
        }
    }

    #[test]
    fn percentiles_are_above_0_and_at_most_100() {
        let quantile = |name| match Metric::parse(name) {
            Some(Metric::Time(_, Statistic::Quantile(quantile))) => Some(quantile),
            _ => None,
        };
        let taken = [
            ("p100", 1.0),
            ("p100.0", 1.0),
            ("p1", 0.01),
            ("p0.1", 0.001),
            ("p99.999", 0.99999),
            ("p29", 0.29),
            ("p050", 0.5),
        ];
        for (name, expected) in taken {
            assert_eq!(quantile(name), Some(expected), "{name}");
        }
        for name in [
            "p",
            "p0",
            "p0.0",
            "p100.001",
            "p101",
            "p-1",
            "p+1",
            "p1e1",
            "p.5",
            "p5.",
            "p9.9.9",
            "pinf",
            "pnan",
            "99",
            "P99",
            "p99%",
            "p 99",
            "service-",
            "service-errors",
            "connect-service-p99",
            "latency-p99",
            "p٩٩",
        ] {
            assert_eq!(Metric::parse(name), None, "{name}");
        }
    }

    #[test]
    fn values_are_shown_with_their_unit() {
        let shown = [
            (Quantity::Time, 7_312_345.0, "7.31 ms", "7312345 ns"),
            (Quantity::Time, 999_936.5, "1.00 ms", "999936.5 ns"),
            (Quantity::Count, 12_345.0, "12,345", "12,345"),
            (Quantity::Share, 12.345, "12.3 %", "12.345 %"),
            (Quantity::Rate, 987.65, "988 messages/s", "987.65 messages/s"),
        ];
        for (quantity, value, rounded, exact) in shown {
            assert_eq!(quantity.show(value), rounded);
            assert_eq!(quantity.show_exactly(value), exact);
        }
    }
}
