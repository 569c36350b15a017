//! A run, as tables for the terminal and as a JSON document.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::clients::{BARE, CLIENTS, Turn};
use crate::goals::{Bound, Goal, cpu_per_message, latency, per_second, ratio};
use crate::load::Shape;
use crate::measurement::Measurement;
use crate::outcome::{PeerOutcome, Rows};
use crate::peers::{FLOOR, PEERS};
use crate::proxy::{self, IdleRelay, ProxyResults};
use crate::relays::RELAYS;
use crate::run::{Idle, Results, load_title};
use crate::statistics::{Estimate, Verdict};

/// Width of the column for the peers' names.
const NAME: usize = 24;

/// The share of its core above which the server counts as busy: below, it waited for the load or
/// for the round trip.
const BUSY: f64 = 0.95;

/// The whole report, for people.
pub fn text(results: &Results, goals: &[Goal], header: &[(&str, String)]) -> String {
    let mut out = String::new();
    let o = &mut out;
    for (name, value) in header {
        line(o, format_args!("{name}: {value}"));
    }
    line(o, format_args!("\npeers"));
    for peer in PEERS {
        line(o, format_args!("  {:NAME$} {}", peer.name, peer.what));
    }
    for (shape, rows) in &results.shapes {
        samples(o, &shape_title("", *shape), "messages/s", FLOOR, rows);
    }
    if !results.churn.is_empty() {
        samples(o, "connect-echo-close", "connections/s", FLOOR, &results.churn);
    }
    idle(o, results);
    starts(o, results);
    if !results.load.is_empty() {
        line(o, format_args!("\nload testers"));
        for (name, what) in CLIENTS {
            line(o, format_args!("  {name:NAME$} {what}"));
        }
    }
    for (shape, rows) in &results.load {
        turns(o, &load_title(*shape), rows);
    }
    relays(o, &results.proxy);
    line(o, format_args!("\ngoals{:63} goal   measured  [90 % interval]", ""));
    for goal in goals {
        let (sign, bound) = match goal.bound {
            Bound::AtMost(most) => ("<=", format!("{most}")),
            Bound::AtLeast(least) => (">=", format!("{least}")),
            Bound::Shown => ("", String::new()),
        };
        let estimate = goal.estimate.map_or("not measured".to_owned(), |estimate| {
            format!("{:8.3}  [{:.3}, {:.3}]", estimate.median, estimate.low, estimate.high)
        });
        let verdict = goal.verdict().map_or("", word);
        line(o, format_args!("  {:66} {sign:2} {bound:5} {estimate:30} {verdict}", goal.what));
    }
    out
}

fn shape_title(title: &str, shape: Shape) -> String {
    format!("{title}{shape} (connections × payload × in flight)")
}

fn samples(o: &mut String, title: &str, unit: &str, floor: &str, rows: &Rows<Measurement>) {
    line(o, format_args!("\n{title}"));
    line(
        o,
        format_args!(
            "  {:NAME$} {unit:>13}  CPU us (user)   p50 us   p99 us p99.9 us  \
             server  load   CPU against {floor}",
            ""
        ),
    );
    for (name, outcome) in rows {
        match outcome {
            PeerOutcome::Skipped(why) => line(o, format_args!("  {name:NAME$} skipped: {why}")),
            PeerOutcome::Failed(why) => line(o, format_args!("  {name:NAME$} FAILED: {why}")),
            PeerOutcome::Measured(samples) => {
                let figures = Figures::of(samples);
                let against = ratio(rows, name, floor, cpu_per_message).map(interval);
                let against = against.unwrap_or_default();
                let Figures { rate, cpu, user, p50, p99, p999, server, load } = figures;
                let [p50, p99, p999] = [p50, p99, p999].map(|latency| match latency {
                    0.0 => "-".to_owned(),
                    _ => format!("{latency:.1}"),
                });
                let limit = if server >= BUSY || server == 0.0 { "" } else { " (it waited)" };
                line(
                    o,
                    format_args!(
                        "  {name:NAME$} {rate:13.0} {cpu:7.3} ({user:4.2}) {p50:>8} {p99:>8} \
                         {p999:>8} {:5.0} % {:3.0} %   {against}{limit}",
                        server * 100.0,
                        load * 100.0
                    ),
                );
            }
        }
    }
}

/// Medians over the rounds.
struct Figures {
    rate: f64,
    /// Microseconds per message.
    cpu: f64,
    /// The share of CPU time that was the program's own.
    user: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    /// Shares of a core.
    server: f64,
    load: f64,
}

impl Figures {
    fn of(samples: &[Measurement]) -> Figures {
        let median = |figure: &dyn Fn(&Measurement) -> f64| {
            let values: Vec<f64> = samples.iter().map(figure).collect();
            Estimate::of(&values).map_or(f64::NAN, |estimate| estimate.median)
        };
        let cpu = median(&|sample| cpu_per_message(sample) * 1e6);
        let share = |time: fn(&Measurement) -> f64| {
            median(&|sample| time(sample) / sample.elapsed.as_secs_f64())
        };
        // Ticks of ten milliseconds say little about one round, so all rounds are taken together.
        let users = samples.iter().map(|sample| sample.user_share).sum::<f64>();
        Figures {
            rate: median(&per_second),
            cpu,
            user: cpu * users / samples.len().max(1) as f64,
            p50: median(&|sample| latency(sample, 0.5)),
            p99: median(&|sample| latency(sample, 0.99)),
            p999: median(&|sample| latency(sample, 0.999)),
            server: share(|sample| sample.cpu.as_secs_f64()),
            load: share(|sample| sample.load_cpu.as_secs_f64()),
        }
    }
}

