//! What must hold for a server as a whole: its books, its statistics, its exit code, what it leaves
//! behind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::play::Played;
use super::verdict::{CLOCK, Case, PROMPT, Violation, ensure};
use trust_testkit::event::{self, Event};

/// The most memory for a server with a handful of clients, in bytes: more than twice the 6.5 MB
/// measured in a build without optimisation.
const MEMORY_MAX: u64 = 16 * 1024 * 1024;

/// Counters that add up.
const TOTALS: [&str; 4] = ["bytes_in", "bytes_out", "frames_in", "frames_out"];

/// Events that no script gives a reason for.
const NEVER: [&str; 7] = [
    "error",
    "io_error",
    "accept_error",
    "accept_paused",
    "log_gap",
    "limit_lowered",
    "log_reopen_failed",
];

/// The outcome of a script.
pub(crate) struct Outcome {
    /// Why the connections ended; `at_capacity` for those that were rejected.
    pub(crate) reasons: Vec<String>,
    pub(crate) violations: Vec<Violation>,
}

/// Judges a script that was played to its end.
pub(crate) fn judge(played: &Played) -> Outcome {
    let mut violations = vec![];
    let mut reasons = vec![];
    let mut cases = vec![];
    let connected = |index: &usize| played.histories[*index].connected.is_some();
    for client in (0..played.histories.len()).filter(connected) {
        match Case::new(played, client) {
            Ok(Some(case)) => cases.push((client, case)),
            Ok(None) => reasons.push("at_capacity".to_owned()),
            Err(violation) => violations.push(violation),
        }
    }
    for (_, case) in &cases {
        reasons.push(case.reason().to_owned());
        violations.extend(case.violations());
    }
    for client in (0..played.histories.len()).filter(connected) {
        if cases.iter().all(|(served, _)| *served != client) && violations.is_empty() {
            let outcome = check_turned_away(played, client, &cases);
            let property = "only who finds no place is turned away";
            let violation = |detail| Violation { client: Some(client), property, detail };
            violations.extend(outcome.err().map(violation));
        }
    }
    let mut require = |property, outcome: Result<(), String>| {
        if let Err(detail) = outcome {
            violations.push(Violation { client: None, property, detail });
        }
    };
    require("the books balance", check_books(played, &reasons));
    require("the exit code is the right one", check_exit(played));
    require("statistics agree with the log", check_stats(played));
    require("nothing fails that was not made to", check_unexpected(played));
    let memory = played.peak_memory;
    let is_small = memory <= MEMORY_MAX;
    require("memory is bounded", ensure(is_small, || format!("{memory} bytes")));
    Outcome { reasons, violations }
}

