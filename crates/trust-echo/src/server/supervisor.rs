//! Runs a server and does what signals ask for meanwhile.

use std::io::{self, IsTerminal, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, wait as wait_for};
use trust_cli::event_log::EventLog;
use trust_cli::service::{handle_hangup, note_signal, reopen_log};
use trust_cli::signals::{Signal, SignalPipe, Signals};
use trust_net::channel::{self, Order, Told};
use trust_net::{Handle, Server, Service, Summary};

use crate::server::events::ModelName;

/// Passes signals on to a server: the first one that asks for an end drains, every other one cuts.
/// SIGHUP asks for an end only from a terminal; else it has the log file opened anew, as log
/// rotation wants it. SIGUSR1 has statistics reported.
pub(crate) struct Supervisor<'a> {
    signals: &'a Signals,
    stats_signal: SignalPipe,
    log: &'a EventLog,
    log_file: Option<&'a Path>,
    processes: OtherProcesses<'a>,
    hangup_ends: bool,
    /// Its end shows that the server has ended, however it did.
    ended: PipeReader,
    ends: PipeWriter,
}

/// Who has something to say to a server beside those who send signals.
pub(crate) enum OtherProcesses<'a> {
    /// Processes that it did not start, whose ends SIGCHLD announces: orphans, if it is the first
    /// process of a container, and those of a shell that has become it by `exec`. No other process
    /// reaps them.
    Strangers(SignalPipe),
    /// Its children, and such strangers.
    Children(SignalPipe),
    /// The server that it is a child of.
    Server(BorrowedFd<'a>),
    /// The server that it was a child of has ended, and its client is served all the same.
    Lost,
}

impl OtherProcesses<'_> {
    /// Those of a server of that model.
    ///
    /// # Errors
    ///
    /// No descriptors left, or the handler was refused.
    pub(crate) fn of(model: ModelName) -> io::Result<OtherProcesses<'static>> {
        let of = match model {
            ModelName::Event | ModelName::Iterative => OtherProcesses::Strangers,
            ModelName::Process => OtherProcesses::Children,
        };
        SignalPipe::child().map(of)
    }

    /// Reaps who has ended, or has the server do it, whose children some of them may be.
    fn reap(&self, handle: &Handle) {
        match self {
            OtherProcesses::Strangers(_) => {
                while let Ok(Some(_)) = wait_for(WaitOptions::NOHANG) {}
            }
            OtherProcesses::Children(_) => handle.reap_children(),
            OtherProcesses::Server(_) | OtherProcesses::Lost => {}
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            OtherProcesses::Lost => None,
            OtherProcesses::Strangers(pipe) | OtherProcesses::Children(pipe) => Some(pipe.as_fd()),
            OtherProcesses::Server(channel) => Some(*channel),
        }
    }
}

impl<'a> Supervisor<'a> {
    /// Takes all descriptors that are needed, so that a server that says that it has started has
    /// them.
    ///
    /// # Errors
    ///
    /// No descriptors left, or the handler was refused.
    pub(crate) fn new(
        signals: &'a Signals,
        log: &'a EventLog,
        log_file: Option<&'a Path>,
        processes: OtherProcesses<'a>,
    ) -> io::Result<Supervisor<'a>> {
        let (ended, ends) = io::pipe()?;
        Ok(Supervisor {
            signals,
            stats_signal: SignalPipe::user1()?,
            log,
            log_file,
            processes,
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
        let Supervisor { signals, stats_signal, log, log_file, hangup_ends, ended, ends, .. } =
            self;
        let mut processes = self.processes;
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
            // Those who ended before anybody listened for their ends.
            processes.reap(&handle);
            while !wait(signals, &stats_signal, ended.as_fd(), processes.descriptor()) {
                listen_to(&mut processes, &handle, log, log_file);
                while stats_signal.take() {
                    handle.report_stats();
                }
                while let Some(signal) = signals.take() {
                    if signal == Signal::Hangup && !hangup_ends {
                        handle_hangup(log, log_file);
                        handle.have_children_reopen_logs();
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
    note_signal(log, signal, action);
    match first {
        None => handle.drain(),
        Some(_) => handle.cut(),
    }
}

fn listen_to(
    processes: &mut OtherProcesses<'_>,
    handle: &Handle,
    log: &EventLog,
    log_file: Option<&Path>,
) {
    match processes {
        OtherProcesses::Lost => {}
        OtherProcesses::Strangers(pipe) | OtherProcesses::Children(pipe) => {
            // One look is enough for all that have come.
            let mut came = false;
            while pipe.take() {
                came = true;
            }
            if came {
                processes.reap(handle);
            }
        }
        OtherProcesses::Server(channel) => match channel::next_order(*channel) {
            Told::Order(Order::Drain) => handle.drain(),
            Told::Order(Order::Cut) => handle.cut(),
            Told::Order(Order::ReopenLog) => reopen_log(log, log_file),
            Told::Nothing => {}
            Told::Alone => *processes = OtherProcesses::Lost,
        },
    }
}

/// Waits for a signal (false) or for the end of the server (true).
fn wait(
    signals: &Signals,
    stats_signal: &SignalPipe,
    ended: BorrowedFd<'_>,
    processes: Option<BorrowedFd<'_>>,
) -> bool {
    let [terminate, interrupt, hangup] = signals.descriptors();
    // Without other processes the first one is looked at twice.
    let processes = processes.unwrap_or(ended);
    let mut descriptors = [ended, terminate, interrupt, hangup, stats_signal.as_fd(), processes]
        .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
    // EINTR is the signal that is waited for.
    let _ = poll(&mut descriptors, None);
    !descriptors[0].revents().is_empty()
}
