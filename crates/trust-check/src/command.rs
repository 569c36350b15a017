//! `trustctl check HOST:PORT`: finds the stream bugs of any server.

mod comparing;
mod proposing;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeWriter, Read};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use trust_cli::approach::Approach;
use trust_cli::colours::Colours;
use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::framing::Framing;
use trust_cli::layers::{Layers, Source};
use trust_cli::output::{Stdout, Unwritten, document, print, tell};
use trust_cli::progress::Progress;
use trust_cli::report_file::{FileId, ReportFile};
use trust_cli::send_proxy;
use trust_cli::signals::Stopped;
use trust_cli::target::{Arguments, Family, ServerSettings, Target};
use trust_cli::text::{count, reason, seconds};
use trust_cli::values::quoted;
use trust_cli::zone;
use trust_net::Address;
use trust_wire::MessageEnd;

use crate::case::{self, Case};
use crate::cases::{self, Effort};
use crate::exchange::learned::Learned;
use crate::exchange::protocol::Protocol;
use crate::expect::Known;
use crate::options::{
    COMMAND, CheckOptions, EXCLUSIONS, EXPECT, HTML, ISSUE, JUNIT, NAME, PID, REPRO, SERVER,
    SETTINGS, again, check,
};
use crate::outcome::CaseOutcome;
use crate::report::json::{CaseList, CheckReport, CheckSettings, ServerFields};
use crate::report::{About, Counts, RunEnd, RunReport, html, issue, junit, repro, terminal};
use crate::runner::{self, CasePlan, ProgressListener, Ran};
use crate::server_command::{
    StartStopLimits, Started, StoppedServer, cannot_start, has_socket, unavailable,
};
use crate::setup::{ConnectionPacer, LeftOut, NO_LIMIT, Setup};
use crate::watch::Watch;

/// New connections per second to a server on another host, and to one on this host that does more
/// than echo: some have an accept queue of a few places.
const REMOTE_RATE: u64 = 50;
const RATE_OF_OTHERS: u64 = 500;

/// Longest list of known failures, in bytes.
const EXPECT_BYTES_MAX: u64 = 1 << 20;

const INTRODUCTION: &str = "\
Has a conversation with a server for each bug that servers of byte streams
usually have: headers in two pieces, many messages in one, clients that leave
at the wrong moment. An echo server has to send every message back; any other
has to answer a request as it does when that comes in one piece. A failure
says what was expected and what came, what went over the wire, and which
command tries it again.

Examples:
  4 bytes of length before each message:
    trustctl check localhost:9900
  2 bytes, the low one first; or a newline after each message:
    trustctl check localhost:9900 --framing u16le
    trustctl check localhost:9900 --framing line
  Over a unix socket; cases that are about TCP are skipped:
    trustctl check unix:/run/my-server.sock
  Starts the server, watches its memory and descriptors, stops it:
    trustctl check --command 'my-server --port {port}'
  A server that does not echo: a known protocol, a file, or one request:
    trustctl check localhost:6379 --dialect redis
    trustctl check localhost:7000 --exchange mine.toml
    trustctl check localhost:7000 --send 'PING\\r\\n'
  One group of cases alone; --list says which there are:
    trustctl check localhost:9900 --case 'partial/*'
  A server that is right, for comparison:
    trustctl check --command 'trustctl echo-server --port {port}'

docs/CHECK.md explains how to read a failure, and which bugs the cases find.
";

/// The command.
pub const ENTRY: Entry = Entry {
    example: "localhost:7000",
    introduction: INTRODUCTION,
    settings: SETTINGS,
    exclusions: EXCLUSIONS,
    check,
    arguments: || [Target::arg().num_args(0..)].into_iter().chain(Family::args()).collect(),
    ..Entry::new(
        NAME,
        "Find the stream bugs of a server, with a transcript of each failure",
        Product::Output,
        run,
    )
};

/// The pattern that every case has.
const EVERY_CASE: &str = "*";

