//! A line a case, and under a failure what went over the wire.

use std::fmt::Write as _;

use crate::check::report::Counts;
use crate::check::runner::Outcome;
use crate::check::transcript::{Bytes, Entry, Log, What};
use crate::check::verdict::{Finding, Verdict};
use crate::text::seconds;

/// The line of a case, and what there is to say about it. `again` is the command that runs this case alone.
pub fn outcome(outcome: &Outcome, again: &str) -> String {
    let Outcome { case, verdict, log, took } = outcome;
    let mut text = format!(
        "{:<12}  {:<14}  {}  ({} ms)\n",
        verdict.name(),
        case.id,
        case.title,
        took.as_millis()
    );
    match verdict {
        Verdict::Pass => {}
        Verdict::Info(said) | Verdict::Inconclusive(said) | Verdict::Skipped(said) => {
            let _ = writeln!(text, "              {said}");
        }
        Verdict::Fail(Finding { expected, got }) | Verdict::Warn(Finding { expected, got }) => {
            let _ = writeln!(text, "    expected  {expected}");
            let _ = writeln!(text, "    got       {got}");
            let _ = writeln!(text, "    catches   {}", case.bug);
            let _ = writeln!(text, "    source    {}", case.source);
            text.push_str(&transcript(log));
            let _ = writeln!(text, "    again     {again}");
        }
    }
    text
}

/// The last line of a run.
pub fn summary(counts: &Counts) -> String {
    let Counts { pass, fail, warn, info, inconclusive, skipped } = counts;
    format!(
        "{} cases tried: {pass} passed, {fail} failed, {warn} warned, {info} measured, {inconclusive} inconclusive; \
         {skipped} skipped\n",
        counts.tried()
    )
}

/// What went over the wire, a line an entry: time, connection, direction, bytes in hexadecimal.
fn transcript(log: &Log) -> String {
    let mut text = String::new();
    for Entry { at, connection, what } in &log.entries {
        let who = match connection {
            0 => "  ".to_owned(),
            number => format!("#{number}"),
        };
        let _ = writeln!(text, "    {:>9.3} ms  {who:<4} {}", at.as_secs_f64() * 1e3, line(what));
    }
    if log.left_out > 0 {
        let _ = writeln!(text, "    … and {} entries more", log.left_out);
    }
    text
}

fn line(what: &What) -> String {
    match what {
        What::Connected => "connected".to_owned(),
        What::Sent(bytes) => format!("-> {}", hex(bytes)),
        What::LeftAlone(time) => format!("   acknowledged, and left alone for {}", seconds(*time)),
        What::Received(bytes) => format!("<- {}", hex(bytes)),
        What::ReceivedFin => "<- FIN".to_owned(),
        What::ReceivedReset => "<- RST".to_owned(),
        What::SentFin => "-> FIN".to_owned(),
        What::SentReset => "-> RST".to_owned(),
        What::Closed => "-> closed".to_owned(),
        What::Silence(time) => format!("   nothing for {}", seconds(*time)),
        What::Note(text) => format!("   {text}"),
    }
}

fn hex(bytes: &Bytes) -> String {
    let mut text: String = bytes.first.iter().map(|byte| format!("{byte:02x} ")).collect();
    if bytes.len > bytes.first.len() {
        text.push_str("… ");
    }
    let _ = write!(text, "({} bytes)", bytes.len);
    text
}
