//! `trust-sim`: plays seeds, and shrinks the first that fails.
#![forbid(unsafe_code)]
// The report is the product.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to the terminal")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use trust_sim::script::Script;
use trust_sim::shrink::shrink;
use trust_sim::simulation::run;
use trust_wire::Reason;

const USAGE: &str = "usage: trust-sim --seeds N [--from S] [--no-shrink] | trust-sim --seed S";

/// What the arguments ask for.
#[derive(Clone, Copy, Debug, Default)]
struct Args {
    seeds: Option<u64>,
    from: u64,
    seed: Option<u64>,
    no_shrink: bool,
}

fn main() -> ExitCode {
    let Some(args) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    // A panic of the core is one of the findings, and told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    match (args.seed, args.seeds) {
        (Some(seed), _) => replay(seed),
        (None, Some(seeds)) => search(args.from, seeds, !args.no_shrink),
        (None, None) => unreachable!("parsed"),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args::default();
    while let Some(flag) = arguments.next() {
        if flag == "--no-shrink" {
            args.no_shrink = true;
            continue;
        }
        let value = arguments.next()?.parse().ok()?;
        match flag.as_str() {
            "--seeds" => args.seeds = Some(value),
            "--from" => args.from = value,
            "--seed" => args.seed = Some(value),
            _ => return None,
        }
    }
    (args.seed.is_some() || args.seeds.is_some()).then_some(args)
}

/// Plays one seed and shows all of it.
fn replay(seed: u64) -> ExitCode {
    let script = Script::of(seed);
    println!("{script:#?}");
    let outcome = run(&script, true);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!("{:?}", outcome.reasons);
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("violated: {}\n{}", violation.property, violation.detail);
            ExitCode::FAILURE
        }
    }
}

/// Plays `seeds` seeds from `from` on, up to the first that fails.
fn search(from: u64, seeds: u64, shrinks: bool) -> ExitCode {
    let started_at = Instant::now();
    let mut simulated = Duration::ZERO;
    let mut events = 0;
    let mut connections = [0u64; Reason::KINDS.len()];
    for seed in from..from.saturating_add(seeds) {
        let script = Script::of(seed);
        let outcome = run(&script, false);
        if let Some(violation) = outcome.violation {
            println!("seed {seed}, after {} others: {}", seed - from, violation.property);
            if !shrinks {
                return ExitCode::FAILURE;
            }
            println!("{}\n", violation.detail);
            let small = shrink(&script, |candidate| {
                let found = run(candidate, false).violation;
                found.is_some_and(|found| found.property == violation.property)
            });
            let outcome = run(&small, true);
            println!("shrunk script:\n{small:#?}\n\ntrace:");
            outcome.trace.iter().for_each(|line| println!("{line}"));
            if let Some(violation) = outcome.violation {
                println!("violated: {}\n{}", violation.property, violation.detail);
            }
            println!("replay: trust-sim --seed {seed}");
            return ExitCode::FAILURE;
        }
        simulated += outcome.simulated;
        events += outcome.events;
        outcome.reasons.iter().for_each(|reason| connections[reason.kind()] += 1);
    }
    let elapsed = started_at.elapsed().as_secs_f64();
    let ratio = simulated.as_secs_f64() / elapsed;
    println!(
        "{seeds} seeds in {elapsed:.1} s: {:.0} a second, {events} events, {:.1} simulated hours, \
         {ratio:.0} times faster than real time",
        seeds as f64 / elapsed,
        simulated.as_secs_f64() / 3600.0,
    );
    for (reason, count) in Reason::KINDS.iter().zip(connections) {
        println!("{count:>9} {reason:?}");
    }
    ExitCode::SUCCESS
}
