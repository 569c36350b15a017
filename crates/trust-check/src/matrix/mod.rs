//! Reports of several servers side by side: servers down, groups of cases across.

pub mod command;
mod html;
pub mod options;

use crate::report::json::{CaseReport, CheckReport, VerdictName};
use crate::report::reading::is_tried;

/// A report, and what it is called.
#[derive(Debug)]
struct Row {
    /// The file's name, without its directory and ending.
    name: String,
    report: CheckReport,
}

/// What came of the cases of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    /// The verdict that says most; `None` if nothing was tried.
    worst: Option<VerdictName>,
    /// How many cases have it.
    count: usize,
    /// How many were tried.
    tried: usize,
}

impl Cell {
    fn of<'c>(cases: impl Iterator<Item = &'c CaseReport>) -> Cell {
        let tried: Vec<VerdictName> =
            cases.filter(|case| is_tried(case)).map(|case| case.verdict).collect();
        let worst = tried.iter().copied().max_by_key(|verdict| weight(*verdict));
        let count = tried.iter().filter(|verdict| Some(**verdict) == worst).count();
        Cell { worst, count, tried: tried.len() }
    }

    /// `2 of 9 fail`, `9 pass`, or `–` where nothing was tried.
    fn text(&self) -> String {
        match self.worst {
            None => "–".to_owned(),
            Some(worst) if self.count == self.tried => format!("{} {}", self.count, worst.word()),
            Some(worst) => format!("{} of {} {}", self.count, self.tried, worst.word()),
        }
    }
}

/// Which of two verdicts says more. What was measured is as good as what passed.
fn weight(verdict: VerdictName) -> u8 {
    match verdict {
        VerdictName::Skipped => 0,
        VerdictName::Info => 1,
        VerdictName::Pass => 2,
        VerdictName::Allowed => 3,
        VerdictName::Inconclusive => 4,
        VerdictName::Warn => 5,
        VerdictName::Fail => 6,
    }
}

/// The part of an id before the number.
fn group(case: &CaseReport) -> &str {
    case.about.id.split_once('/').map_or(&case.about.id, |(group, _)| group)
}

/// The groups of which these reports have cases that were tried, in their order.
fn groups(rows: &[Row]) -> Vec<&str> {
    let cases = || rows.iter().flat_map(|row| &row.report.cases);
    let is_tried = |name: &&str| cases().any(|case| group(case) == *name && is_tried(case));
    let mut groups: Vec<&str> = vec![];
    for case in cases() {
        if !groups.contains(&group(case)) {
            groups.push(group(case));
        }
    }
    groups.retain(is_tried);
    groups
}

/// The cells of a row, one a group.
fn cells(row: &Row, groups: &[&str]) -> Vec<Cell> {
    let of = |name: &&str| Cell::of(row.report.cases.iter().filter(|case| group(case) == *name));
    groups.iter().map(of).collect()
}

/// The table for a terminal.
fn table(rows: &[Row]) -> String {
    let groups = groups(rows);
    let mut lines = vec![vec!["server".to_owned()]];
    lines[0].extend(groups.iter().map(|group| (*group).to_owned()));
    for row in rows {
        let mut line = vec![row.name.clone()];
        line.extend(cells(row, &groups).iter().map(Cell::text));
        lines.push(line);
    }
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..=groups.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::json::CaseText;

    fn case(id: &str, verdict: VerdictName) -> CaseReport {
        let [title, requirement, source, bug] = [(); 4].map(|()| "x".to_owned());
        CaseReport {
            about: CaseText { id: id.to_owned(), title, requirement, source, bug },
            verdict,
            tries: 1,
            failed_tries: 0,
            beside: 0,
            listed: false,
            expected: None,
            got: None,
            said: None,
            hint: None,
            duration_ms: 0.0,
            again: String::new(),
            transcript: vec![],
            transcript_left_out: 0,
        }
    }

    #[test]
    fn a_cell_says_what_matters_most_and_of_how_many() {
        let text = |verdicts: &[VerdictName]| {
            let cases: Vec<CaseReport> = verdicts.iter().map(|it| case("a/1", *it)).collect();
            Cell::of(cases.iter()).text()
        };
        use VerdictName::{Allowed, Fail, Info, Pass, Skipped, Warn};
        assert_eq!(text(&[]), "–");
        assert_eq!(text(&[Skipped, Skipped]), "–");
        assert_eq!(text(&[Pass, Skipped, Pass]), "2 pass");
        assert_eq!(text(&[Pass, Info]), "1 of 2 pass");
        assert_eq!(text(&[Info, Info]), "2 info");
        assert_eq!(text(&[Pass, Warn, Fail, Fail]), "2 of 4 fail");
        assert_eq!(text(&[Pass, Allowed]), "1 of 2 allowed");
    }
}
