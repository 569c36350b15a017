//! Which cases run when, and beside which others.

mod again;
mod beside;
mod death;
mod refused;
mod with_exchanges;

use std::collections::VecDeque;
use std::io::{self, PipeReader, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{panic, thread};

use rustix::event::PollFlags;
use trust_cli::send_proxy;
use trust_cli::signals::{Signal, Signals, Stopped};
use trust_cli::wait::wait;

use crate::case::{Case, Needs};
use crate::cases::{self, GROUPS, resources};
use crate::cause::{self, Cause};
use crate::expect::Known;
use crate::hint::{self, With};
use crate::learning;
use crate::outcome::{CaseOutcome, Tries};
use crate::runner::refused::{Refusals, RunningCase};
use crate::setup::{ROOM_PAUSE, Setup, Unlearned};
use crate::transcript::{Log, Transcript};
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Finding, Verdict};
use crate::watch::{Death, Watch};
use crate::wire::{self, PathKind};

/// The case without which no other one makes sense.
pub const FIRST: &str = "framing/1";

/// How often the listener is told what is running.
const PROGRESS: Duration = Duration::from_millis(200);

/// Most connections that a case beside others usually has: the client limit of a server divided by
/// this is how many cases may run at the same time.
const CLIENTS_OF_A_CASE: u64 = 3;

/// Most cases at the same time against a server that does more than echo: some do otherwise with
/// many clients.
const JOBS_OF_OTHERS_MAX: usize = 4;

/// Longest wait for the answer to "is it still there?", which comes at once or never.
const GONE_PATIENCE: Duration = Duration::from_secs(1);

/// Longest wait until connections are accepted again, unless the run's patience is shorter, and how
/// often it is looked: a supervisor starts what has ended again within about a second.
const RETURN_PATIENCE: Duration = Duration::from_secs(2);
const RETURN_LOOK: Duration = Duration::from_millis(50);

/// What runs.
#[derive(Debug)]
pub struct CasePlan {
    /// In the order in which they are reported.
    pub cases: Vec<&'static Case>,
    /// Cases that run at the same time.
    pub jobs: usize,
    /// Whether a warning is a failure.
    pub strict: bool,
    /// Failures that are known.
    pub known: Known,
}

/// Receives the progress of a run.
pub trait ProgressListener {
    /// Cases that are being tried now, and how many of how many are done. Often.
    fn progress(&mut self, running: &[&'static str], done: usize, of: usize);
    /// What is waited for, while nothing is tried.
    fn waiting(&mut self, line: &str);
    /// The next case in the order of the plan is done; whether to go on.
    fn finished(&mut self, outcome: &CaseOutcome) -> ControlFlow<()>;
}

/// How a run went.
#[derive(Debug, Default)]
pub struct Ran {
    /// The outcome of each case of the plan, in its order. Cases that were not reached are skipped.
    pub outcomes: Vec<CaseOutcome>,
    /// What explains several of the findings.
    pub causes: Vec<Cause>,
    /// The cases during which the server died, if that was the end: it could not be started again.
    pub died: Option<String>,
    /// What ended it early.
    pub signal: Option<Signal>,
    /// Whether the listener did.
    pub is_cut: bool,
}

/// Runs the plan.
///
/// # Errors
///
/// No descriptors or threads left.
pub fn run(
    setup: &mut Setup,
    plan: &CasePlan,
    watch: Option<&Watch>,
    signals: &Signals,
    stop: io::PipeWriter,
    listener: &mut dyn ProgressListener,
) -> io::Result<Ran> {
    let refusals = Mutex::new(Refusals::default());
    let stopped = AtomicBool::new(false);
    let shared = RunnerShared { watch, stopped: &stopped, refusals: &refusals };
    let mut run = Run::new(plan, shared, signals, stop, listener);
    run.begin(setup)?;
    for group in GROUPS {
        run.try_group(setup, group)?;
    }
    run.finish(setup)
}

/// A server of [`run_both`], whose process is not watched.
pub struct BothSides<'r> {
    /// How it is reached.
    pub setup: &'r mut Setup,
    /// Dropping it ends all waits.
    pub stop: io::PipeWriter,
    /// Who is told.
    pub listener: &'r mut dyn ProgressListener,
}

/// Runs the plan on two servers, a group on one and then on the other, so that both meet the same
/// machine.
///
/// # Errors
///
/// No descriptors or threads left.
pub fn run_both<'r>(
    plan: &'r CasePlan,
    signals: &'r Signals,
    sides: [BothSides<'r>; 2],
) -> io::Result<[Ran; 2]> {
    let (refusals, stopped) = (<[Mutex<Refusals>; 2]>::default(), AtomicBool::new(false));
    let mut refusals = refusals.iter();
    let mut runs = sides.map(|BothSides { setup, stop, listener }| {
        let refusals = refusals.next().expect("one for each of both");
        let shared = RunnerShared { watch: None, stopped: &stopped, refusals };
        (Run::new(plan, shared, signals, stop, listener), setup)
    });
    runs.iter_mut().try_for_each(|(run, setup)| run.begin(setup))?;
    for group in GROUPS {
        runs.iter_mut().try_for_each(|(run, setup)| run.try_group(setup, group))?;
    }
    let [(one, own), (other, its)] = runs;
    Ok([one.finish(own)?, other.finish(its)?])
}

struct Run<'r> {
    plan: &'r CasePlan,
    shared: RunnerShared<'r>,
    signals: &'r Signals,
    /// Dropping it ends all waits of all cases.
    stop: Option<io::PipeWriter>,
    listener: &'r mut dyn ProgressListener,
    ran: Ran,
    /// Whether one message came back.
    serves: bool,
    /// Whether there is a case about what the server's processes have.
    watches: bool,
    /// Whether the server died and cannot be started again.
    is_lost: bool,
}

