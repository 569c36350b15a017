//! When messages are due in an open loop.

use std::time::Duration;

use trust_cli::random::SplitMix;

/// How the times at which messages are due lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// All the same time apart.
    Constant,
    /// As independent users come: a Poisson process, whose gaps are exponentially distributed.
    Poisson,
}

impl Arrivals {
    /// What `--arrivals` takes.
    pub const ALLOWED: &str = "constant or poisson";

    /// The arrivals of that name.
    pub fn parse(text: &str) -> Option<Arrivals> {
        match text {
            "constant" => Some(Arrivals::Constant),
            "poisson" => Some(Arrivals::Poisson),
            _ => None,
        }
    }

    /// What [`Arrivals::parse`] takes.
    pub const fn name(self) -> &'static str {
        match self {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
        }
    }
}

/// When the messages of one place are due: its part of what all places send together.
///
/// It knows only the next time, so that any number of messages that are due and cannot be sent
/// takes no memory.
#[derive(Clone, Copy, Debug)]
pub enum Schedule {
    /// Message `next` of all places is this place's next; every `step`th is.
    Constant {
        /// Seconds from one message of all places to the next.
        gap: f64,
        /// Number of this place's next message among those of all places.
        next: u64,
        /// Places.
        step: u64,
    },
    /// A Poisson process of its own: many of them together are one again.
    Poisson {
        /// Mean seconds from one message of this place to the next.
        gap: f64,
        /// When the next one is due, in seconds.
        next: f64,
        /// Decides the gaps.
        random: SplitMix,
    },
}

impl Schedule {
    /// The part of place number `place`, of `places`, in `rate` messages per second of all of them.
    pub fn new(arrivals: Arrivals, rate: f64, place: u64, places: u64, seed: u64) -> Schedule {
        match arrivals {
            Arrivals::Constant => Schedule::Constant { gap: 1.0 / rate, next: place, step: places },
            Arrivals::Poisson => {
                let mut schedule = Schedule::Poisson {
                    gap: places as f64 / rate,
                    next: 0.0,
                    random: SplitMix::new(seed ^ trust_cli::random::mix(place)),
                };
                schedule.advance();
                schedule
            }
        }
    }

    /// When the next message is due, from the start of the run.
    pub fn next(&self) -> Duration {
        seconds(match self {
            Schedule::Constant { gap, next, .. } => *next as f64 * gap,
            Schedule::Poisson { next, .. } => *next,
        })
    }

