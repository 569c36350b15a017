//! A run over time in constant memory, for charts.

use std::time::Duration;

use crate::summary::{Errors, Interval, per_second};
use crate::timings::Timings;

/// The most points that are kept. A chart on a large screen has about two pixels for each.
pub const POINTS_MAX: usize = 600;

/// A run over time. Points are intervals until there are too many; then neighbours are joined,
/// counts by adding them, percentiles by keeping the worse one.
#[derive(Clone, Debug)]
pub struct Timeline {
    points: Vec<Point>,
    /// Intervals that a whole point is made of: a power of two.
    intervals_per_point: u32,
    /// Intervals that the last point has so far.
    in_last: u32,
}

/// Some intervals in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Where the first one began, from the start of the measured part.
    pub start: Duration,
    /// Their lengths together.
    pub length: Duration,
    /// The worst of their percentiles of the latency; `None` if nothing came.
    pub times: Option<Percentiles>,
    /// Messages that came back right.
    pub answered: u64,
    /// Errors, by cause.
    pub errors: Errors,
}

/// Percentiles of the latency, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// Whether in an interval the 99th percentile is the longest, as there were too few for it.
    pub is_p99_max: bool,
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline { points: Vec::with_capacity(POINTS_MAX), intervals_per_point: 1, in_last: 0 }
    }
}

impl Timeline {
    /// Adds the next interval.
    pub fn add(&mut self, interval: &Interval<'_>) {
        self.push(Point::of(interval));
    }

    fn push(&mut self, point: Point) {
        match self.points.last_mut() {
            Some(last) if self.in_last < self.intervals_per_point => last.join(&point),
            _ => {
                if self.points.len() == POINTS_MAX {
                    self.halve();
                }
                self.points.push(point);
                self.in_last = 0;
            }
        }
        self.in_last += 1;
    }

    /// All of the run so far, in the order of time.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Whether points are more than an interval each.
    pub fn is_joined(&self) -> bool {
        self.intervals_per_point > 1
    }

    /// Joins each point with its right neighbour. All points are whole when this is called, and
    /// their number is even.
    fn halve(&mut self) {
        for index in 0..self.points.len() / 2 {
            let mut point = self.points[2 * index];
            point.join(&self.points[2 * index + 1]);
            self.points[index] = point;
        }
        self.points.truncate(POINTS_MAX / 2);
        self.intervals_per_point *= 2;
    }
}

impl Point {
    fn of(interval: &Interval<'_>) -> Point {
        let Interval { start, length, latency, answered, errors, .. } = *interval;
        Point { start, length, times: Percentiles::of(latency), answered, errors: *errors }
    }

