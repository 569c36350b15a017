//! The output of a run: progress while it goes on, and reports.

use std::io;
use std::ops::ControlFlow;

use jiff::Timestamp;
use trust_cli::colours::Colours;
use trust_cli::command::Context;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output::{Stdout, Unwritten, document, print};
use trust_cli::progress::Progress;
use trust_cli::report_file::ReportFile;
use trust_cli::signals::Stopped;
use trust_cli::text::reason;
use trust_cli::zone;
use trust_net::Address;

use crate::connection::nanos;
use crate::engine::Listener;
use crate::hdr_log::{End as LogEnd, Header, Writer};
use crate::options::{HDR_LOG, HTML, LoadOptions};
use crate::plan::Plan;
use crate::report::json::LoadDocument;
use crate::report::timeline::Timeline;
use crate::report::{csv, html, progress, terminal};
use crate::summary::{About, End, Interval, Judgement, Live, Run, Searched, Summary};

/// The output of a run: progress while it goes on, and reports.
pub(crate) struct Output {
    is_json: bool,
    is_csv: bool,
    pub(crate) about: About,
    pub(crate) progress: Progress,
    pub(crate) timeline: Timeline,
    header: Header,
    hdr_log: Option<HdrLog>,
    html: Option<ReportFile>,
    /// The search that the reported run came from.
    pub(crate) searched: Option<Searched>,
    /// The reader of stdout is gone.
    is_gone: bool,
    /// Output that could not be written, which ends the run.
    pub(crate) unwritten: Unwritten,
}

/// The log of the run's histograms.
enum HdrLog {
    /// Measuring has not begun.
    Created(ReportFile),
    /// Intervals are written.
    Begun(Writer<ReportFile>),
}

impl Output {
    /// Creates the files, so that a long run does not find out at its end that it cannot.
    pub(crate) fn create(context: &Context<'_>, plan: &Plan) -> Result<Output, Failure> {
        let about = plan.about();
        let header = Header {
            shard: plan.shard,
            start_at: plan.options.start_at,
            warm_up_ns: nanos(plan.options.warm_up),
            began: Timestamp::UNIX_EPOCH,
            target: about.target.clone(),
            addresses: vec![],
            is_open_loop: about.is_open_loop,
            rate: plan.rate(),
            rate_of_all: plan.rate_of_all(),
            duration_ns: plan.duration().map(nanos),
            seed: Some(plan.seed),
            is_seed_given: plan.options.seed.is_some(),
        };
        let LoadOptions { json, csv, hdr_log, html, .. } = &plan.options;
        let files = [(&HDR_LOG as _, hdr_log.as_deref()), (&HTML as _, html.as_deref())];
        let [hdr_log, html] = context.create_reports(files, vec![])?;
        Ok(Output {
            is_json: *json,
            is_csv: *csv,
            about,
            progress: Progress::on_stderr(),
            timeline: Timeline::default(),
            header,
            // Streamed, so that a run that is killed leaves what it has measured until then.
            hdr_log: hdr_log.map(|file| HdrLog::Created(file.streamed())),
            html,
            searched: None,
            is_gone: false,
            unwritten: Unwritten::default(),
        })
    }

    /// Sets the addresses that all reports name.
    pub(crate) fn connects_to(&mut self, addresses: &[Address]) {
        self.about.addresses = addresses.iter().map(zone::shown_address).collect();
        self.header.addresses.clone_from(&self.about.addresses);
    }

    /// Prints to stdout, until its reader is gone.
    fn print(&mut self, text: &str) -> Result<(), Failure> {
        if !self.is_gone {
            self.is_gone = print(text.as_bytes())? == Stdout::Gone;
        }
        Ok(())
    }

    /// Whether the run has no output left: no reader of stdout, and no file.
    fn is_unwanted(&self) -> bool {
        self.is_gone && self.html.is_none() && self.hdr_log.is_none()
    }

    /// Writes the reports. If one fails, the others are still written.
    ///
    /// # Errors
    ///
    /// The first problem with any of them, or with what was written during the run.
    pub(crate) fn end(
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
            (true, ..) => document(&LoadDocument::of(&run)),
            // The lines of CSV were printed as they came; a line on stderr says why there was no
            // run.
            (false, true, _) | (false, false, End::Unreachable(_)) => String::new(),
            (false, false, _) => terminal::result(&run, Colours::of_stdout()),
        };
        let printed = self.print(&text);
        self.unwritten.keep(printed);
        self.unwritten.into_result()
    }

    /// The summary, with a note if another report could not be written.
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

    /// The process's exit code: a problem with a report takes precedence over the run's own.
    fn exit(&self, of_run: ExitCode) -> ExitCode {
        self.unwritten.failure().map_or(of_run, |problem| problem.exit)
    }

    /// Ends the log, also that of a run in which measuring did not begin. If there was no server,
    /// the last good log stays.
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
        self.progress.show(|room| progress::line(live, room));
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
        let Interval { start, length, latency, service, .. } = *interval;
        self.timeline.add(interval);
        if let Some(HdrLog::Begun(writer)) = &mut self.hdr_log
            && let Err(error) = writer.interval(start, length, [latency, service])
        {
            self.hdr_log = None;
            self.unwritten.keep::<()>(Err(hdr_log_failed(&error)));
        }
        if self.is_csv {
            self.progress.clear();
            let printed = self.print(&csv::row(interval, &self.about.addresses));
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

/// Reports that there was nothing to measure.
pub(crate) fn end_without_run(
    context: &Context<'_>,
    output: Output,
    error: Stopped,
) -> Result<ExitCode, Failure> {
    match error {
        Stopped::Signal(signal) => {
            let exit = context.stopped_by(signal);
            output.end(&Summary::nothing(End::Stopped(signal.name())), &[], exit)?;
            Ok(exit)
        }
        Stopped::Failed(failure) => {
            let summary = Summary::nothing(End::Unreachable(failure.message.clone()));
            output.end(&summary, &[], failure.exit)?;
            Err(failure)
        }
    }
}