fn check_turned_away(
    played: &Played,
    client: usize,
    cases: &[(usize, Case<'_>)],
) -> Result<(), String> {
    let history = &played.histories[client];
    let slack = CLOCK + PROMPT + 4 * played.lag;
    let paused: Duration = played.pauses.iter().map(|pause| pause.to - pause.from).sum();
    let came = history.connected.map_or(Duration::ZERO, |span| span.from);
    let takes_the_place = |case: &Case<'_>| {
        let logged = &case.logged;
        logged.accepted <= came + slack + paused && logged.closed + slack >= came
    };
    let is_full = cases.iter().filter(|(_, case)| takes_the_place(case)).count();
    ensure(is_full >= played.script.max_clients, || {
        format!("not served, with {is_full} others, of {} allowed", played.script.max_clients)
    })?;
    ensure(history.read_total() == 0, || format!("{} bytes were answered", history.read_total()))
}

/// Checks that the totals are the sum over all connections, and that all were counted.
fn check_books(played: &Played, reasons: &[String]) -> Result<(), String> {
    let stop = event::only(&played.events, "server_stop");
    let closes = event::named(&played.events, "client_close");
    for key in TOTALS {
        let sum: u64 = closes.iter().map(|close| close.count(key)).sum();
        ensure(stop.count(key) == sum, || format!("{key} of all is {sum}: {stop:?}"))?;
    }
    let rejected = reasons.iter().filter(|reason| *reason == "at_capacity").count() as u64;
    let served = reasons.len() as u64 - rejected;
    let is_counted = stop.count("connections") == served && stop.count("rejected") == rejected;
    ensure(is_counted, || format!("{served} were served, {rejected} were not: {stop:?}"))?;
    let mut open = 0;
    for event in &played.events {
        match event.name() {
            "client_connect" => open += 1,
            "client_close" => open -= 1,
            _ => {}
        }
        let is_within = played.extras.workers > 1 || open <= played.script.max_clients;
        ensure(is_within, || format!("{open} at once, at {event:?}"))?;
    }
    let done = event::only(&played.events, "drain_done");
    let start = played.watch.of(event::only(&played.events, "drain_start"));
    let count = |names: &[&str], since: Duration| {
        let since = since.saturating_sub(CLOCK);
        let is_such = |close: &&&Event| {
            names.contains(&close.text("reason")) && played.watch.of(close) >= since
        };
        closes.iter().filter(is_such).count() as u64
    };
    let least = count(&["drain_timeout", "second_signal"], Duration::ZERO);
    let most = least + count(&["send_timeout", "frame_timeout", "client_unreachable"], start);
    ensure((least..=most).contains(&done.count("cut")), || {
        format!("{least} to {most} were cut: {done:?}")
    })
}

/// 0 if every connection was drained, 1 if some were cut off or a second signal came in time.
fn check_exit(played: &Played) -> Result<(), String> {
    let cut = event::only(&played.events, "drain_done").count("cut") > 0;
    let signals = event::named(&played.events, "signal_received");
    let is_told_again = signals.iter().any(|event| event.text("action") == "cut");
    let allowed: &[i32] = match (cut, is_told_again) {
        (true, _) => &[1],
        (false, false) => &[0],
        // It may have come when everything was over.
        (false, true) => &[0, 1],
    };
    let is_allowed = played.code.is_some_and(|code| allowed.contains(&code));
    ensure(is_allowed, || format!("{:?}, not one of {allowed:?}; {signals:?}", played.code))
}

fn check_stats(played: &Played) -> Result<(), String> {
    let Some(asked) = played.stats_asked else { return Ok(()) };
    let stats = event::named(&played.events, "server_stats");
    let Some(stats) = stats.first() else {
        let told = played.told_to_stop.from;
        let paused: Duration = played.pauses.iter().map(|pause| pause.to - pause.from).sum();
        let due = asked.to + PROMPT + 4 * played.lag + paused;
        return ensure(told <= due, || {
            format!("none, asked for at {asked:?}, stopped at {told:?}")
        });
    };
    let at = played.watch.of(stats);
    let json: serde_json::Value =
        serde_json::from_str(stats.line()).map_err(|error| error.to_string())?;
    let numbers = |key: &str| -> BTreeMap<String, u64> {
        let object = json[key].as_object().into_iter().flatten();
        object.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect()
    };
    let (by_state, by_reason) = (numbers("by_state"), numbers("by_reason"));
    let active = stats.count("active");
    ensure(by_state.values().sum::<u64>() == active, || format!("states: {stats:?}"))?;
    let closed: u64 = by_reason.values().sum();
    ensure(stats.count("connections") == active + closed, || format!("connections: {stats:?}"))?;
    let slack = CLOCK + 2 * played.lag;
    let named = |name| event::named(&played.events, name);
    let before = |event: &&&Event| played.watch.of(event) + slack < at;
    let surely_closed = named("client_close").iter().filter(before).count() as u64;
    ensure(closed >= surely_closed, || format!("{surely_closed} were closed: {stats:?}"))?;
    let came = |history: &&super::history::History| {
        history.connected.is_some_and(|span| span.from <= at + slack)
    };
    let came = played.histories.iter().filter(came).count() as u64;
    ensure(stats.count("connections") <= came, || format!("{came} have come: {stats:?}"))?;
    for (reason, count) in by_reason {
        let closes = named("client_close");
        let all = closes.iter().filter(|close| close.text("reason") == reason).count() as u64;
        ensure(count <= all, || format!("{reason} {all} times in all: {stats:?}"))?;
    }
    let stop = event::only(&played.events, "server_stop");
    for key in TOTALS {
        ensure(stats.count(key) <= stop.count(key), || format!("{key}: {stats:?}, {stop:?}"))?;
    }
    let sent = |history: &super::history::History| history.maybe_sent_by(at + slack) as u64;
    let sent: u64 = played.histories.iter().map(sent).sum();
    ensure(stats.count("bytes_in") <= sent, || format!("{sent} bytes were sent: {stats:?}"))
}

fn check_unexpected(played: &Played) -> Result<(), String> {
    let mut events = played.events.iter();
    match events.find(|event| NEVER.contains(&event.name())) {
        Some(event) => Err(format!("{event:?}")),
        None => Ok(()),
    }
}