/// Tries the cases.
///
/// # Errors
///
/// 64 for settings that cannot be used together, 65 for an invalid list of known failures, 73 for
/// reports that cannot be written; 68, 69, 75 and 77 if no server answers at all.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let options = CheckOptions::of(context.layers);
    let patterns = options.case.as_deref().unwrap_or(EVERY_CASE);
    let is_wanted =
        |case: &&'static Case| patterns.split(',').any(|pattern| case::matches(pattern, case.id));
    let wanted: Vec<&'static Case> = cases::all().filter(is_wanted).collect();
    if options.list {
        return list(options.json, &wanted);
    }
    let protocol = options.protocol(context.layers)?;
    if options.print {
        return print_dialect(&options);
    }
    let server = ServerAccess::named(context, &options)?;
    if let (Some(path), Some(protocol)) = (&options.propose, &protocol) {
        return proposing::run(context, &options, &server, protocol.clone(), path);
    }
    let plan = CasePlan {
        cases: wanted,
        jobs: options.jobs as usize,
        strict: options.strict,
        known: known_failures(context, &options)?,
    };
    if let Some(direct) = &options.baseline {
        let direct = ServerAccess::There(direct.clone(), None);
        return comparing::run(context, &options, [&direct, &server], protocol, &plan);
    }
    let mut about = about(context, &options, &server, protocol.as_ref())?;
    let mut output = ReportOutput::create(context, &options)?;
    let began = Instant::now();
    match try_all(context, &options, &server, protocol, &plan, &mut about, &mut output) {
        Ok(ran) => finish(context, &about, output, ran, began.elapsed()),
        Err(Stopped::Signal(signal)) => {
            let (outcomes, exit) = (&[][..], context.stopped_by(signal));
            let (end, took) = (RunEnd::Stopped(signal.name()), began.elapsed());
            output.end(&RunReport { about: &about, outcomes, causes: &[], end, took, exit })?;
            Ok(exit)
        }
        Err(Stopped::Failed(failure)) => {
            let (outcomes, exit) = (&[][..], failure.exit);
            let (end, took) = (RunEnd::Unreachable(&failure.message), began.elapsed());
            output.end(&RunReport { about: &about, outcomes, causes: &[], end, took, exit })?;
            Err(failure)
        }
    }
}

/// How the server is reached.
enum ServerAccess {
    /// It is there, and perhaps its process is known.
    There(Target, Option<u32>),
    /// It is started.
    Started(OsString),
}

impl ServerAccess {
    /// The server that the strongest layer names: one on the command line beats a command from a
    /// variable or the file.
    fn named(context: &Context<'_>, options: &CheckOptions) -> Result<ServerAccess, Failure> {
        let usage = |message: String| Err(Failure::new(ExitCode::Usage, message));
        let arguments = arguments(context);
        let is_flag = context.layers.source(&COMMAND) == Source::Flag;
        let family = Family::of(context.matches);
        match &options.command {
            Some(_) if is_flag && !arguments.is_empty() => {
                usage("--command starts a server, so HOST:PORT is not given with it".to_owned())
            }
            Some(command) if arguments.is_empty() => match family.flag() {
                Some(flag) if has_socket(command) => {
                    usage(format!("{flag} cannot be used with {{socket}} in --command"))
                }
                _ => Ok(ServerAccess::Started(command.clone())),
            },
            _ => {
                let named = SERVER.target(context.layers, &arguments, Arguments::Server, family)?;
                let (target, _) = named.ok_or_else(|| ServerSettings::missing("--command"))?;
                Ok(ServerAccess::There(target, options.pid))
            }
        }
    }
}

fn arguments(context: &Context<'_>) -> Vec<OsString> {
    context.matches.get_many::<OsString>("server").unwrap_or_default().cloned().collect()
}

