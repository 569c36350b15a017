//! The result as one JSON document, whose form `docs/HDR-LOG.md` tells.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Merged, Part};
use crate::exit_code::{ExitCode, Failure};
use crate::load::hdr_log::End;
use crate::load::summary::{Judgement, QUANTILES};

/// Changes whenever something in the document changes its meaning or goes away; what is new does not change it.
const SCHEMA: &str = "trustctl-load-merge/1";

/// The document of a result.
///
/// # Errors
///
/// None in practice.
pub fn report(
    merged: &Merged,
    judgements: &[Judgement],
    exit: ExitCode,
) -> serde_json::Result<String> {
    let is_known = merged.header.is_some();
    let end = is_known.then_some(&merged.end);
    let document = Document {
        schema: SCHEMA,
        exit: exit.code(),
        whole: merged.is_whole(),
        gaps: &merged.end.gaps,
        unit: is_known.then_some("ns"),
        significant_digits: merged.precision.map(|precision| precision.digits),
        target: merged.header.as_ref().map(|header| &*header.target),
        open_loop: merged.header.as_ref().map(|header| header.is_open_loop),
        rate: merged.header.as_ref().and_then(|header| header.rate),
        achieved_rate: end.map(|end| end.achieved_rate),
        took_ns: end.map(|end| nanos(end.took)),
        counts: end.map(Counts::of),
        errors: end.map(|end| end.errors.seen().map(|(cause, n)| (cause.name(), n)).collect()),
        client_limits: &merged.end.client_limits,
        latency_ns: is_known.then(|| values(&merged.latency)),
        service_ns: is_known.then(|| values(&merged.service)),
        values: (!is_known).then(|| values(&merged.latency)),
        start_skew_ns: merged.skew.map(nanos),
        budgets: judgements.iter().map(Budget::of).collect(),
        logs: merged.parts.iter().map(File::of).collect(),
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

/// The document where there is no result.
///
/// # Errors
///
/// None in practice.
pub fn failed(failure: &Failure) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Failed<'a> {
        schema: &'a str,
        exit: u8,
        error: &'a str,
    }
    let document = Failed { schema: SCHEMA, exit: failure.exit.code(), error: &failure.message };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'a str,
    exit: u8,
    whole: bool,
    gaps: &'a [String],
    unit: Option<&'a str>,
    significant_digits: Option<u8>,
    target: Option<&'a str>,
    open_loop: Option<bool>,
    rate: Option<f64>,
    achieved_rate: Option<f64>,
    took_ns: Option<u64>,
    counts: Option<Counts>,
    errors: Option<BTreeMap<&'static str, u64>>,
    client_limits: &'a [String],
    latency_ns: Option<Map<String, Value>>,
    service_ns: Option<Map<String, Value>>,
    values: Option<Map<String, Value>>,
    start_skew_ns: Option<u64>,
    budgets: Vec<Budget<'a>>,
    logs: Vec<File<'a>>,
}

#[derive(Serialize)]
struct Budget<'a> {
    budget: &'a str,
    measured: &'a str,
    missed: bool,
}

impl<'a> Budget<'a> {
    fn of(judgement: &'a Judgement) -> Budget<'a> {
        let Judgement { budget, measured, is_missed } = judgement;
        Budget { budget, measured, missed: *is_missed }
    }
}

#[derive(Serialize)]
struct Counts {
    sent: u64,
    answered: u64,
    answered_in_time: u64,
    failed: u64,
    unsent: u64,
}

impl Counts {
    fn of(end: &End) -> Counts {
        let End { sent, answered, answered_in_time, failed, unsent, .. } = *end;
        Counts { sent, answered, answered_in_time, failed, unsent }
    }
}

#[derive(Serialize)]
struct File<'a> {
    file: &'a str,
    shard: Option<String>,
    began: Option<String>,
    late_ns: Option<i64>,
    interval_lines: u64,
    achieved_rate: Option<f64>,
    counts: Option<Counts>,
}

impl File<'_> {
    fn of(part: &Part) -> File<'_> {
        File {
            file: &part.name,
            shard: part.shard.map(|shard| shard.to_string()),
            began: part.began.map(|time| time.to_string()),
            late_ns: part.late_ns.and_then(|late| late.try_into().ok()),
            interval_lines: part.intervals,
            achieved_rate: part.end.as_ref().map(|end| end.achieved_rate),
            counts: part.end.as_ref().map(Counts::of),
        }
    }
}

/// What a histogram says; everything but the count is null without values.
fn values(histogram: &Histogram<u64>) -> Map<String, Value> {
    let known = |value: u64| if histogram.is_empty() { Value::Null } else { value.into() };
    let mut map = Map::new();
    map.insert("count".into(), histogram.len().into());
    map.insert("min".into(), known(histogram.min()));
    map.insert("mean".into(), known(histogram.mean().round() as u64));
    for (quantile, name) in QUANTILES {
        map.insert(name.into(), known(histogram.value_at_quantile(quantile)));
    }
    map
}

fn nanos(time: std::time::Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}
