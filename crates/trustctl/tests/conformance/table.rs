//! A server that all cases are tried on: what they find, and whether they should.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::Duration;

use trust_check::case::{self, Case};
use trust_check::cases;
use trust_check::expect::Known;
use trust_check::outcome::CaseOutcome;
use trust_check::runner::{CasePlan, ProgressListener, run as run_check};
use trust_check::setup::{ConnectionPacer, OnReset, Setup};
use trust_check::verdict::{Finding, Verdict};
use trust_check::watch::Watch;
use trust_cli::framing::Framing;
use trust_cli::signals::{IgnoredHangup, Signals};

use super::healthy::{self, Healthy};
use super::launch::{self, Started};
use super::mutant::TIMEOUT;
use super::mutants::{self, Mutant};
use trust_testkit::runner;

/// How long to wait for an answer of a wrong server: not long, because it happens again and again.
const PATIENCE: Duration = Duration::from_millis(500);

/// The same for a second look, after an unexpected result: the machine may have been busy.
const SECOND_PATIENCE: Duration = Duration::from_secs(3);

/// How often cases are looked at again that were inconclusive at the second look.
const LOOKS_AT_UNJUDGED: u32 = 2;

/// How long to leave a wrong server alone with a piece.
const SETTLE: Duration = Duration::from_millis(5);

/// The same for a right server: the default.
const DEFAULT_SETTLE: Duration = Duration::from_millis(20);

/// Growth of memory that is not a leak: the default.
const MEMORY_ALLOWANCE: u64 = 64 << 20;

/// Cases that run on a server at the same time.
const JOBS: usize = 8;

/// The source of every run's payloads.
const SEED: u64 = 1;

/// A server under trial.
#[derive(Clone, Copy)]
pub(crate) enum Subject {
    Mutant(&'static Mutant),
    Healthy(&'static Healthy),
}

/// How to try cases.
#[derive(Clone, Copy)]
struct Look {
    patience: Duration,
    settle: Duration,
    jobs: usize,
}

impl Subject {
    /// All of them, the slowest right ones first.
    pub(crate) fn all() -> impl Iterator<Item = Subject> {
        healthy::ALL.iter().map(Subject::Healthy).chain(mutants::all().map(Subject::Mutant))
    }

    /// The name of its test.
    pub(crate) fn title(self) -> String {
        match self {
            Subject::Mutant(mutant) => format!("wrong/{}", mutant.name),
            Subject::Healthy(healthy) => format!("right/{}", healthy.name),
        }
    }

    /// Whether to observe its process. That takes seconds, so it is done only for mutants that are
    /// found that way.
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

    /// Checks that all cases find in it what they must, and nothing else.
    #[track_caller]
    pub(crate) fn is_judged_rightly(self) {
        if let Subject::Healthy(healthy) = self
            && let Some(tool) = healthy.program.missing()
        {
            runner::skip(&tool);
        }
        let signals = Signals::install(IgnoredHangup::Keep).expect("handle signals");
        let first = self.look(self.cases().collect(), self.first_look(), &signals);
        // A busy machine delays answers and merges pieces, so wrong results are checked again.
        let wrong: Vec<&CaseOutcome> =
            first.iter().filter(|outcome| self.problem(outcome).is_some()).collect();
        let again: Vec<&Case> = match self {
            _ if wrong.is_empty() => vec![],
            Subject::Mutant(_) => wrong.iter().map(|outcome| outcome.case).collect(),
            // A false alarm may hit another case each time.
            Subject::Healthy(_) => self.cases().collect(),
        };
        let mut second = self.look_again(again, &signals);
        // The check itself says that the machine was too busy to judge.
        for _ in 0..LOOKS_AT_UNJUDGED {
            let is_unjudged = |outcome: &&CaseOutcome| {
                self.problem(outcome).is_some()
                    && matches!(outcome.verdict, Verdict::Inconclusive(_))
            };
            let unjudged = second.iter().filter(is_unjudged).map(|outcome| outcome.case).collect();
            let third = self.look_again(unjudged, &signals);
            second.retain(|outcome| third.iter().all(|again| again.case.id != outcome.case.id));
            second.extend(third);
        }
        let second_of = |id| second.iter().find(|again| again.case.id == id);
        let at_last = first.iter().map(|outcome| second_of(outcome.case.id).unwrap_or(outcome));
        let mut problems: Vec<String> = at_last
            .filter_map(|outcome| {
                let problem = self.problem(outcome)?;
                Some(format!("{} {problem}: {}", outcome.case.id, said(outcome)))
            })
            .collect();
        if let Subject::Healthy(healthy) = self {
            let is_found = |outcome: &CaseOutcome| matches!(outcome.verdict, Verdict::Fail(_));
            if !first.iter().chain(&second).any(is_found) {
                problems.extend(healthy.problem_without_findings().map(str::to_owned));
            }
        }
        self.tell_of_first_look(&wrong);
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    /// Prints the results that the second look forgave.
    fn tell_of_first_look(self, wrong: &[&CaseOutcome]) {
        let text = wrong.iter().fold(String::new(), |mut text, outcome| {
            let _ = writeln!(
                text,
                "{}, first look: {} {}",
                self.title(),
                outcome.case.id,
                said(outcome)
            );
            text
        });
        // A run whose output is not read still has an exit code.
        drop(io::stderr().write_all(text.as_bytes()));
    }

    /// The cases to try with it.
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
            // As users do when they wonder.
            Subject::Healthy(_) => self.first_look(),
        }
    }

    /// Whether each case needs a separate server.
    fn is_alone(self) -> bool {
        matches!(self, Subject::Mutant(mutant) if mutant.alone)
    }

    fn look_again(self, cases: Vec<&'static Case>, signals: &Signals) -> Vec<CaseOutcome> {
        if cases.is_empty() { vec![] } else { self.look(cases, self.second_look(), signals) }
    }

    fn look(self, cases: Vec<&'static Case>, look: Look, signals: &Signals) -> Vec<CaseOutcome> {
        if self.is_alone() {
            return cases
                .into_iter()
                .flat_map(|case| self.check(vec![case], look, signals))
                .collect();
        }
        self.check(cases, look, signals)
    }

    fn must_find(self, id: &str) -> bool {
        match self {
            Subject::Mutant(mutant) => mutant.must_be_found_by(id),
            Subject::Healthy(_) => false,
        }
    }

    /// What is wrong with this outcome, if anything.
    fn problem(self, outcome: &CaseOutcome) -> Option<&'static str> {
        let id = outcome.case.id;
        let is_fail = matches!(outcome.verdict, Verdict::Fail(_));
        let mutant = match self {
            Subject::Mutant(mutant) => mutant,
            Subject::Healthy(healthy) => return healthy.problem(id, &outcome.verdict),
        };
        let lists = |names: &str| names.split_whitespace().any(|name| case::matches(name, id));
        if lists(mutant.fails) {
            return (!is_fail).then_some("must fail");
        }
        if lists(mutant.warns) && !matches!(outcome.verdict, Verdict::Warn(_)) {
            return Some("must warn");
        }
        if mutant.says.is_some_and(|(case, part)| case == id && !said(outcome).contains(part)) {
            return Some("must say something else");
        }
        (is_fail && !lists(mutant.also)).then_some("must not fail on it")
    }

