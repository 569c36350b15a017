//! The result as one JSON document; `docs/LOAD-REPORT.md` says what its fields are.

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trust_cli::foreign;
use trust_net::wire::Opening;

use crate::connection::nanos;
use crate::report::fields::{Failures, Loop, Percentiles, Rate};
use crate::search::SearchEnd;
use crate::summary::{About, Client, Counts, End, Judgement, Run, Searched, Summary, Wrong};

// Many fields: those of the document.
/// What `trustctl load --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LoadDocument {
    /// Names the document.
    pub schema: LoadSchema,
    /// How the run ended.
    pub end: Ending,
    /// The exit code.
    pub exit: u8,
    /// The server as it was named.
    pub target: String,
    /// The addresses of it that connections went to; empty if there was none.
    pub addresses: Vec<String>,
    /// When the next message is due.
    pub r#loop: Loop,
    /// What was asked for, by the names of flags, with units.
    pub facts: IndexMap<String, String>,
    /// The command that runs it again, for a shell.
    pub again: String,
    /// When the measured part began, UTC.
    pub began: Timestamp,
    /// Length of the measured part: from the end of the warm-up to when no more messages were due.
    pub duration_ns: u64,
    /// Messages per second.
    pub rate: Rate,
    /// Messages of the measured part.
    pub messages: Messages,
    /// Connections of the whole run.
    pub connections: Connections,
    /// Bytes of the whole run, with headers.
    pub bytes: Bytes,
    /// Times from when a message was due (open loop) or sent (closed loop) to the last byte of its
    /// echo. A timeout is in it with the time that had passed.
    pub latency: Percentiles,
    /// Times from when a message was sent to the last byte of its echo, of the same messages.
    pub service: Percentiles,
    /// Errors of the whole run. An error ends its connection and is counted once, whatever number
    /// of messages is lost with it.
    pub errors: Failures,
    /// The first wrong echoes, at most ten, each with its first wrong byte.
    pub wrong: Vec<Wrong>,
    /// How the first answer began that was no echo, on a connection that had brought none; `null`
    /// if none was.
    pub foreign_answer: Option<ForeignAnswer>,
    /// What the client had to do with the result.
    pub client: ClientLimits,
    /// What `--fail-if` asked for, in that order.
    pub budgets: Vec<Judgement>,
    /// What `--find-rate` found; `null` without it. Everything else is of the run at the rate that
    /// was found, or of the last one if none was.
    pub search: Option<RateSearch>,
}

impl LoadDocument {
    /// The document of a run, whatever came of it.
    pub fn of(run: &Run<'_>) -> LoadDocument {
        let Run { about, summary, judgements, searched, exit } = run;
        let About { target, addresses, is_open_loop, facts, again, .. } = about;
        let facts = facts.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone()));
        LoadDocument {
            schema: LoadSchema::Version1,
            end: Ending::of(&summary.end),
            exit: exit.code(),
            target: target.clone(),
            addresses: addresses.clone(),
            r#loop: Loop::of(*is_open_loop),
            facts: facts.collect(),
            again: again.clone(),
            began: summary.began,
            duration_ns: nanos(summary.took),
            rate: Rate {
                requested_per_second: summary.rate,
                achieved_per_second: summary.achieved_rate,
            },
            messages: Messages::of(&summary.counts),
            connections: Connections {
                made: summary.counts.connections,
                peak: summary.counts.connections_peak,
                syn_repeated: summary.counts.syn_repeated,
                connect_time: (&summary.connect).into(),
            },
            bytes: Bytes::of(summary),
            latency: (&summary.latency).into(),
            service: (&summary.service).into(),
            errors: (&summary.errors).into(),
            wrong: summary.wrong.clone(),
            foreign_answer: summary.foreign.as_ref().map(ForeignAnswer::of),
            client: ClientLimits::of(&summary.client),
            budgets: judgements.to_vec(),
            search: searched.map(RateSearch::of),
        }
    }
}

/// Names the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LoadSchema {
    /// The number changes when a field goes away or changes its meaning, not when one is added.
    #[serde(rename = "trustctl-load/1")]
    Version1,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// In a word.
    pub state: EndState,
    /// Why, or by what; `null` if it is complete.
    pub detail: Option<String>,
}

/// How a run ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndState {
    /// As it was planned.
    Complete,
    /// By a signal, or because what is written during the run could not be; `detail` says which.
    Stopped,
    /// There was no first connection; `detail` says why.
    Unreachable,
    /// The run is complete, and another report could not be written; `detail` says which, and why.
    Unwritten,
}

impl Ending {
    fn of(end: &End) -> Ending {
        let (state, detail) = match end {
            End::Complete => (EndState::Complete, None),
            End::Stopped(signal) => (EndState::Stopped, Some((*signal).to_owned())),
            End::Cut(why) => (EndState::Stopped, Some(why.clone())),
            End::Unreachable(why) => (EndState::Unreachable, Some(why.clone())),
            End::Unwritten(why) => (EndState::Unwritten, Some(why.clone())),
        };
        Ending { state, detail }
    }
}

