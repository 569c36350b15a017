//! `trustctl check --propose FILE`: writes an exchange file in place of running cases.

use std::io::{self, PipeWriter};
use std::os::fd::AsFd;
use std::panic;
use std::path::Path;
use std::thread;

use rustix::event::PollFlags;
use trust_cli::command::Context;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output::{print, tell};
use trust_cli::report_file::FileId;
use trust_cli::signals::{Signals, Stopped};
use trust_cli::target::Family;
use trust_cli::text::count;
use trust_cli::values::quoted;
use trust_cli::wait::wait;

use super::{
    ReportOutput, ServerAccess, arguments, internal, is_near, reach, setup_for, stop_server,
};
use crate::exchange::file;
use crate::exchange::protocol::Protocol;
use crate::options::{CheckOptions, EXCHANGE, PROPOSE, with_exchange};
use crate::propose::{self, Proposal, SAMPLES};
use crate::verdict::{Finding, Verdict};

/// Learns from whole requests, and writes the file.
///
/// # Errors
///
/// 1 if nothing was answered; 64, 73 and 74 for the file; 68, 69, 75 and 77 if no server answers at
/// all.
pub(super) fn run(
    context: &mut Context<'_>,
    options: &CheckOptions,
    server: &ServerAccess,
    protocol: Protocol,
    path: &Path,
) -> Result<ExitCode, Failure> {
    let input = options.exchange.as_deref().and_then(FileId::of_path);
    let is_input = || format!("is the file of {}", context.layers.place(&EXCHANGE));
    let inputs = input.into_iter().map(|id| (id, is_input())).collect();
    let mut protocol = protocol;
    if options.dialect.is_none() && options.exchange.is_none() {
        protocol.name.clear();
    }
    let [file] = context.create_reports([(&PROPOSE as _, Some(path))], inputs)?;
    let mut output = ReportOutput::create(context, options)?;
    let proposal = match learn(context, options, server, protocol, &mut output) {
        Ok(proposal) => proposal,
        Err(Stopped::Signal(signal)) => return Ok(context.stopped_by(signal)),
        Err(Stopped::Failed(failure)) => return Err(failure),
    };
    let text = proposal.draft.text();
    let no_file = |_: &str| Err("it names no file".to_owned());
    // What is too large for such a file is not written.
    file::parse(text.as_bytes(), &path.to_string_lossy(), &no_file)
        .map_err(|message| Failure::new(ExitCode::DataError, message))?;
    if let Some(file) = file {
        if proposal.has_secret() {
            file.make_private().map_err(|error| file.failure(&error))?;
        }
        file.write_whole(text.as_bytes())?;
    }
    let family = Family::of(context.matches);
    let next = with_exchange(context.layers, &arguments(context), family, path);
    print(summary(&proposal, path, &next).as_bytes())?;
    Ok(ExitCode::Success)
}

/// What was found, and the command to go on with.
fn summary(proposal: &Proposal, path: &Path, next: &str) -> String {
    let written = format!("wrote {} from {SAMPLES} whole deliveries", quoted(path));
    let found = proposal.found.iter().map(|line| format!("  {line}"));
    let lines = [written].into_iter().chain(found).chain([format!("go on with: {next}")]);
    lines.map(|line| line + "\n").collect()
}

/// Reaches the server, or starts it, learns, and stops it.
fn learn(
    context: &mut Context<'_>,
    options: &CheckOptions,
    server: &ServerAccess,
    protocol: Protocol,
    output: &mut ReportOutput,
) -> Result<Proposal, Stopped> {
    let (address, watch) = reach(context, server, options, output)?;
    if let (false, ServerAccess::There(target, _)) = (is_near(&address), server) {
        let most = propose::connections_max(protocol.exchanges.len());
        let connections = count(most as u64, "connection");
        tell(&format!("{target} gets up to {connections}, all with whole requests"));
    }
    let (setup, stopper) = setup_for(context, options, address, Some(protocol.clone()))?;
    output.waiting("learning from whole requests");
    let proposed = attend(context.signals, stopper, || propose::propose(&setup, &protocol));
    output.progress.clear();
    if let Some(watch) = watch {
        let stopped = stop_server(context, &watch, options, output);
        if let Some(signal) = stopped.signal {
            return Err(Stopped::Signal(signal));
        }
    }
    proposed?.map_err(|verdict| {
        let message = match verdict {
            Verdict::Fail(Finding { got, .. }) => format!("nothing to propose: {got}"),
            other => format!("nothing to propose: {other:?}"),
        };
        Stopped::Failed(Failure::new(ExitCode::Negative, message))
    })
}

/// Does something slow, and ends it when a signal comes.
pub(super) fn attend<T: Send>(
    signals: &Signals,
    stopper: PipeWriter,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Stopped> {
    let (bell, ring) = io::pipe().map_err(|error| internal(&error))?;
    thread::scope(|scope| {
        let started = thread::Builder::new().name("propose".into()).spawn_scoped(scope, || {
            let done = work();
            drop(ring);
            done
        });
        let worker = started.map_err(|error| internal(&error))?;
        let mut stopped = None;
        while stopped.is_none() && !worker.is_finished() {
            // Hung up, and so ready, once the work is done.
            let ready = wait(signals, [Some((bell.as_fd(), PollFlags::IN))], None);
            match ready {
                Ok([true]) => break,
                Ok([false]) => {}
                Err(reason) => stopped = Some(reason),
            }
        }
        drop(stopper);
        let done = worker.join().map_err(|panicked| panic::resume_unwind(panicked));
        match stopped {
            Some(reason) => Err(reason),
            None => done,
        }
    })
}
