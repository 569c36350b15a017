//! The table of cases × servers: what was found, and whether it should have been.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use trustctl::check::case::Case;
use trustctl::check::cases;
use trustctl::check::expect::Known;
use trustctl::check::runner::{Listener, Outcome, Plan, run as run_check};
use trustctl::check::setup::{OnReset, Rate, Setup};
use trustctl::check::verdict::{Finding, Verdict};
use trustctl::check::watch::Watch;
use trustctl::framing::Framing;
use trustctl::signals::{IgnoredHangup, Signals};

use super::healthy::{self, Healthy, Started};
use super::mutant::TIMEOUT;
use super::mutants::{self, MAX_FRAME, Mutant};
use super::request::Wanted;

/// Longest time for the whole table; what takes longer counts as hung.
pub(crate) const DEADLINE: Duration = Duration::from_secs(600);

/// How long an answer is waited for: short, because a wrong server is waited for again and again.
const PATIENCE: Duration = Duration::from_millis(500);

/// The same where the first look said what it should not: then the machine may have been busy.
const SECOND_PATIENCE: Duration = Duration::from_secs(3);

/// How long a server is left alone with a piece.
const SETTLE: Duration = Duration::from_millis(5);

/// Growth of memory that is no leak, as by default.
const MEMORY_ALLOWANCE: u64 = 64 << 20;

/// Cases that run at once on a server.
const JOBS: usize = 8;

/// Where every run's payloads come from.
const SEED: u64 = 1;

/// A server of the table.
#[derive(Clone, Copy)]
enum Subject {
    Mutant(&'static Mutant),
    Healthy(&'static Healthy),
}

/// Cases that found what they are to find, each with the mutants.
type Found = BTreeMap<&'static str, Vec<&'static str>>;

/// Tries all cases on all servers that are wanted.
///
/// # Panics
///
/// If a case found nothing where it must, or something where it must not; or, with all servers, if there is a case that
/// no mutant fails.
pub(crate) fn run(wanted: &Wanted) {
    let signals = Signals::install(IgnoredHangup::Keep).expect("handle signals");
    let subjects =
        mutants::all().map(Subject::Mutant).chain(healthy::ALL.iter().map(Subject::Healthy));
    let queue: VecDeque<Subject> =
        subjects.filter(|subject| wanted.wants(subject.name())).collect();
    assert!(!queue.is_empty(), "no server has such a name");
    let queue = Mutex::new(queue);
    let (found, problems) = (Mutex::new(Found::new()), Mutex::new(misnamed()));
    thread::scope(|scope| {
        for _ in 0..wanted.at_once {
            scope.spawn(|| {
                loop {
                    let Some(subject) = lock(&queue).pop_front() else { return };
                    let wrong = subject.judge(&signals, &found);
                    lock(&problems).extend(wrong);
                }
            });
        }
    });
    let (found, mut problems) = (lock(&found), lock(&problems));
    if wanted.words.is_empty() {
        problems.extend(super::docs::problem());
        let not_found = cases::all().filter(|case| !found.contains_key(case.id));
        problems.extend(not_found.map(|case| format!("no mutant fails {}", case.id)));
    }
    let table = found.iter().fold(String::new(), |mut text, (case, mutants)| {
        let _ = writeln!(text, "{case:<16}{}", mutants.join(", "));
        text
    });
    say(&format!("\n{table}\n"));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Mutants that share a name, and names of cases that are none.
fn misnamed() -> Vec<String> {
    let mut wrong = vec![];
    for mutant in mutants::all() {
        if mutants::all().filter(|other| other.name == mutant.name).count() > 1 {
            wrong.push(format!("two mutants are called {}", mutant.name));
        }
        let named = mutant.found_by().chain(mutant.also.iter().copied());
        let unknown = named.filter(|name| !cases::all().any(|case| cases::matches(name, case.id)));
        wrong.extend(unknown.map(|name| format!("{}: there is no case {name}", mutant.name)));
    }
    wrong
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Subject::Mutant(mutant) => mutant.name,
            Subject::Healthy(healthy) => healthy.name,
        }
    }

    /// Whether its process is looked at. That takes seconds, so of the mutants only those that are found by it are.
    fn is_watched(self) -> bool {
        match self {
            Subject::Mutant(mutant) => mutant.found_by().any(|name| name.starts_with("resources/")),
            Subject::Healthy(_) => true,
        }
    }

    fn start(self) -> Started {
        match self {
            Subject::Mutant(mutant) => healthy::start_own("mutant", mutant.name),
            Subject::Healthy(healthy) => healthy.start(),
        }
    }

    /// Tries all cases, says what came of it, and tells what should have been otherwise.
    fn judge(self, signals: &Signals, found: &Mutex<Found>) -> Vec<String> {
        let since = Instant::now();
        let wanted = cases::all().filter(|case| !self.is_alone() || self.must_find(case.id));
        let first = self.look(wanted.collect(), PATIENCE, signals);
        // A busy machine makes answers late and brings pieces together; so what is wrong is looked at again.
        let wrong = |outcome: &&Outcome| self.problem(outcome).is_some();
        let again: Vec<&Case> = first.iter().filter(wrong).map(|outcome| outcome.case).collect();
        let second = match again.is_empty() {
            true => vec![],
            false => self.look(again, SECOND_PATIENCE, signals),
        };
        let mut text = format!("{:<28}{:>5.1} s ", self.name(), since.elapsed().as_secs_f64());
        let mut problems = vec![];
        for outcome in &first {
            let again = second.iter().find(|again| again.case.id == outcome.case.id);
            let outcome = again.unwrap_or(outcome);
            let id = outcome.case.id;
            match self.problem(outcome) {
                Some(problem) => {
                    problems.push(format!("{}: {id} {problem}: {}", self.name(), said(outcome)));
                }
                None if self.must_find(id) => lock(found).entry(id).or_default().push(self.name()),
                None => {}
            }
            let is_odd = matches!(
                outcome.verdict,
                Verdict::Fail(_) | Verdict::Warn(_) | Verdict::Inconclusive(_)
            );
            if is_odd || again.is_some() {
                let twice = if again.is_some() { " at the second look" } else { "" };
                let _ = write!(text, " {id} {}{twice};", outcome.verdict.name());
            }
        }
        say(&format!("{}\n", text.trim_end_matches(';')));
        problems
    }

    /// Whether each case needs a server of its own.
    fn is_alone(self) -> bool {
        matches!(self, Subject::Mutant(mutant) if mutant.alone)
    }

    fn look(
        self,
        cases: Vec<&'static Case>,
        patience: Duration,
        signals: &Signals,
    ) -> Vec<Outcome> {
        match self.is_alone() {
            false => self.check(cases, patience, signals),
            true => cases
                .into_iter()
                .flat_map(|case| self.check(vec![case], patience, signals))
                .collect(),
        }
    }

    fn must_find(self, id: &str) -> bool {
        match self {
            Subject::Mutant(mutant) => mutant.found_by().any(|name| cases::matches(name, id)),
            Subject::Healthy(_) => false,
        }
    }

    /// What is wrong with this outcome, if anything.
    fn problem(self, outcome: &Outcome) -> Option<&'static str> {
        let id = outcome.case.id;
        let is_fail = matches!(outcome.verdict, Verdict::Fail(_));
        let Subject::Mutant(mutant) = self else {
            return is_fail.then_some("must not fail on a healthy server");
        };
        let lists = |names: &[&str]| names.iter().any(|name| cases::matches(name, id));
        let says = mutant.says.iter().filter(|(case, _)| *case == id);
        let mut says = says.map(|(_, part)| *part);
        if lists(mutant.fails) {
            return (!is_fail).then_some("must fail");
        }
        if lists(mutant.warns) && !matches!(outcome.verdict, Verdict::Warn(_)) {
            return Some("must warn");
        }
        if !says.all(|part| said(outcome).contains(part)) {
            return Some("must say something else");
        }
        (is_fail && !lists(mutant.also)).then_some("must not fail on it")
    }

