//! Fields that the documents of `load` and of `load merge` have in common.

use serde::{Serialize, Serializer};

use crate::summary::{Cause, Errors, Judgement, QUANTILES};
use crate::timings::Timings;

/// The name of a loop.
pub fn loop_name(is_open_loop: bool) -> &'static str {
    if is_open_loop { "open" } else { "closed" }
}

/// Messages a second.
#[derive(Debug, Serialize)]
pub struct Rate {
    /// `null` in a closed loop.
    pub requested_per_second: Option<f64>,
    /// What came back.
    pub achieved_per_second: f64,
}

/// Count, extremes and percentiles; `null` where there was no time.
#[derive(Debug)]
pub struct Times<'r>(pub &'r Timings);

impl Serialize for Times<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(values(self.0, "_ns"))
    }
}

/// The same of numbers whose unit nobody knows.
#[derive(Debug)]
pub struct Values<'r>(pub &'r Timings);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(values(self.0, ""))
    }
}

fn values(all: &Timings, unit: &str) -> Vec<(String, Option<u64>)> {
    let is_any = !all.is_empty();
    let mut fields = vec![
        ("count".to_owned(), Some(all.len())),
        (format!("min{unit}"), is_any.then(|| all.min())),
    ];
    fields.extend(QUANTILES.map(|(quantile, name)| {
        (in_unit(name, unit), is_any.then(|| all.value_at_quantile(quantile)))
    }));
    fields
}

/// `p99.9` is `p99_9_ns`.
pub fn quantile_field(name: &str) -> String {
    in_unit(name, "_ns")
}

fn in_unit(name: &str, unit: &str) -> String {
    format!("{}{unit}", name.replace('.', "_"))
}

/// Errors, by cause.
#[derive(Debug, Serialize)]
pub struct Failures<'r> {
    total: u64,
    by_cause: ByCause<'r>,
}

impl<'r> Failures<'r> {
    /// All of them.
    pub fn of(errors: &'r Errors) -> Failures<'r> {
        Failures { total: errors.total(), by_cause: ByCause(errors) }
    }
}

/// How often each cause came, also those that did not.
#[derive(Debug)]
struct ByCause<'r>(&'r Errors);

impl Serialize for ByCause<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Cause::ALL.map(|cause| (cause.name(), self.0.count(cause))))
    }
}

/// What was asked for with `--fail-if`, and what came of it.
#[derive(Debug, Serialize)]
pub struct Budget<'r> {
    budget: &'r str,
    measured: &'r str,
    missed: bool,
}

impl<'r> Budget<'r> {
    /// All of them, in their order.
    pub fn all(judgements: &'r [Judgement]) -> Vec<Budget<'r>> {
        let of = |judgement: &'r Judgement| {
            let Judgement { budget, measured, is_missed } = judgement;
            Budget { budget, measured, missed: *is_missed }
        };
        judgements.iter().map(of).collect()
    }
}
