//! The result for people, at most 80 columns wide.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use trust_cli::text::{grouped, seconds};
use trust_cli::values::{bare, quoted};

use super::{Merged, Part};
use crate::connection::nanos;
use crate::hdr_log::End;
use crate::report::marks::{footnote, mark};
use crate::report::units::time;
use crate::summary::{Judgement, QUANTILES};
use crate::timings::Timings;

/// Columns of a terminal that everybody has.
const WIDTH: u16 = 80;

/// Addresses that are listed: enough for a name of a few servers. JSON has all of them.
const ADDRESSES_MAX: usize = 8;

/// What came of it, in lines.
pub fn report(merged: &Merged, judgements: &[Judgement]) -> String {
    let mut text = values(merged);
    text.push('\n');
    if let Some(header) = &merged.header {
        let end @ End { counts, .. } = &merged.end;
        let wanted =
            header.rate.map_or(String::new(), |rate| format!(" of {rate:.1} that were due"));
        let _ = write!(
            text,
            "messages  {} sent, {} answered, {} failed, {} unsent",
            grouped(counts.sent),
            grouped(counts.answered),
            grouped(counts.failed),
            grouped(counts.unsent)
        );
        if counts.slow > 0 {
            let slow = grouped(counts.slow);
            let _ = write!(text, ",\n          {slow} answered after more than --timeout");
        }
        if counts.outstanding > 0 {
            let outstanding = grouped(counts.outstanding);
            let _ = write!(text, ",\n          {outstanding} on the way at the end");
        }
        text.push('\n');
        let _ = writeln!(
            text,
            "rate      {:.1} answers/s{wanted}, in {}",
            end.achieved_rate,
            seconds(Duration::from_nanos(end.took_ns))
        );
        let _ = writeln!(text, "errors    {}", grouped(end.errors.total()));
        for (cause, count) in end.errors.seen() {
            let _ = writeln!(text, "          {} {}", grouped(count), cause.text());
        }
        if let (Some(skew), 2..) = (merged.skew, merged.parts.len()) {
            let _ =
                writeln!(text, "start     {} between the first and the last", time(nanos(skew)));
        }
        for limit in &end.client_limits {
            let _ = writeln!(text, "client    {limit}");
        }
        let mut name = "address";
        for address in header.addresses.iter().take(ADDRESSES_MAX) {
            let _ = writeln!(text, "{name:<9} {}", bare(address));
            name = "";
        }
        if let more @ 1.. = header.addresses.len().saturating_sub(ADDRESSES_MAX) {
            let _ = writeln!(text, "          and {more} more");
        }
        text.push('\n');
    }
    text.push_str(&parts(&merged.parts));
    if !judgements.is_empty() || !merged.is_whole() {
        text.push('\n');
    }
    for judgement @ Judgement { budget, is_missed, .. } in judgements {
        let word = if *is_missed { "missed" } else { "kept" };
        let measured = judgement.explained();
        let _ = writeln!(text, "budget    {word}: fail if {budget}, was {measured}");
    }
    for gap in &merged.end.gaps {
        let _ = writeln!(text, "incomplete: {gap}");
    }
    text
}

/// Percentiles of what was added up.
fn values(merged: &Merged) -> String {
    let mut table = plain();
    let is_known = merged.header.is_some();
    let columns = match is_known {
        true => vec![("latency", &merged.latency), ("service time", &merged.service)],
        false => vec![("value, unit unknown", &merged.latency)],
    };
    let row = |name: &str, cell: &dyn Fn(&Timings) -> String| -> Vec<String> {
        let cells = columns.iter().map(|(_, histogram)| cell(histogram));
        [name.to_owned()].into_iter().chain(cells).collect()
    };
    let shown = |value: u64| if is_known { time(value) } else { grouped(value) };
    table.set_header([""].into_iter().chain(columns.iter().map(|(name, _)| *name)));
    for (quantile, name) in QUANTILES {
        table.add_row(row(name, &|histogram| match histogram.is_empty() {
            true => "-".to_owned(),
            false => {
                let value = shown(histogram.value_at_quantile(quantile));
                format!("{}{value}", mark(histogram, quantile))
            }
        }));
    }
    table.add_row(row("count", &|histogram| grouped(histogram.len())));
    let mut text = lines(table);
    let histograms: Vec<&Timings> = columns.iter().map(|(_, histogram)| *histogram).collect();
    if let Some(footnote) = footnote(&histograms) {
        let _ = writeln!(text, "{}", wrapped(&footnote));
    }
    text
}

/// A line for each log.
fn parts(parts: &[Part]) -> String {
    let mut table = plain();
    table.set_header(["log", "shard", "late", "answers/s", "interval lines"]);
    for part in parts {
        let name = quoted(&part.name);
        let late = part.late_ns.map(|late| {
            let sign = if late < 0 { "-" } else { "" };
            format!("{sign}{}", time(late.unsigned_abs().try_into().unwrap_or(u64::MAX)))
        });
        let unknown = || "-".to_owned();
        let rate = part.end.as_ref().map(|end| format!("{:.1}", end.achieved_rate));
        table.add_row([
            name[1..name.len() - 1].to_owned(),
            part.shard.map_or_else(unknown, |shard| shard.to_string()),
            late.unwrap_or_else(unknown),
            rate.unwrap_or_else(unknown),
            grouped(part.intervals),
        ]);
    }
    lines(table)
}

/// Its lines, where numbers follow the first column.
fn lines(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt() + "\n"
}

/// As many lines as it takes.
fn wrapped(text: &str) -> String {
    let mut table = plain();
    table.add_row([text]);
    table.trim_fmt().lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table
}