fn first_case() -> &'static Case {
    cases::all().find(|case| case.id == FIRST).expect("the first case is there")
}

/// What the threads that try cases share.
#[derive(Clone, Copy)]
struct RunnerShared<'r> {
    watch: Option<&'r Watch>,
    stopped: &'r AtomicBool,
    refusals: &'r Mutex<Refusals>,
}

impl<'r> Run<'r> {
    fn new(
        plan: &'r CasePlan,
        shared: RunnerShared<'r>,
        signals: &'r Signals,
        stop: io::PipeWriter,
        listener: &'r mut dyn ProgressListener,
    ) -> Run<'r> {
        let (stop, ran) = (Some(stop), Ran::default());
        let (serves, watches, is_lost) = (true, false, false);
        Run { plan, shared, signals, stop, listener, ran, serves, watches, is_lost }
    }

    /// The server's process, where a case is about it.
    fn watch(&self) -> Option<&'r Watch> {
        let is_wanted = self.plan.cases.iter().any(|case| case.needs == Needs::Process);
        self.shared.watch.filter(|_| is_wanted)
    }

    /// Learns what the server answers, tries the first case, and finds out how it serves.
    fn begin(&mut self, setup: &mut Setup) -> io::Result<()> {
        if let Some(watch) = self.watch() {
            self.attend(|| watch.look_at_start(setup))?;
        }
        if let Some(protocol) = &setup.exchanges {
            let transcript = Transcript::default();
            match self.attend(|| learning::learn(setup, protocol, &transcript))? {
                Ok((learned, failure)) => {
                    setup.exchanges = Some(learned);
                    let unlearned = failure.map(|why| Unlearned { why, transcript, is_all: false });
                    setup.unlearned = unlearned;
                }
                Err(why) => setup.unlearned = Some(Unlearned { why, transcript, is_all: true }),
            }
        }
        self.run_all(setup, &[first_case()], 1)?;
        self.revive(setup)?;
        // What is wrong with one message need not be wrong with others.
        let with = if self.deaths().is_empty() { With::Half } else { With::Nothing };
        let is_echo = setup.exchanges.is_none();
        // Nor need it be with other exchanges.
        self.serves |= setup.unlearned.as_ref().is_some_and(|it| !it.is_all);
        self.serves = self.serves || (is_echo && self.attend(|| hint::is_served(setup, with))?);
        if setup.max_clients == Some(1) {
            setup.one_at_a_time = true;
        } else if self.serves {
            let one_at_a_time = self.attend(|| {
                let mut trial = CaseTrial::new(setup, FIRST, None);
                beside::serves_one_at_a_time(&mut trial).unwrap_or(false)
            })?;
            setup.one_at_a_time = one_at_a_time;
        }
        self.watches = self.watch().is_some() && self.serves;
        self.look_first(setup)
    }

    /// Tries the cases of a group, and looks at what the server has then.
    fn try_group(&mut self, setup: &mut Setup, group: &[Case]) -> io::Result<()> {
        let Some(name) = group.first().map(Case::group) else { return Ok(()) };
        let wanted = |case: &&&'static Case| case.group() == name && case.id != FIRST;
        let of_group: Vec<&'static Case> = self.plan.cases.iter().filter(wanted).copied().collect();
        let Some(one) = of_group.first() else { return Ok(()) };
        let is_about_process = one.needs == Needs::Process;
        let (alone, beside): (Vec<_>, Vec<_>) =
            of_group.into_iter().partition(|case| case.isolation.is_alone());
        let room = setup.max_clients.map_or(u64::MAX, |most| (most / CLIENTS_OF_A_CASE).max(1));
        let most = if setup.exchanges.is_some() { JOBS_OF_OTHERS_MAX } else { usize::MAX };
        let jobs = if setup.one_at_a_time { 1 } else { self.plan.jobs.min(most) as u64 };
        // Cases that wait for a timeout do so side by side, or each would add its timeout to the
        // run.
        let waiting = if name == "timing" && jobs > 1 { beside.len() as u64 } else { 0 };
        self.run_all(setup, &beside, jobs.max(waiting).min(room) as usize)?;
        self.run_all(setup, &alone, 1)?;
        self.revive(setup)?;
        match self.watch().filter(|_| self.watches && !is_about_process) {
            Some(watch) => self.attend(|| watch.look(name, setup)),
            None => Ok(()),
        }
    }

    /// Looks for what explains several findings.
    fn finish(mut self, setup: &mut Setup) -> io::Result<Ran> {
        if !self.is_lost && self.ran.signal.is_none() && !self.ran.is_cut && self.serves {
            self.revive(setup)?;
            let outcomes = std::mem::take(&mut self.ran.outcomes);
            let found =
                self.attend(|| cause::find(&mut CaseTrial::new(setup, FIRST, None), &outcomes));
            // A cause that can no longer be found out is left out.
            self.ran.causes = found?.unwrap_or_default();
            self.ran.outcomes = outcomes;
        }
        let died = self.shared.watch.filter(|watch| self.is_lost || !watch.is_ours());
        self.ran.died = died.and_then(Watch::end);
        let place = |id: &str| self.plan.cases.iter().position(|case| case.id == id);
        self.ran.outcomes.sort_by_key(|outcome| place(outcome.case.id));
        Ok(self.ran)
    }

    /// Tries the cases, up to `jobs` at the same time. Failures, and cases that could not be tried
    /// because the server had died, are then tried again one by one.
    fn run_all(
        &mut self,
        setup: &mut Setup,
        cases: &[&'static Case],
        jobs: usize,
    ) -> io::Result<()> {
        self.revive(setup)?;
        let deaths = self.deaths().len();
        let unsettled = self.run_together(setup, cases, jobs)?;
        let death = self.deaths().get(deaths).cloned();
        let mut settled = vec![];
        for mut outcome in unsettled {
            let has_seen = death.as_ref().is_some_and(|death| death::has_seen(death, &outcome));
            self.revive(setup)?;
            self.wait_for_return(setup)?;
            if !self.is_lost {
                let is_spared = lock(self.shared.refusals).spare(&outcome);
                outcome.is_put_off |= (has_seen || is_spared) && outcome.tries.beside > 0;
                if is_to_be_tried_again(&outcome) {
                    outcome = self.try_again(setup, outcome)?;
                }
            }
            settled.push(outcome);
        }
        let did_not_come_again = !self.is_lost && self.deaths().len() == deaths + 1;
        if let Some(death) = death.filter(|_| jobs > 1 && did_not_come_again) {
            death::blame_one_of(&death, &mut settled);
        }
        settled.into_iter().for_each(|outcome| self.take(outcome));
        Ok(())
    }

    /// Waits until connections are accepted again, if they are not: what stands in front of a
    /// server may be started again.
    fn wait_for_return(&mut self, setup: &Setup) -> io::Result<()> {
        if !lock(self.shared.refusals).may_end() {
            return Ok(());
        }
        let is_back = self.attend(|| {
            let until = Instant::now() + RETURN_PATIENCE.min(setup.patience);
            while refuses(setup) {
                if Instant::now() >= until || wire::pause(setup, RETURN_LOOK).is_err() {
                    return false;
                }
            }
            true
        })?;
        lock(self.shared.refusals).handle_wait(is_back);
        Ok(())
    }

    fn deaths(&self) -> Vec<Death> {
        self.shared.watch.map_or_else(Vec::new, Watch::deaths)
    }

    /// Restarts a server that died, if the check can: later cases are not to blame for it.
    fn revive(&mut self, setup: &mut Setup) -> io::Result<()> {
        let Some(watch) = self.shared.watch.filter(|watch| watch.end().is_some()) else {
            return Ok(());
        };
        if self.is_lost || self.shared.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut tell = |line: &str| self.listener.waiting(line);
        match watch.start_again(setup, self.signals, &mut tell) {
            Some(Ok(address)) => setup.address = address,
            Some(Err(Stopped::Signal(signal))) => {
                self.ran.signal = self.ran.signal.or(Some(signal));
                self.end_all();
                return Ok(());
            }
            Some(Err(Stopped::Failed(_))) | None => {
                self.is_lost = true;
                return Ok(());
            }
        }
        self.look_first(setup)
    }

    /// Warms the server up and notes what it has, which all looks are compared with.
    fn look_first(&mut self, setup: &Setup) -> io::Result<()> {
        let Some(watch) = self.shared.watch.filter(|_| self.watches) else { return Ok(()) };
        self.attend(|| {
            watch.look_who_listens();
            resources::warm_up(&mut CaseTrial::new(setup, FIRST, Some(watch)));
            watch.look("warm-up", setup);
        })
    }

    /// Tries the cases, up to `jobs` at the same time, and returns the outcomes from the first one
    /// that must be tried again.
    fn run_together(
        &mut self,
        setup: &Setup,
        cases: &[&'static Case],
        jobs: usize,
    ) -> io::Result<Vec<CaseOutcome>> {
        let queue = Mutex::new(cases.iter().copied().collect::<VecDeque<_>>());
        let running = Mutex::new(Vec::<RunningCase>::new());
        let (done_in, done_out) = mpsc::channel();
        let (bell, ring) = io::pipe()?;
        let (shared, serves) = (self.shared, self.serves);
        thread::scope(|scope| {
            for _ in 0..jobs.min(cases.len()) {
                let (done_in, mut ring) = (done_in.clone(), ring.try_clone()?);
                let (queue, running) = (&queue, &running);
                thread::Builder::new().name("case".into()).spawn_scoped(scope, move || {
                    loop {
                        // Not as `while let`, which would hold the lock while the case is tried.
                        let Some(case) = lock(queue).pop_front() else { return };
                        let outcome = shared.handle(setup, case, serves, running);
                        // The receiver stays until all cases are done.
                        let _ = done_in.send(outcome);
                        let _ = ring.write_all(&[0]);
                    }
                })?;
            }
            drop((done_in, ring));
            // Reported in the order of the plan, whichever is done first.
            let (mut done, mut unsettled): (Vec<CaseOutcome>, Vec<CaseOutcome>) = (vec![], vec![]);
            for case in cases {
                let outcome = loop {
                    if let Some(at) = done.iter().position(|done| done.case.id == case.id) {
                        break done.swap_remove(at);
                    }
                    match done_out.try_recv() {
                        Ok(outcome) => done.push(outcome),
                        // A case panicked, which the end of the scope reports.
                        Err(mpsc::TryRecvError::Disconnected) => return Ok(unsettled),
                        Err(mpsc::TryRecvError::Empty) => {
                            let done = self.ran.outcomes.len() + unsettled.len() + done.len();
                            let ids: Vec<_> = lock(&running).iter().map(|case| case.id).collect();
                            self.listener.progress(&ids, done, self.plan.cases.len());
                            self.listen(&bell)?;
                        }
                    }
                };
                match unsettled.is_empty() && !is_to_be_tried_again(&outcome) {
                    true => self.take(outcome),
                    false => unsettled.push(outcome),
                }
            }
            Ok(unsettled)
        })
    }

    /// Tries the case of a failure again, alone.
    fn try_again(&mut self, setup: &Setup, first: CaseOutcome) -> io::Result<CaseOutcome> {
        let (shared, serves) = (self.shared, self.serves);
        let done = self.ran.outcomes.len();
        self.listener.progress(&[first.case.id], done, self.plan.cases.len());
        let second = self.attend(|| {
            let mut trial = CaseTrial::new(setup, first.case.id, None);
            // The results are ignored, as judging is up to the case: the server only needs the
            // chance to see that the others have left.
            let _ = trial.pause(setup.settle);
            if let Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. }) = first.verdict
            {
                let _ = trial.pause(ROOM_PAUSE.min(setup.patience));
                let _ = trial.expect_service("others");
            }
            shared.handle(setup, first.case, serves, &Mutex::default())
        })?;
        if first.is_put_off {
            return Ok(CaseOutcome { is_put_off: false, ..second });
        }
        let limit = match again::turned_away_beside(&first, &second) {
            Some(others) => self.attend(|| {
                let mut trial = CaseTrial::new(setup, first.case.id, None);
                again::turns_away_beside(&mut trial, others).unwrap_or(None)
            })?,
            None if again::took_too_long(&first) => self.attend(|| {
                again::served_at_once(&mut CaseTrial::new(setup, first.case.id, None))
            })?,
            None => None,
        };
        Ok(again::judge(first, second, limit, setup))
    }

    /// Does something slow and listens to signals meanwhile.
    fn attend<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let (bell, ring) = io::pipe()?;
        thread::scope(|scope| {
            let worker = thread::Builder::new().name("case".into()).spawn_scoped(scope, || {
                let done = work();
                drop(ring);
                done
            })?;
            while !worker.is_finished() {
                self.listen(&bell)?;
            }
            worker.join().map_err(|panicked| panic::resume_unwind(panicked))
        })
    }

    /// Waits for the bell, for a signal, or for a moment.
    fn listen(&mut self, bell: &PipeReader) -> io::Result<()> {
        let until = Some(Instant::now() + PROGRESS);
        match wait(self.signals, [Some((bell.as_fd(), PollFlags::IN))], until) {
            Ok([false]) => {}
            Ok([true]) => drop(rustix::io::read(bell, &mut [0])?),
            Err(Stopped::Signal(signal)) => {
                self.ran.signal = self.ran.signal.or(Some(signal));
                self.end_all();
            }
            Err(Stopped::Failed(failure)) => return Err(io::Error::other(failure.message)),
        }
        Ok(())
    }

    fn end_all(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.stop = None;
    }

    fn take(&mut self, mut outcome: CaseOutcome) {
        if outcome.case.id == FIRST {
            let is_wrong = |it: &Verdict| matches!(it, Verdict::Fail(_) | Verdict::Inconclusive(_));
            self.serves = !is_wrong(&outcome.verdict);
        }
        if !self.plan.cases.iter().any(|case| case.id == outcome.case.id) {
            return;
        }
        if let (Verdict::Warn(finding), true) = (&outcome.verdict, self.plan.strict) {
            outcome.verdict = Verdict::Fail(finding.clone());
        }
        lock(self.shared.refusals).explain(outcome.case.id, &mut outcome.verdict);
        outcome.is_listed = self.plan.known.names(outcome.case.id);
        if self.listener.finished(&outcome).is_break() {
            self.ran.is_cut = true;
            self.end_all();
        }
        self.ran.outcomes.push(outcome);
    }
}

