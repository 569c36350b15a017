//! Which percentiles a number of samples supports.
//!
//! A percentile is supported if at least one sample lies beyond it. Otherwise it is the maximum
//! under another name, decided by a single sample.

/// Whether so many samples support the percentile. The maximum needs one.
pub fn is_supported(samples: u64, quantile: f64) -> bool {
    match quantile {
        1.0.. => samples > 0,
        // The rank that a histogram takes, computed in the same way.
        _ => ((quantile * samples as f64).ceil() as u64) < samples,
    }
}

/// The fewest samples that support the percentile.
pub fn samples_needed(quantile: f64) -> u64 {
    let about = (1.0 / (1.0 - quantile)).round() as u64;
    (about.saturating_sub(1)..).find(|samples| is_supported(*samples, quantile)).unwrap_or(u64::MAX)
}

/// Ranks, from 1, of the samples between which the percentile of all that could be sampled lies
/// with [`CONFIDENCE`]; `None` where there are too few for a bound.
///
/// Order statistics, whatever the distribution: how many of independent samples lie beyond the
/// percentile is binomial. Each side is missed with half of what is left of the confidence.
pub fn confidence_ranks(samples: u64, quantile: f64) -> (Option<u64>, Option<u64>) {
    let (few, many) = beyond(samples, quantile);
    let low = (samples + 1).checked_sub(many).filter(|rank| *rank > 0);
    (low, few.map(|few| samples - few))
}

/// The chance that the percentile lies between the [`confidence_ranks`].
pub const CONFIDENCE: f64 = 0.95;

/// How far that is from the middle of a normal distribution, in standard deviations.
const NORMAL_QUANTILE: f64 = 1.959_963_985;

/// Expected samples beyond a percentile up to which their distribution is added up; above it is as
/// good as normal, to a rank or two of ten thousand.
const EXACT_MAX: f64 = 10_000.0;

/// The most samples beyond the percentile that are improbably few, if any number is, and the fewest
/// that are improbably many.
fn beyond(samples: u64, quantile: f64) -> (Option<u64>, u64) {
    let (n, p) = (samples as f64, 1.0 - quantile);
    if n * p > EXACT_MAX {
        let (mean, spread) = (n * p, NORMAL_QUANTILE * (n * p * quantile).sqrt());
        return (Some((mean - spread) as u64 - 1), (mean + spread) as u64 + 2);
    }
    let improbable = (1.0 - CONFIDENCE) / 2.0;
    // Logarithms: the first terms may be less than the smallest number.
    let (mut few, mut ln_term, mut sum) = (None, n * quantile.ln(), 0.0);
    for count in 0..samples {
        sum += ln_term.exp();
        if sum <= improbable {
            few = Some(count);
        }
        if sum >= 1.0 - improbable {
            return (few, count + 1);
        }
        ln_term += ((n - count as f64) / (count as f64 + 1.0)).ln() + (p / quantile).ln();
    }
    (few, samples + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_a_sample_beyond_it() {
        let needed = [
            (0.5, 2),
            (0.75, 4),
            (0.9, 10),
            (0.95, 20),
            (0.99, 100),
            (0.999, 1000),
            (0.9999, 10_000),
        ];
        for (quantile, needed) in needed {
            assert_eq!(samples_needed(quantile), needed, "{quantile}");
            assert!(!is_supported(needed - 1, quantile), "{quantile}");
            for samples in [needed, needed + 1, 2 * needed, 1_000_000_000] {
                assert!(is_supported(samples, quantile), "{quantile} of {samples}");
            }
        }
        assert!(is_supported(1, 1.0) && !is_supported(0, 1.0) && !is_supported(0, 0.5));
    }

    #[test]
    fn the_bounds_are_those_of_the_tables() {
        // David and Nagaraja, Order Statistics, and the binomial distribution.
        assert_eq!(confidence_ranks(10, 0.5), (Some(2), Some(9)));
        assert_eq!(confidence_ranks(20, 0.5), (Some(6), Some(15)));
        assert_eq!(confidence_ranks(100, 0.5), (Some(40), Some(61)));
        assert_eq!(confidence_ranks(367, 0.99).1, None);
        assert_eq!(confidence_ranks(368, 0.99).1, Some(368));
        assert_eq!(confidence_ranks(0, 0.99), (None, None));
        assert_eq!(confidence_ranks(1, 0.5), (None, None));
        assert_eq!(confidence_ranks(20, 0.99), (Some(19), None));
    }

    #[test]
    fn adding_up_and_the_normal_distribution_agree_where_one_takes_over() {
        for quantile in [0.5, 0.9, 0.99, 0.9999] {
            let at_most = (EXACT_MAX / (1.0 - quantile)) as u64;
            let (exact, normal) =
                (beyond(at_most, quantile), beyond(at_most + at_most / 1000, quantile));
            let apart = normal.0.unwrap() as i64 - exact.0.unwrap() as i64;
            assert!((5..=15).contains(&apart), "{quantile}: {exact:?} {normal:?}");
            let apart = normal.1 as i64 - exact.1 as i64;
            assert!((5..=15).contains(&apart), "{quantile}: {exact:?} {normal:?}");
        }
    }

    #[test]
    fn the_percentile_lies_between_the_bounds_as_often_as_is_said() {
        const RUNS: u64 = 2000;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as f64 / u64::MAX as f64
        };
        for (samples, quantile) in [(50, 0.5), (400, 0.99), (1000, 0.99)] {
            let (low, high) = confidence_ranks(samples, quantile);
            let (low, high) = (low.expect("enough"), high.expect("enough"));
            let covered = (0..RUNS).filter(|_| {
                let mut drawn: Vec<f64> = (0..samples).map(|_| uniform()).collect();
                drawn.sort_by(f64::total_cmp);
                drawn[low as usize - 1] <= quantile && quantile < drawn[high as usize - 1]
            });
            let share = covered.count() as f64 / RUNS as f64;
            assert!((0.94..0.99).contains(&share), "{quantile} of {samples}: {share}");
        }
    }
}
