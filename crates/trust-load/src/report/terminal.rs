//! The result as tables on a terminal.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use trust_cli::colours::{AnsiColor, Colours, Style};
use trust_cli::text::grouped;

use crate::report::{
    CLOSED_LOOP, OPEN_LOOP, Outcome, WRONG_COLUMNS, WRONG_PLACES, findings, numbers, percentiles,
    percentiles_footnote, search, wrong_left_out, wrong_row,
};
use crate::summary::Run;

/// Columns that every terminal has.
const COLUMNS: u16 = 80;

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const ODD: Style = AnsiColor::Yellow.on_default().bold();

/// The whole result, at most 80 columns wide.
pub fn result(run: &Run<'_>, colours: Colours) -> String {
    let Run { about, summary, .. } = run;
    let outcome = Outcome::of(run);
    let style = match outcome {
        Outcome::Passed => GOOD,
        Outcome::Failed | Outcome::Unreachable => BAD,
        Outcome::Stopped => ODD,
    };
    let word = colours.paint(style, outcome.word());
    let mut text = format!("{word}  {}\n", plain(&about.target));
    text.push_str(&paragraph(&findings(run).join(" ")));
    if !summary.client.limits.is_empty() {
        let _ = writeln!(text, "\n{}", colours.paint(ODD, "The client was the limit"));
        for limit in &summary.client.limits {
            text.push_str(&paragraph(limit));
        }
    }
    budgets(&mut text, run, colours);
    if let Some(searched) = run.searched {
        let _ = writeln!(text, "\n{}", colours.paint(BOLD, "Trials"));
        let mut trials = table();
        trials.set_header(search::COLUMNS).add_rows(search::rows(searched));
        for column in trials.column_iter_mut().take(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        text.push_str(&lines(&trials));
    }
    if !summary.latency.is_empty() {
        let heading = match run.searched {
            None => "Time to an echo",
            Some(_) => "Time to an echo, at that rate",
        };
        let _ = writeln!(text, "\n{}", colours.paint(BOLD, heading));
        let mut rows = table();
        rows.add_rows(percentiles(summary, about.is_open_loop));
        for column in rows.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        text.push_str(&lines(&rows));
        if let Some(footnote) = percentiles_footnote(summary, about.is_open_loop) {
            text.push_str(&paragraph(&footnote));
        }
        text.push_str(&paragraph(if about.is_open_loop { OPEN_LOOP } else { CLOSED_LOOP }));
    }
    if outcome != Outcome::Unreachable {
        let _ = writeln!(text, "\n{}", colours.paint(BOLD, "What happened"));
        let mut rows = table();
        for (name, said) in numbers(summary, about.is_open_loop) {
            rows.add_row([name.to_owned(), glued(&said)]);
        }
        text.push_str(&lines(&rows));
    }
    errors(&mut text, run, colours);
    let _ = writeln!(text, "\n{}", colours.paint(BOLD, "How it was measured"));
    let mut facts = table();
    if let Some((name, addresses)) = about.addresses_row() {
        facts.add_row([name.to_owned(), plain(&addresses)]);
    }
    for (_, name, value) in &about.facts {
        facts.add_row([(*name).to_owned(), plain(value)]);
    }
    facts.add_row(["again".to_owned(), plain(&about.again)]);
    text.push_str(&lines(&facts));
    text
}

fn budgets(text: &mut String, run: &Run<'_>, colours: Colours) {
    if run.judgements.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", colours.paint(BOLD, "Budgets"));
    let mut rows = table();
    for judgement in run.judgements {
        let word = if judgement.is_missed { "missed" } else { "kept" };
        let (budget, measured) = (plain(&judgement.budget), plain(&judgement.explained()));
        rows.add_row([word.to_owned(), format!("fail if {budget}"), format!("was {measured}")]);
    }
    for line in lines(&rows).lines() {
        // Coloured at last: a table would count the codes as columns.
        let painted = match line.split_whitespace().next() {
            Some("missed") => line.replacen("missed", &colours.paint(BAD, "missed"), 1),
            Some("kept") => line.replacen("kept", &colours.paint(GOOD, "kept"), 1),
            _ => line.to_owned(),
        };
        let _ = writeln!(text, "{painted}");
    }
}

fn errors(text: &mut String, run: &Run<'_>, colours: Colours) {
    let summary = run.summary;
    if summary.errors.total() > 0 {
        let _ = writeln!(text, "\n{}", colours.paint(BAD, "Errors"));
        let mut rows = table();
        for (cause, count) in summary.errors.seen() {
            rows.add_row([grouped(count), cause.text().to_owned(), cause.name().to_owned()]);
        }
        if let Some(counts) = rows.column_mut(0) {
            counts.set_cell_alignment(CellAlignment::Right);
        }
        text.push_str(&lines(&rows));
    }
    if summary.wrong.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", colours.paint(BAD, "First wrong echoes"));
    let mut rows = table();
    rows.set_header(WRONG_COLUMNS);
    rows.add_rows(summary.wrong.iter().map(wrong_row));
    for column in rows.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    text.push_str(&lines(&rows));
    text.push_str(&paragraph(&format!("{WRONG_PLACES}{}", wrong_left_out(run))));
}

/// A table without lines, which wraps where the terminal ends.
fn table() -> Table {
    let mut table = Table::new();
    // One column is put before it.
    table.load_style(presets::NOTHING).set_width(COLUMNS - 1);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// Its lines, indented by two, without blanks at their ends.
fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        // There is a blank at both sides of each cell.
        let _ = writeln!(text, " {}", line.trim_end().replace(GLUE, " "));
    }
    text
}

