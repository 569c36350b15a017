//! What a run of the load saw, for people and for programs: a file a format.

pub mod chart;
#[cfg(test)]
mod contract;
pub mod csv;
pub mod fields;
pub mod html;
pub mod json;
pub mod marks;
pub mod progress;
#[cfg(test)]
pub(crate) mod sample;
pub mod scale;
pub mod search;
pub mod terminal;
pub mod timeline;
pub mod units;

use std::fmt::Write as _;

use trust_cli::exit_code::ExitCode;
use trust_cli::foreign;
use trust_cli::send_proxy;

use crate::report::marks::{footnote, mark};
use crate::report::units::{bytes, percent, rate, time};
use crate::summary::{Cause, Counts, End, QUANTILES, Run, Summary, Wrong};
use crate::timings::Timings;
pub use trust_cli::text::count;
use trust_cli::text::{grouped, seconds};

/// What is said about a closed loop, because it bounds what its percentiles can be trusted for.
pub const CLOSED_LOOP: &str = "Closed loop: the next message waits for an answer, so a server that \
     stalls is asked less, and most of its stall is hidden. An open loop (--rate) shows it.";

/// What the two columns of an open loop are.
pub const OPEN_LOOP: &str = "Open loop: latency counts from when a message was due, service time \
     from when it was sent. The difference is the wait before sending.";

/// What came of a run, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All echoes were right, and all budgets kept.
    Passed,
    /// Something failed, or a budget was missed.
    Failed,
    /// A signal ended it.
    Stopped,
    /// There was no server.
    Unreachable,
}

impl Outcome {
    /// What came of it.
    pub fn of(run: &Run<'_>) -> Outcome {
        match run.summary.end {
            End::Unreachable(_) => Outcome::Unreachable,
            End::Stopped(_) | End::Cut(_) => Outcome::Stopped,
            End::Complete if run.exit == ExitCode::Success => Outcome::Passed,
            End::Complete | End::Unwritten(_) => Outcome::Failed,
        }
    }

    /// For the start of a line.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "PASSED",
            Outcome::Failed => "FAILED",
            Outcome::Stopped => "STOPPED",
            Outcome::Unreachable => "UNREACHABLE",
        }
    }
}

/// What came of a run, in sentences: how it ended, errors, budgets.
pub fn findings(run: &Run<'_>) -> Vec<String> {
    let (summary, mut said) = (run.summary, vec![]);
    match &summary.end {
        End::Complete => {}
        End::Stopped(signal) => {
            let took = seconds(summary.took);
            said.push(format!("Stopped by {signal} after {took}: this is the result so far."));
        }
        End::Cut(why) => {
            let took = seconds(summary.took);
            said.push(format!("Ended after {took}: {why}. This is the result so far."));
        }
        End::Unwritten(why) => said.push(format!("A report is missing: {why}.")),
        End::Unreachable(why) => {
            said.push(format!("No message was sent, because there was no connection: {why}"));
            return said;
        }
    }
    said.extend(run.searched.map(search::sentence));
    let counts = &summary.counts;
    let Counts { answered, slow, failed, unsent, outstanding, .. } = *counts;
    let errors = summary.errors.total();
    if errors > 0 || failed > 0 {
        let (errors, failed) = (count(errors, "error"), count(failed, "message"));
        said.push(format!("{errors}; {failed} did not come back right."));
        said.extend(summary.foreign.map(|opening| {
            let (began, target) = (foreign::answer_began(&opening), &run.about.target);
            format!("An answer {began}: trustctl check {target} finds out more.")
        }));
        // One right answer is enough to know better.
        let is_suspect = counts.connections > 0 && answered + counts.warm_up == 0;
        let preface = run.about.preface.filter(|_| is_suspect);
        said.extend(preface.map(|it| format!("On each connection {}.", send_proxy::hint(&it))));
    } else if answered > 0 {
        said.push(match answered {
            1 => "The one echo was right, byte for byte.".to_owned(),
            answered if outstanding > 0 => {
                format!("The {} echoes that came were right, byte for byte.", grouped(answered))
            }
            answered => format!("All {} echoes were right, byte for byte.", grouped(answered)),
        });
    } else {
        said.push(match counts.warm_up {
            0 => "No message was measured, which says nothing about the server.".to_owned(),
            warm_up => format!(
                "No message was measured, which says nothing about the server: {} came back, \
                 but during the warm-up.",
                count(warm_up, "message")
            ),
        });
    }
    if counts.past_grace > 0 {
        said.push(format!(
            "{} of them had no answer when the wait for the last ones (--grace) was over.",
            grouped(counts.past_grace)
        ));
    }
    if slow > 0 {
        let slow = count(slow, "answer");
        said.push(format!(
            "{slow} took longer than --timeout, which limits silence (--answer-timeout \
             limits whole answers)."
        ));
    }
    if unsent > 0 {
        let unsent = count(unsent, "message");
        said.push(format!("{unsent} more had been due and could not be sent before the end."));
    }
    if outstanding > 0 {
        said.push(format!("{} more had not come back by then.", count(outstanding, "message")));
    }
    let missed = run.judgements.iter().filter(|judgement| judgement.is_missed).count();
    said.extend(match (run.judgements.len(), missed) {
        (0, _) => None,
        (1, 0) => Some("The budget was kept.".to_owned()),
        (1, _) => Some("The budget was missed.".to_owned()),
        (all, 0) => Some(format!("All {all} budgets were kept.")),
        (all, missed) => Some(format!("{missed} of {all} budgets missed.")),
    });
    said.extend(syn_repeated(counts.syn_repeated, counts.connections).map(|text| text + "."));
    said
}

