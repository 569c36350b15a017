//! The result as one JSON document; `docs/HDR-LOG.md` says what its fields are.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trust_cli::exit_code::{ExitCode, Failure};

use super::{Merged, Part};
use crate::connection::nanos;
use crate::hdr_log::End;
use crate::report::fields::{ByPercentile, Failures, Loop, Percentiles, Rate, Support};
use crate::summary::{Counts, Judgement};

/// What `trustctl load merge --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum MergeOutput {
    /// There is a result.
    Merged(Box<MergeDocument>),
    /// There is none.
    Failed(FailedMerge),
}

// Many fields: those of the document.
/// What all logs say together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MergeDocument {
    /// Names the document.
    pub schema: MergeSchema,
    /// The exit code.
    pub exit: u8,
    /// Whether nothing is missing.
    pub whole: bool,
    /// What is missing, in sentences.
    pub gaps: Vec<String>,
    /// `ns`; `null`: unknown, and so is everything down to `errors` but the digits and `values`.
    pub unit: Option<String>,
    /// Of all values; `null` without any.
    pub significant_digits: Option<u8>,
    /// The server, as in the logs.
    pub target: Option<String>,
    /// The addresses of it that connections of any log went to; empty if no log says.
    pub addresses: Vec<String>,
    /// When the next message is due, as in the logs.
    pub r#loop: Option<Loop>,
    /// The longest of them.
    pub duration_ns: Option<u64>,
    /// Messages per second: the sums of those of all logs.
    pub rate: Option<Rate>,
    /// Messages of the measured part: sums.
    pub messages: Option<MergedMessages>,
    /// Latency of all logs.
    pub latency: Option<Percentiles>,
    /// Service times of all logs.
    pub service: Option<Percentiles>,
    /// The values of all logs, where the unit is unknown; else `null`.
    pub values: Option<Values>,
    /// Errors: sums.
    pub errors: Option<Failures>,
    /// What the clients had to do with the result.
    pub client: MergedClients,
    /// The largest difference between two begins.
    pub start_skew_ns: Option<u64>,
    /// What `--fail-if` asked for, in that order.
    pub budgets: Vec<Judgement>,
    /// The logs, in the order of the command; `null` where something is not known.
    pub logs: Vec<MergedLog>,
}

impl MergeDocument {
    /// The document of a result.
    pub fn of(merged: &Merged, judgements: &[Judgement], exit: ExitCode) -> MergeDocument {
        let header = merged.header.as_ref();
        let end = header.map(|_| &merged.end);
        MergeDocument {
            schema: MergeSchema::Version2,
            exit: exit.code(),
            whole: merged.is_whole(),
            gaps: merged.end.gaps.clone(),
            unit: header.map(|_| "ns".into()),
            significant_digits: merged.precision.map(|precision| precision.digits),
            target: header.map(|header| header.target.clone()),
            addresses: header.map_or_else(Vec::new, |header| header.addresses.clone()),
            r#loop: header.map(|header| Loop::of(header.is_open_loop)),
            duration_ns: end.map(|end| end.took_ns),
            rate: header.map(|header| Rate {
                requested_per_second: header.rate,
                achieved_per_second: merged.end.achieved_rate,
            }),
            messages: end.map(MergedMessages::of),
            latency: header.map(|_| (&merged.latency).into()),
            service: header.map(|_| (&merged.service).into()),
            values: header.is_none().then(|| Percentiles::from(&merged.latency).into()),
            errors: end.map(|end| (&end.errors).into()),
            client: MergedClients { limits: merged.end.client_limits.clone() },
            start_skew_ns: merged.skew.map(nanos),
            budgets: judgements.to_vec(),
            logs: merged.parts.iter().map(MergedLog::of).collect(),
        }
    }
}

/// Where there is no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FailedMerge {
    /// Names the document.
    pub schema: MergeSchema,
    /// The exit code.
    pub exit: u8,
    /// The line that standard error gets.
    pub error: String,
}

impl FailedMerge {
    /// The document of a failure.
    pub fn of(failure: &Failure) -> FailedMerge {
        let Failure { exit, message, .. } = failure;
        FailedMerge { schema: MergeSchema::Version2, exit: exit.code(), error: message.clone() }
    }
}

