//! What a run may cost: `p99>5ms` is a missed budget with `--fail-if`, `p99<5ms` a kept one with
//! `--find-rate`.
//!
//! What cannot be told speaks against the run in both: a percentile of no message is a missed
//! budget of `--fail-if`, and does not hold for `--find-rate`. A run that measured nothing proves
//! nothing.

use std::fmt;

use thiserror::Error;
use trust_cli::quantity::{self, RATES, TIMES, Unit};
use trust_cli::text::count;
use trust_cli::values::quoted;

use crate::metric::{Metric, Quantity, TimeKind};
use crate::summary::{Judgement, Summary};
use crate::timings::TIME_MAX_NS;

/// What [`parse_list`] takes.
pub const ALLOWED: &str = "comparisons with commas between them, as p99>5ms,errors>0.1%,rate<1000: \
     a metric (p99, mean, service-p99.9, connect-max, errors, timeout, unanswered, rate, \
     connections, …), then <, <=, > or >=, then a value (times with ns, us, ms, s, m or h; rates \
     with k or M, or without)";

/// The most budgets of a run: more than anyone reads.
pub const BUDGETS_MAX: usize = 100;

/// A comparison of something measured with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// As it was given, without the space around it.
    text: String,
    metric: Metric,
    comparison: Comparison,
    quantity: Quantity,
    /// In what [`Quantity`] counts; not negative, and finite.
    value: f64,
}

/// What a run had of a budget's metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    quantity: Quantity,
    /// In what [`Quantity`] counts; `None`: there is nothing to tell it from.
    pub value: Option<f64>,
}

/// A text that is no list of budgets.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{}{fault}", subject(part))]
pub struct BadBudget {
    /// The budget in which it is wrong, as it was given; empty if it is the list.
    pub part: String,
    /// What is wrong, and what would be right.
    pub fault: Fault,
}

/// What is wrong with a budget.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Fault {
    /// Nothing stands between two commas, or at an end.
    #[error("a budget is empty: expected {ALLOWED}")]
    Empty,
    /// There are too many.
    #[error("expected at most {BUDGETS_MAX} budgets")]
    TooMany,
    /// There is no comparison.
    #[error("no comparison: expected <, <=, > or >=")]
    NoComparison,
    /// It is none of the four.
    #[error("unknown comparison {}: expected <, <=, > or >=", quoted(.0))]
    UnknownComparison(String),
    /// Nothing of that name is measured.
    #[error("unknown metric {}: expected {}", quoted(.0), Metric::ALLOWED)]
    UnknownMetric(String),
    /// What should be a number is none, or is negative.
    #[error("{} does not begin with a number: expected a number from 0, as 10 or 2.5", quoted(.0))]
    NoNumber(String),
    /// A time has no unit.
    #[error("a time without a unit: expected ns, us, µs, ms, s, m or h")]
    NoUnit,
    /// A unit that the metric cannot have.
    #[error("unknown unit {}: expected {}", quoted(unit), units(*metric))]
    UnknownUnit {
        /// What follows the number.
        unit: String,
        /// What is measured.
        metric: Metric,
    },
    /// Things are counted in whole numbers.
    #[error("{} is not whole: expected a whole number{}", quoted(number), or_share(*metric))]
    NotWhole {
        /// The number.
        number: String,
        /// What is measured.
        metric: Metric,
    },
    /// A number that nothing reaches.
    #[error("{} is too large: expected a time up to 1h, or another number below 2^53", quoted(.0))]
    TooLarge(String),
}

/// The budgets of a text, at least one.
///
/// # Errors
///
/// The first that is wrong, and why.
pub fn parse_list(text: &str) -> Result<Vec<Budget>, BadBudget> {
    // One more than is allowed shows that there are too many.
    let parts = text.split(',').take(BUDGETS_MAX + 1).map(str::trim);
    let budgets: Vec<Budget> = parts
        .map(|part| Budget::parse(part).map_err(|fault| BadBudget { part: part.to_owned(), fault }))
        .collect::<Result<_, _>>()?;
    match budgets.len() > BUDGETS_MAX {
        true => Err(BadBudget { part: String::new(), fault: Fault::TooMany }),
        false => Ok(budgets),
    }
}

