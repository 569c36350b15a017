//! A line per case, and under a failure what went over the wire; and the line of progress.

use std::fmt::Write as _;

use trust_cli::colours::{AnsiColor, Colours, Style};

use crate::cause::Cause;
use crate::outcome::{CaseOutcome, Class};
use crate::report::{About, Counts, RunEnd, RunReport, caused, short_list, transcript};
use crate::verdict::{Finding, Verdict};

/// Bytes that are shown of what went over the wire at once: a header, and enough of a payload to
/// tell it from others.
const BYTES_SHOWN: usize = 16;

/// Lines of a transcript that are shown: how it began, and how it came to the failure. Other
/// reports have all of it.
const FIRST_LINES: usize = 4;
const LAST_LINES: usize = 12;

/// The line of a case, and what there is to say about it. `again` is the command that runs this
/// case alone.
pub fn outcome(outcome: &CaseOutcome, about: &About, colours: Colours) -> String {
    let CaseOutcome { case, verdict, hint, log, took, .. } = outcome;
    let class = outcome.class();
    let word = word(class, colours);
    let mut text = format!("{word}  {:<14}  {}  ({} ms)\n", case.id, case.title, took.as_millis());
    match verdict {
        // The summary says why, once for all that have the same reason.
        Verdict::Skipped(_) => return String::new(),
        Verdict::Pass => {}
        Verdict::Allowed(said) | Verdict::Info(said) | Verdict::Inconclusive(said) => {
            let _ = writeln!(text, "              {said}");
        }
        Verdict::Fail(Finding { expected, got, .. })
        | Verdict::Warn(Finding { expected, got, .. }) => {
            let _ = writeln!(text, "    expected  {expected}");
            let _ = writeln!(text, "    got       {got}");
            if let Some(said) = outcome.tries.said() {
                let _ = writeln!(text, "    seen      {said}");
            }
            if let Some(hint) = hint {
                let _ = writeln!(text, "    hint      {hint}");
            }
            if class != Class::Known {
                let _ = writeln!(text, "    usually   {}", case.bug);
                let _ = writeln!(text, "    source    {}", case.source);
                for line in shortened(transcript(log, BYTES_SHOWN)) {
                    let _ = writeln!(text, "    {line}");
                }
                let _ = writeln!(text, "    again     {}", about.again(case.id));
            }
        }
    }
    if class == Class::UnexpectedPass {
        text.push_str("    it is listed as known to fail and did not: take it off the list\n");
    }
    text
}

/// The word of the class, padded to its column.
fn word(class: Class, colours: Colours) -> String {
    let style = match class {
        Class::Pass => AnsiColor::Green.on_default(),
        Class::Fail | Class::UnexpectedPass => AnsiColor::Red.on_default().bold(),
        Class::Warn | Class::Inconclusive => AnsiColor::Yellow.on_default(),
        Class::Allowed | Class::Info => AnsiColor::Cyan.on_default(),
        Class::Known | Class::Skipped => Style::new().dimmed(),
    };
    colours.paint(style, &format!("{:<12}", class.word()))
}

/// The beginning and the end of a long transcript.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    let left_out = lines.len().saturating_sub(FIRST_LINES + LAST_LINES);
    if left_out > 1 {
        let note = format!("… {left_out} lines, which --html and --json have …");
        lines.splice(FIRST_LINES..FIRST_LINES + left_out, [note]);
    }
    lines
}

/// The last lines of a run: what was skipped and why, and how many cases came to what.
pub fn summary(report: &RunReport<'_>, colours: Colours) -> String {
    let RunReport { about, outcomes, causes, end, .. } = *report;
    let mut text = String::new();
    let mut reasons: Vec<(&str, Vec<&str>)> = vec![];
    for outcome in outcomes {
        let Verdict::Skipped(why) = &outcome.verdict else { continue };
        match reasons.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, ids)) => ids.push(outcome.case.id),
            None => reasons.push((why, vec![outcome.case.id])),
        }
    }
    for (why, ids) in reasons {
        let word = word(Class::Skipped, colours);
        let _ = writeln!(text, "{word}  {}\n              because {why}", short_list(&ids));
    }
    for Cause { text: cause, cases } in causes {
        let _ = writeln!(text, "cause         {}", caused(cause, cases));
    }
    match end {
        RunEnd::Complete | RunEnd::Unreachable(_) => {}
        RunEnd::ServerDied(during) => _ = writeln!(text, "the server died during {during}"),
        RunEnd::Unwritten(why) => _ = writeln!(text, "a report is missing: {why}"),
        RunEnd::Stopped(signal) => {
            let _ = writeln!(text, "stopped by {signal}; what was not tried is skipped");
        }
    }
    if let Some(preface) = &about.server.send_proxy {
        let _ = writeln!(text, "each connection began with a PROXY header: {preface}");
    }
    let counts = Counts::of(outcomes);
    let _ = writeln!(text, "{}", counts.line());
    if counts.tried() == 0 {
        text.push_str("nothing was tried, which says nothing about the server\n");
    }
    text
}

/// The progress line: which cases run, cut to `room` columns.
pub fn progress(running: &[&str], done: usize, of: usize, room: usize) -> String {
    fitting(&format!("{done} of {of}  {}", running.join(", ")), room)
}

/// As much of a line as there is room for.
pub fn fitting(text: &str, room: usize) -> String {
    match text.chars().count() <= room {
        true => text.to_owned(),
        false => text.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_progress_fits_into_the_terminal() {
        let line = |room| progress(&["a/1", "b/2"], 3, 70, room);
        assert_eq!(line(79), "3 of 70  a/1, b/2");
        assert_eq!(line(17), "3 of 70  a/1, b/2");
        assert_eq!(line(16), "3 of 70  a/1, b…");
        for room in 1..20 {
            assert!(line(room).chars().count() <= room);
        }
    }

    #[test]
    fn of_a_long_transcript_the_beginning_and_the_end_are_shown() {
        let lines = |count: usize| (1..=count).map(|line| line.to_string()).collect::<Vec<_>>();
        assert_eq!(shortened(lines(17)), lines(17));
        let long = shortened(lines(100));
        assert_eq!((long[0].as_str(), long[3].as_str(), long[5].as_str()), ("1", "4", "89"));
        assert_eq!(long[4], "… 84 lines, which --html and --json have …");
        assert_eq!((long.len(), long[16].as_str()), (17, "100"));
    }

    #[test]
    fn ids_of_a_group_are_listed_by_their_numbers() {
        assert_eq!(short_list(&["a/1", "a/2", "b/1", "b/10", "a/3"]), "a/1, 2; b/1, 10; a/3");
        assert_eq!(short_list(&[]), "");
    }
}
