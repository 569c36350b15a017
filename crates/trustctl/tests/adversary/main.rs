//! The simulation's adversary against the executable of this build, over loopback and in real time.
//!
//! A seed decides what clients, their hosts and their paths do, as in `trust-sim`; see
//! `trust_sim::loopback`. The properties are judged from outside: by what the clients read, by the
//! log and by the counters.
//!
//! ```text
//! cargo test -p trustctl --test adversary -- [--seed SEED | --scripts N --from SEED] [--at-once N]
//! ```

mod answer;
mod client;
mod deadline;
mod history;
mod host;
mod ledger;
mod play;
mod reason;
mod report;
mod verdict;
mod watch;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use clap::{Args, Parser};
use host::Networks;
use report::Report;
use trust_testkit::libtest_mimic::{self, Arguments, Trial};
use trust_testkit::{leftovers, runner};
use watch::LagMeter;

/// Failures after which no more scripts are started: they would bring nothing new.
const FAILURES_MAX: usize = 10;

/// Longest time for one script in a run, and for everything else in it; anything longer counts as
/// hung.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(30);

/// The number of scripts from which a run must have seen enough of everything.
const SCRIPTS_FOR_FLOORS: usize = 300;

/// The number of different ends that such a run must have seen. There are fourteen, but
/// `broken_pipe` and `second_signal` take lucky timing.
const REASONS: usize = 12;

/// One in this many scripts must have had its descriptors counted and statistics judged. Both
/// depend on how soon a script is over, and happen in more than half of them.
const COUNTED_IN_ONE_OF: usize = 3;

/// The arguments of libtest, and which scripts to play.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    plain: Arguments,
    #[command(flatten)]
    scripts: Scripts,
}

/// The scripts of a run. Their number becomes part of their clients' addresses.
#[derive(Args, Clone, Copy)]
struct Scripts {
    /// Plays this one alone
    #[arg(long, value_name = "SEED", conflicts_with_all = ["scripts", "from"])]
    seed: Option<u64>,
    /// How many scripts to play
    #[arg(long, value_name = "N", default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    scripts: u16,
    /// The seed of the first one
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=u64::MAX - u64::from(u16::MAX)))]
    from: u64,
    /// How many to play at once: most of their time is waiting
    #[arg(long, value_name = "N", default_value_t = 12)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
}

fn main() -> ExitCode {
    let CommandLine { plain, scripts } = CommandLine::parse();
    let rounds = u32::from(scripts.scripts / scripts.at_once);
    let deadline = SCRIPT_DEADLINE.saturating_mul(rounds + 2);
    let test = move || {
        runner::clean_up_on_signals();
        let outcome = runner::run_one("scripts", deadline, move || play_all(scripts));
        leftovers::remove_everything();
        outcome.into()
    };
    libtest_mimic::run(&plain, vec![Trial::ignorable_test("scripts", test)]).exit_code()
}

/// Plays and judges all requested scripts.
fn play_all(scripts: Scripts) {
    let (from, count) = match scripts.seed {
        Some(seed) => (seed, 1),
        None => (scripts.from, u64::from(scripts.scripts)),
    };
    let (next, report, meter) =
        (AtomicU64::new(0), Mutex::new(Report::default()), LagMeter::default());
    let networks = Networks::create();
    thread::scope(|scope| {
        let metering = scope.spawn(|| meter.run());
        let player = || {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count || lock(&report).failed() >= FAILURES_MAX {
                        return;
                    }
                    play_one(from + number, number, &networks, &meter, &report);
                }
            })
        };
        let players: Vec<_> = (0..scripts.at_once).map(|_| player()).collect();
        players.into_iter().for_each(|player| player.join().expect("a script's panic is caught"));
        meter.end();
        metering.join().expect("the meter does not panic");
    });
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failures = report.failures();
    let tame = tameness(&report);
    // A run whose output is not read still has an exit code.
    drop(write!(io::stdout(), "\n{}", report.summary()));
    if let Some(failures) = failures {
        panic!("{failures}");
    }
    assert!(tame.is_none(), "the adversary has become tame: {}", tame.unwrap_or_default());
}

/// What was missing from a run that is long enough to tell: checks that nothing reaches are
/// worthless.
fn tameness(report: &Report) -> Option<String> {
    let least = report.scripts / COUNTED_IN_ONE_OF;
    let found = [
        ("kinds of ends", report.reasons.len(), REASONS),
        ("scripts with counted descriptors", report.quiet, least),
        ("scripts with statistics", report.with_stats, least),
    ];
    let (what, count, least) = found.into_iter().find(|(_, count, least)| count < least)?;
    let is_long = report.scripts >= SCRIPTS_FOR_FLOORS;
    is_long.then(|| format!("{count} {what}, where {least} are the least"))
}

fn play_one(seed: u64, number: u64, networks: &Networks, meter: &LagMeter, report: &Mutex<Report>) {
    let number = u16::try_from(number).expect("the number of scripts is bounded");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let played = play::play(seed, number, networks, meter);
        let outcome = ledger::judge(&played);
        (played, outcome)
    }));
    let mut report = lock(report);
    match outcome {
        Ok((played, outcome)) => report.take(seed, &played, &outcome),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
            report.take_panic(seed, message);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