fn about(
    context: &Context<'_>,
    options: &CheckOptions,
    server: &ServerAccess,
    protocol: Option<&Protocol>,
) -> Result<About, Failure> {
    let layers = context.layers;
    let (target, command, pid, is_unix) = match server {
        ServerAccess::There(target, pid) => {
            (Some(target.to_string()), None, *pid, target.is_unix())
        }
        ServerAccess::Started(command) => {
            (None, Some(command.to_string_lossy().into_owned()), None, has_socket(command))
        }
    };
    let preface = options.send_proxy.as_ref();
    let server = ServerFields {
        target,
        address: None,
        command,
        pid,
        send_proxy: preface.map(|preface| send_proxy::described(preface, is_unix)),
        protocol: protocol.map(|protocol| protocol.name.clone()),
        framing: framing(options, layers, protocol)?.to_string(),
        max_frame_bytes: Some(max_frame(options, protocol)).filter(|limit| *limit != NO_LIMIT),
        timeout_sec: timeout(options).map(|time| time.as_secs_f64()),
        one_at_a_time: false,
        max_clients: options.max_clients,
        turned_away_beside: None,
        was_killed: false,
    };
    let settings = CheckSettings {
        patience_sec: options.patience.as_secs_f64(),
        settle_sec: options.settle.as_secs_f64(),
        strict: options.strict,
        seed: options.seed,
        jobs: options.jobs as usize,
    };
    Ok(About {
        started: format!("{:.3}", Timestamp::now()),
        server,
        settings,
        deaths: vec![],
        again: again(layers, &arguments(context), Family::of(context.matches)),
        patterns: options.case.clone().unwrap_or_else(|| EVERY_CASE.to_owned()),
        address: None,
        ignore: protocol.map_or_else(Vec::new, Protocol::ignored),
    })
}

/// How the server tells messages apart, by its protocol or by the flags.
fn framing(
    options: &CheckOptions,
    layers: &Layers,
    protocol: Option<&Protocol>,
) -> Result<Framing, Failure> {
    let Some(protocol) = protocol else { return options.framing(layers) };
    Ok(match &protocol.request_end {
        Some(MessageEnd::Length(format)) => Framing::Length(*format),
        Some(MessageEnd::Bytes(end)) if end == b"\n" => Framing::Line,
        _ => Framing::Raw,
    })
}

/// The longest payload that the server takes, by its protocol or by the flags.
fn max_frame(options: &CheckOptions, protocol: Option<&Protocol>) -> u64 {
    protocol.map_or(options.max_frame, |protocol| protocol.max.unwrap_or(NO_LIMIT))
}

/// Cases that are not tried, and why.
fn left_out(options: &CheckOptions, is_near: bool, has_protocol: bool) -> Vec<LeftOut> {
    let mut left_out = vec![];
    if options.quick {
        left_out.push(LeftOut { patterns: cases::SLOW, why: "left out by --quick" });
    }
    if has_protocol && !is_near && !options.heavy {
        let why = "the server is on another host: needs --heavy";
        left_out.push(LeftOut { patterns: cases::HEAVY, why });
    }
    left_out
}

/// The server's timeout, if it is said to have one.
fn timeout(options: &CheckOptions) -> Option<Duration> {
    options.timeout.filter(|timeout| !timeout.is_zero())
}

/// Reaches the server, or starts it, tries all cases, and stops it.
fn try_all(
    context: &Context<'_>,
    options: &CheckOptions,
    server: &ServerAccess,
    protocol: Option<Protocol>,
    plan: &CasePlan,
    about: &mut About,
    output: &mut ReportOutput,
) -> Result<Ran, Stopped> {
    let (address, watch) = reach(context, server, options, output)?;
    about.server.address = Some(zone::shown_address(&address));
    about.address = Some(address.clone());
    about.server.pid = watch.as_ref().map(Watch::pid);
    let (mut setup, stopper) = setup_for(context, options, address, protocol)?;
    announce_if_far(about, &setup, plan, watch.as_ref());
    let mut lines = Lines { about, output };
    let ran = runner::run(&mut setup, plan, watch.as_ref(), context.signals, stopper, &mut lines);
    lines.output.progress.clear();
    about.server.one_at_a_time = setup.one_at_a_time;
    about.server.turned_away_beside = setup.rate.turned_away_beside();
    about.deaths = watch.as_ref().map_or_else(Vec::new, Watch::deaths);
    let mut ran = ran.map_err(|error| internal(&error))?;
    if let Some(watch) = watch {
        let stopped = stop_server(context, &watch, options, output);
        about.server.was_killed = stopped.was_killed;
        ran.signal = ran.signal.or(stopped.signal);
    }
    Ok(ran)
}

