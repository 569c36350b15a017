//! Clients at the same time: from settings through the engine to the reports.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::colours::Colours;
use crate::commands::echo_client::stopped_by;
use crate::commands::load::find_rate;
use crate::commands::{Context, Stdout, Unwritten, print};
use crate::connect::{ConnectError, Limit, connect, resolve};
use crate::descriptor;
use crate::exit_code::{ExitCode, Failure};
use crate::load::budget::judge;
use crate::load::engine::{self, Ended, First, Listener};
use crate::load::hdr_log::{End as LogEnd, Header, Writer};
use crate::load::options::{CONCURRENCY, CSV, HDR_LOG, HTML, JSON, START_AT};
use crate::load::plan::Plan;
use crate::load::report::progress::Progress;
use crate::load::report::timeline::Timeline;
use crate::load::report::{csv, html, json, terminal};
use crate::load::shape::Shape;
use crate::load::start_at::{Start, start};
use crate::load::summary::{About, End, Interval, Judgement, Live, Run, Searched, Summary};
use crate::report_file::ReportFile;
use crate::settings::AnySetting;
use crate::text::{grouped, reason, seconds};

/// Descriptors that are not connections: standard streams, files, the log, signals, epoll and a timer.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Runs the load.
///
/// # Errors
///
/// As the command's.
pub(super) fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let plan = Plan::of(context.layers, crate::target::Family::of(context.matches))?;
    check_descriptors(context, &plan)?;
    let wait = until_start(context, &plan)?;
    let mut output = Output::create(context, &plan)?;
    if let Some((budgets, from)) = &plan.find_rate {
        return find_rate::run(context, &plan, budgets, *from, output);
    }
    match one_run(context, &plan, wait, &mut output) {
        Ok(Ended { is_cut: true, .. }) if output.unwritten.failure().is_none() => {
            Ok(ExitCode::Success)
        }
        Ok(Ended { summary, signal, .. }) => {
            let judgements = judge(&plan.fail_if, &summary);
            let is_missed = judgements.iter().any(|judgement| judgement.is_missed);
            let exit = match signal {
                Some(signal) => stopped_by(signal, context.log),
                None if is_missed || !has_succeeded(&summary) => ExitCode::Negative,
                None => ExitCode::Success,
            };
            output.end(&summary, &judgements, exit)?;
            Ok(exit)
        }
        Err(error) => end_without_run(context, output, error),
    }
}

