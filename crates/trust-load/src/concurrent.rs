//! Clients at the same time: from settings through the engine to the reports.

use std::ffi::OsString;
use std::time::Duration;

use jiff::Timestamp;
use trust_cli::command::Context;
use trust_cli::connect::Connected;
use trust_cli::descriptor;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::signals::Stopped;
use trust_cli::target::Family;
use trust_cli::text::{grouped, reason, seconds};

use crate::budget::judge;
use crate::engine::{self, Ended, Listener};
use crate::find_rate;
use crate::options::{CONCURRENCY, START_AT};
use crate::output::{Output, end_without_run};
use crate::plan::Plan;
use crate::shape::Shape;
use crate::start_at::{Start, start};
use crate::summary::{End, Live, Summary};

/// Descriptors that are not connections: standard streams, files, the log, signals, epoll and a
/// timer.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Runs the load.
///
/// # Errors
///
/// As the command's.
pub(crate) fn run(context: &mut Context<'_>, arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let plan = Plan::of(context.layers, arguments, Family::of(context.matches))?;
    check_descriptors(context, &plan)?;
    let wait = until_start(context, &plan)?;
    let mut output = Output::create(context, &plan)?;
    if let Some(budgets) = &plan.options.find_rate {
        return find_rate::run(context, &plan, budgets, output);
    }
    match one_run(context, &plan, wait, &mut output) {
        Ok(Ended { is_cut: true, .. }) if output.unwritten.failure().is_none() => {
            Ok(ExitCode::Success)
        }
        Ok(Ended { summary, signal, .. }) => {
            let judgements = judge(plan.options.fail_if.as_deref().unwrap_or_default(), &summary);
            let is_missed = judgements.iter().any(|judgement| judgement.is_missed);
            let exit = match signal {
                Some(signal) => context.stopped_by(signal),
                None if is_missed || !has_succeeded(&summary) => ExitCode::Negative,
                None => ExitCode::Success,
            };
            output.end(&summary, &judgements, exit)?;
            Ok(exit)
        }
        Err(error) => end_without_run(context, output, error),
    }
}

/// Whether every message came back right, and there was one.
fn has_succeeded(summary: &Summary) -> bool {
    let counts = &summary.counts;
    summary.errors.total() == 0 && counts.failed + counts.unsent == 0 && counts.answered > 0
}

fn check_descriptors(context: &Context<'_>, plan: &Plan) -> Result<(), Failure> {
    let (allowed, wanted) = (descriptor::raise_limit(), plan.connections() + RESERVED_DESCRIPTORS);
    if wanted <= allowed {
        return Ok(());
    }
    let message = format!(
        "{} {}: that takes {} descriptors, and this process may have {} (see ulimit -n)",
        context.layers.place(&CONCURRENCY),
        plan.connections(),
        grouped(wanted),
        grouped(allowed)
    );
    Err(Failure::new(ExitCode::OsLimit, message))
}

/// How long it is until `--start-at`; zero without one, and when it has passed.
fn until_start(context: &Context<'_>, plan: &Plan) -> Result<Duration, Failure> {
    let Some(start_at) = plan.options.start_at else { return Ok(Duration::ZERO) };
    match start(start_at, Timestamp::now()) {
        Start::In(left) => Ok(left),
        Start::Passed(_) => Ok(Duration::ZERO),
        Start::TooFar(left) => {
            let place = context.layers.place(&START_AT);
            let message = format!(
                "{place} {start_at}: that is in {}; at most a day is waited",
                seconds(left)
            );
            Err(Failure::new(ExitCode::Usage, message))
        }
    }
}

fn one_run(
    context: &Context<'_>,
    plan: &Plan,
    wait: Duration,
    output: &mut Output,
) -> Result<Ended, Stopped> {
    let approach = plan.approach(context.signals);
    let addresses = approach.resolve()?;
    if !wait.is_zero() {
        output.live(&Live::waiting(wait));
        if let Some(signal) = context.signals.wait(Some(wait)) {
            return Err(Stopped::Signal(signal));
        }
    }
    let reached = approach.reach_first_at(addresses)?;
    let addresses = plan.addresses(&reached);
    output.connects_to(&addresses);
    let shape = plan.shape(addresses);
    let ended = run_engine(context, &shape, reached, output)?;
    if let Some(start_at) = plan.options.start_at {
        // What the log says as well: by how much the measured part began late.
        let began = ended.summary.began.duration_since(start_at + plan.options.warm_up);
        let side = if began.is_negative() { "before" } else { "after" };
        let late = format!("{:.6} s {side} it was to", began.unsigned_abs().as_secs_f64());
        output.about.facts.push(("started", "started", late));
    }
    Ok(ended)
}

fn run_engine(
    context: &Context<'_>,
    shape: &Shape,
    first: Connected,
    output: &mut Output,
) -> Result<Ended, Stopped> {
    let mut ended = engine::run(shape, first, context.signals, output).map_err(|error| {
        let message = format!("the load cannot run: {}", reason(&error));
        Failure::new(ExitCode::OsLimit, message)
    })?;
    if let Some(problem) = output.unwritten.failure() {
        ended.summary.end = End::Cut(problem.message.clone());
    }
    Ok(ended)
}
