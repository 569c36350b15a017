//! `trust-sim`: plays seeds, and shrinks the first that fails.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "a tool that talks to the terminal")]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use trust_sim::check::Violation;
use trust_sim::script::Script;
use trust_sim::shrink::shrink;
use trust_sim::simulation::{ScriptOutcome, run};
use trust_wire::Reason;

/// Plays whole lives of connections in simulated time, and shrinks the first that fails
#[derive(Clone, Copy, Debug, Parser)]
struct Args {
    /// How many seeds to play
    #[arg(long, required_unless_present = "seed")]
    seeds: Option<u64>,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Plays this seed alone, and shows all of it
    #[arg(long)]
    seed: Option<u64>,
    /// Leaves a script that fails as it is
    #[arg(long)]
    no_shrink: bool,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    // A panic of the core is one of the findings, and is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let mut out = io::stdout().lock();
    match args.seed {
        Some(seed) => replay(seed, &mut out),
        None => search(args.from, args.seeds.unwrap_or(0), !args.no_shrink, &mut out),
    }
}

/// Plays one seed and shows all of it.
fn replay(seed: u64, out: &mut impl Write) -> ExitCode {
    let script = Script::of(seed);
    let outcome = run(&script, true);
    let result = if outcome.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let told = writeln!(out, "{script:#?}").and_then(|()| write_outcome(&outcome, out));
    exit_code(result, told)
}

/// Plays `seeds` seeds from `from` on, up to the first that fails.
fn search(from: u64, seeds: u64, shrinks: bool, out: &mut impl Write) -> ExitCode {
    let started_at = Instant::now();
    let mut simulated = Duration::ZERO;
    let mut events = 0;
    let mut connections = [0u64; Reason::KINDS.len()];
    for seed in from..from.saturating_add(seeds) {
        let script = Script::of(seed);
        let outcome = run(&script, false);
        if let Some(violation) = outcome.violation {
            let first =
                format!("seed {seed}, after {} others: {}", seed - from, violation.property);
            let told = writeln!(out, "{first}");
            let told = match shrinks {
                true => told.and_then(|()| write_shrunk(&script, seed, &violation, out)),
                false => told,
            };
            return exit_code(ExitCode::FAILURE, told);
        }
        simulated += outcome.simulated;
        events += outcome.events;
        outcome.reasons.iter().for_each(|reason| connections[reason.kind()] += 1);
    }
    let elapsed = started_at.elapsed().as_secs_f64();
    let ratio = simulated.as_secs_f64() / elapsed;
    let mut report = format!(
        "{seeds} seeds in {elapsed:.1} s: {:.0} a second, {events} events, {:.1} simulated hours, \
         {ratio:.0} times faster than real time\n",
        seeds as f64 / elapsed,
        simulated.as_secs_f64() / 3600.0,
    );
    for (reason, count) in Reason::KINDS.iter().zip(connections) {
        report.push_str(&format!("{count:>9} {reason:?}\n"));
    }
    exit_code(ExitCode::SUCCESS, out.write_all(report.as_bytes()))
}

/// Writes the shrunk script that still fails with `violation`, and how to replay the seed.
fn write_shrunk(
    script: &Script,
    seed: u64,
    violation: &Violation,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}\n", violation.detail)?;
    let small = shrink(script, |candidate| {
        let found = run(candidate, false).violation;
        found.is_some_and(|found| found.property == violation.property)
    });
    writeln!(out, "shrunk script:\n{small:#?}\n\ntrace:")?;
    write_outcome(&run(&small, true), out)?;
    writeln!(out, "replay: cargo run --release -p trust-sim -- --seed {seed}")
}

fn write_outcome(outcome: &ScriptOutcome, out: &mut impl Write) -> io::Result<()> {
    for line in &outcome.trace {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{:?}", outcome.reasons)?;
    match &outcome.violation {
        None => Ok(()),
        Some(violation) => writeln!(out, "violated: {}\n{}", violation.property, violation.detail),
    }
}

/// Passes `result` on, also if the reader went away (EPIPE), as with `head`; 74 if writing fails
/// otherwise.
fn exit_code(result: ExitCode, told: io::Result<()>) -> ExitCode {
    match told {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("trust-sim: cannot write to standard output: {error}");
            ExitCode::from(74)
        }
        _ => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A standard output whose every write fails.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is_one() {
        let with = |kind| [replay(7, &mut Failing(kind)), search(7, 1, true, &mut Failing(kind))];
        assert_eq!(with(io::ErrorKind::BrokenPipe), [ExitCode::SUCCESS; 2]);
        assert_eq!(with(io::ErrorKind::StorageFull), [ExitCode::from(74); 2]);
    }
}