/// Reports that there was nothing to measure.
pub(super) fn end_without_run(
    context: &Context<'_>,
    output: Output,
    error: ConnectError,
) -> Result<ExitCode, Failure> {
    match error {
        ConnectError::Signal(signal) => {
            let exit = stopped_by(signal, context.log);
            output.end(&Summary::nothing(End::Stopped(signal.name())), &[], exit)?;
            Ok(exit)
        }
        ConnectError::Failed(failure) => {
            let summary = Summary::nothing(End::Unreachable(failure.message.clone()));
            output.end(&summary, &[], failure.exit)?;
            Err(failure)
        }
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
    let Some(start_at) = plan.start_at else { return Ok(Duration::ZERO) };
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

/// The server's address, and a connection to it that is there.
pub(super) struct Reached {
    pub(super) address: SocketAddr,
    pub(super) first: First,
}

pub(super) fn reach(
    context: &Context<'_>,
    plan: &Plan,
    addresses: &[SocketAddr],
) -> Result<Reached, ConnectError> {
    let limit = Limit::start(plan.timeout);
    let begun = Instant::now();
    let stream = connect(&plan.target, addresses, limit, context.signals)?;
    let took = begun.elapsed();
    let address = stream.peer_addr().map_err(|error| {
        let message = format!("cannot connect to {}: {}", plan.target, reason(&error));
        Failure::new(ExitCode::Unavailable, message)
    })?;
    Ok(Reached { address, first: First { stream, took } })
}

fn one_run(
    context: &Context<'_>,
    plan: &Plan,
    wait: Duration,
    output: &mut Output,
) -> Result<Ended, ConnectError> {
    let limit = Limit::start(plan.timeout);
    let addresses = resolve(&plan.target, plan.family, limit, context.signals)?;
    if !wait.is_zero() {
        output.live(&Live::waiting(wait));
        if let Some(signal) = context.signals.wait(Some(wait)) {
            return Err(ConnectError::Signal(signal));
        }
    }
    let reached = reach(context, plan, &addresses)?;
    let shape = plan.shape(reached.address);
    let ended = run_engine(context, &shape, reached.first, output)?;
    if let Some(start_at) = plan.start_at {
        // What the log says as well: by how much the measured part began late.
        let began = ended.summary.began.duration_since(start_at + plan.warm_up());
        let side = if began.is_negative() { "before" } else { "after" };
        let late = format!("{:.6} s {side} it was to", began.unsigned_abs().as_secs_f64());
        output.about.facts.push(("started", "started", late));
    }
    Ok(ended)
}

fn run_engine(
    context: &Context<'_>,
    shape: &Shape,
    first: First,
    output: &mut Output,
) -> Result<Ended, ConnectError> {
    let mut ended = engine::run(shape, first, context.signals, output).map_err(|error| {
        let message = format!("the load cannot run: {}", reason(&error));
        Failure::new(ExitCode::OsLimit, message)
    })?;
    if let Some(problem) = output.unwritten.failure() {
        ended.summary.end = End::Cut(problem.message.clone());
    }
    Ok(ended)
}

/// What a run shows while it goes on, and what is left of it.
pub(super) struct Output {
    is_json: bool,
    is_csv: bool,
    about: About,
    pub(super) progress: Progress,
    pub(super) timeline: Timeline,
    header: Header,
    hdr_log: Option<HdrLog>,
    html: Option<ReportFile>,
    /// The search that the reported run came from.
    pub(super) searched: Option<Searched>,
    /// Nobody reads stdout any more.
    is_gone: bool,
    /// What could not be written, which ends the run.
    unwritten: Unwritten,
}

/// The log of the run's histograms.
enum HdrLog {
    /// Measuring has not begun.
    Created(ReportFile),
    /// Intervals are written.
    Begun(Writer<ReportFile>),
}

impl Output {
    /// Makes the files, so that a long run does not end in the discovery that there can be none.
    fn create(context: &Context<'_>, plan: &Plan) -> Result<Output, Failure> {
        let about = plan.about();
        let header = Header {
            shard: plan.shard,
            start_at: plan.start_at,
            warm_up: plan.warm_up(),
            began: Timestamp::UNIX_EPOCH,
            target: about.target.clone(),
            is_open_loop: about.is_open_loop,
            rate: plan.rate(),
            rate_of_all: plan.rate_of_all(),
            duration: plan.duration(),
            seed: Some(plan.seed),
            is_seed_given: plan.is_seed_given,
        };
        let [hdr_log, html] = context.create_reports([&HDR_LOG, &HTML], vec![])?;
        Ok(Output {
            is_json: context.is_on(&JSON)?,
            is_csv: context.is_on(&CSV)?,
            about,
            progress: Progress::on_stderr(),
            timeline: Timeline::default(),
            header,
            // What a run that is killed has measured until then is worth something.
            hdr_log: hdr_log.map(|file| HdrLog::Created(file.streamed())),
            html,
            searched: None,
            is_gone: false,
            unwritten: Unwritten::default(),
        })
    }

    /// Prints what is meant for whoever reads stdout, as long as somebody does.
    fn print(&mut self, text: &str) -> Result<(), Failure> {
        if !self.is_gone {
            self.is_gone = print(text.as_bytes())? == Stdout::Gone;
        }
        Ok(())
    }

    /// Whether nobody wants anything of the run any more.
    fn is_unwanted(&self) -> bool {
        self.is_gone && self.html.is_none() && self.hdr_log.is_none()
    }

    /// Writes the reports, each whatever becomes of the others.
    ///
    /// # Errors
    ///
    /// The first problem with any of them, or with what was written during the run.
    pub(super) fn end(
        mut self,
        summary: &Summary,
        judgements: &[Judgement],
        exit: ExitCode,
    ) -> Result<(), Failure> {
        self.progress.clear();
        let written = self.end_log(summary);
        self.unwritten.keep(written);
        let of_run = summary;
        let about = std::mem::take(&mut self.about);
        let searched = self.searched.take();
        let searched = searched.as_ref();
        if let Some(html) = self.html.take() {
            let summary = &self.with_unwritten(of_run);
            let run = Run { about: &about, summary, judgements, searched, exit: self.exit(exit) };
            let written = html.write_whole(html::report(&run, &self.timeline).as_bytes());
            self.unwritten.keep(written);
        }
        let summary = &self.with_unwritten(of_run);
        let run = Run { about: &about, summary, judgements, searched, exit: self.exit(exit) };
        let text = match (self.is_json, self.is_csv, &summary.end) {
            (true, ..) => json::report(&run)
                .map_err(|error| Failure::new(ExitCode::Internal, error.to_string()))?,
            // Its lines were printed as they came; and the line on stderr says why there was no run.
            (false, true, _) | (false, false, End::Unreachable(_)) => String::new(),
            (false, false, _) => terminal::result(&run, Colours::of_stdout()),
        };
        let printed = self.print(&text);
        self.unwritten.keep(printed);
        self.unwritten.into_result()
    }

    /// The summary, which says so where other reports could not be written.
    fn with_unwritten(&self, summary: &Summary) -> Summary {
        let mut summary = summary.clone();
        if let Some(failure) = self.unwritten.failure() {
            match &mut summary.end {
                End::Complete => summary.end = End::Unwritten(failure.message.clone()),
                End::Cut(why) => why.clone_from(&failure.message),
                End::Unwritten(_) | End::Stopped(_) | End::Unreachable(_) => {}
            }
        }
        summary
    }

    /// What the process exits with: a problem comes before what the run says.
    fn exit(&self, of_run: ExitCode) -> ExitCode {
        self.unwritten.failure().map_or(of_run, |problem| problem.exit)
    }

    /// Ends the log, also that of a run in which measuring did not begin. Where there was no server the last good one
    /// stays.
    fn end_log(&mut self, summary: &Summary) -> Result<(), Failure> {
        let finish = |writer: Writer<ReportFile>| writer.finish(&LogEnd::of(summary));
        let finished = match self.hdr_log.take() {
            Some(HdrLog::Begun(writer)) => finish(writer),
            Some(HdrLog::Created(_)) if matches!(summary.end, End::Unreachable(_)) => Ok(()),
            Some(HdrLog::Created(file)) => {
                self.header.began = summary.began;
                Writer::new(file, &self.header).and_then(finish)
            }
            None => Ok(()),
        };
        finished.map_err(|error| hdr_log_failed(&error))
    }
}

impl Listener for Output {
    fn live(&mut self, live: &Live) {
        self.progress.show(live);
    }

    fn measuring(&mut self, began: Timestamp) {
        self.header.began = began;
        self.hdr_log = match self.hdr_log.take() {
            Some(HdrLog::Created(file)) => match Writer::new(file, &self.header) {
                Ok(writer) => Some(HdrLog::Begun(writer)),
                Err(error) => {
                    self.unwritten.keep::<()>(Err(hdr_log_failed(&error)));
                    None
                }
            },
            other => other,
        };
        if self.is_csv {
            let printed = self.print(&csv::header());
            self.unwritten.keep(printed);
        }
    }

    fn interval(&mut self, interval: &Interval<'_>) -> ControlFlow<()> {
        self.timeline.add(interval);
        if let Some(HdrLog::Begun(writer)) = &mut self.hdr_log
            && let Err(error) = writer.interval(interval)
        {
            self.hdr_log = None;
            self.unwritten.keep::<()>(Err(hdr_log_failed(&error)));
        }
        if self.is_csv {
            self.progress.clear();
            let printed = self.print(&csv::row(interval));
            self.unwritten.keep(printed);
        }
        match self.unwritten.failure().is_some() || self.is_unwanted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

fn hdr_log_failed(error: &io::Error) -> Failure {
    Failure::new(ExitCode::Io, format!("cannot write {}: {}", HDR_LOG.flag(), reason(error)))
}