    fn check(self, cases: Vec<&'static Case>, look: Look, signals: &Signals) -> Vec<CaseOutcome> {
        let server = self.start();
        let (framing, preface, max_frame, timeout) = match self {
            Subject::Mutant(mutant) => {
                let timeout = (!mutant.behaviour.no_timeout).then_some(TIMEOUT);
                let framing = Framing::parse(mutant.framing).expect("the framing has a name");
                (framing, None, mutant.max_frame, timeout)
            }
            Subject::Healthy(it) => (it.framing(), it.preface, it.max_frame, it.timeout),
        };
        let (stop, stopper) = io::pipe().expect("make a pipe");
        let mut setup = Setup {
            address: server.address.clone(),
            preface,
            framing,
            is_quick: false,
            left_out: vec![],
            exchanges: None,
            unlearned: None,
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
            rate: ConnectionPacer::new(None),
            stop: OwnedFd::from(stop),
        };
        let plan = CasePlan { cases, jobs: look.jobs, strict: false, known: Known::default() };
        let watch = self.is_watched().then(|| {
            let watch = Watch::of_process(server.pid, &server.address);
            watch.expect("the server runs")
        });
        let ran = run_check(&mut setup, &plan, watch.as_ref(), signals, stopper, &mut Quiet);
        ran.expect("descriptors and threads are left").outcomes
    }
}

/// Ignores everything.
struct Quiet;

impl ProgressListener for Quiet {
    fn waiting(&mut self, _: &str) {}

    fn progress(&mut self, _running: &[&'static str], _done: usize, _of: usize) {}

    fn finished(&mut self, _outcome: &CaseOutcome) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// The verdict in words.
fn said(outcome: &CaseOutcome) -> String {
    match &outcome.verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Fail(finding) => format!("fail, {}", in_words(finding)),
        Verdict::Warn(finding) => format!("warn, {}", in_words(finding)),
        Verdict::Allowed(text) => format!("allowed, {text}"),
        Verdict::Info(text) => format!("info, {text}"),
        Verdict::Inconclusive(text) => format!("inconclusive, {text}"),
        Verdict::Skipped(text) => format!("skipped, {text}"),
    }
}

fn in_words(Finding { expected, got, .. }: &Finding) -> String {
    format!("expected {expected}, got {got}")
}