/// What all conversations with the server have in common, and what ends them when it is dropped.
fn setup_for(
    context: &Context<'_>,
    options: &CheckOptions,
    address: Address,
    protocol: Option<Protocol>,
) -> Result<(Setup, PipeWriter), Failure> {
    let (stop, stopper) = io::pipe().map_err(|error| internal(&error))?;
    let is_near = is_near(&address);
    let usual_rate = match (is_near, &protocol) {
        (false, _) => Some(REMOTE_RATE),
        (true, Some(_)) => Some(RATE_OF_OTHERS),
        (true, None) => None,
    };
    let setup = Setup {
        address,
        preface: options.send_proxy,
        framing: framing(options, context.layers, protocol.as_ref())?,
        max_frame: max_frame(options, protocol.as_ref()),
        is_quick: options.quick,
        left_out: left_out(options, is_near, protocol.is_some()),
        exchanges: protocol.map(Learned::new),
        unlearned: None,
        timeout: timeout(options),
        patience: options.patience,
        settle: options.settle,
        reset: options.reset,
        memory_allowance: options.memory_allowance,
        seed: options.seed,
        max_clients: options.max_clients,
        one_at_a_time: false,
        rate: ConnectionPacer::new(options.max_rate.or(usual_rate)),
        stop: OwnedFd::from(stop),
    };
    Ok((setup, stopper))
}

/// Whether the address shows that the server is on this host.
fn is_near(address: &Address) -> bool {
    address.ip().is_none_or(|address| address.ip().is_loopback())
}

/// Says beforehand what a server on another host that does not echo has to expect.
fn announce_if_far(about: &About, setup: &Setup, plan: &CasePlan, watch: Option<&Watch>) {
    let Some(learned) = setup.exchanges.as_ref().filter(|_| !is_near(&setup.address)) else {
        return;
    };
    let is_tried = |case: &&&'static Case| case.misfit(setup, watch.is_some()).is_none();
    let tried = plan.cases.iter().filter(is_tried).copied();
    let Effort { connections, resets, pieces } = cases::effort(tried, learned.exchanges.len());
    tell(&format!(
        "{} gets up to {}, {}, and {} in pieces",
        about.server(),
        count(connections as u64, "connection"),
        count(resets as u64, "reset"),
        count(pieces as u64, "request")
    ));
}

/// Stops the server if it was started here, and says so if it had to be killed.
fn stop_server(
    context: &Context<'_>,
    watch: &Watch,
    options: &CheckOptions,
    output: &mut ReportOutput,
) -> StoppedServer {
    let stopped = watch.stop(context.signals, &mut |line| output.waiting(line)).unwrap_or_default();
    output.progress.clear();
    if stopped.was_killed {
        let after = match stopped.signal {
            Some(signal) => format!("when {} came", signal.name()),
            None => format!("{} after SIGTERM (--stop-timeout)", seconds(options.stop_timeout)),
        };
        tell(&format!("the server had not ended {after} and was killed"));
    }
    stopped
}

fn reach(
    context: &Context<'_>,
    server: &ServerAccess,
    options: &CheckOptions,
    output: &mut ReportOutput,
) -> Result<(Address, Option<Watch>), Stopped> {
    let (family, preface) = (Family::of(context.matches), options.send_proxy);
    match server {
        ServerAccess::Started(command) => {
            let limits =
                StartStopLimits { start: options.start_timeout, stop: options.stop_timeout };
            let started = Started::start(command, limits).map_err(|error| cannot_start(&error))?;
            let mut tell = |line: &str| output.waiting(line);
            let address = started.wait_until_it_accepts(
                family,
                preface.as_ref(),
                context.signals,
                &mut tell,
            )?;
            let watch = Watch::of_started(started, &address)
                .map_err(|error| unavailable(format!("the server ended: {}", reason(&error))))?;
            Ok((address, Some(watch)))
        }
        ServerAccess::There(target, pid) => {
            let (timeout, wait) = (options.patience, options.wait);
            let signals = context.signals;
            let approach = Approach { target, family, timeout, wait, preface, signals };
            let address = approach.reach()?.address;
            let watch = pid.map(|pid| {
                Watch::of_process(pid, &address).map_err(|error| {
                    let place = context.layers.place(&PID);
                    let message = format!("{place} {pid}: {}", reason(&error));
                    Failure::new(ExitCode::Usage, message)
                })
            });
            Ok((address, watch.transpose()?))
        }
    }
}

