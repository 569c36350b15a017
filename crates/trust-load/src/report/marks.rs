//! Marks on percentiles that too few samples support.

use trust_cli::text::grouped;

use crate::report::units::time;
use crate::summary::QUANTILES;
use crate::support::samples_needed;
use crate::timings::Timings;

/// Stands before a percentile that is not supported.
pub const MARK: &str = "*";

/// The mark, where the percentile is not supported; else nothing.
pub fn mark(times: &Timings, quantile: f64) -> &'static str {
    match times.is_empty() || times.supports(quantile) {
        true => "",
        false => MARK,
    }
}

/// Between which times the percentile lies, with 95 % confidence: `1.02 ms to 1.31 ms`.
pub fn interval(times: &Timings, quantile: f64) -> Option<String> {
    match times.confidence(quantile) {
        (None, None) => None,
        (Some(low), Some(high)) => Some(format!("{} to {}", time(low), time(high))),
        (Some(low), None) => Some(format!("at least {}", time(low))),
        (None, Some(high)) => Some(format!("at most {}", time(high))),
    }
}

/// Explains the marks below a table of [`QUANTILES`]; `None` if it has none.
pub fn footnote(columns: &[&Timings]) -> Option<String> {
    let is_marked = |quantile| columns.iter().any(|times| !mark(times, quantile).is_empty());
    let marked: Vec<String> = QUANTILES
        .iter()
        .filter(|(quantile, _)| is_marked(*quantile))
        .map(|(quantile, name)| format!("{} for {name}", grouped(samples_needed(*quantile))))
        .collect();
    let needed = (!marked.is_empty()).then(|| marked.join(", "))?;
    Some(format!(
        "{MARK} Too few samples for this percentile, so it is the maximum. Needed: {needed}."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(samples: u64) -> Timings {
        let mut times = Timings::default();
        (1..=samples).for_each(|ms| times.add(ms * 1_000_000));
        times
    }

    #[test]
    fn what_is_not_supported_is_the_maximum_and_what_is_supported_lies_below_it() {
        for samples in 1..=300 {
            let times = times(samples);
            for quantile in [0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999] {
                let is_maximum = times.value_at_quantile(quantile) == times.max();
                assert_eq!(times.supports(quantile), !is_maximum, "{quantile} of {samples}");
            }
        }
    }

    #[test]
    fn the_footnote_names_what_is_marked_in_any_column_and_what_it_would_need() {
        let (few, many) = (times(150), times(10_000));
        assert_eq!(footnote(&[&many]), None);
        assert_eq!(footnote(&[&Timings::default()]), None);
        let expected = "* Too few samples for this percentile, so it is the maximum. Needed: \
                        1,000 for p99.9, 10,000 for p99.99.";
        assert_eq!(footnote(&[&many, &few]).as_deref(), Some(expected));
    }
}
