//! `--find-rate`: runs one trial after another to find the highest rate that holds a budget.

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use trust_cli::approach::Approach;
use trust_cli::command::Context;
use trust_cli::connect::Connected;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::progress::Progress;
use trust_cli::signals::Stopped;
use trust_cli::text::reason;
use trust_net::Address;

use crate::budget::{Budget, first_broken};
use crate::engine::{self, Ended, Listener};
use crate::output::{Output, end_without_run};
use crate::plan::{FIND_FROM, Plan};
use crate::report::progress;
use crate::report::timeline::Timeline;
use crate::search::{SearchEnd, Trial, search};
use crate::summary::{End, Interval, Live, Searched, Summary, per_second};

/// A search in progress.
struct Finder<'c> {
    context: &'c Context<'c>,
    plan: &'c Plan,
    budgets: &'c [Budget],
    /// Where the first trial connected to, as all later ones do; empty before it.
    addresses: Vec<Address>,
    progress: &'c mut Progress,
    /// The last trial that held, or else the last one.
    shown: Option<(Summary, Timeline)>,
    has_held: bool,
    stopped: Option<Stopped>,
}

/// Searches, and reports the trials and the run at the rate that was found.
pub(crate) fn run(
    context: &Context<'_>,
    plan: &Plan,
    budgets: &[Budget],
    mut output: Output,
) -> Result<ExitCode, Failure> {
    let mut finder = Finder {
        context,
        plan,
        budgets,
        addresses: vec![],
        progress: &mut output.progress,
        shown: None,
        has_held: false,
        stopped: None,
    };
    let from = plan.options.rate.unwrap_or(FIND_FROM);
    let found = search(from, |rate| finder.trial(rate));
    let Finder { shown, stopped, addresses, .. } = finder;
    output.connects_to(&addresses);
    let Some((mut summary, timeline)) = shown else {
        let no_trial = || Failure::new(ExitCode::Internal, "a search without a trial").into();
        return end_without_run(context, output, stopped.unwrap_or_else(no_trial));
    };
    let mut found = found;
    let exit = match &stopped {
        Some(Stopped::Signal(signal)) => {
            summary.end = End::Stopped(signal.name());
            context.stopped_by(*signal)
        }
        Some(Stopped::Failed(failure)) => {
            found.end = SearchEnd::Unreachable;
            failure.exit
        }
        None if found.rate.is_none() => ExitCode::Negative,
        None => ExitCode::Success,
    };
    output.timeline = timeline;
    output.searched =
        Some(Searched { budgets: budgets.iter().map(Budget::to_string).collect(), found });
    output.end(&summary, &[], exit)?;
    match stopped {
        Some(Stopped::Failed(failure)) => Err(failure),
        _ => Ok(exit),
    }
}

impl Finder<'_> {
    /// Runs the load at that rate.
    fn trial(&mut self, rate: f64) -> ControlFlow<(), Trial> {
        let reached = self.reach();
        let mut listener = Quiet { progress: &mut *self.progress, timeline: Timeline::default() };
        let ended = reached.and_then(|reached| {
            self.addresses = self.plan.addresses(&reached);
            let shape = Plan::with_rate(&self.plan.shape(self.addresses.clone()), rate);
            engine::run(&shape, reached, self.context.signals, &mut listener).map_err(|error| {
                let message = format!("the load cannot run: {}", reason(&error));
                Stopped::from(Failure::new(ExitCode::OsLimit, message))
            })
        });
        let timeline = listener.timeline;
        match ended {
            Ok(Ended { summary, signal: None, .. }) => {
                let trial = self.judge(rate, &summary);
                if trial.why_not().is_none() || !self.has_held {
                    self.has_held |= trial.why_not().is_none();
                    self.shown = Some((summary, timeline));
                }
                ControlFlow::Continue(trial)
            }
            Ok(Ended { summary, signal: Some(signal), .. }) => {
                self.shown.get_or_insert((summary, timeline));
                self.stop(Stopped::Signal(signal))
            }
            Err(error) => self.stop(error),
        }
    }

    /// Connects. Only the first call waits for the server to come up.
    fn reach(&self) -> Result<Connected, Stopped> {
        let approach = self.plan.approach(self.context.signals);
        if self.addresses.is_empty() {
            return approach.reach();
        }
        Approach { wait: Duration::ZERO, ..approach }.reach_first_at(self.addresses.clone())
    }

    fn stop(&mut self, why: Stopped) -> ControlFlow<(), Trial> {
        self.stopped = Some(why);
        ControlFlow::Break(())
    }

    fn judge(&self, asked: f64, summary: &Summary) -> Trial {
        let counts = &summary.counts;
        Trial {
            asked,
            due: per_second(counts.sent + counts.unsent, summary.took),
            // A backlog of the warm-up must not make up for messages that are late.
            achieved: summary.sustained_rate,
            errors: summary.errors.total(),
            broken: first_broken(self.budgets, summary),
            is_client_limit: summary.client.is_limit(),
        }
    }
}

/// Shows progress, and prints nothing else.
struct Quiet<'p> {
    progress: &'p mut Progress,
    timeline: Timeline,
}

impl Listener for Quiet<'_> {
    fn live(&mut self, live: &Live) {
        self.progress.show(|room| progress::line(live, room));
    }

    fn measuring(&mut self, _: Timestamp) {}

    fn interval(&mut self, interval: &Interval<'_>) -> ControlFlow<()> {
        self.timeline.add(interval);
        ControlFlow::Continue(())
    }
}