/// Reports the outcome of the run, and decides how the process ends.
fn finish(
    context: &Context<'_>,
    about: &About,
    output: ReportOutput,
    ran: Ran,
    took: Duration,
) -> Result<ExitCode, Failure> {
    let Ran { outcomes, causes, died, signal, is_cut } = ran;
    // The reader of the output has gone, as `head` does, and there is no other.
    if is_cut && output.unwritten.failure().is_none() {
        return Ok(ExitCode::Success);
    }
    let end = match (signal, &died) {
        (Some(signal), _) => RunEnd::Stopped(signal.name()),
        (None, Some(during)) => RunEnd::ServerDied(during),
        (None, None) => RunEnd::Complete,
    };
    let exit = match signal {
        Some(signal) => context.stopped_by(signal),
        None if died.is_none() && Counts::of(&outcomes).is_success() => ExitCode::Success,
        None => ExitCode::Negative,
    };
    output.end(&RunReport { about, outcomes: &outcomes, causes: &causes, end, took, exit })?;
    Ok(exit)
}

/// Where reports go.
struct ReportOutput {
    is_json: bool,
    colours: Colours,
    progress: Progress,
    junit: Option<ReportFile>,
    html: Option<ReportFile>,
    repro: Option<ReportFile>,
    issue: Option<ReportFile>,
    /// The reader of stdout has gone, or takes nothing.
    is_gone: bool,
    unwritten: Unwritten,
}

impl ReportOutput {
    fn create(context: &Context<'_>, options: &CheckOptions) -> Result<ReportOutput, Failure> {
        let known = options.expect.as_deref().and_then(FileId::of_path);
        let is_known = || format!("is the list of {}", context.layers.place(&EXPECT));
        let inputs = known.into_iter().map(|id| (id, is_known())).collect();
        let files = [
            (&JUNIT as _, options.junit.as_deref()),
            (&HTML as _, options.html.as_deref()),
            (&REPRO as _, options.repro.as_deref()),
            (&ISSUE as _, options.issue.as_deref()),
        ];
        let [junit, html, repro, issue] = context.create_reports(files, inputs)?;
        Ok(ReportOutput {
            is_json: options.json,
            colours: Colours::of_stdout(),
            progress: Progress::on_stderr(),
            junit,
            html,
            repro,
            issue,
            is_gone: false,
            unwritten: Unwritten::default(),
        })
    }

    /// Whether reports go to files too.
    fn has_files(&self) -> bool {
        let files = [&self.junit, &self.html, &self.repro, &self.issue];
        files.iter().any(|file| file.is_some())
    }

    /// Shows what is waited for.
    fn waiting(&mut self, line: &str) {
        self.progress.show(|room| (terminal::fitting(line, room), None));
    }

    /// Writes the reports, each whatever becomes of the others.
    fn end(mut self, report: &RunReport<'_>) -> Result<(), Failure> {
        self.progress.clear();
        let of_run = report;
        let report = with_unwritten(of_run, &self.unwritten);
        let files = [(self.junit, junit::report(&report)), (self.html, html::report(&report))];
        for (file, text) in files {
            if let Some(file) = file {
                self.unwritten.keep(file.write_whole(text.as_bytes()));
            }
        }
        let of_failure = [
            (self.repro, repro::report(of_run), "--repro"),
            (self.issue, issue::report(of_run), "--issue"),
        ];
        for (file, text, flag) in of_failure {
            match (file, text) {
                (None, _) => {}
                (Some(file), Some(text)) => {
                    self.unwritten.keep(file.write_whole(text.as_bytes()));
                }
                (Some(_), None) => {
                    let what = "no failure can be shown in a few lines";
                    tell(&format!("{what}, so {flag} writes nothing"));
                }
            }
        }
        let unwritten = self.unwritten.clone();
        let report = &with_unwritten(of_run, &unwritten);
        let text = match (self.is_json, report.end) {
            (true, _) => document(&CheckReport::of(report)),
            // The line on stderr says it.
            (false, RunEnd::Unreachable(_)) => String::new(),
            (false, _) => terminal::summary(report, self.colours),
        };
        if !self.is_gone {
            self.unwritten.keep(print(text.as_bytes()));
        }
        self.unwritten.into_result()
    }
}

