//! The table of cases × servers: what was found, and whether it should have been.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use trust_check::case::Case;
use trust_check::cases;
use trust_check::expect::Known;
use trust_check::outcome::Outcome;
use trust_check::runner::{Listener, Plan, run as run_check};
use trust_check::setup::{OnReset, Rate, Setup};
use trust_check::verdict::{Finding, Verdict};
use trust_check::watch::Watch;
use trust_cli::framing::Framing;
use trust_cli::signals::{IgnoredHangup, Signals};

use super::healthy::{self, Healthy};
use super::launch::{self, Started};
use super::mutant::TIMEOUT;
use super::mutants::{self, Mutant};
use super::request::Wanted;

/// Longest time for the whole table, also on one core beside others; what takes longer counts as hung.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1800);

/// How long an answer of a wrong server is waited for: not long, because it is waited for again and again.
const PATIENCE: Duration = Duration::from_millis(500);

/// The same where the first look said what it should not: then the machine may have been busy.
const SECOND_PATIENCE: Duration = Duration::from_secs(3);

/// How long a wrong server is left alone with a piece.
const SETTLE: Duration = Duration::from_millis(5);

/// The same of a right one, as by default.
const DEFAULT_SETTLE: Duration = Duration::from_millis(20);

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

/// How cases are tried.
#[derive(Clone, Copy)]
struct Look {
    patience: Duration,
    settle: Duration,
    jobs: usize,
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
    // The slowest ones are the first of the right ones.
    let right = healthy::ALL.iter().map(Subject::Healthy);
    let wrong = mutants::all().filter(|_| !wanted.right_alone).map(Subject::Mutant);
    let queue: VecDeque<Subject> =
        right.chain(wrong).filter(|subject| wanted.wants(subject.name())).collect();
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
    problems.extend(super::docs::problem());
    if wanted.is_everything() {
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
    for healthy in healthy::ALL {
        wrong.extend(healthy.misnamed().map(|problem| format!("{}: {problem}", healthy.name)));
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
            Subject::Mutant(mutant) => launch::start_own("mutant", mutant.name),
            Subject::Healthy(healthy) => healthy.start(),
        }
    }

    /// Tries all cases, says what came of it, and tells what should have been otherwise.
    fn judge(self, signals: &Signals, found: &Mutex<Found>) -> Vec<String> {
        if let Subject::Healthy(healthy) = self
            && let Some(tool) = healthy.program.missing()
        {
            say(&format!("{:<28}skipped: needs {tool}\n", self.name()));
            // Nothing may be skipped where everything has to be there.
            let is_wrong = std::env::var_os("CI").is_some();
            return is_wrong
                .then(|| format!("{}: needs {tool}", self.name()))
                .into_iter()
                .collect();
        }
        let since = Instant::now();
        let first = self.look(self.cases().collect(), self.first_look(), signals);
        // A busy machine makes answers late and brings pieces together; so what is wrong is looked at again.
        let wrong: Vec<&Outcome> =
            first.iter().filter(|outcome| self.problem(outcome).is_some()).collect();
        let again: Vec<&Case> = match self {
            _ if wrong.is_empty() => vec![],
            Subject::Mutant(_) => wrong.iter().map(|outcome| outcome.case).collect(),
            // A false alarm may hit another case each time.
            Subject::Healthy(_) => self.cases().collect(),
        };
        let second = match again.is_empty() {
            true => vec![],
            false => self.look(again, self.second_look(), signals),
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
            if is_odd || wrong.iter().any(|wrong| wrong.case.id == id) {
                let twice = if again.is_some() { " at the second look" } else { "" };
                let _ = write!(text, " {id} {}{twice};", outcome.verdict.name());
            }
        }
        text.truncate(text.trim_end_matches(';').len());
        if let Subject::Healthy(healthy) = self {
            let is_found = |outcome: &Outcome| matches!(outcome.verdict, Verdict::Fail(_));
            if !first.iter().chain(&second).any(is_found) {
                let problem = healthy.problem_without_findings();
                problems.extend(problem.map(|problem| format!("{}: {problem}", self.name())));
            }
            for outcome in wrong {
                let _ = write!(text, "\n    first look: {} {}", outcome.case.id, said(outcome));
            }
            for (id, reason) in healthy.left_out {
                let _ = write!(text, "\n    left out: {id}: {reason}");
            }
        }
        say(&format!("{text}\n"));
        problems
    }

    /// The cases that it is tried with.
    fn cases(self) -> impl Iterator<Item = &'static Case> {
        cases::all().filter(move |case| match self {
            Subject::Mutant(_) => !self.is_alone() || self.must_find(case.id),
            Subject::Healthy(healthy) => healthy.reason_to_leave_out(case.id).is_none(),
        })
    }

    fn first_look(self) -> Look {
        match self {
            Subject::Mutant(_) => Look { patience: PATIENCE, settle: SETTLE, jobs: JOBS },
            Subject::Healthy(healthy) => {
                Look { patience: healthy.patience, settle: DEFAULT_SETTLE, jobs: JOBS }
            }
        }
    }

    fn second_look(self) -> Look {
        match self {
            Subject::Mutant(_) => Look { patience: SECOND_PATIENCE, settle: SETTLE, jobs: 1 },
            // As users do who wonder.
            Subject::Healthy(_) => self.first_look(),
        }
    }

    /// Whether each case needs a server of its own.
    fn is_alone(self) -> bool {
        matches!(self, Subject::Mutant(mutant) if mutant.alone)
    }

    fn look(self, cases: Vec<&'static Case>, look: Look, signals: &Signals) -> Vec<Outcome> {
        match self.is_alone() {
            false => self.check(cases, look, signals),
            true => {
                cases.into_iter().flat_map(|case| self.check(vec![case], look, signals)).collect()
            }
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
        let mutant = match self {
            Subject::Mutant(mutant) => mutant,
            Subject::Healthy(healthy) => return healthy.problem(id, &outcome.verdict),
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

    fn check(self, cases: Vec<&'static Case>, look: Look, signals: &Signals) -> Vec<Outcome> {
        let server = self.start();
        let (framing, max_frame, timeout) = match self {
            Subject::Mutant(mutant) => {
                let timeout = (!mutant.behaviour.no_timeout).then_some(TIMEOUT);
                let framing = Framing::parse(mutant.framing).expect("the framing has a name");
                (framing, mutant.max_frame, timeout)
            }
            Subject::Healthy(healthy) => (healthy.framing(), healthy.max_frame, healthy.timeout),
        };
        let (stop, stopper) = io::pipe().expect("make a pipe");
        let mut setup = Setup {
            address: server.address,
            framing,
            max_frame,
            timeout,
            patience: look.patience,
            settle: look.settle,
            reset: match self {
                Subject::Mutant(_) => OnReset::Warn,
                Subject::Healthy(healthy) => healthy.reset,
            },
            memory_allowance: MEMORY_ALLOWANCE,
            seed: SEED,
            max_clients: None,
            one_at_a_time: false,
            rate: Rate::new(None),
            stop: OwnedFd::from(stop),
        };
        let plan = Plan { cases, jobs: look.jobs, strict: false, known: Known::default() };
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
        Verdict::Fail(Finding { expected, got, .. })
        | Verdict::Warn(Finding { expected, got, .. }) => {
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
