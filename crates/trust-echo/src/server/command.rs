//! `trustctl echo-server --port P`: the echo service.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trust_cli::command::{Context, Entry, Product};
use trust_cli::descriptor;
use trust_cli::error_map;
use trust_cli::event_log::EventLog;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::layers::Layers;
use trust_cli::level::Level;
use trust_cli::listen_host::ListenHost;
use trust_cli::listening::{addresses, cannot_listen, loop_failed};
use trust_cli::service;
use trust_cli::signals::Signal;
use trust_cli::text::{milliseconds, reason};
use trust_cli::values::quoted;
use trust_net::errno::Operation;
use trust_net::service::Echo;
use trust_net::{Model, Server, Summary};

use crate::server::activation;
use crate::server::events::{ModelName, ServerEvents, with_totals};
use crate::server::launcher::{self, HandOver};
use crate::server::notify::{Notified, Notifier};
use crate::server::options::{
    EXCLUSIONS, HOST, INETD, NAME, PORT, SETTINGS, SOCKET_MODE, ServerOptions, check,
    checked_config,
};
use crate::server::supervisor::{OtherProcesses, Supervisor};

pub mod one_connection;

/// Descriptors that are not clients: standard streams, log, listener, signals and room for clients
/// that are turned away; and per worker an epoll instance, what wakes it, and its alarm.
const RESERVED_DESCRIPTORS: u64 = 128;
const DESCRIPTORS_PER_WORKER: u64 = 5;

/// The command.
pub const ENTRY: Entry = Entry {
    example: "--port 9900",
    settings: SETTINGS,
    exclusions: EXCLUSIONS,
    check,
    on_descriptor_0: Some(&INETD),
    ..Entry::new(
        NAME,
        "Serve clients: every frame, or every byte, goes back to where it came from",
        Product::Service,
        run,
    )
};

/// Serves until a signal ends it, or with `--inetd` until its connection has ended.
///
/// # Errors
///
/// 64 without a port or for settings that exclude each other, 73 without a log, 68 for an unknown
/// host name, and what the error table says about `bind(2)`.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let options = ServerOptions::of(context.layers);
    if options.inetd {
        return one_connection::run(context, &options);
    }
    let handed_over = activation::listeners()?;
    check_against(&handed_over, &options, context.layers)?;
    let mut config = checked_config(&options, context.layers)?;
    let notifier = Notifier::from_environment(context.log)?;
    config.pulse = notifier.sign_of_life();
    if let Some(problem) = context.home_problem {
        return Err(Failure::new(ExitCode::CannotCreate, problem));
    }
    let host = options.host.as_ref();
    if handed_over.is_empty() {
        config.addresses = addresses(host, options.port.unwrap_or(0))?;
    }
    let model = options.model;
    config.max_clients = allowed_clients(options.max_clients, model, config.workers, context.log);

    let started = Instant::now();
    let supervisor = OtherProcesses::of(model)
        .and_then(|processes| {
            Supervisor::new(context.signals, context.log, context.log_file, processes)
        })
        .map_err(|error| loop_failed(&error))?;
    config.model = match model {
        ModelName::Event => Model::Event,
        ModelName::Iterative => Model::Iterative,
        ModelName::Process => {
            launcher::check_executable().map_err(|error| no_children(&error))?;
            Model::Process(Arc::new(HandOver::new(&config, context.log, context.log_file)))
        }
    };
    let events = ServerEvents::new(context.log.clone(), config.clone());
    let events = events.with_handed_over(handed_over.len());
    let observer = Arc::new(Notified { notifier, others: events });
    let server = match handed_over.is_empty() {
        true => Server::bind(config.clone(), Echo, observer)
            .map_err(|error| cannot_listen(&error, host, options.port))?,
        false => Server::of_listeners(config, Echo, observer, handed_over)
            .map_err(|error| loop_failed(&error))?,
    };
    let (outcome, signal) = supervisor.run(server);
    let summary = outcome.map_err(|error| loop_failed(&error))?;
    write_stop(context.log, &summary, started.elapsed());
    exit_code(&summary, signal)
}

/// Checks the settings against the sockets that were handed over, if any were.
fn check_against(
    handed_over: &[OwnedFd],
    options: &ServerOptions,
    layers: &Layers,
) -> Result<(), Failure> {
    if handed_over.is_empty() {
        if let Some(ListenHost::Unix(_)) = options.host {
            return Ok(());
        }
        // One that a weaker layer has than the port is meant for another server.
        let for_this_one = layers.source(&SOCKET_MODE) >= layers.source(&PORT);
        if options.socket_mode.is_some() && for_this_one {
            return Err(no_file(layers));
        }
        return options.port.map(drop).ok_or_else(|| {
            let mut missing = PORT.missing();
            if let Some(missed) = activation::missed() {
                missing.message = format!("{} ({missed})", missing.message);
            }
            missing
        });
    }
    let reason = "LISTEN_FDS, sockets that are listening already: leave it out";
    activation::refuse_given(layers, &[&PORT, &HOST, &SOCKET_MODE], reason)?;
    Ok(())
}

fn no_file(layers: &Layers) -> Failure {
    let mode = layers.text(&SOCKET_MODE).0.unwrap_or_default();
    let (place, mode, host) = (layers.place(&SOCKET_MODE), quoted(mode), HOST.flag());
    let message = format!("{place} {mode} needs {host} unix:PATH: it makes no file otherwise");
    Failure::new(layers.blame(&[&SOCKET_MODE]), message)
}

/// How many clients the descriptors allow, after the soft limit was raised to the hard one.
fn allowed_clients(wanted: Option<u64>, model: ModelName, workers: usize, log: &EventLog) -> usize {
    let descriptors = descriptor::raise_limit();
    let reserved = RESERVED_DESCRIPTORS + DESCRIPTORS_PER_WORKER * workers as u64;
    let allowed = descriptors.saturating_sub(reserved).max(1);
    let default = match model {
        ModelName::Event | ModelName::Iterative => allowed,
        ModelName::Process => allowed.min(launcher::default_children()),
    };
    if let Some(wanted) = wanted.filter(|wanted| *wanted > allowed) {
        let event = log.event(Level::Warn, "limit_lowered");
        event.field("limit", "max_clients").field("wanted", &wanted).field("got", &allowed).write();
    }
    usize::try_from(wanted.unwrap_or(default).min(allowed)).unwrap_or(usize::MAX)
}

fn write_stop(log: &EventLog, summary: &Summary, duration: Duration) {
    let event = log
        .event(Level::Info, "server_stop")
        .field("connections", &summary.connections)
        .field("rejected", &summary.rejected);
    with_totals(event, &summary.totals).field("duration_ms", &milliseconds(duration)).write();
}

fn exit_code(summary: &Summary, signal: Option<Signal>) -> Result<ExitCode, Failure> {
    if let Some(errno) = summary.listener_failed {
        let name = error_map::errno_name(errno);
        let exit = error_map::find(errno, Operation::Accept).exit.unwrap_or(ExitCode::OsLimit);
        return Err(Failure::new(exit, format!("the listening socket failed: {name}")));
    }
    Ok(service::exit_code(signal, summary.cut > 0 || summary.cut_short))
}

fn no_children(error: &io::Error) -> Failure {
    let message = format!(
        "cannot start children, whose executable is /proc/self/exe (model process): {}",
        reason(error)
    );
    Failure::new(ExitCode::OsLimit, message)
}