/// The budgets of `--fail-if`.
///
/// # Errors
///
/// What is wrong with them, for people.
pub fn parse_fail_if(text: &str) -> Result<Vec<Budget>, String> {
    parse_list(text).map_err(|bad| bad.to_string())
}

/// The budgets of `--find-rate`, none of which may ask for slowness.
///
/// # Errors
///
/// What is wrong with them, for people.
pub fn parse_find_rate(text: &str) -> Result<Vec<Budget>, String> {
    let budgets = parse_fail_if(text)?;
    match budgets.iter().find(|budget| budget.asks_for_slowness()) {
        None => Ok(budgets),
        Some(slow) => Err(format!("{slow}: a higher rate takes longer, so expected < or <=")),
    }
}

/// The budgets of `load merge --fail-if`, which logs tell enough for.
///
/// # Errors
///
/// What is wrong with them, for people.
pub fn parse_of_logs(text: &str) -> Result<Vec<Budget>, String> {
    let budgets = parse_fail_if(text)?;
    match budgets.iter().find(|budget| !budget.is_in_logs()) {
        None => Ok(budgets),
        Some(budget) => Err(format!("{budget}: logs do not tell of connections")),
    }
}

/// What becomes of the budgets of `--fail-if`: one whose comparison is true is missed, and so is
/// one whose metric could not be measured.
pub fn judge(budgets: &[Budget], summary: &Summary) -> Vec<Judgement> {
    let judgement = |budget: &Budget| {
        let measured = budget.measure(summary);
        Judgement {
            budget: budget.to_string(),
            measured: budget.show(measured),
            is_missed: measured.value.is_none_or(|value| budget.compare(value)),
            note: budget.note(summary),
        }
    };
    budgets.iter().map(judgement).collect()
}

/// Why the budgets of `--find-rate` do not hold, the first of them: `p99<5ms: 7.31 ms`; `None`: all
/// of them do.
pub fn first_broken(budgets: &[Budget], summary: &Summary) -> Option<String> {
    let broken = budgets.iter().find(|budget| !budget.holds(summary))?;
    let note = broken.note(summary).map_or_else(String::new, |note| format!(" ({note})"));
    Some(format!("{broken}: {}{note}", broken.show(broken.measure(summary))))
}

impl Budget {
    fn parse(text: &str) -> Result<Budget, Fault> {
        const SIGNS: [char; 4] = ['<', '>', '=', '!'];
        if text.is_empty() {
            return Err(Fault::Empty);
        }
        let Some((name, rest)) = text.find(SIGNS).map(|place| text.split_at(place)) else {
            return Err(Fault::NoComparison);
        };
        let value = rest.trim_start_matches(SIGNS);
        let (signs, value) = (&rest[..rest.len() - value.len()], value.trim());
        let comparison = match signs {
            "<" => Comparison::Below,
            "<=" => Comparison::AtMost,
            ">" => Comparison::Above,
            ">=" => Comparison::AtLeast,
            _ => return Err(Fault::UnknownComparison(signs.to_owned())),
        };
        let name = name.trim();
        let metric = Metric::parse(name).ok_or_else(|| Fault::UnknownMetric(name.to_owned()))?;
        let (quantity, value) = parse_value(metric, value)?;
        // A tab between number and unit is one of those that are allowed.
        let text = text.replace(char::is_control, " ");
        Ok(Budget { text, metric, comparison, quantity, value })
    }

    /// Whether it asks for slowness, which every rate has that is high enough.
    pub fn asks_for_slowness(&self) -> bool {
        let is_lower = matches!(self.comparison, Comparison::Above | Comparison::AtLeast);
        is_lower && matches!(self.metric, Metric::Time(..))
    }

    /// Whether the log of a run has what it needs.
    pub fn is_in_logs(&self) -> bool {
        !matches!(self.metric, Metric::Connections | Metric::Time(TimeKind::Connect, _))
    }