impl RunnerShared<'_> {
    /// Tries the case, unless there is a reason not to.
    fn handle(
        self,
        setup: &Setup,
        case: &'static Case,
        serves: bool,
        running: &Mutex<Vec<RunningCase>>,
    ) -> CaseOutcome {
        if let Some(why) = self.reason_not_to_try(setup, case, serves) {
            let has_died = self.watch.is_some_and(|watch| watch.end().is_some());
            let may_end = lock(self.refusals).may_end();
            let is_put_off = (has_died || may_end) && !self.stopped.load(Ordering::Relaxed);
            return CaseOutcome { is_put_off, ..not_tried(case, why) };
        }
        let trial = CaseTrial::new(setup, case.id, self.watch);
        let beside = {
            let mut running = lock(running);
            running.push(RunningCase { id: case.id, transcript: trial.transcript().clone() });
            running.len() - 1
        };
        let refused_before = setup.rate.refused_connects();
        let mut outcome = try_case(trial, case);
        // What came back at once had ended too.
        let was_refused = setup.rate.refused_connects() > refused_before;
        let has_failed = matches!(outcome.verdict, Verdict::Fail(_));
        let together: Vec<_> = lock(running).iter().map(|case| case.id).collect();
        let beside = beside.max(together.len() - 1);
        outcome.tries = Tries { tries: 1, failed: u32::from(has_failed), beside };
        match self.watch {
            _ if self.stopped.load(Ordering::Relaxed) => {}
            Some(watch) => {
                let has_died = watch.note_end(has_failed, &together);
                if let Some(death) = has_died.filter(|_| beside == 0) {
                    outcome.is_put_off = !death::has_connected(&outcome.log);
                    outcome.verdict = death::verdict(&death, &outcome.log);
                    outcome.tries.failed = 1;
                }
            }
            None if has_failed && (was_refused || refuses(setup)) => {
                lock(self.refusals).note(case.id, &lock(running));
            }
            None => {}
        }
        lock(running).retain(|other| other.id != case.id);
        lock(self.refusals).handle_end(case.id, &outcome.log);
        if has_failed && case.id == FIRST && setup.exchanges.is_none() {
            outcome.hint = hint::needless_preface(setup)
                .or_else(|| hint::other_framing(setup))
                .or_else(|| hint::other_protocol(setup))
                .or_else(|| hint::expects_tls(setup))
                .or_else(|| setup.preface.as_ref().map(send_proxy::hint));
        } else if has_failed && case.id == FIRST && setup.unlearned.is_some() {
            outcome.hint = Some(hint::PROPOSE.to_owned());
        }
        outcome
    }

    fn reason_not_to_try(&self, setup: &Setup, case: &Case, serves: bool) -> Option<String> {
        let is_about_process = case.needs == Needs::Process;
        if self.stopped.load(Ordering::Relaxed) {
            return Some("the run was stopped".to_owned());
        }
        if let Some(why) = case.misfit(setup, self.watch.is_some()) {
            return Some(why.to_owned());
        }
        if let Some(watch) = self.watch
            && let Some(during) = watch.end()
        {
            // Those are about what was seen until then.
            return (!is_about_process).then(|| format!("the server died during {during}"));
        }
        let since = lock(self.refusals).since();
        if since.is_some() {
            if refuses(setup) {
                return since;
            }
            lock(self.refusals).handle_acceptance();
        }
        (!serves).then(|| format!("no message comes back as it should, see {FIRST}"))
    }
}