/// The report, which says so where others could not be written.
fn with_unwritten<'r>(report: &RunReport<'r>, unwritten: &'r Unwritten) -> RunReport<'r> {
    let Some(failure) = unwritten.failure() else { return *report };
    let end = match report.end {
        RunEnd::Complete => RunEnd::Unwritten(&failure.message),
        other => other,
    };
    RunReport { end, exit: failure.exit, ..*report }
}

/// Prints one line per case as soon as the case is done.
struct Lines<'r> {
    about: &'r About,
    output: &'r mut ReportOutput,
}

impl ProgressListener for Lines<'_> {
    fn progress(&mut self, running: &[&'static str], done: usize, of: usize) {
        let line = |room| (terminal::progress(running, done, of, room), None);
        self.output.progress.show(line);
    }

    fn waiting(&mut self, line: &str) {
        self.output.waiting(line);
    }

    fn finished(&mut self, outcome: &CaseOutcome) -> ControlFlow<()> {
        let output = &mut *self.output;
        if output.is_json || output.is_gone {
            return ControlFlow::Continue(());
        }
        output.progress.clear();
        let printed = print(terminal::outcome(outcome, self.about, output.colours).as_bytes());
        output.is_gone = output.unwritten.keep(printed) != Some(Stdout::Open);
        match output.is_gone && !output.has_files() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

fn known_failures(context: &Context<'_>, options: &CheckOptions) -> Result<Known, Failure> {
    let Some(path) = &options.expect else { return Ok(Known::default()) };
    let place = context.layers.place(&EXPECT);
    let unreadable = |why: &str| {
        Failure::new(ExitCode::Io, format!("{place}: cannot read {}: {why}", quoted(path)))
    };
    let file = File::open(path).map_err(|error| unreadable(&reason(&error)))?;
    let mut text = vec![];
    let read = file.take(EXPECT_BYTES_MAX + 1).read_to_end(&mut text);
    if read.map_err(|error| unreadable(&reason(&error)))? as u64 > EXPECT_BYTES_MAX {
        return Err(unreadable(&format!("it has more than {EXPECT_BYTES_MAX} bytes")));
    }
    Known::parse(&String::from_utf8_lossy(&text)).map_err(|bad| {
        let message = format!("{}, line {}: {}", quoted(path), bad.number, bad.problem);
        Failure::new(ExitCode::DataError, message)
    })
}

/// Prints the exchange file of the dialect, as a place to start from.
fn print_dialect(options: &CheckOptions) -> Result<ExitCode, Failure> {
    let usage = |message: String| Failure::new(ExitCode::Usage, message);
    let dialect = options.dialect.ok_or_else(|| usage("--print needs --dialect".to_owned()))?;
    let text = dialect.text(options.path.as_deref()).map_err(usage)?;
    print(text.as_bytes())?;
    Ok(ExitCode::Success)
}

fn list(is_json: bool, cases: &[&'static Case]) -> Result<ExitCode, Failure> {
    let text = match is_json {
        true => document(&CaseList::of(cases)),
        false => cases.iter().map(|case| format!("{:<14}  {}\n", case.id, case.title)).collect(),
    };
    print(text.as_bytes())?;
    Ok(ExitCode::Success)
}

fn internal(error: &io::Error) -> Failure {
    Failure::new(ExitCode::OsLimit, format!("the check cannot run: {}", reason(error)))
}