/// Messages of the measured part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Messages {
    /// Sent, if only in part.
    pub sent: u64,
    /// Came back right.
    pub answered: u64,
    /// Came back right within `duration_ns`: also those that were on the way when the warm-up
    /// ended, and not those that were on the way at the end.
    pub answered_in_time: u64,
    /// Of `answered` those that took longer than `--timeout`, as in `latency`: it limits silence,
    /// and no whole answer.
    pub slow: u64,
    /// Were sent and did not come back right, or were no longer sent because their client had
    /// failed.
    pub failed: u64,
    /// Of `failed`, those that had not come back when `--grace` was over.
    pub past_grace: u64,
    /// Were due and could not be sent before the run had to end (open loop).
    pub unsent: u64,
    /// Were on the way when a signal ended the run.
    pub outstanding: u64,
    /// Came back during the warm-up, which nothing else counts.
    pub warm_up: u64,
}

impl Messages {
    fn of(counts: &Counts) -> Messages {
        let Counts {
            sent,
            answered,
            answered_in_time,
            slow,
            failed,
            past_grace,
            unsent,
            outstanding,
            warm_up,
            ..
        } = *counts;
        Messages {
            sent,
            answered,
            answered_in_time,
            slow,
            failed,
            past_grace,
            unsent,
            outstanding,
            warm_up,
        }
    }
}

/// Connections of the whole run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Connections {
    /// How many there were.
    pub made: u64,
    /// The most at the same time.
    pub peak: u64,
    /// Took a second or more, because their SYN had to be sent again: the server's accept queue
    /// was full, or packets were lost.
    pub syn_repeated: u64,
    /// How long connecting took.
    pub connect_time: Percentiles,
}

/// Bytes of the whole run, with headers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Bytes {
    /// That the kernel took.
    pub sent: u64,
    /// That came back.
    pub received: u64,
    /// Those of the measured part that came before sending ended.
    pub received_in_time: u64,
    /// `received_in_time` per second of `duration_ns`.
    pub received_per_second: f64,
}

impl Bytes {
    fn of(summary: &Summary) -> Bytes {
        Bytes {
            sent: summary.counts.bytes_sent,
            received: summary.counts.bytes_received,
            received_in_time: summary.counts.bytes_received_in_time,
            received_per_second: summary.bytes_received_rate(),
        }
    }
}

/// An answer that is no echo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ForeignAnswer {
    /// Up to 32 of its first bytes: as text if all of them are printable ASCII or whitespace,
    /// otherwise in hexadecimal.
    pub first_bytes: String,
    /// The protocol that they look like: `looks like an HTTP response`; `null`: none that is known.
    pub hint: Option<String>,
}

impl ForeignAnswer {
    fn of(opening: &Opening) -> ForeignAnswer {
        let hint = |protocol| format!("looks like {}", foreign::named(protocol));
        ForeignAnswer {
            first_bytes: foreign::shown(opening.bytes()),
            hint: opening.protocol().map(hint),
        }
    }
}

/// What the client had to do with the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClientLimits {
    /// Time that it spent on a processor in the measured part.
    pub cpu_ns: u64,
    /// Share of the measured part during which it was at work and did not wait, from 0 to 1.
    pub busy: f64,
    /// Times by which a message was sent after it was due although its connection could have taken
    /// it; empty in a closed loop.
    pub late: Percentiles,
    /// Messages that were sent later than they were due because as many as `--in-flight` allows
    /// were on the way on their connection. The wait is in their latency and not in their service
    /// time.
    pub held_back: u64,
    /// Messages that were due while the client put off their connection itself: because of
    /// `--connect-rate`, or for 0.1 s after a failure. The wait is in their latency and not in
    /// their service time.
    pub put_off: u64,
    /// Why the client, and not the server, decided the result, in sentences; empty if it did not.
    pub limits: Vec<String>,
}

impl ClientLimits {
    fn of(client: &Client) -> ClientLimits {
        let Client { cpu, busy, late, held_back, put_off, limits } = client;
        ClientLimits {
            cpu_ns: nanos(*cpu),
            busy: *busy,
            late: late.into(),
            held_back: *held_back,
            put_off: *put_off,
            limits: limits.clone(),
        }
    }
}

/// What `--find-rate` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RateSearch {
    /// What was to hold.
    pub budgets: Vec<String>,
    /// The highest rate that holds them; `null`: none does.
    pub found_per_second: Option<f64>,
    /// Why the search ended.
    pub end: SearchEnd,
    /// The lowest rate that did not hold in a trial and the highest one that held in another, if
    /// that is not lower; `null`: trials agree.
    pub disagreement: Option<Disagreement>,
    /// The runs, in their order.
    pub trials: Vec<SearchTrial>,
}

impl RateSearch {
    fn of(Searched { budgets, found }: &Searched) -> RateSearch {
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
        RateSearch {
            budgets: budgets.clone(),
            found_per_second: found.rate,
            end: found.end,
            disagreement,
            trials: trials.collect(),
        }
    }
}

/// Rates between which trials disagree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Disagreement {
    /// The lowest rate that did not hold in a trial.
    pub from_per_second: f64,
    /// The highest rate that held in another.
    pub to_per_second: f64,
}

/// A run of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SearchTrial {
    /// The rate of the trial.
    pub asked_per_second: f64,
    /// Messages per second that were due in it.
    pub due_per_second: f64,
    /// Those that came back right while the server kept up, as in `rate`, without what the warm-up
    /// left behind.
    pub achieved_per_second: f64,
    /// Errors of any cause.
    pub errors: u64,
    /// Why the rate does not hold; `null`: it does.
    pub why_not: Option<String>,
    /// The client, and not the server, decided it: see `client.limits`.
    pub is_client_limit: bool,
}
