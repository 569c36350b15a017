//! Runs a server and does what signals ask for meanwhile.

use std::io::{self, IsTerminal, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use trust_net::{Handle, Server, Service, Summary};

use crate::commands::Context;
use crate::event_log::{EventLog, Level};
use crate::log_sink::open_log_file;
use crate::signals::{Signal, SignalPipe, Signals};

/// Passes signals on to a server: the first one that asks for an end drains, every other one cuts.
/// SIGHUP asks for an end only from a terminal; else it has the log file opened anew, as log rotation
/// wants it. SIGUSR1 has statistics reported.
pub(crate) struct Supervisor<'a> {
    signals: &'a Signals,
    stats_signal: SignalPipe,
    log: &'a EventLog,
    log_file: Option<&'a Path>,
    hangup_ends: bool,
    /// Its end tells that the server has ended, however it did.
    ended: PipeReader,
    ends: PipeWriter,
}

impl<'a> Supervisor<'a> {
    /// Takes all descriptors that are needed, so that a server that says that it has started has them.
    ///
    /// # Errors
    ///
    /// No descriptors left, or the handler was refused.
    pub(crate) fn new(context: &Context<'a>) -> io::Result<Supervisor<'a>> {
        let (ended, ends) = io::pipe()?;
        Ok(Supervisor {
            signals: context.signals,
            stats_signal: SignalPipe::user1()?,
            log: context.log,
            log_file: context.log_file,
            hangup_ends: io::stdin().is_terminal(),
            ended,
            ends,
        })
    }

    /// Runs the server to its end; what it did, and the first signal that asked for an end.
    pub(crate) fn run<S: Service>(
        self,
        server: Server<S>,
    ) -> (io::Result<Summary>, Option<Signal>) {
        let Supervisor { signals, stats_signal, log, log_file, hangup_ends, ended, ends } = self;
        let handle = server.handle();
        thread::scope(|scope| {
            let run = move || {
                let _ends = ends;
                server.run()
            };
            let running =
                match thread::Builder::new().name("worker-0".into()).spawn_scoped(scope, run) {
                    Ok(running) => running,
                    Err(error) => return (Err(error), None),
                };
            let mut first = None;
            while !wait(signals, &stats_signal, ended.as_fd()) {
                while stats_signal.take() {
                    handle.report_stats();
                }
                while let Some(signal) = signals.take() {
                    if signal == Signal::Hangup && !hangup_ends {
                        reopen(log, log_file);
                    } else {
                        pass_on(signal, first, &handle, log);
                        first = first.or(Some(signal));
                    }
                }
            }
            match running.join() {
                Ok(outcome) => (outcome, first),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

fn pass_on(signal: Signal, first: Option<Signal>, handle: &Handle, log: &EventLog) {
    let action = if first.is_none() { "shutdown" } else { "cut" };
    note(log, signal, action);
    match first {
        None => handle.drain(),
        Some(_) => handle.cut(),
    }
}

fn reopen(log: &EventLog, log_file: Option<&Path>) {
    note(log, Signal::Hangup, if log_file.is_some() { "reopen_log" } else { "none" });
    let Some(path) = log_file else { return };
    match open_log_file(path) {
        Ok(file) => log.replace_file(file),
        Err(error) => log
            .event(Level::Error, "log_reopen_failed")
            .field("path", &path.to_string_lossy())
            .field("message", &error.to_string())
            .write(),
    }
}

fn note(log: &EventLog, signal: Signal, action: &str) {
    let event = log.event(Level::Warn, "signal_received");
    event.field("signal", signal.name()).field("action", action).write();
}

/// Waits for a signal (false) or for the end of the server (true).
fn wait(signals: &Signals, stats_signal: &SignalPipe, ended: BorrowedFd<'_>) -> bool {
    let [terminate, interrupt, hangup] = signals.descriptors();
    let mut descriptors = [ended, terminate, interrupt, hangup, stats_signal.as_fd()]
        .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
    // EINTR is the signal that is waited for.
    let _ = poll(&mut descriptors, None);
    !descriptors[0].revents().is_empty()
}
