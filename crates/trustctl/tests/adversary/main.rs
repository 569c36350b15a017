//! The simulation's adversary against the executable of this build, over loopback and in real time.
//!
//! A seed decides what clients, their hosts and their paths do, as in `trust-sim`; see
//! `trust_sim::loopback`. What must hold is judged from outside: by what the clients read, by the log and by
//! the counters.
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
#[path = "../support/mod.rs"]
mod support;
mod verdict;
mod watch;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use host::Networks;
use report::Report;
use support::runner::{self, Outcome};
use watch::LagMeter;

/// Scripts that are played unless told otherwise, and how many at once: most of their time is waiting.
const SCRIPTS: u64 = 300;
const AT_ONCE: u64 = 12;

/// Scripts in a run at most: their number is part of their clients' addresses.
const SCRIPTS_MAX: u64 = u16::MAX as u64;

/// Failures after which no more scripts are begun: they would tell nothing new.
const FAILURES_MAX: usize = 10;

/// Longest time for a script in a run, and for what a run does beside them; what takes longer counts as hung.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(30);

/// From how many scripts on the reasons are counted, and how many kinds there must be then. There are fourteen,
/// of which `broken_pipe` and `second_signal` take luck with time.
const SCRIPTS_FOR_ALL_REASONS: usize = 300;
const REASONS: usize = 12;

/// What the arguments ask for.
#[derive(Clone, Copy, Debug)]
struct Args {
    from: u64,
    scripts: u64,
    at_once: u64,
}

static ARGS: OnceLock<Args> = OnceLock::new();
static REPORT: Mutex<Option<Report>> = Mutex::new(None);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // What cargo passes to every test target when all of them run.
    if arguments.iter().any(|argument| argument == "--list") {
        return done(writeln!(io::stdout(), "adversary: test").map(|()| true));
    }
    if arguments.iter().any(|argument| argument.starts_with("--skip")) {
        return ExitCode::SUCCESS;
    }
    let Some(args) = parse(arguments.into_iter()) else {
        let usage = "adversary: [--seed SEED | --scripts N --from SEED] [--at-once N], at most 65535 scripts";
        // Nothing is left to do when stderr is gone too.
        drop(writeln!(io::stderr(), "{usage}"));
        return ExitCode::from(64);
    };
    ARGS.set(args).expect("set once");
    runner::clean_up_on_signals();
    let rounds = u32::try_from(args.scripts / args.at_once).unwrap_or(u32::MAX);
    let title = format!("scripts {} to {}", args.from, args.from + args.scripts - 1);
    let deadline = SCRIPT_DEADLINE.saturating_mul(rounds.saturating_add(2));
    let outcome = runner::run_and_print(&title, deadline, play_all, &mut io::stdout());
    support::leftovers::remove_everything();
    let report = lock(&REPORT).take();
    done(outcome.and_then(|outcome| {
        if let Some(report) = report {
            write!(io::stdout(), "\n{}", report.summary())?;
        }
        Ok(!matches!(outcome, Outcome::Failed(_)))
    }))
}

fn done(outcome: io::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args { from: 0, scripts: SCRIPTS, at_once: AT_ONCE };
    while let Some(flag) = arguments.next() {
        // cargo test --quiet passes it on.
        if flag == "--quiet" {
            continue;
        }
        let value = arguments.next()?.parse().ok()?;
        match flag.as_str() {
            "--seed" => (args.from, args.scripts) = (value, 1),
            "--scripts" => args.scripts = value,
            "--from" => args.from = value,
            "--at-once" => args.at_once = value,
            _ => return None,
        }
    }
    let is_possible = (1..=SCRIPTS_MAX).contains(&args.scripts) && args.at_once > 0;
    (is_possible && args.from.checked_add(args.scripts).is_some()).then_some(args)
}

/// Plays and judges all scripts that were asked for.
fn play_all() {
    let args = *ARGS.get().expect("set before the run");
    let (next, report, meter) =
        (AtomicU64::new(0), Mutex::new(Report::default()), LagMeter::default());
    let networks = Networks::create();
    thread::scope(|scope| {
        let metering = scope.spawn(|| meter.run());
        let player = || {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= args.scripts || lock(&report).failed() >= FAILURES_MAX {
                        return;
                    }
                    play_one(args.from + number, number, &networks, &meter, &report);
                }
            })
        };
        let players: Vec<_> = (0..args.at_once).map(|_| player()).collect();
        players.into_iter().for_each(|player| player.join().expect("a script's panic is caught"));
        meter.end();
        metering.join().expect("the meter does not panic");
    });
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failures = report.failures();
    let is_enough = report.scripts < SCRIPTS_FOR_ALL_REASONS || report.reasons.len() >= REASONS;
    let summary = report.summary();
    *lock(&REPORT) = Some(report);
    if let Some(failures) = failures {
        panic!("{failures}");
    }
    assert!(
        is_enough,
        "fewer than {REASONS} kinds of ends: the adversary has become tame\n{summary}"
    );
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
