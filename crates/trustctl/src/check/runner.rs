//! Which cases run when, and beside which others.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::check::case::{Case, Manners};
use crate::check::cases::{self, GROUPS};
use crate::check::setup::Setup;
use crate::check::transcript::Log;
use crate::check::trial::Trial;
use crate::check::verdict::{Judged, Verdict};
use crate::check::watch::Watch;
use crate::signals::{Signal, Signals};
use crate::wait::wait;

/// The case without which no other one makes sense.
pub const FIRST: &str = "framing/1";

/// How long a second client is given to be served beside a first one before the server counts as one that serves one
/// at a time.
const BESIDE_PATIENCE: Duration = Duration::from_secs(1);

/// What came of one case.
#[derive(Debug)]
pub struct Outcome {
    /// Which one.
    pub case: &'static Case,
    /// What came of it.
    pub verdict: Verdict,
    /// What went over its wires.
    pub log: Log,
    /// How long it took.
    pub took: Duration,
}

/// What runs.
#[derive(Debug)]
pub struct Plan {
    /// In the order in which they are reported.
    pub cases: Vec<&'static Case>,
    /// Cases that run at the same time.
    pub jobs: usize,
}

/// What the runner tells while it works.
pub trait Listener {
    /// Cases that are being tried now, and how many of how many are done.
    fn progress(&mut self, running: &[&'static str], done: usize, of: usize);
    /// The next case in the order of the plan is done.
    fn finished(&mut self, outcome: &Outcome);
}

/// Runs the plan; the outcomes in its order, and the signal that ended it early. Cases that were not tried any more are
/// skipped.
///
/// # Errors
///
/// No descriptors or threads left.
pub fn run(
    setup: &mut Setup,
    plan: &Plan,
    watch: Option<&Watch>,
    signals: &Signals,
    stop: io::PipeWriter,
    listener: &mut dyn Listener,
) -> io::Result<(Vec<Outcome>, Option<Signal>)> {
    let mut run = Run { plan, signals, stop: Some(stop), signal: None, outcomes: vec![], listener };
    let first = cases::all().find(|case| case.id == FIRST).expect("the first case is there");
    let is_wanted = plan.cases.iter().any(|case| case.id == FIRST);
    let outcome = try_case(setup, first, watch);
    let serves = !matches!(outcome.verdict, Verdict::Fail(_));
    if is_wanted {
        run.take(outcome);
    }
    if serves {
        let mut trial = Trial::new(setup, first, watch);
        let one_at_a_time = serves_one_at_a_time(&mut trial).unwrap_or(false);
        setup.one_at_a_time = one_at_a_time;
    }
    for group in GROUPS {
        let wanted = |case: &&&'static Case| case.group() == group[0].group() && case.id != FIRST;
        if group.is_empty() {
            continue;
        }
        let of_group: Vec<&'static Case> = plan.cases.iter().filter(wanted).copied().collect();
        if of_group.is_empty() && !(is_wanted && group[0].id == FIRST) {
            continue;
        }
        let (alone, beside): (Vec<_>, Vec<_>) =
            of_group.into_iter().partition(|case| case.manners == Manners::Alone);
        let jobs = if setup.one_at_a_time { 1 } else { plan.jobs };
        run.run_all(setup, &beside, jobs, watch, serves)?;
        run.run_all(setup, &alone, 1, watch, serves)?;
        if let Some(watch) = watch {
            watch.look(group[0].group());
        }
    }
    let Run { mut outcomes, signal, .. } = run;
    outcomes.sort_by_key(|outcome| plan.cases.iter().position(|case| case.id == outcome.case.id));
    Ok((outcomes, signal))
}

/// Whether a second client is only served once the first one has left.
fn serves_one_at_a_time(trial: &mut Trial<'_>) -> Judged<bool> {
    let [hello, ours] = [trial.payload(16), trial.payload(16)];
    let mut first = trial.connect()?;
    first.send(&trial.frame(&hello))?;
    first.expect_echo(&[&hello])?;
    let mut second = trial.connect()?;
    second.send(&trial.frame(&ours))?;
    let mut got = vec![];
    if second.receive_into(&mut got, 1, BESIDE_PATIENCE.min(trial.setup.patience))? {
        return Ok(false);
    }
    first.close();
    second.receive_into(&mut got, 1, trial.setup.patience)
}

struct Run<'r> {
    plan: &'r Plan,
    signals: &'r Signals,
    /// Dropping it ends all waits of all cases.
    stop: Option<io::PipeWriter>,
    signal: Option<Signal>,
    outcomes: Vec<Outcome>,
    listener: &'r mut dyn Listener,
}

impl Run<'_> {
    fn run_all(
        &mut self,
        setup: &Setup,
        cases: &[&'static Case],
        jobs: usize,
        watch: Option<&Watch>,
        serves: bool,
    ) -> io::Result<()> {
        let queue = Mutex::new(cases.iter().copied().collect::<VecDeque<_>>());
        let running = Mutex::new(Vec::<&'static str>::new());
        let (done_in, done_out) = mpsc::channel();
        let (bell, ring) = io::pipe()?;
        thread::scope(|scope| {
            for _ in 0..jobs.min(cases.len()) {
                let (done_in, mut ring) = (done_in.clone(), ring.try_clone()?);
                let (queue, running) = (&queue, &running);
                thread::Builder::new().name("case".into()).spawn_scoped(scope, move || {
                    loop {
                        // Not as `while let`, which would hold the lock while the case is tried.
                        let Some(case) = lock(queue).pop_front() else { return };
                        lock(running).push(case.id);
                        let outcome = match serves {
                            true => try_case(setup, case, watch),
                            false => not_tried(case),
                        };
                        lock(running).retain(|id| *id != case.id);
                        // The one who listens stays until all cases are done.
                        let _ = done_in.send(outcome);
                        let _ = ring.write_all(&[0]);
                    }
                })?;
            }
            drop((done_in, ring));
            // Reported in the order of the plan, whichever is done first.
            let mut held: Vec<Outcome> = vec![];
            let mut in_order = cases.iter();
            let mut next = in_order.next();
            for _ in 0..cases.len() {
                let done = self.outcomes.len() + held.len();
                self.listener.progress(&lock(&running), done, self.plan.cases.len());
                let outcome = loop {
                    if let Ok(outcome) = done_out.try_recv() {
                        break outcome;
                    }
                    let waited = wait(self.signals, [Some((bell.as_fd(), PollFlags::IN))], None)?;
                    if let Some(signal) = waited.signal {
                        self.signal = self.signal.or(Some(signal));
                        self.stop = None;
                    }
                    if waited.ready == [true] {
                        rustix::io::read(&bell, &mut [0])?;
                    }
                };
                held.push(outcome);
                while let Some(case) = next
                    && let Some(index) = held.iter().position(|outcome| outcome.case.id == case.id)
                {
                    self.take(held.swap_remove(index));
                    next = in_order.next();
                }
            }
            Ok(())
        })
    }

    fn take(&mut self, outcome: Outcome) {
        self.listener.finished(&outcome);
        self.outcomes.push(outcome);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_tried(case: &'static Case) -> Outcome {
    let verdict = Verdict::skipped(format!("not one message comes back, see {FIRST}"));
    Outcome { case, verdict, log: Log::default(), took: Duration::ZERO }
}

fn try_case(setup: &Setup, case: &'static Case, watch: Option<&Watch>) -> Outcome {
    let started = Instant::now();
    let mut trial = Trial::new(setup, case, watch);
    let misfit = case.misfit(setup, watch.is_some());
    let verdict = match misfit {
        Some(why) => Verdict::skipped(why),
        None => (case.run)(&mut trial).unwrap_or_else(|verdict| verdict),
    };
    Outcome { case, verdict, log: trial.transcript().log(), took: started.elapsed() }
}
