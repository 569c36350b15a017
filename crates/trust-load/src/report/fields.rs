//! Fields that the documents of `load` and of `load merge` have in common.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::summary::{Cause, Errors};
use crate::timings::Timings;

/// When the next message is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Loop {
    /// At its time, whatever the server does.
    Open,
    /// Once the one before was answered.
    Closed,
}

impl Loop {
    /// Whichever it is.
    pub fn of(is_open_loop: bool) -> Loop {
        if is_open_loop { Loop::Open } else { Loop::Closed }
    }
}

/// Messages per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Asked for; `null` in a closed loop, and if there was nothing to measure.
    pub requested_per_second: Option<f64>,
    /// `messages.answered_in_time` per second of `duration_ns`; 0 if nothing was sent in it. In an
    /// open loop, if it is more: `messages.answered` per second, divided by 1 plus the seconds by
    /// which latency grew each second. More than was asked for, if the warm-up left a backlog that
    /// came back.
    pub achieved_per_second: f64,
}

/// Times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Percentiles {
    /// How many there are; if none, the others are `null`.
    pub count: u64,
    /// The shortest.
    pub min_ns: Option<u64>,
    /// 50 percent of them were at most this long.
    pub p50_ns: Option<u64>,
    /// 75 percent.
    pub p75_ns: Option<u64>,
    /// 90 percent.
    pub p90_ns: Option<u64>,
    /// 95 percent.
    pub p95_ns: Option<u64>,
    /// 99 percent.
    pub p99_ns: Option<u64>,
    /// 99.9 percent.
    pub p99_9_ns: Option<u64>,
    /// 99.99 percent.
    pub p99_99_ns: Option<u64>,
    /// The longest.
    pub max_ns: Option<u64>,
    /// What they say about each percentile.
    pub support: ByPercentile<Support>,
}

impl From<&Timings> for Percentiles {
    fn from(times: &Timings) -> Percentiles {
        let some = |time| Some(time).filter(|_| !times.is_empty());
        let at = |quantile| some(times.value_at_quantile(quantile));
        let support = |quantile| {
            let (low_ns, high_ns) = times.confidence(quantile);
            Support { supported: times.supports(quantile), low_ns, high_ns }
        };
        Percentiles {
            count: times.len(),
            min_ns: some(times.min()),
            p50_ns: at(0.5),
            p75_ns: at(0.75),
            p90_ns: at(0.9),
            p95_ns: at(0.95),
            p99_ns: at(0.99),
            p99_9_ns: at(0.999),
            p99_99_ns: at(0.9999),
            max_ns: at(1.0),
            support: ByPercentile::of(support),
        }
    }
}

/// Something of each percentile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "{T}ByPercentile"))]
#[serde(deny_unknown_fields)]
pub struct ByPercentile<T> {
    /// Of the 50th.
    pub p50: T,
    /// Of the 75th.
    pub p75: T,
    /// Of the 90th.
    pub p90: T,
    /// Of the 95th.
    pub p95: T,
    /// Of the 99th.
    pub p99: T,
    /// Of the 99.9th.
    pub p99_9: T,
    /// Of the 99.99th.
    pub p99_99: T,
}

impl<T> ByPercentile<T> {
    /// What there is of each quantile.
    pub fn of(of: impl Fn(f64) -> T) -> ByPercentile<T> {
        ByPercentile {
            p50: of(0.5),
            p75: of(0.75),
            p90: of(0.9),
            p95: of(0.95),
            p99: of(0.99),
            p99_9: of(0.999),
            p99_99: of(0.9999),
        }
    }

    /// What becomes of each.
    pub fn map<U>(self, of: impl Fn(T) -> U) -> ByPercentile<U> {
        let ByPercentile { p50, p75, p90, p95, p99, p99_9, p99_99 } = self;
        ByPercentile {
            p50: of(p50),
            p75: of(p75),
            p90: of(p90),
            p95: of(p95),
            p99: of(p99),
            p99_9: of(p99_9),
            p99_99: of(p99_99),
        }
    }
}

/// What the samples say about a percentile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Support {
    /// Whether at least one sample lies beyond it. If not, it is the maximum.
    pub supported: bool,
    /// With 95 % confidence it is not less than this, if samples are independent; `null`: there
    /// are too few to tell.
    pub low_ns: Option<u64>,
    /// Nor more than this.
    pub high_ns: Option<u64>,
}

/// Errors of the whole run. An error ends its connection and is counted once, whatever number of
/// messages is lost with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Failures {
    /// All of them.
    pub total: u64,
    /// How often each cause came: all of them, also with 0.
    pub by_cause: BTreeMap<Cause, u64>,
}

impl From<&Errors> for Failures {
    fn from(errors: &Errors) -> Failures {
        let by_cause = Cause::ALL.map(|cause| (cause, errors.count(cause)));
        Failures { total: errors.total(), by_cause: by_cause.into() }
    }
}