    fn join(&mut self, next: &Point) {
        self.length += next.length;
        self.answered += next.answered;
        self.errors.merge(&next.errors);
        self.times = match (self.times, next.times) {
            (Some(mine), Some(theirs)) => Some(mine.worse(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
    }

    /// Messages per second that came back right.
    pub fn rate(&self) -> f64 {
        per_second(self.answered, self.length)
    }

    /// Where the last interval ended, if none was left out.
    pub fn end(&self) -> Duration {
        self.start + self.length
    }
}

impl Percentiles {
    fn of(latency: &Timings) -> Option<Percentiles> {
        let at = |quantile| latency.value_at_quantile(quantile);
        (!latency.is_empty()).then(|| Percentiles {
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
            is_p99_max: !latency.supports(0.99),
        })
    }

    fn worse(self, other: Percentiles) -> Percentiles {
        Percentiles {
            p50: self.p50.max(other.p50),
            p99: self.p99.max(other.p99),
            max: self.max.max(other.max),
            is_p99_max: self.is_p99_max || other.is_p99_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::summary::Cause;

    const SECOND: Duration = Duration::from_secs(1);

    fn percentiles(p50: u64, p99: u64, max: u64) -> Percentiles {
        Percentiles { p50, p99, max, is_p99_max: false }
    }

    /// Seconds, each with one time and as many answers as its number says, and an error if it is
    /// odd.
    fn of(seconds: u32) -> Timeline {
        let mut timeline = Timeline::default();
        for second in 0..seconds {
            let mut errors = Errors::default();
            if second % 2 == 1 {
                errors.add(Cause::Timeout);
            }
            let time = u64::from(second) + 1;
            timeline.push(Point {
                start: SECOND * second,
                length: SECOND,
                times: Some(percentiles(time, time, time)),
                answered: u64::from(second),
                errors,
            });
        }
        timeline
    }

    #[test]
    fn short_runs_are_kept_as_they_were() {
        let timeline = of(600);
        assert_eq!(timeline.points().len(), 600);
        assert!(!timeline.is_joined());
        assert_eq!(timeline.points()[17].times, Some(percentiles(18, 18, 18)));
        assert_eq!(timeline.points()[17].start, SECOND * 17);
    }

    #[test]
    fn a_run_of_any_length_takes_the_same_memory_and_loses_no_count() {
        for seconds in [1, 599, 601, 1200, 1201, 5000, 86_400] {
            let timeline = of(seconds);
            let points = timeline.points();
            assert!(points.len() <= POINTS_MAX, "{seconds}");
            assert!(seconds <= 600 || points.len() >= POINTS_MAX / 2, "{seconds}");
            assert_eq!(timeline.points.capacity(), POINTS_MAX);
            let answered: u64 = points.iter().map(|point| point.answered).sum();
            let seconds_64 = u64::from(seconds);
            assert_eq!(answered, seconds_64 * (seconds_64 - 1) / 2, "{seconds}");
            let errors: u64 = points.iter().map(|point| point.errors.total()).sum();
            assert_eq!(errors, seconds_64 / 2, "{seconds}");
            let length: Duration = points.iter().map(|point| point.length).sum();
            assert_eq!(length, SECOND * seconds, "{seconds}");
            for pair in points.windows(2) {
                assert_eq!(pair[0].end(), pair[1].start, "{seconds}");
            }
        }
    }

    #[test]
    fn neighbours_are_joined_by_the_worse_one_and_never_by_the_middle() {
        let timeline = of(601);
        assert!(timeline.is_joined());
        assert_eq!(timeline.points().len(), 301);
        assert_eq!(timeline.points()[0].times, Some(percentiles(2, 2, 2)));
        assert_eq!(timeline.points()[300].times, Some(percentiles(601, 601, 601)));
        assert_eq!(timeline.points()[300].length, SECOND);
    }

    #[test]
    fn a_second_that_was_joined_with_a_good_one_still_shows() {
        let timeline = sample::named("long").timeline;
        let stalled = |point: &&Point| point.times.is_some_and(|times| times.max >= 1_000_000_000);
        assert_eq!(timeline.points().len(), 450);
        assert_eq!(timeline.points().iter().filter(stalled).count(), 1);
    }

    #[test]
    fn an_interval_is_told_by_its_percentiles_and_has_none_without_an_answer() {
        let (none, mut some, errors) = (Timings::default(), Timings::default(), Errors::default());
        for time in 1..=1000 {
            some.add(time);
        }
        let mut timeline = Timeline::default();
        for (second, latency) in [&none, &some].into_iter().enumerate() {
            timeline.add(&Interval {
                start: SECOND * second as u32,
                length: SECOND,
                latency,
                service: &none,
                answered: latency.len(),
                slow: 0,
                bytes_received: 0,
                errors: &errors,
            });
        }
        let [first, second] = timeline.points() else { panic!("{:?}", timeline.points()) };
        assert_eq!((first.times, first.rate()), (None, 0.0));
        let times = Some(percentiles(500, 990, 1000));
        assert_eq!((second.times, second.rate()), (times, 1000.0));
        let mut joined = *first;
        joined.join(second);
        assert_eq!((joined.times, joined.rate()), (times, 500.0));
    }
}