    /// Goes on to the one after it.
    pub fn advance(&mut self) {
        match self {
            Schedule::Constant { next, step, .. } => *next += *step,
            Schedule::Poisson { gap, next, random } => {
                // Above 0 and at most 1, so that the logarithm is finite.
                let uniform = ((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                *next -= *gap * uniform.ln();
            }
        }
    }

    /// Goes on to the first message that is due at that time or later, at least to the next one;
    /// how many messages that leaves behind. Of a Poisson process, which is still unknown, it is
    /// the expected number.
    pub fn skip_until(&mut self, time: Duration) -> u64 {
        let now = self.next();
        let ahead = time.saturating_sub(now).as_secs_f64();
        match self {
            Schedule::Constant { gap, next, step } => {
                let is_before = |count: u64| seconds((*next + count * *step) as f64 * *gap) < time;
                let mut count = (ahead / (*gap * *step as f64)).ceil().max(1.0) as u64;
                // The quotient may be rounded to the other side of a whole number.
                while count > 1 && !is_before(count - 1) {
                    count -= 1;
                }
                while is_before(count) {
                    count += 1;
                }
                *next += count * *step;
                count
            }
            Schedule::Poisson { gap, next, .. } => {
                let count = (ahead / *gap).ceil().max(1.0);
                *next += count * *gap;
                count as u64
            }
        }
    }

    /// Leaves out what is due before that time.
    pub fn skip_to(&mut self, time: Duration) {
        match self {
            Schedule::Constant { gap, next, step } => {
                let missed = (time.as_secs_f64() / *gap).ceil() - *next as f64;
                *next += (missed.max(0.0) / *step as f64).ceil() as u64 * *step;
            }
            // It has no memory: from any time on it is the same process.
            Schedule::Poisson { next, .. } if Duration::from_secs_f64(*next) < time => {
                *next = time.as_secs_f64();
                self.advance();
            }
            Schedule::Poisson { .. } => {}
        }
    }
}

/// A time as far as it can be expressed.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When messages of all places are due, in order, up to `end`.
    fn all(arrivals: Arrivals, rate: f64, places: u64, end: Duration) -> Vec<Duration> {
        let mut times = vec![];
        for place in 0..places {
            let mut schedule = Schedule::new(arrivals, rate, place, places, 1);
            while schedule.next() < end {
                times.push(schedule.next());
                schedule.advance();
            }
        }
        times.sort();
        times
    }

    #[test]
    fn constant_messages_of_all_places_are_the_same_time_apart() {
        for places in [1, 3, 10] {
            let times = all(Arrivals::Constant, 1000.0, places, Duration::from_millis(500));
            let expected: Vec<Duration> = (0..500).map(Duration::from_millis).collect();
            assert_eq!(times, expected, "{places} places");
        }
    }

    #[test]
    fn poisson_messages_have_gaps_as_random_as_they_are_long() {
        let times = all(Arrivals::Poisson, 10_000.0, 7, Duration::from_secs(10));
        assert!((99_000..101_000).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> =
            times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation =
            (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        // Of an exponential distribution the deviation is the mean.
        assert!((0.98..1.02).contains(&(deviation / mean)), "{mean} {deviation}");
    }

    #[test]
    fn what_is_left_out_is_what_was_due_before() {
        let mut constant = Schedule::new(Arrivals::Constant, 10.0, 1, 4, 1);
        assert_eq!(constant.next(), Duration::from_millis(100));
        constant.skip_to(Duration::from_millis(450));
        assert_eq!(constant.next(), Duration::from_millis(500));
        constant.skip_to(Duration::from_millis(450));
        assert_eq!(constant.next(), Duration::from_millis(500));
        let mut poisson = Schedule::new(Arrivals::Poisson, 10.0, 1, 4, 1);
        poisson.skip_to(Duration::from_secs(100));
        assert!(poisson.next() > Duration::from_secs(100));
    }

    #[test]
    fn many_messages_are_left_behind_at_once_and_counted() {
        let mut constant = Schedule::new(Arrivals::Constant, 1000.0, 1, 4, 1);
        assert_eq!(constant.skip_until(Duration::from_secs(10)), 2500);
        assert_eq!(constant.next(), Duration::from_millis(10_001));
        assert_eq!(constant.skip_until(Duration::ZERO), 1);
        let mut poisson = Schedule::new(Arrivals::Poisson, 1000.0, 1, 4, 1);
        let count = poisson.skip_until(Duration::from_secs(10));
        assert!((2450..=2500).contains(&count), "{count}");
        assert!(poisson.next() >= Duration::from_secs(10));
    }

    #[test]
    fn however_a_second_is_left_behind_it_has_as_many_messages() {
        let second = Duration::from_secs(1);
        for rate in [3.0, 7.0, 1000.0, 1e6 / 3.0, 1e7] {
            for places in [1, 2, 3, 7] {
                for pieces in [1, 3, 10, 17] {
                    let mut left = 0;
                    for place in 0..places {
                        let mut schedule =
                            Schedule::new(Arrivals::Constant, rate, place, places, 1);
                        for piece in 1..=pieces {
                            let until = second * piece / pieces;
                            while schedule.next() < until {
                                left += schedule.skip_until(until);
                            }
                        }
                    }
                    let due = (rate as u64..).find(|n| seconds(*n as f64 / rate) >= second);
                    assert_eq!(Some(left), due, "{rate} {places} {pieces}");
                }
            }
        }
    }

    #[test]
    fn after_a_day_the_times_are_still_exact() {
        let mut schedule = Schedule::new(Arrivals::Constant, 1e6, 0, 1, 1);
        schedule.skip_to(Duration::from_secs(86_400));
        schedule.advance();
        assert_eq!(schedule.next(), Duration::from_secs(86_400) + Duration::from_micros(1));
    }
}
