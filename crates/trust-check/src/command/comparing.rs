//! `trustctl check BOX --baseline DIRECT`: the same cases directly and through a box.

use std::ffi::OsString;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::Instant;

use trust_cli::command::Context;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output::tell;
use trust_cli::progress::Progress;
use trust_cli::signals::Stopped;
use trust_cli::target::{Family, Target};
use trust_cli::zone;

use super::proposing::attend;
use super::{ReportOutput, ServerAccess, about, announce_if_far, internal, reach, setup_for};
use crate::compare;
use crate::compare::json::CompareReport;
use crate::compare::measure::{self, Measurement};
use crate::exchange::protocol::Protocol;
use crate::options::{CheckOptions, again};
use crate::outcome::CaseOutcome;
use crate::report::json::CheckReport;
use crate::report::{About, Counts, RunEnd, RunReport, terminal};
use crate::runner::{self, BothSides, CasePlan, ProgressListener, Ran};

/// Tries all cases on both, and says what differs.
///
/// # Errors
///
/// 73 and 74 for the reports; 68, 69, 75 and 77 if one of the two does not answer at all.
pub(super) fn run(
    context: &mut Context<'_>,
    options: &CheckOptions,
    [direct, through]: [&ServerAccess; 2],
    protocol: Option<Protocol>,
    plan: &CasePlan,
) -> Result<ExitCode, Failure> {
    let mut output = ReportOutput::create(context, options)?;
    let mut abouts = [
        about(context, options, direct, protocol.as_ref())?,
        about(context, options, through, protocol.as_ref())?,
    ];
    if let ServerAccess::There(target, _) = direct {
        let family = Family::of(context.matches);
        abouts[0].again = again(context.layers, &words(target), family);
    }
    let began = Instant::now();
    let tried =
        try_both(context, options, [direct, through], protocol, plan, &mut abouts, &mut output);
    output.progress.clear();
    let (rans, measurements) = match tried {
        Ok(tried) => tried,
        Err(Stopped::Signal(signal)) => return Ok(context.stopped_by(signal)),
        Err(Stopped::Failed(failure)) => return Err(failure),
    };
    let signal = rans.iter().find_map(|ran| ran.signal);
    let end = signal.map_or(RunEnd::Complete, |signal| RunEnd::Stopped(signal.name()));
    let took = began.elapsed();
    let report = |about: &About, ran: &Ran| {
        let Ran { outcomes, causes, .. } = ran;
        let is_success = Counts::of(outcomes).is_success();
        let exit = if is_success { ExitCode::Success } else { ExitCode::Negative };
        CheckReport::of(&RunReport { about, outcomes, causes, end, took, exit })
    };
    let [own, other] = &rans;
    let reports = [report(&abouts[0], own), report(&abouts[1], other)];
    let names = abouts.each_ref().map(|about| about.server().to_owned());
    let compared = compare::compare(names, &reports[0], &reports[1]);
    let compared = CompareReport { measurements, ..compared };
    let files = [output.junit, output.html];
    let exit = compare::put(&compared, &reports, files, options.json)?;
    Ok(signal.map_or(exit, |signal| context.stopped_by(signal)))
}

/// The server as arguments.
fn words(target: &Target) -> Vec<OsString> {
    target.to_string().split(' ').map(Into::into).collect()
}

fn try_both(
    context: &Context<'_>,
    options: &CheckOptions,
    servers: [&ServerAccess; 2],
    protocol: Option<Protocol>,
    plan: &CasePlan,
    abouts: &mut [About; 2],
    output: &mut ReportOutput,
) -> Result<([Ran; 2], Vec<Measurement>), Stopped> {
    let mut prepare = |number: usize| {
        let reached = reach(context, servers[number], options, output);
        if let (0, Err(Stopped::Failed(_))) = (number, &reached)
            && let Ok((address, _)) = reach(context, servers[1], options, output)
        {
            let (setup, _stop) = setup_for(context, options, address, protocol.clone())?;
            tell(&format!("without a server the box {}", measure::without_server(&setup)));
        }
        let (address, _) = reached?;
        let about = &mut abouts[number];
        about.server.address = Some(zone::shown_address(&address));
        about.address = Some(address.clone());
        let (setup, stop) = setup_for(context, options, address, protocol.clone())?;
        announce_if_far(about, &setup, plan, None);
        Ok::<_, Stopped>((setup, stop))
    };
    let ((mut direct, stop_direct), (mut through, stop_through)) = (prepare(0)?, prepare(1)?);
    let mut lines = ["directly", "through the box"].map(SideLines::new);
    let [own, other] = &mut lines;
    let sides = [
        BothSides { setup: &mut direct, stop: stop_direct, listener: own },
        BothSides { setup: &mut through, stop: stop_through, listener: other },
    ];
    let rans = runner::run_both(plan, context.signals, sides);
    lines.iter_mut().for_each(|lines| lines.progress.clear());
    for (about, setup) in abouts.iter_mut().zip([&direct, &through]) {
        about.server.one_at_a_time = setup.one_at_a_time;
        about.server.turned_away_beside = setup.rate.turned_away_beside();
    }
    let mut rans = rans.map_err(|error| internal(&error))?;
    let serves = |ran: &Ran| Counts::of(&ran.outcomes).shows_something();
    if options.quick || rans.iter().any(|ran| ran.signal.is_some() || !serves(ran)) {
        return Ok((rans, vec![]));
    }
    output.waiting("measuring");
    let (stop, stopper) = io::pipe().map_err(|error| internal(&error))?;
    direct.stop = OwnedFd::from(stop.try_clone().map_err(|error| internal(&error))?);
    through.stop = OwnedFd::from(stop);
    let measured = attend(context.signals, stopper, || {
        measure::measure([&direct, &through], options.idle_max)
    });
    match measured {
        // Only the end of the run keeps it from being measured.
        Ok(measured) => Ok((rans, measured.unwrap_or_default())),
        // The cases were all tried.
        Err(Stopped::Signal(signal)) => {
            rans[0].signal = Some(signal);
            Ok((rans, vec![]))
        }
        Err(failed) => Err(failed),
    }
}

/// Shows which side is tried.
struct SideLines {
    side: &'static str,
    progress: Progress,
}

impl SideLines {
    fn new(side: &'static str) -> SideLines {
        SideLines { side, progress: Progress::on_stderr() }
    }
}

impl ProgressListener for SideLines {
    fn progress(&mut self, running: &[&'static str], done: usize, of: usize) {
        let side = self.side;
        let line = |room: usize| terminal::progress(running, done, of, room);
        self.progress
            .show(|room| (terminal::fitting(&format!("{side}  {}", line(room)), room), None));
    }

    fn waiting(&mut self, line: &str) {
        self.progress.show(|room| (terminal::fitting(line, room), None));
    }

    fn finished(&mut self, _: &CaseOutcome) -> ControlFlow<()> {
        self.progress.clear();
        ControlFlow::Continue(())
    }
}
