//! The result as one JSON document; `docs/LOAD-REPORT.md` says what its fields are.

use serde::{Serialize, Serializer};

use crate::connection::nanos;
use crate::report::fields::{Budget, Failures, Rate, Times, loop_name};
use crate::summary::{About, Client, Counts, End, Run, Searched, Summary, Wrong};

/// Names the document. The number changes when a field goes away or changes its meaning, not when one is added.
pub const SCHEMA: &str = "trustctl-load/1";

/// The result as one document, with a newline at its end. It is valid whatever came of the run.
///
/// # Errors
///
/// None in practice: all keys are texts.
pub fn report(run: &Run<'_>) -> Result<String, serde_json::Error> {
    let Run { about, summary, judgements, searched, exit } = run;
    let About { target, is_open_loop, facts, again } = about;
    let Summary {
        began,
        took,
        rate,
        achieved_rate,
        sustained_rate: _,
        latency,
        service,
        connect,
        counts,
        errors,
        wrong,
        client,
        end,
    } = summary;
    let document = Document {
        schema: SCHEMA,
        end: Ending::of(end),
        exit: exit.code(),
        target,
        r#loop: loop_name(*is_open_loop),
        facts: Facts(facts),
        again,
        began: began.to_string(),
        duration_ns: nanos(*took),
        rate: Rate { requested_per_second: *rate, achieved_per_second: *achieved_rate },
        messages: Messages::of(counts),
        connections: Connections {
            made: counts.connections,
            peak: counts.connections_peak,
            connect_time: Times(connect),
        },
        bytes: Bytes {
            sent: counts.bytes_sent,
            received: counts.bytes_received,
            received_in_time: counts.bytes_received_in_time,
            received_per_second: summary.bytes_received_rate(),
        },
        latency: Times(latency),
        service: Times(service),
        errors: Failures::of(errors),
        wrong: wrong.iter().map(WrongByte::of).collect(),
        client: Limits::of(client),
        budgets: Budget::all(judgements),
        search: searched.map(Search::of),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

#[derive(Serialize)]
struct Document<'r> {
    schema: &'static str,
    end: Ending<'r>,
    exit: u8,
    target: &'r str,
    r#loop: &'static str,
    facts: Facts<'r>,
    again: &'r str,
    began: String,
    duration_ns: u64,
    rate: Rate,
    messages: Messages,
    connections: Connections<'r>,
    bytes: Bytes,
    latency: Times<'r>,
    service: Times<'r>,
    errors: Failures<'r>,
    wrong: Vec<WrongByte>,
    client: Limits<'r>,
    budgets: Vec<Budget<'r>>,
    search: Option<Search<'r>>,
}

#[derive(Serialize)]
struct Search<'r> {
    budgets: &'r [String],
    found_per_second: Option<f64>,
    end: &'static str,
    /// None: trials agree.
    disagreement: Option<Disagreement>,
    trials: Vec<SearchTrial>,
}

impl<'r> Search<'r> {
    fn of(searched: &'r Searched) -> Search<'r> {
        let Searched { budgets, found } = searched;
        let trials = found.trials.iter().map(|trial| SearchTrial {
            asked_per_second: trial.asked,
            due_per_second: trial.due,
            achieved_per_second: trial.achieved,
            errors: trial.errors,
            why_not: trial.why_not(),
            is_client_limit: trial.is_client_limit,
        });
        let disagreement = found.disagreement().map(|(from_per_second, to_per_second)| {
            Disagreement { from_per_second, to_per_second }
        });
        let (found_per_second, end) = (found.rate, found.end.name());
        Search { budgets, found_per_second, end, disagreement, trials: trials.collect() }
    }
}

#[derive(Serialize)]
struct Disagreement {
    from_per_second: f64,
    to_per_second: f64,
}

#[derive(Serialize)]
struct SearchTrial {
    asked_per_second: f64,
    due_per_second: f64,
    achieved_per_second: f64,
    errors: u64,
    /// None: it holds.
    why_not: Option<String>,
    is_client_limit: bool,
}

#[derive(Serialize)]
struct Ending<'r> {
    state: &'static str,
    detail: Option<&'r str>,
}

impl<'r> Ending<'r> {
    fn of(end: &'r End) -> Ending<'r> {
        let (state, detail) = match end {
            End::Complete => ("complete", None),
            End::Stopped(signal) => ("stopped", Some(*signal)),
            End::Cut(why) => ("stopped", Some(why.as_str())),
            End::Unreachable(why) => ("unreachable", Some(why.as_str())),
            End::Unwritten(why) => ("unwritten", Some(why.as_str())),
        };
        Ending { state, detail }
    }
}

#[derive(Serialize)]
struct Messages {
    sent: u64,
    answered: u64,
    answered_in_time: u64,
    failed: u64,
    unsent: u64,
    outstanding: u64,
    warm_up: u64,
}

impl Messages {
    fn of(counts: &Counts) -> Messages {
        let Counts {
            sent, answered, answered_in_time, failed, unsent, outstanding, warm_up, ..
        } = *counts;
        Messages { sent, answered, answered_in_time, failed, unsent, outstanding, warm_up }
    }
}

#[derive(Serialize)]
struct Connections<'r> {
    made: u64,
    peak: u64,
    connect_time: Times<'r>,
}

#[derive(Serialize)]
struct Bytes {
    sent: u64,
    received: u64,
    received_in_time: u64,
    received_per_second: f64,
}

#[derive(Serialize)]
struct WrongByte {
    connection: u64,
    message: u64,
    offset: u64,
    header_bytes: u64,
    payload_offset: Option<u64>,
    expected: u8,
    got: u8,
}

impl WrongByte {
    fn of(wrong: &Wrong) -> WrongByte {
        let Wrong { connection, message, offset, header, expected, got, .. } = *wrong;
        let payload_offset = wrong.payload_offset();
        WrongByte {
            connection,
            message,
            offset,
            header_bytes: header,
            payload_offset,
            expected,
            got,
        }
    }
}

#[derive(Serialize)]
struct Limits<'r> {
    cpu_ns: u64,
    busy: f64,
    late: Times<'r>,
    held_back: u64,
    put_off: u64,
    limits: &'r [String],
}

impl<'r> Limits<'r> {
    fn of(client: &'r Client) -> Limits<'r> {
        let Client { cpu, busy, late, held_back, put_off, limits } = client;
        Limits {
            cpu_ns: nanos(*cpu),
            busy: *busy,
            late: Times(late),
            held_back: *held_back,
            put_off: *put_off,
            limits,
        }
    }
}

/// Names and values, in their order.
struct Facts<'r>(&'r [(&'static str, &'static str, String)]);

impl Serialize for Facts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, _, value)| (name, value)))
    }
}