/// Why so many of the connections took long to make; `None` for none.
pub fn syn_repeated(syn_repeated: u64, connections: u64) -> Option<String> {
    (syn_repeated > 0).then(|| {
        format!(
            "{} of {} took 1 s or more to make, because a SYN was dropped and sent again: the \
             accept queue of the server was full (its backlog and net.core.somaxconn bound it), or \
             packets were lost",
            grouped(syn_repeated),
            count(connections, "connection")
        )
    })
}

/// The table of percentiles, its head first: both times in an open loop, one in a closed loop,
/// where they are the same.
pub fn percentiles(summary: &Summary, is_open_loop: bool) -> Vec<Vec<String>> {
    let Summary { latency, service, .. } = summary;
    let row = |name: &str, of: &dyn Fn(&Timings) -> String| {
        let mut row = vec![name.to_owned(), of(latency)];
        row.extend(is_open_loop.then(|| of(service)));
        row
    };
    let mut head = vec![String::new(), "latency".to_owned()];
    head.extend(is_open_loop.then(|| "service time".to_owned()));
    let mut rows = vec![head, row("min", &|times| time(times.min()))];
    for (quantile, name) in QUANTILES {
        rows.push(row(name, &|times| {
            format!("{}{}", mark(times, quantile), time(times.value_at_quantile(quantile)))
        }));
    }
    rows
}

/// What the marks in [`percentiles`] mean; `None` if there are none.
pub fn percentiles_footnote(summary: &Summary, is_open_loop: bool) -> Option<String> {
    let Summary { latency, service, .. } = summary;
    match is_open_loop {
        true => footnote(&[latency, service]),
        false => footnote(&[latency]),
    }
}