/// Indented by two, and wrapped.
fn paragraph(text: &str) -> String {
    let mut row = table();
    row.add_row([glued(&plain(text))]);
    lines(&row)
}

/// A blank at which no line is broken.
const GLUE: &str = "\u{a0}";

/// A number and its unit stay on one line.
fn glued(text: &str) -> String {
    const UNITS: [&str; 9] = ["ns", "µs", "ms", "s", "B", "kB", "MB", "GB", "%"];
    let mut glued = String::with_capacity(text.len());
    for word in text.split(' ') {
        if !glued.is_empty() {
            let is_unit = UNITS.contains(&word.trim_end_matches([',', ';', '.']));
            let is_glued = is_unit && glued.ends_with(|last: char| last.is_ascii_digit());
            glued.push_str(if is_glued { GLUE } else { " " });
        }
        glued.push_str(word);
    }
    glued
}

/// Without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_result_fits_into_80_columns_and_has_nothing_that_a_terminal_obeys() {
        for (name, sample) in sample::ALL.iter() {
            let text = result(&sample.run(), Colours::Off);
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(COLUMNS), "{name}: {line}");
                assert!(!line.contains(char::is_control), "{name}: {line}");
                assert_eq!(line, line.trim_end(), "{name}");
            }
        }
    }

    #[test]
    fn an_open_loop_shows_both_times_and_what_was_asked_for() {
        let text = result(&sample::named("clean").run(), Colours::Off);
        assert!(text.starts_with("PASSED  localhost:9900\n"), "{text}");
        for expected in [
            "  All 150,247 echoes were right, byte for byte. The budget was kept.\n",
            "latency  service time\n",
            "  kept  fail if p99>5ms  was 412 µs\n",
            "5,008 messages/s, 100.2 % of the 5,000 requested\n",
            "341 kB/s\n",
            "Open loop: latency counts from when a message was due",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(!text.contains("Errors") && !text.contains("The client was the limit"), "{text}");
    }

    #[test]
    fn a_closed_loop_says_what_it_hides_and_has_one_column() {
        let text = result(&sample::named("closed").run(), Colours::Off);
        assert!(text.contains("  max      1.00 s\n"), "{text}");
        let told: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            told.contains("a server that stalls is asked less, and most of its stall is hidden.")
        );
        assert!(!text.contains("service time") && !text.contains("requested"), "{text}");
    }

    #[test]
    fn failures_are_told_by_cause_with_the_first_wrong_bytes_and_the_client_s_part() {
        let text = result(&sample::named("open").run(), Colours::Off);
        assert!(text.starts_with("FAILED  localhost:9900\n"), "{text}");
        for expected in [
            "The client was the limit\n  The client was late: it sent",
            "  missed  fail if p99>5ms     was 1.02 s\n",
            "  kept    fail if rate<19000  was 19,833 messages/s\n",
            "  12  no answer in time        timeout\n",
            "          17    1,204          17          13      0x4e  0x4f\n",
            "          51    3,612           2    (header)      0x4c  0x4d\n",
            "2 of 3 budgets missed.",
            "78 failed (31 unanswered\n               after the grace), 12 due and not sent",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in
            ["1,204 answers took longer than --timeout", "43 of 111 connections took 1 s or more"]
        {
            assert!(words.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn wrong_echoes_that_were_not_kept_are_counted() {
        let mut sample = sample::named("open");
        sample.summary.wrong.truncate(1);
        let text = result(&sample.run(), Colours::Off);
        assert!(text.contains("3 more were counted."), "{text}");
    }

    #[test]
    fn a_run_that_was_stopped_or_met_nobody_says_so_first() {
        let text = result(&sample::named("interrupted").run(), Colours::Off);
        assert!(text.starts_with(
            "STOPPED  localhost:9900\n  Stopped by SIGINT after 4.217 s: this is the result so far."
        ));
        assert!(text.contains("  p99  "), "{text}");
        let text = result(&sample::named("unreachable").run(), Colours::Off);
        assert!(text.starts_with("UNREACHABLE  "), "{text}");
        assert!(text.contains("Connection refused\n"), "{text}");
        assert!(!text.contains("p99") && !text.contains("What happened"), "{text}");
    }

    #[test]
    fn a_number_keeps_its_unit_when_a_line_is_broken() {
        let blanks = "x".repeat(73);
        assert_eq!(
            paragraph(&format!("{blanks} 14.4 ms, late")),
            format!("  {blanks}\n  14.4 ms, late\n")
        );
        assert_eq!(glued("2 messages in 3 s. Then 4 B"), "2 messages in 3\u{a0}s. Then 4\u{a0}B");
    }

    #[test]
    fn colours_change_no_word() {
        for (_, sample) in sample::ALL.iter() {
            let painted = result(&sample.run(), Colours::On);
            let mut plain = String::new();
            let mut rest = painted.as_str();
            while let Some((before, code)) = rest.split_once("\x1b[") {
                plain.push_str(before);
                rest = code.split_once('m').expect("the end of a code").1;
            }
            assert_eq!(plain + rest, result(&sample.run(), Colours::Off));
        }
    }
}
