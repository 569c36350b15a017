//! Which percentiles a number of samples supports.
//!
//! A percentile is supported if at least one sample lies beyond it. Otherwise it is the maximum under
//! another name, decided by a single sample.

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
}