/// What else was counted, each with a name.
pub fn numbers(summary: &Summary, is_open_loop: bool) -> Vec<(&'static str, String)> {
    let Summary { counts, client, connect, .. } = summary;
    // What there are too few samples for is the maximum, and that is told anyway.
    let with_max = |times: &Timings, quantile: f64, name: &str| {
        let max = format!("{} (max)", time(times.max()));
        match times.supports(quantile) {
            true => format!("{} ({name}), {max}", time(times.value_at_quantile(quantile))),
            false => format!("{max}, too few for {name}"),
        }
    };
    let achieved = summary.achieved_rate;
    let mut rate_said = format!("{} messages/s", rate(achieved));
    if let Some(requested) = summary.rate {
        let _ = match whole_messages(summary, requested) {
            // More than all of what was asked for would be no merit of the server's.
            Some(due) => write!(
                rate_said,
                "; {} of the {} that {} messages/s make in {}, rounded up",
                percent(achieved * summary.took.as_secs_f64() / due as f64),
                count(due, "message"),
                rate(requested),
                seconds(summary.took)
            ),
            None => {
                let share = if requested > 0.0 { achieved / requested } else { 0.0 };
                write!(rate_said, ", {} of the {} requested", percent(share), rate(requested))
            }
        };
    }
    let [sent, answered, failed] = [counts.sent, counts.answered, counts.failed].map(grouped);
    let mut messages = format!("{sent} sent, {answered} answered, {failed} failed");
    if counts.past_grace > 0 {
        let _ = write!(messages, " ({} unanswered after the grace)", grouped(counts.past_grace));
    }
    if counts.unsent > 0 {
        let _ = write!(messages, ", {} due and not sent", grouped(counts.unsent));
    }
    if counts.outstanding > 0 {
        let _ = write!(messages, ", {} on the way at the end", grouped(counts.outstanding));
    }
    let _ = write!(messages, ", in {}", seconds(summary.took));
    if counts.warm_up > 0 {
        let _ = write!(messages, "; {} before, to warm up", grouped(counts.warm_up));
    }
    let [made, peak] = [counts.connections, counts.connections_peak].map(grouped);
    let mut connections = format!("{made} made, at most {peak} at a time");
    if !connect.is_empty() {
        let took = match connect.len() {
            1 => time(connect.max()),
            _ => with_max(connect, 0.5, "p50"),
        };
        let _ = write!(connections, "; connecting took {took}");
    }
    let [sent, received] =
        [counts.bytes_sent, counts.bytes_received].map(|count| bytes(count as f64));
    let received_rate = bytes(summary.bytes_received_rate());
    let mut at_work = format!("busy {} of the time", percent(client.busy));
    if is_open_loop && !client.late.is_empty() {
        let late = with_max(&client.late, 0.99, "p99");
        let _ = write!(at_work, "; late by {late}");
    }
    if client.held_back > 0 {
        let share = percent(client.held_back as f64 / counts.sent.max(1) as f64);
        let _ = write!(at_work, "; {share} of the messages waited for others on their connection");
    }
    if client.put_off > 0 {
        let share = percent(client.put_off as f64 / counts.sent.max(1) as f64);
        let _ = write!(at_work, "; {share} for a connection that the client put off");
    }
    vec![
        ("rate", rate_said),
        ("messages", messages),
        ("connections", connections),
        ("bytes", format!("{sent} sent, {received} received, {received_rate}/s")),
        ("client", at_work),
    ]
}

/// How many messages were due, if that is so much more than was asked for that the difference
/// shows: the first one is due at once, so that their number is rounded up.
fn whole_messages(summary: &Summary, requested: f64) -> Option<u64> {
    let due = summary.counts.sent + summary.counts.unsent;
    let asked = requested * summary.took.as_secs_f64();
    let is_rounded = due > 0 && due as f64 == asked.ceil();
    (is_rounded && due as f64 > asked * 1.01).then_some(due)
}

/// What the columns of [`wrong_row`] are.
pub const WRONG_COLUMNS: [&str; 6] =
    ["connection", "message", "wrong byte", "of payload", "expected", "got"];

/// What their places are.
pub const WRONG_PLACES: &str = "The first wrong byte of each, counted from 0: in the message as it \
     was sent, and in its payload.";

/// A wrong echo in a table.
pub fn wrong_row(wrong: &Wrong) -> [String; 6] {
    let Wrong { connection, message, offset, header_bytes, payload_offset, expected, got } = *wrong;
    let in_payload = match payload_offset {
        Some(place) => grouped(place),
        None if offset < header_bytes => "(header)".to_owned(),
        None => "(newline)".to_owned(),
    };
    let [expected, got] = [expected, got].map(|byte| format!("0x{byte:02x}"));
    let [connection, message, offset] = [connection, message, offset].map(grouped);
    [connection, message, offset, in_payload, expected, got]
}

/// What is said of wrong echoes that were counted and not kept; nothing, if there are none.
pub fn wrong_left_out(run: &Run<'_>) -> String {
    let counted = run.summary.errors.count(Cause::Mismatch);
    match counted.saturating_sub(run.summary.wrong.len() as u64) {
        0 => String::new(),
        others => format!(" {} more were counted.", grouped(others)),
    }
}