/// Names the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum MergeSchema {
    /// The number changes when a field goes away or changes its meaning, not when one is added.
    #[serde(rename = "trustctl-load-merge/2")]
    Version2,
}

/// Messages of the measured part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MergedMessages {
    /// Sent, if only in part.
    pub sent: u64,
    /// Came back right.
    pub answered: u64,
    /// Came back right within the measured part.
    pub answered_in_time: u64,
    /// Of `answered` those that took longer than `--timeout`.
    pub slow: u64,
    /// Did not come back right, or were no longer sent because their client had failed.
    pub failed: u64,
    /// Were due and could not be sent before the run had to end (open loop).
    pub unsent: u64,
    /// Were on the way when a signal ended the run.
    pub outstanding: u64,
}

impl MergedMessages {
    fn of(end: &End) -> MergedMessages {
        let Counts { sent, answered, answered_in_time, slow, failed, unsent, outstanding, .. } =
            end.counts;
        MergedMessages { sent, answered, answered_in_time, slow, failed, unsent, outstanding }
    }
}

/// Values whose unit is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Values {
    /// How many there are; if none, the others are `null`.
    pub count: u64,
    /// The smallest.
    pub min: Option<u64>,
    /// 50 percent of them were at most this large.
    pub p50: Option<u64>,
    /// 75 percent.
    pub p75: Option<u64>,
    /// 90 percent.
    pub p90: Option<u64>,
    /// 95 percent.
    pub p95: Option<u64>,
    /// 99 percent.
    pub p99: Option<u64>,
    /// 99.9 percent.
    pub p99_9: Option<u64>,
    /// 99.99 percent.
    pub p99_99: Option<u64>,
    /// The largest.
    pub max: Option<u64>,
    /// What they say about each percentile.
    pub support: ByPercentile<ValueSupport>,
}

impl From<Percentiles> for Values {
    fn from(values: Percentiles) -> Values {
        Values {
            count: values.count,
            min: values.min_ns,
            p50: values.p50_ns,
            p75: values.p75_ns,
            p90: values.p90_ns,
            p95: values.p95_ns,
            p99: values.p99_ns,
            p99_9: values.p99_9_ns,
            p99_99: values.p99_99_ns,
            max: values.max_ns,
            support: values.support.map(ValueSupport::from),
        }
    }
}

/// What values whose unit is unknown say about a percentile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ValueSupport {
    /// Whether at least one value lies beyond it. If not, it is the maximum.
    pub supported: bool,
    /// With 95 % confidence it is not less than this, if values are independent; `null`: there are
    /// too few to tell.
    pub low: Option<u64>,
    /// Nor more than this.
    pub high: Option<u64>,
}

impl From<Support> for ValueSupport {
    fn from(Support { supported, low_ns, high_ns }: Support) -> ValueSupport {
        ValueSupport { supported, low: low_ns, high: high_ns }
    }
}

/// What the clients had to do with the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MergedClients {
    /// Why a client, and not the server, decided the result, in sentences, each after the name of
    /// its log.
    pub limits: Vec<String>,
}

/// What one log says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MergedLog {
    /// The file as it was given.
    pub file: String,
    /// Which part of the run it is: `0/4`.
    pub shard: Option<String>,
    /// When its measured part began, UTC.
    pub began: Option<Timestamp>,
    /// How much later than it was to; negative: early.
    pub late_ns: Option<i64>,
    /// Its lines with an interval.
    pub interval_lines: u64,
    /// As in `rate`.
    pub achieved_per_second: Option<f64>,
    /// As above, of this log.
    pub messages: Option<MergedMessages>,
}

impl MergedLog {
    fn of(part: &Part) -> MergedLog {
        MergedLog {
            file: part.name.clone(),
            shard: part.shard.map(|shard| shard.to_string()),
            began: part.began,
            late_ns: part.late_ns.and_then(|late| late.try_into().ok()),
            interval_lines: part.intervals,
            achieved_per_second: part.end.as_ref().map(|end| end.achieved_rate),
            messages: part.end.as_ref().map(MergedMessages::of),
        }
    }
}
