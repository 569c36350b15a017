//! `trust-sim`: plays seeds, and shrinks the first that fails.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "a tool that talks to the terminal")]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use trust_sim::check::Violation;
use trust_sim::relay::script::RelayScript;
use trust_sim::relay::simulation::{RelayOutcome, run_relay};
use trust_sim::script::Script;
use trust_sim::shrink::{Shrink, shrink};
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
    /// Plays relays between two peers, in place of servers and their clients
    #[arg(long)]
    relay: bool,
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
    match (args.relay, args.seed) {
        (false, Some(seed)) => replay::<Script>(seed, &mut out),
        (true, Some(seed)) => replay::<RelayScript>(seed, &mut out),
        (false, None) => search::<Script>(args, &mut out),
        (true, None) => search::<RelayScript>(args, &mut out),
    }
}

/// What can be played.
trait Play: Shrink {
    /// What replays a seed, besides its number.
    const FLAGS: &str;

    fn of_seed(seed: u64) -> Self;

    fn play(&self, with_trace: bool) -> Played;
}

/// What came of a script.
struct Played {
    simulated: Duration,
    events: u64,
    /// How its connections ended, in words.
    endings: Vec<String>,
    violation: Option<Violation>,
    trace: Vec<String>,
}

impl Play for Script {
    const FLAGS: &str = "";

    fn of_seed(seed: u64) -> Script {
        Script::of(seed)
    }

    fn play(&self, with_trace: bool) -> Played {
        let ScriptOutcome { simulated, events, reasons, violation, trace } = run(self, with_trace);
        let endings =
            reasons.iter().map(|reason| format!("{:?}", Reason::KINDS[reason.kind()])).collect();
        Played { simulated, events, endings, violation, trace }
    }
}

impl Play for RelayScript {
    const FLAGS: &str = " --relay";

    fn of_seed(seed: u64) -> RelayScript {
        RelayScript::of(seed)
    }

    fn play(&self, with_trace: bool) -> Played {
        let RelayOutcome { simulated, events, ending, is_foretold, violation, trace } =
            run_relay(self, with_trace);
        let foretold = if is_foretold { ", foretold by the script alone" } else { "" };
        let endings = vec![format!("{ending:?}{foretold}")];
        Played { simulated, events, endings, violation, trace }
    }
}

/// Plays one seed and shows all of it.
fn replay<S: Play>(seed: u64, out: &mut impl Write) -> ExitCode {
    let script = S::of_seed(seed);
    let played = script.play(true);
    let result = if played.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let told = writeln!(out, "{script:#?}").and_then(|()| write_played(&played, out));
    exit_code(result, told)
}

/// Plays as many seeds as asked for, up to the first that fails.
fn search<S: Play>(args: Args, out: &mut impl Write) -> ExitCode {
    let (from, seeds) = (args.from, args.seeds.unwrap_or(0));
    let started_at = Instant::now();
    let mut simulated = Duration::ZERO;
    let mut events = 0;
    let mut endings: BTreeMap<String, u64> = BTreeMap::new();
    for seed in from..from.saturating_add(seeds) {
        let script = S::of_seed(seed);
        let played = script.play(false);
        if let Some(violation) = played.violation {
            let first =
                format!("seed {seed}, after {} others: {}", seed - from, violation.property);
            let told = writeln!(out, "{first}");
            let told = match !args.no_shrink {
                true => told.and_then(|()| write_shrunk(&script, seed, &violation, out)),
                false => told,
            };
            return exit_code(ExitCode::FAILURE, told);
        }
        simulated += played.simulated;
        events += played.events;
        for ending in played.endings {
            *endings.entry(ending).or_default() += 1;
        }
    }
    let elapsed = started_at.elapsed().as_secs_f64();
    let ratio = simulated.as_secs_f64() / elapsed;
    let mut report = format!(
        "{seeds} seeds in {elapsed:.1} s: {:.0} a second, {events} events, {:.1} simulated hours, \
         {ratio:.0} times faster than real time\n",
        seeds as f64 / elapsed,
        simulated.as_secs_f64() / 3600.0,
    );
    for (ending, count) in endings {
        report.push_str(&format!("{count:>9} {ending}\n"));
    }
    exit_code(ExitCode::SUCCESS, out.write_all(report.as_bytes()))
}

/// Writes the shrunk script that still fails with `violation`, and how to replay the seed.
fn write_shrunk<S: Play>(
    script: &S,
    seed: u64,
    violation: &Violation,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}\n", violation.detail)?;
    let small = shrink(script, |candidate| {
        let found = candidate.play(false).violation;
        found.is_some_and(|found| found.property == violation.property)
    });
    writeln!(out, "shrunk script:\n{small:#?}\n\ntrace:")?;
    write_played(&small.play(true), out)?;
    writeln!(out, "replay: cargo run --release -p trust-sim --{} --seed {seed}", S::FLAGS)
}

fn write_played(played: &Played, out: &mut impl Write) -> io::Result<()> {
    for line in &played.trace {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{:?}", played.endings)?;
    match &played.violation {
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
        let args = Args::parse_from(["trust-sim", "--seeds", "1", "--from", "7"]);
        let with = |kind| {
            let mut out = Failing(kind);
            [replay::<Script>(7, &mut out), search::<RelayScript>(args, &mut out)]
        };
        assert_eq!(with(io::ErrorKind::BrokenPipe), [ExitCode::SUCCESS; 2]);
        assert_eq!(with(io::ErrorKind::StorageFull), [ExitCode::from(74); 2]);
    }
}
