//! The process that serves one client of `echo-server --model process`.

use std::env;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use rustix::stdio::stdin;
use signal_hook::consts::SIGTTOU;
use trust_cli::event_log::EventLog;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::level::Level;
use trust_cli::log_sink::{FILE, LogFile, STDOUT};
use trust_cli::output::tell;
use trust_cli::run::catching_panics;
use trust_cli::signals::{self, IgnoredHangup, Signals};
use trust_cli::text::reason;
use trust_net::channel::{self, Introduced, Report, Unlogged};
use trust_net::observer::ClientInfo;
use trust_net::service::Echo;
use trust_net::wire::{Disconnect, During};
use trust_net::{Event, Observer, Server};

use crate::server::events::ServerEvents;
use crate::server::launcher::{CHILD, HandOver};
use crate::server::supervisor::{OtherProcesses, Supervisor};

/// Whether this process was started to serve a connection, by a server.
pub fn is_called() -> bool {
    env::args_os().nth(1).is_some_and(|word| word == CHILD)
}

/// Serves the connection that comes on standard input, and reports how it ended.
///
/// It is a part of the server's run: its events have the server's identity, and it reads no
/// settings.
pub fn run() -> ExitCode {
    signals::survive_file_size_limit();
    let channel = stdin();
    let Some((stream, told)) = take_over(channel) else {
        tell(&format!(
            "error: {CHILD} is how echo-server --model process starts its children; \
             it cannot be run by hand"
        ));
        return ExitCode::Usage;
    };
    // A child is in the background of its server's terminal, which would stop it for a line
    // (`stty tostop`).
    signals::block(SIGTTOU);
    // Else ps(1) and killall(1) call it after the link in /proc that it was started by. No name is
    // no harm.
    let _ = fs::write("/proc/self/comm", "trustctl");
    let signals = Signals::install(IgnoredHangup::Handle);
    let log = open_log(&told);
    let outcome = catching_panics(|| serve(channel, stream, &told, &log, signals));
    let (client, report) = match outcome {
        Ok(report) => report,
        Err(failure) => {
            let event = log.event(Level::Error, "error").field("message", &failure.message);
            event.field("exit", &failure.exit.code()).write();
            tell(&failure.shown());
            // Without a report: the server says what became of the client.
            log.finish(|| {});
            return failure.exit;
        }
    };
    // The server writes what closes the connection's story, so everything else comes before the
    // report.
    log.finish_telling(|missing| {
        let of = |sink| missing.iter().filter(|of| of.sink == sink).map(|of| of.lines).sum();
        let unlogged = Unlogged { file: of(FILE), stdout: of(STDOUT) };
        // What is missing is the server's to tell too: it goes on, so that it finds room for a line
        // sooner or later.
        let report = Report { unlogged, ..report };
        if report.send(channel).is_err() {
            log.tell_elsewhere(missing);
            let cause = Disconnect { reason: report.reason, during: During::Receive, errno: None };
            let events = ServerEvents::new(log.clone(), told.config());
            report.tell(&client, &cause, &events);
        }
    });
    ExitCode::Success
}

fn take_over(channel: BorrowedFd<'_>) -> Option<(OwnedFd, HandOver)> {
    let (stream, words) = channel::take_over(channel).ok()?;
    Some((stream, serde_json::from_slice(&words).ok()?))
}

/// The same places as the server's. What cannot be had is done without: the client is there
/// already.
fn open_log(told: &HandOver) -> EventLog {
    let opened = told.log_file().map(|path| (path, LogFile::open(path)));
    let (file, problem) = match opened {
        Some((_, Ok(file))) => (Some(file), None),
        Some((path, Err(error))) => (None, Some((path, error))),
        None => (None, None),
    };
    let log =
        EventLog::new(told.log_level(), told.request_id.clone(), file, Some(told.log_format()));
    let log = log.unwrap_or_else(|_| EventLog::disabled());
    if let Some((path, error)) = problem {
        log.event(Level::Error, "log_reopen_failed")
            .field("path", &path.to_string_lossy())
            .field("message", &error.to_string())
            .write();
    }
    log
}

fn serve(
    channel: BorrowedFd<'static>,
    stream: OwnedFd,
    told: &HandOver,
    log: &EventLog,
    signals: io::Result<Signals>,
) -> Result<(ClientInfo, Report), Failure> {
    let refused = |error: io::Error| {
        let message = format!("cannot serve a connection: {}", reason(&error));
        Failure::new(ExitCode::OsLimit, message)
    };
    let signals = signals.map_err(refused)?;
    let config = told.config();
    let events = ServerEvents::new(log.clone(), config.clone());
    let introduces = config.limits.proxy_header.is_some();
    let introduces = introduces.then_some(channel);
    let events = Arc::new(ChildEvents { events, introduces, closed: Mutex::default() });
    let processes = OtherProcesses::Server(channel);
    let supervisor = Supervisor::new(&signals, log, told.log_file(), processes).map_err(refused)?;
    let observer = Arc::clone(&events) as Arc<dyn Observer>;
    let server = Server::of_connection(config, Echo, observer, stream, told.client());
    let (outcome, _) = supervisor.run(server.map_err(refused)?);
    let summary = outcome.map_err(refused)?;
    let closed = *events.closed.lock().unwrap_or_else(PoisonError::into_inner);
    let (client, report) = closed.expect("a server of one connection ends with it");
    Ok((client, Report { was_cut: summary.cut > 0, ..report }))
}

/// Writes what happens to the connection, apart from what the server itself says about it.
struct ChildEvents {
    events: ServerEvents,
    /// Where the server learns whom a PROXY header names, if there is one. The process that knows
    /// the client reports it, so that is the child then.
    introduces: Option<BorrowedFd<'static>>,
    closed: Mutex<Option<(ClientInfo, Report)>>,
}

impl Observer for ChildEvents {
    fn wants_frames(&self) -> bool {
        self.events.wants_frames()
    }

    fn wants_paths(&self) -> bool {
        self.events.wants_paths()
    }

    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Connected(client) => {
                if let Some(channel) = self.introduces {
                    // The server first: it reports what it does not learn. If it is gone, no one
                    // does.
                    let _ = Introduced::of(client).send(channel);
                    self.events.observe(event);
                }
            }
            Event::Started { .. }
            | Event::DrainStarted { .. }
            | Event::DrainDone { .. }
            | Event::Stats(_) => {}
            Event::Closed { client, cause, mode, totals, lifetime, path } => {
                let reason = cause.reason;
                let unlogged = Unlogged::default();
                let report =
                    Report { reason, was_cut: false, mode, totals, lifetime, path, unlogged };
                *self.closed.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((*client, report));
            }
            _ => self.events.observe(event),
        }
    }
}