fn try_case(mut trial: CaseTrial<'_>, case: &'static Case) -> CaseOutcome {
    let started = Instant::now();
    let verdict = match &trial.setup.exchanges {
        None => (case.run)(&mut trial).unwrap_or_else(|verdict| verdict),
        Some(learned) => {
            let verdict;
            (trial, verdict) = with_exchanges::judge(trial, learned, case);
            verdict
        }
    };
    let (log, took) = (trial.transcript().log(), started.elapsed());
    let tries = Tries { tries: 1, failed: 0, beside: 0 };
    CaseOutcome { case, verdict, tries, is_put_off: false, is_listed: false, hint: None, log, took }
}

/// Whether the failure may be due to what ran beside the case, or to clients for which the server
/// had no room, or the server died before the case could be tried or judged.
fn is_to_be_tried_again(outcome: &CaseOutcome) -> bool {
    if outcome.is_put_off {
        return true;
    }
    match &outcome.verdict {
        Verdict::Fail(finding) => {
            outcome.tries.beside > 0 || matches!(finding.evidence, Evidence::Refusal { .. })
        }
        _ => false,
    }
}

/// Whether nothing listens there now.
fn refuses(setup: &Setup) -> bool {
    wire::open(setup, PathKind::AsItIs, setup.preface.as_ref(), GONE_PATIENCE)
        .is_ok_and(|opened| opened.is_err_and(|error| wire::finds_nothing(&error)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_tried(case: &'static Case, why: String) -> CaseOutcome {
    let (verdict, log) = (Verdict::skipped(why), Log::default());
    let (tries, took) = (Tries::NONE, Duration::ZERO);
    CaseOutcome { case, verdict, tries, is_put_off: false, is_listed: false, hint: None, log, took }
}
