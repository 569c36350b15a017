//! Runs tests, each in a process of its own, and counts what came of them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::case::{Case, Subject, Test};
use trust_testkit::apart::{self, Verdict};

/// Longest time for one test; what takes longer counts as hung.
const TEST_DEADLINE: Duration = Duration::from_secs(120);

/// Runs one test in this process, with its reasons on stdout.
pub(crate) fn alone(test: Test) -> ExitCode {
    apart::alone(&test.title(), TEST_DEADLINE, move || test.run())
}

/// Runs the tests, so many at a time and the heavy ones at last and alone, and prints a line for each and a table
/// of all; tells whether none failed.
pub(crate) fn all(
    tests: &[Test],
    cases: &[Case],
    at_once: usize,
    out: &mut impl Write,
) -> io::Result<bool> {
    let width = 2 + tests.iter().map(|test| test.title().chars().count()).max().unwrap_or(0);
    let mut table = Table::default();
    let (heavy, light): (Vec<Test>, Vec<Test>) = tests.iter().partition(|test| test.case.is_heavy);
    for (tests, at_once) in [(light, at_once), (heavy, 1)] {
        let titles: Vec<String> = tests.iter().map(Test::title).collect();
        apart::side_by_side(&titles, at_once, TEST_DEADLINE, &mut |at, verdict| {
            table.count(tests[at].subject, verdict);
            apart::print(&titles[at], verdict, width, out)
        })?;
    }
    table.print(cases, out)?;
    Ok(table.failed() == 0)
}

/// How many tests ended how, by subject.
#[derive(Default)]
struct Table {
    rows: BTreeMap<&'static str, Row>,
}

#[derive(Default)]
struct Row {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Table {
    fn count(&mut self, subject: Subject, verdict: &Verdict) {
        let row = self.rows.entry(subject.name()).or_default();
        match verdict {
            Verdict::Passed(_) => row.passed += 1,
            Verdict::Failed(_) => row.failed += 1,
            Verdict::Skipped(_) => row.skipped += 1,
        }
    }

    fn failed(&self) -> usize {
        self.rows.values().map(|row| row.failed).sum()
    }

    /// Whatever is in no column was not selected.
    fn print(&self, cases: &[Case], out: &mut impl Write) -> io::Result<()> {
        let columns = ["", "passed", "failed", "skipped", "of", "not for it"];
        let line = |cells: [String; 6]| {
            let [name, rest @ ..] = cells;
            let width = |at: usize| columns[at + 1].len();
            let rest = rest.iter().enumerate().map(|(at, cell)| format!("  {cell:>0$}", width(at)));
            format!("{name:<9}{}", rest.collect::<String>())
        };
        writeln!(out, "\n{}", line(columns.map(str::to_owned)))?;
        for subject in Subject::all() {
            let applies = |case: &&Case| case.reason_against(subject).is_none();
            let of = cases.iter().filter(applies).count();
            let none = Row::default();
            let Row { passed, failed, skipped } = self.rows.get(subject.name()).unwrap_or(&none);
            let counts = [*passed, *failed, *skipped, of, cases.len() - of];
            let [a, b, c, d, e] = counts.map(|count| count.to_string());
            writeln!(out, "{}", line([subject.name().to_owned(), a, b, c, d, e]))?;
        }
        Ok(())
    }
}
