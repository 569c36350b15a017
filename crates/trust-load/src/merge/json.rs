//! The result as one JSON document, whose form `docs/HDR-LOG.md` tells.

use serde::Serialize;
use trust_cli::exit_code::{ExitCode, Failure};

use super::{Merged, Part};
use crate::connection::nanos;
use crate::hdr_log::End;
use crate::report::fields::{Budget, Failures, Rate, Times, Values, loop_name};
use crate::summary::Judgement;

/// Changes whenever something in the document changes its meaning or goes away; what is new does not change it.
const SCHEMA: &str = "trustctl-load-merge/2";

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
        r#loop: merged.header.as_ref().map(|header| loop_name(header.is_open_loop)),
        duration_ns: end.map(|end| nanos(end.took)),
        rate: merged.header.as_ref().map(|header| Rate {
            requested_per_second: header.rate,
            achieved_per_second: merged.end.achieved_rate,
        }),
        messages: end.map(Messages::of),
        latency: is_known.then_some(Times(&merged.latency)),
        service: is_known.then_some(Times(&merged.service)),
        values: (!is_known).then_some(Values(&merged.latency)),
        errors: end.map(|end| Failures::of(&end.errors)),
        client: Client { limits: &merged.end.client_limits },
        start_skew_ns: merged.skew.map(nanos),
        budgets: Budget::all(judgements),
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
    r#loop: Option<&'static str>,
    duration_ns: Option<u64>,
    rate: Option<Rate>,
    messages: Option<Messages>,
    latency: Option<Times<'a>>,
    service: Option<Times<'a>>,
    values: Option<Values<'a>>,
    errors: Option<Failures<'a>>,
    client: Client<'a>,
    start_skew_ns: Option<u64>,
    budgets: Vec<Budget<'a>>,
    logs: Vec<File<'a>>,
}

#[derive(Serialize)]
struct Client<'a> {
    limits: &'a [String],
}

#[derive(Serialize)]
struct Messages {
    sent: u64,
    answered: u64,
    answered_in_time: u64,
    failed: u64,
    unsent: u64,
    outstanding: u64,
}

impl Messages {
    fn of(end: &End) -> Messages {
        let End { sent, answered, answered_in_time, failed, unsent, outstanding, .. } = *end;
        Messages { sent, answered, answered_in_time, failed, unsent, outstanding }
    }
}

#[derive(Serialize)]
struct File<'a> {
    file: &'a str,
    shard: Option<String>,
    began: Option<String>,
    late_ns: Option<i64>,
    interval_lines: u64,
    achieved_per_second: Option<f64>,
    messages: Option<Messages>,
}

impl File<'_> {
    fn of(part: &Part) -> File<'_> {
        File {
            file: &part.name,
            shard: part.shard.map(|shard| shard.to_string()),
            began: part.began.map(|time| time.to_string()),
            late_ns: part.late_ns.and_then(|late| late.try_into().ok()),
            interval_lines: part.intervals,
            achieved_per_second: part.end.as_ref().map(|end| end.achieved_rate),
            messages: part.end.as_ref().map(Messages::of),
        }
    }
}
