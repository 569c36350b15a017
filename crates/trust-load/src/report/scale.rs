//! From values to places on an axis, with labels at round numbers.

use std::time::Duration;

use crate::report::chart::Tick;
use crate::report::units::{rate, round_time};

/// The most labels of an axis of time, so that they stand apart on a phone.
const TIME_TICKS_MAX: u64 = 6;

/// Decades of an axis from which on only powers of ten have labels.
const DECADES_SPARSE: f64 = 2.2;

/// An axis of times to an echo, in nanoseconds. Each decade takes the same room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logarithmic {
    low: f64,
    high: f64,
}

impl Logarithmic {
    /// From a round number below to a round number above.
    pub fn around(low: u64, high: u64) -> Logarithmic {
        // A histogram distinguishes times to a thousandth: 1 s may be a little more there, and is
        // no reason for 2 s.
        let (low, high) = (low.saturating_add(low / 1000).max(1), high - high / 1000);
        let low = round_numbers().take_while(|number| *number <= low).last().unwrap_or(1);
        let high =
            round_numbers().find(|number| *number >= high && *number > low).unwrap_or(u64::MAX);
        Logarithmic { low: low as f64, high: high as f64 }
    }

    /// Where it is.
    pub fn place(&self, ns: u64) -> f64 {
        ((ns.max(1) as f64) / self.low).log10() / (self.high / self.low).log10()
    }

    /// Labels at round numbers.
    pub fn ticks(&self) -> Vec<Tick> {
        let is_sparse = (self.high / self.low).log10() > DECADES_SPARSE;
        let numbers = round_numbers().filter(|number| {
            let is_inside = *number as f64 >= self.low && *number as f64 <= self.high;
            is_inside && (!is_sparse || is_power_of_ten(*number))
        });
        numbers.map(|number| Tick { at: self.place(number), text: round_time(number) }).collect()
    }
}

/// 1, 2, 5, 10, 20, … nanoseconds, up to three hours.
fn round_numbers() -> impl Iterator<Item = u64> {
    (0..13).flat_map(|power| [1, 2, 5].map(|digit| digit * 10u64.pow(power)))
}

fn is_power_of_ten(number: u64) -> bool {
    10u64.pow(number.ilog10()) == number
}

/// An axis of numbers from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    high: f64,
    step: f64,
}

impl Linear {
    /// Up to a round number of at least so much.
    pub fn up_to(most: f64) -> Linear {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let power = 10f64.powf((most / 4.0).log10().floor());
        let fits = |step: &f64| step * 4.0 >= most;
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|digit| digit * power).into_iter().find(fits);
        let step = step.unwrap_or(power * 10.0);
        Linear { high: (most / step).ceil() * step, step }
    }

    /// Where it is.
    pub fn place(&self, number: f64) -> f64 {
        number / self.high
    }

    /// Labels at round numbers, from 0 on.
    pub fn ticks(&self) -> Vec<Tick> {
        let count = (self.high / self.step).round() as u32;
        let at = |index: u32| f64::from(index) * self.step;
        (0..=count).map(|index| Tick { at: self.place(at(index)), text: rate(at(index)) }).collect()
    }
}

/// An axis of the time of a run, from its start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elapsed {
    end: Duration,
}

impl Elapsed {
    /// Up to this time.
    pub fn up_to(end: Duration) -> Elapsed {
        Elapsed { end: end.max(Duration::from_millis(1)) }
    }

    /// Where it is.
    pub fn place(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.end.as_secs_f64()
    }

    /// Labels at round times.
    pub fn ticks(&self) -> Vec<Tick> {
        /// Milliseconds from label to label.
        const STEPS: [u64; 23] = [
            1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000,
            60_000, 120_000, 300_000, 600_000, 1_200_000, 1_800_000, 3_600_000, 7_200_000,
        ];
        let end = u64::try_from(self.end.as_millis()).unwrap_or(u64::MAX);
        let days = 12 * 3_600_000;
        let step = STEPS.into_iter().find(|step| end / step < TIME_TICKS_MAX);
        let step = step.unwrap_or_else(|| days * (end / days / TIME_TICKS_MAX + 1));
        let times = (0..=end / step).map(|index| index * step);
        let text = |millis: u64| match step {
            3_600_000.. => format!("{} h", millis / 3_600_000),
            60_000.. => format!("{} min", millis / 60_000),
            1_000.. => format!("{} s", millis / 1_000),
            _ => format!("{millis} ms"),
        };
        let place = |millis| self.place(Duration::from_millis(millis));
        times.map(|millis| Tick { at: place(millis), text: text(millis) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ticks: &[Tick]) -> Vec<&str> {
        for tick in ticks {
            assert!((0.0..=1.000_001).contains(&tick.at), "{ticks:?}");
        }
        for pair in ticks.windows(2) {
            assert!(pair[1].at > pair[0].at, "{ticks:?}");
        }
        ticks.iter().map(|tick| tick.text.as_str()).collect()
    }

    #[test]
    fn an_axis_of_latency_has_round_numbers_and_holds_all() {
        let axis = Logarithmic::around(73_000, 3_110_000);
        assert_eq!(
            texts(&axis.ticks()),
            ["50 µs", "100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms"]
        );
        let wide = Logarithmic::around(73_000, 1_000_000_000);
        assert_eq!(texts(&wide.ticks()), ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        assert!((wide.place(1_000_000_000) - 1.0).abs() < 1e-9);
        assert!(wide.place(73_000) > 0.0);
        assert_eq!(texts(&Logarithmic::around(0, 0).ticks()), ["1 ns", "2 ns"]);
        assert_eq!(texts(&Logarithmic::around(500, 500).ticks()), ["500 ns", "1 µs"]);
        let inexact = Logarithmic::around(999_424, 10_002_431);
        assert_eq!(texts(&inexact.ticks()), ["1 ms", "2 ms", "5 ms", "10 ms"]);
        let longest = Logarithmic::around(1, 3_600_000_000_000);
        assert_eq!(longest.ticks().len(), 13);
    }

    #[test]
    fn an_axis_of_rates_begins_at_0() {
        assert_eq!(
            texts(&Linear::up_to(20_000.0).ticks()),
            ["0", "5,000", "10,000", "15,000", "20,000"]
        );
        assert_eq!(texts(&Linear::up_to(41.0).ticks()), ["0", "20", "40", "60"]);
        assert_eq!(texts(&Linear::up_to(0.0).ticks()), ["0", "0.25", "0.5", "0.75", "1"]);
        assert_eq!(texts(&Linear::up_to(f64::NAN).ticks()).len(), 5);
        assert!((Linear::up_to(19_998.0).place(20_000.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_axis_of_time_has_few_labels_whatever_the_length() {
        let ticks = |millis| Elapsed::up_to(Duration::from_millis(millis)).ticks();
        assert_eq!(texts(&ticks(4_217)), ["0 s", "1 s", "2 s", "3 s", "4 s"]);
        assert_eq!(texts(&ticks(120_000)), ["0 s", "30 s", "60 s", "90 s", "120 s"]);
        assert_eq!(texts(&ticks(900_000)), ["0 min", "5 min", "10 min", "15 min"]);
        for millis in [0, 1, 999, 59_999, 3_600_000, 86_400_000, 31_536_000_000] {
            let ticks = ticks(millis);
            assert!((2..=7).contains(&ticks.len()), "{millis}: {ticks:?}");
            texts(&ticks);
        }
    }
}
