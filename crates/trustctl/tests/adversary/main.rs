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
mod request;
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
use request::{Request, Scripts};
use trust_testkit::runner::{self, Outcome};
use watch::LagMeter;

/// Failures after which no more scripts are begun: they would tell nothing new.
const FAILURES_MAX: usize = 10;

/// Longest time for a script in a run, and for what a run does beside them; what takes longer counts as hung.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(30);

/// From how many scripts on a run must have seen enough of everything.
const SCRIPTS_FOR_FLOORS: usize = 300;

/// How many kinds of ends there must be then. There are fourteen, of which `broken_pipe` and `second_signal`
/// take luck with time.
const REASONS: usize = 12;

/// In one of how many scripts the descriptors must have been counted, and statistics judged: both depend on how
/// soon a script is over, and happen in more than half of them.
const COUNTED_IN_ONE_OF: usize = 3;

static SCRIPTS: OnceLock<Scripts> = OnceLock::new();
static REPORT: Mutex<Option<Report>> = Mutex::new(None);

fn main() -> ExitCode {
    let scripts = match request::parse(std::env::args().skip(1)) {
        Some(Request::Play(scripts)) => scripts,
        Some(Request::List) => {
            return done(writeln!(io::stdout(), "{}: test", request::NAME).map(|()| true));
        }
        Some(Request::Nothing(reason)) => {
            let said = writeln!(io::stderr(), "{}: nothing was run: {reason}", request::NAME);
            return done(said.map(|()| true));
        }
        None => {
            // Nothing is left to do when stderr is gone too.
            drop(writeln!(io::stderr(), "{}", request::USAGE));
            return ExitCode::from(64);
        }
    };
    SCRIPTS.set(scripts).expect("set once");
    runner::clean_up_on_signals();
    let rounds = u32::try_from(scripts.count / scripts.at_once).unwrap_or(u32::MAX);
    let title = format!("scripts {} to {}", scripts.from, scripts.from + scripts.count - 1);
    let deadline = SCRIPT_DEADLINE.saturating_mul(rounds.saturating_add(2));
    let outcome = runner::run_and_print(&title, deadline, play_all, &mut io::stdout());
    trust_testkit::leftovers::remove_everything();
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

/// Plays and judges all scripts that were asked for.
fn play_all() {
    let scripts = *SCRIPTS.get().expect("set before the run");
    let (next, report, meter) =
        (AtomicU64::new(0), Mutex::new(Report::default()), LagMeter::default());
    let networks = Networks::create();
    thread::scope(|scope| {
        let metering = scope.spawn(|| meter.run());
        let player = || {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= scripts.count || lock(&report).failed() >= FAILURES_MAX {
                        return;
                    }
                    play_one(scripts.from + number, number, &networks, &meter, &report);
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
    let summary = report.summary();
    *lock(&REPORT) = Some(report);
    if let Some(failures) = failures {
        panic!("{failures}");
    }
    assert!(
        tame.is_none(),
        "the adversary has become tame: {}\n{summary}",
        tame.unwrap_or_default()
    );
}

/// What there was too little of in a run that is long enough to tell: checks that nothing reaches are none.
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