    /// What the run had of it.
    pub fn measure(&self, summary: &Summary) -> Measured {
        let value = self.metric.measure(self.quantity, summary);
        Measured { quantity: self.quantity, value }
    }

    /// Says that it is judged by the maximum, where too few samples support its percentile.
    fn note(&self, summary: &Summary) -> Option<String> {
        let (kind, samples) = self.metric.unsupported(summary)?;
        let name = self.text.split(['<', '>']).next().unwrap_or_default().trim();
        let whose = if samples == 1 { "its" } else { "their" };
        Some(format!("{name} of {} is {whose} maximum", count(samples, kind.noun())))
    }

    /// Whether its comparison is true; it is not if there is nothing to tell its metric from.
    pub fn holds(&self, summary: &Summary) -> bool {
        self.measure(summary).value.is_some_and(|value| self.compare(value))
    }

    fn compare(&self, measured: f64) -> bool {
        match self.comparison {
            Comparison::Below => measured < self.value,
            Comparison::AtMost => measured <= self.value,
            Comparison::Above => measured > self.value,
            Comparison::AtLeast => measured >= self.value,
        }
    }

    /// What was measured, with all digits where it would look like the budget's own value and is
    /// another.
    fn show(&self, measured: Measured) -> String {
        match measured.value {
            Some(value)
                if value != self.value
                    && measured.to_string() == self.quantity.show(self.value) =>
            {
                self.quantity.show_exactly(value)
            }
            _ => measured.to_string(),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => f.write_str(&self.quantity.show(value)),
            None => f.write_str("nothing was measured"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// The largest number up to which all whole numbers are told apart.
const NUMBER_MAX: f64 = 9_007_199_254_740_991.0;

fn parse_value(metric: Metric, text: &str) -> Result<(Quantity, f64), Fault> {
    let (number, unit) = quantity::split(text);
    let no_number = || Fault::NoNumber(text.to_owned());
    let unit = unit.trim();
    let of = |units: &'static [Unit]| units.iter().find(|known| known.name == unit);
    let plain = |number: &str| number.parse().ok();
    let (quantity, value, largest) = match (metric.quantity(), unit) {
        _ if number.is_empty() => return Err(no_number()),
        (Quantity::Time, "") => return Err(Fault::NoUnit),
        (Quantity::Count, "%") if metric.has_share() => {
            (Quantity::Share, plain(number), NUMBER_MAX)
        }
        (quantity @ (Quantity::Count | Quantity::Rate), "") => {
            (quantity, plain(number), NUMBER_MAX)
        }
        (Quantity::Time, _) if let Some(unit) = of(TIMES) => {
            (Quantity::Time, unit.float(number), TIME_MAX_NS as f64)
        }
        (Quantity::Rate, _) if let Some(unit) = of(RATES) => {
            (Quantity::Rate, unit.float(number), NUMBER_MAX)
        }
        _ => return Err(Fault::UnknownUnit { unit: unit.to_owned(), metric }),
    };
    let value: f64 = value.ok_or_else(no_number)?;
    if value > largest {
        return Err(Fault::TooLarge(text.to_owned()));
    }
    if quantity == Quantity::Count && value.fract() != 0.0 {
        return Err(Fault::NotWhole { number: number.to_owned(), metric });
    }
    Ok((quantity, value))
}

/// What the fault is of.
fn subject(part: &str) -> String {
    match part.is_empty() {
        true => String::new(),
        false => format!("{}: ", quoted(part)),
    }
}

fn units(metric: Metric) -> &'static str {
    match (metric.quantity(), metric.has_share()) {
        (Quantity::Time, _) => "ns, us, µs, ms, s, m or h",
        (Quantity::Rate, _) => "k, M or none",
        (_, true) => "none, or % of the messages that were due",
        (_, false) => "none",
    }
}

fn or_share(metric: Metric) -> &'static str {
    match metric.has_share() {
        true => ", or a number with % of the messages that were due",
        false => "",
    }
}

#[cfg(test)]
mod tests;