fn idle(o: &mut String, results: &Results) {
    if results.idle.is_empty() {
        return;
    }
    line(o, format_args!("\nidle connections that have had one frame echoed"));
    line(
        o,
        format_args!("  {:NAME$} connections  bytes/connection  kernel bytes/connection  CPU", ""),
    );
    plain(o, &results.idle, |idle| {
        let Idle { connections, resident, kernel, cpu } = *idle;
        let cpu = cpu * 100.0;
        format!("{connections:11} {resident:17.0} {kernel:24.0} {cpu:4.1} %")
    });
}

fn starts(o: &mut String, results: &Results) {
    if results.starts.is_empty() {
        return;
    }
    line(o, format_args!("\nfrom start to listening"));
    for (name, outcome) in &results.starts {
        match outcome {
            PeerOutcome::Skipped(why) => line(o, format_args!("  {name:NAME$} skipped: {why}")),
            PeerOutcome::Failed(why) => line(o, format_args!("  {name:NAME$} FAILED: {why}")),
            PeerOutcome::Measured(seconds) => {
                let median = Estimate::of(seconds).map_or(f64::NAN, |estimate| estimate.median);
                line(o, format_args!("  {name:NAME$} {:6.2} ms", median * 1e3));
            }
        }
    }
}

fn relays(o: &mut String, results: &ProxyResults) {
    if results.shapes.is_empty() && results.idle.is_empty() && results.calls.is_empty() {
        return;
    }
    line(o, format_args!("\nrelays"));
    for relay in RELAYS {
        line(o, format_args!("  {:NAME$} {}", relay.name, relay.what));
    }
    for (title, rows) in &results.shapes {
        let Some((_, shape, floor)) = proxy::SHAPES.iter().find(|(its, ..)| its == title) else {
            continue;
        };
        samples(o, &shape_title(&format!("{title}, "), *shape), "messages/s", floor, rows);
    }
    if !results.idle.is_empty() {
        line(o, format_args!("\n{}: connections that have had one message relayed", proxy::MEMORY));
        line(o, format_args!("  {:NAME$} connections  bytes each  descriptors  pipes  CPU", ""));
        plain(o, &results.idle, |idle| {
            let IdleRelay { connections, resident, descriptors, pipe_ends, cpu } = *idle;
            let (pipes, cpu) = (pipe_ends / 2.0, cpu * 100.0);
            format!("{connections:11} {resident:11.0} {descriptors:12.2} {pipes:6.2} {cpu:4.1} %")
        });
    }
    if !results.calls.is_empty() {
        line(o, format_args!("\n{}: per round trip of 64 B on one connection", proxy::CALLS));
        line(o, format_args!("  {:NAME$} instructions  system calls", ""));
        plain(o, &results.calls, |cost| format!("{:12.1} {:13.3}", cost.instructions, cost.calls));
    }
}

/// A table with a line per measurement.
fn plain<T>(o: &mut String, rows: &Rows<T>, text: impl Fn(&T) -> String) {
    for (name, outcome) in rows {
        match outcome {
            PeerOutcome::Skipped(why) => line(o, format_args!("  {name:NAME$} skipped: {why}")),
            PeerOutcome::Failed(why) => line(o, format_args!("  {name:NAME$} FAILED: {why}")),
            PeerOutcome::Measured(all) => {
                all.iter().for_each(|one| line(o, format_args!("  {name:NAME$} {}", text(one))));
            }
        }
    }
}

fn turns(o: &mut String, title: &str, rows: &Rows<Turn>) {
    line(o, format_args!("\n{title} (connections × payload × in flight)"));
    line(o, format_args!("  {:NAME$} {:>13}    CPU ns  core   CPU against bare", "", "messages/s"));
    for (name, outcome) in rows {
        match outcome {
            PeerOutcome::Skipped(why) => line(o, format_args!("  {name:NAME$} skipped: {why}")),
            PeerOutcome::Failed(why) => line(o, format_args!("  {name:NAME$} FAILED: {why}")),
            PeerOutcome::Measured(turns) => {
                let median = |figure: fn(&Turn) -> f64| {
                    let estimate = Estimate::of(&turns.iter().map(figure).collect::<Vec<_>>());
                    estimate.map_or(f64::NAN, |estimate| estimate.median)
                };
                let [rate, cpu, busy] = [Turn::per_second, Turn::cpu_ns, Turn::busy].map(median);
                let against = ratio(rows, name, BARE, Turn::cpu_ns).map(interval);
                let against = against.unwrap_or_default();
                let limit = if busy >= BUSY { "" } else { " (the client waited)" };
                let busy = busy * 100.0;
                line(
                    o,
                    format_args!(
                        "  {name:NAME$} {rate:13.0} {cpu:9.1} {busy:3.0} %   {against}{limit}"
                    ),
                );
            }
        }
    }
}