    fn check(
        self,
        cases: Vec<&'static Case>,
        patience: Duration,
        signals: &Signals,
    ) -> Vec<Outcome> {
        let server = self.start();
        let (framing, max_frame, timeout) = match self {
            Subject::Mutant(mutant) => {
                let timeout = (!mutant.behaviour.no_timeout).then_some(TIMEOUT);
                let framing = Framing::parse(mutant.framing).expect("the framing has a name");
                (framing, MAX_FRAME, timeout)
            }
            Subject::Healthy(healthy) => (healthy.framing(), healthy.max_frame, healthy.timeout),
        };
        let (stop, stopper) = io::pipe().expect("make a pipe");
        let mut setup = Setup {
            address: server.address,
            framing,
            max_frame,
            timeout,
            patience,
            settle: SETTLE,
            reset: OnReset::Warn,
            memory_allowance: MEMORY_ALLOWANCE,
            seed: SEED,
            one_at_a_time: false,
            rate: Rate::new(None),
            stop: OwnedFd::from(stop),
        };
        let jobs = if patience == PATIENCE { JOBS } else { 1 };
        let plan = Plan { cases, jobs, strict: false, known: Known::default() };
        let watch = self.is_watched().then(|| {
            let watch = Watch::of_process(server.pid, server.address.port());
            watch.expect("the server runs")
        });
        let ran = run_check(&mut setup, &plan, watch.as_ref(), signals, stopper, &mut Quiet);
        ran.expect("descriptors and threads are left").outcomes
    }
}

/// Listens to nothing.
struct Quiet;

impl Listener for Quiet {
    fn progress(&mut self, _running: &[&'static str], _done: usize, _of: usize) {}

    fn finished(&mut self, _outcome: &Outcome) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// The verdict in words.
fn said(outcome: &Outcome) -> String {
    match &outcome.verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Fail(Finding { expected, got }) | Verdict::Warn(Finding { expected, got }) => {
            format!("{}, expected {expected}, got {got}", outcome.verdict.name())
        }
        Verdict::Info(text) | Verdict::Inconclusive(text) | Verdict::Skipped(text) => {
            format!("{}, {text}", outcome.verdict.name())
        }
    }
}

fn say(text: &str) {
    // A run whose output nobody reads still has an exit code.
    drop(io::stdout().write_all(text.as_bytes()));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
