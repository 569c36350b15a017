//! The comparison for a terminal.

use std::fmt::Write as _;

use trust_cli::text::count;

use super::json::{Change, CompareReport, ComparedCase, SideName, Unseen};
use super::measure::{Measurement, unmeasured};
use crate::cases;
use crate::report::short_list;

/// All of it: first what limits it, then what the box changes, what was measured, and what was not
/// seen.
pub(super) fn report(report: &CompareReport) -> String {
    let mut text = String::new();
    for side in [&report.direct, &report.through] {
        if let Some(why) = side.unfinished() {
            let _ = writeln!(text, "{}: {why}", side.name);
        }
    }
    for unlike in &report.unlike {
        let _ = writeln!(text, "different: {unlike}");
    }
    if !report.left_out.is_empty() {
        let ids: Vec<&str> = report.left_out.iter().map(|case| case.id.as_str()).collect();
        let _ = writeln!(
            text,
            "left out, because they are not right without the box: {}",
            short_list(&ids)
        );
    }
    for Change { text: what, cases } in &report.changes {
        let _ = writeln!(text, "{what}");
        cases.iter().for_each(|case| text.push_str(&changed(case)));
    }
    if !report.measured.is_empty() {
        text.push_str("measured, and not judged\n");
        report.measured.iter().for_each(|case| text.push_str(&measured(case)));
    }
    for Measurement { of, direct, through } in
        report.measurements.iter().filter(|it| it.is_measured())
    {
        let _ = writeln!(text, "measured      {}", of.text());
        let _ = writeln!(text, "    directly  {}\n    the box   {}", direct.text, through.text);
    }
    for Unseen { why, tried, cases } in &report.unseen {
        let Some(tried) = tried else { continue };
        let ids: Vec<&str> = cases.iter().map(String::as_str).collect();
        let where_not = match tried {
            SideName::Direct => "the box",
            SideName::Through => "directly",
        };
        let _ = writeln!(text, "not compared  {}", short_list(&ids));
        let _ = writeln!(text, "    {where_not:<8}  {why}");
    }
    let unmeasured = unmeasured(&report.measurements);
    if !unmeasured.is_empty() {
        let _ = writeln!(text, "not measured on either side: {}", unmeasured.join("; "));
    }
    let nowhere = report.unseen.iter().filter(|it| it.tried.is_none());
    let mut ids: Vec<&str> = nowhere.flat_map(|it| it.cases.iter().map(String::as_str)).collect();
    // They are grouped by reason: back to the order of the cases.
    ids.sort_by_key(|id| cases::all().position(|case| case.id == *id));
    if !ids.is_empty() {
        let _ = writeln!(text, "not tried on either side (--json says why): {}", short_list(&ids));
    }
    text.push_str(
        "not visible from outside: in which pieces the server gets what clients send, and the \
         box's memory, descriptors and processes (check BOX --pid on its own host)\n",
    );
    text.push_str(&summary(report));
    text.push('\n');
    text
}

fn changed(case: &ComparedCase) -> String {
    let ComparedCase { id, title, direct, through } = case;
    let mut text = format!("{:<12}  {id:<14}  {title}\n", through.verdict.word());
    let said = |said: &Option<String>| said.as_deref().map(|said| format!(": {said}"));
    for (name, side) in [("directly", direct), ("the box", through)] {
        let said = said(&side.said).unwrap_or_default();
        let _ = writeln!(text, "    {name:<8}  {}{said}", side.verdict.word());
    }
    let _ = writeln!(text, "    again     {}", through.again);
    text
}

fn measured(case: &ComparedCase) -> String {
    let ComparedCase { id, title, direct, through } = case;
    let mut text = format!("{:<12}  {id:<14}  {title}\n", "");
    for (name, side) in [("directly", direct), ("the box", through)] {
        let _ = writeln!(text, "    {name:<8}  {}", side.said.as_deref().unwrap_or_default());
    }
    text
}

/// In one line: how much was compared, and how much differs.
pub(super) fn summary(report: &CompareReport) -> String {
    let changed: usize = report.changes.iter().map(|change| change.cases.len()).sum();
    let (measured, left_out) = (report.measured.len(), report.left_out.len());
    let compared = report.same + changed + measured;
    if compared == 0 {
        return "nothing could be compared, which says nothing about the box".to_owned();
    }
    let mut line = format!("{} compared: ", count(compared as u64, "case"));
    match changed {
        0 => line.push_str("the box changes none"),
        _ => _ = write!(line, "the box changes {changed}"),
    }
    for (number, what) in [(measured, "measured differently"), (left_out, "left out")] {
        if number > 0 {
            let _ = write!(line, ", {number} {what}");
        }
    }
    line
}