fn interval(Estimate { median, low, high }: Estimate) -> String {
    format!("{median:.3} [{low:.3}, {high:.3}]")
}

/// Whether a peer or a load tester under measurement failed.
pub fn has_failures(results: &Results) -> bool {
    fn any<T>(rows: &Rows<T>) -> bool {
        rows.iter().any(|(_, outcome)| matches!(outcome, PeerOutcome::Failed(_)))
    }
    results.shapes.iter().any(|(_, rows)| any(rows))
        || any(&results.churn)
        || any(&results.idle)
        || any(&results.starts)
        || results.load.iter().any(|(_, rows)| any(rows))
        || results.proxy.shapes.iter().any(|(_, rows)| any(rows))
        || any(&results.proxy.idle)
        || any(&results.proxy.calls)
}

/// The whole report, for programs.
pub fn document(results: &Results, goals: &[Goal], header: &[(&str, String)]) -> Value {
    let header: serde_json::Map<String, Value> =
        header.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let shapes = results.shapes.iter().map(|(shape, rows)| {
        json!({
            "connections": shape.connections,
            "payload_bytes": shape.payload_len,
            "in_flight": shape.in_flight,
            "peers": rows_json(rows, sample_json),
        })
    });
    let load = results.load.iter().map(|(shape, rows)| {
        json!({
            "connections": shape.connections,
            "payload_bytes": shape.payload_len,
            "in_flight": shape.in_flight,
            "clients": rows_json(rows, |turn| json!({
                "messages": turn.messages,
                "seconds": turn.elapsed.as_secs_f64(),
                "cpu_seconds": turn.cpu.as_secs_f64(),
            })),
        })
    });
    let goals = goals.iter().map(|goal| {
        let (kind, bound) = match goal.bound {
            Bound::AtMost(most) => ("at_most", json!(most)),
            Bound::AtLeast(least) => ("at_least", json!(least)),
            Bound::Shown => ("shown", Value::Null),
        };
        json!({
            "what": goal.what,
            "kind": kind,
            "bound": bound,
            "measured": goal.estimate.map(|estimate| json!({
                "median": estimate.median,
                "low": estimate.low,
                "high": estimate.high,
            })),
            "verdict": goal.verdict().map(word),
        })
    });
    json!({
        "schema": 1,
        "header": header,
        "shapes": shapes.collect::<Vec<_>>(),
        "connect_echo_close": rows_json(&results.churn, sample_json),
        "idle": rows_json(&results.idle, |idle| json!({
            "connections": idle.connections,
            "resident_bytes": idle.resident,
            "kernel_bytes": idle.kernel,
            "cpu": idle.cpu,
        })),
        "start_seconds": rows_json(&results.starts, |seconds| json!(seconds)),
        "load": load.collect::<Vec<_>>(),
        "proxy": proxy_json(&results.proxy),
        "goals": goals.collect::<Vec<_>>(),
    })
}

fn proxy_json(results: &ProxyResults) -> Value {
    let shapes = results.shapes.iter();
    let shapes = shapes.map(|(title, rows)| ((*title).to_owned(), rows_json(rows, sample_json)));
    json!({
        "sections": Value::Object(shapes.collect()),
        "idle": rows_json(&results.idle, |idle| json!({
            "connections": idle.connections,
            "resident_bytes": idle.resident,
            "descriptors": idle.descriptors,
            "pipe_ends": idle.pipe_ends,
            "cpu": idle.cpu,
        })),
        "round_trip": rows_json(&results.calls, |cost| json!({
            "instructions": cost.instructions,
            "system_calls": cost.calls,
        })),
    })
}

fn rows_json<T>(rows: &Rows<T>, one: impl Fn(&T) -> Value) -> Value {
    let rows = rows.iter().map(|(name, outcome)| {
        let outcome = match outcome {
            PeerOutcome::Measured(all) => {
                json!({ "rounds": all.iter().map(&one).collect::<Vec<_>>() })
            }
            PeerOutcome::Skipped(why) => json!({ "skipped": why }),
            PeerOutcome::Failed(why) => json!({ "failed": why }),
        };
        ((*name).to_owned(), outcome)
    });
    Value::Object(rows.collect())
}

fn sample_json(sample: &Measurement) -> Value {
    json!({
        "count": sample.count,
        "seconds": sample.elapsed.as_secs_f64(),
        "server_cpu_seconds": sample.cpu.as_secs_f64(),
        "server_user_share": sample.user_share,
        "load_cpu_seconds": sample.load_cpu.as_secs_f64(),
        "p50_us": sample.latency.is_some().then(|| latency(sample, 0.5)),
        "p99_us": sample.latency.is_some().then(|| latency(sample, 0.99)),
        "p999_us": sample.latency.is_some().then(|| latency(sample, 0.999)),
    })
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
        Verdict::Undecided => "undecided",
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}
