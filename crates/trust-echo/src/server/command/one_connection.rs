//! `trustctl echo-server --inetd`: serves the one connection on descriptor 0, and ends with it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use trust_cli::command::Context;
use trust_cli::descriptor::Kind;
use trust_cli::error_map;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::listening::loop_failed;
use trust_cli::signals::Signal;
use trust_net::observer::ClientInfo;
use trust_net::service::Echo;
use trust_net::wire::{Disconnect, Reason};
use trust_net::{Event, Observer, Peer, Server, ServerConfig, Summary, socket};

use super::{exit_code, write_stop};
use crate::server::activation;
use crate::server::events::{ModelName, ServerEvents};
use crate::server::notify::{Notified, Notifier};
use crate::server::options::{ServerOptions, checked_config};
use crate::server::supervisor::{OtherProcesses, Supervisor};

/// Serves the connection to its end.
///
/// # Errors
///
/// 64 for settings about listening, and for a descriptor 0 that is not a connection; 73 without a
/// log.
pub(super) fn run(context: &mut Context<'_>, options: &ServerOptions) -> Result<ExitCode, Failure> {
    let mut config = ServerConfig { max_clients: 1, ..checked_config(options, context.layers)? };
    let notifier = Notifier::from_environment(context.log)?;
    config.pulse = notifier.sign_of_life();
    let (stream, peer) = connection(context.descriptor_0.take())?;
    if let Some(problem) = context.home_problem {
        return Err(Failure::new(ExitCode::CannotCreate, problem));
    }
    let started = Instant::now();
    let supervisor = OtherProcesses::of(ModelName::Event)
        .and_then(|processes| {
            Supervisor::new(context.signals, context.log, context.log_file, processes)
        })
        .map_err(|error| loop_failed(&error))?;
    let events = ServerEvents::new(context.log.clone(), config.clone());
    let cause = Arc::new(Mutex::default());
    let witness = Witness { events, cause: Arc::clone(&cause) };
    let observer = Arc::new(Notified { notifier, others: witness });
    let info = ClientInfo::new(1, stream.as_raw_fd(), peer);
    let server = Server::of_connection(config, Echo, observer, stream, info)
        .map_err(|error| loop_failed(&error))?;
    let (outcome, signal) = supervisor.run(server);
    let summary = outcome.map_err(|error| loop_failed(&error))?;
    write_stop(context.log, &summary, started.elapsed());
    let cause = cause.lock().unwrap_or_else(PoisonError::into_inner).take();
    cause.map_or(Ok(ExitCode::Internal), |cause| exit_of(&cause, &summary, signal))
}

/// The connection and its peer. A client that has reset meanwhile, and no longer has an address, is
/// served like any other: its end is soon found.
fn connection(descriptor: Option<OwnedFd>) -> Result<(OwnedFd, Peer), Failure> {
    let kind = descriptor.as_ref().map_or(Kind::Other("not open"), |it| Kind::of(it.as_fd()));
    match (kind, descriptor) {
        (Kind::Connection | Kind::Gone, Some(descriptor)) => {
            let peer = socket::peer(descriptor.as_fd()).map_err(|error| loop_failed(&error))?;
            Ok((descriptor, peer))
        }
        (kind, _) => {
            let hint = match kind {
                Kind::Listener => {
                    "; inetd hands connections over with nowait, systemd with Accept=yes"
                }
                _ if activation::are_handed_over() => {
                    "; LISTEN_FDS hands listening sockets over, which are served without --inetd"
                }
                _ => "",
            };
            let message = format!(
                "descriptor 0 is {}: with --inetd it has to be \
                 a connected TCP or unix socket{hint}",
                kind.name()
            );
            Err(Failure::new(ExitCode::Usage, message))
        }
    }
}

/// Writes the events, and remembers how the connection ended.
struct Witness {
    events: ServerEvents,
    cause: Arc<Mutex<Option<Disconnect>>>,
}

impl Observer for Witness {
    fn wants_frames(&self) -> bool {
        self.events.wants_frames()
    }

    fn wants_paths(&self) -> bool {
        self.events.wants_paths()
    }

    fn observe(&self, event: &Event<'_>) {
        if let Event::Closed { cause, .. } = event {
            *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(**cause);
        }
        self.events.observe(event);
    }
}

/// What decides the exit code of a run with one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// How the connection ended.
    Reason(ExitCode),
    /// The errno with which it failed, by the table of errors.
    Errno,
    /// The signal that ended it, as for any server.
    Signal,
}

/// The table: what decides after a connection that ended for this reason.
pub const fn decided_by(reason: &Reason) -> Decided {
    match reason {
        Reason::PeerFin | Reason::MaxLifetime => Decided::Reason(ExitCode::Success),
        Reason::TruncatedFrame { .. }
        | Reason::FrameTooLarge { .. }
        | Reason::ProxyHeaderInvalid(_) => Decided::Reason(ExitCode::Protocol),
        Reason::RecvTimeout
        | Reason::SendTimeout
        | Reason::FrameTimeout
        | Reason::ProxyHeaderTimeout => Decided::Reason(ExitCode::TimedOut),
        Reason::Drain | Reason::DrainTimeout | Reason::SecondSignal => Decided::Signal,
        Reason::ClientReset | Reason::BrokenPipe | Reason::ClientUnreachable | Reason::IoError => {
            Decided::Errno
        }
        // Do not happen where there is one connection, one place and one process.
        Reason::AtCapacity | Reason::ChildDied => Decided::Reason(ExitCode::Internal),
    }
}

fn exit_of(
    cause: &Disconnect,
    summary: &Summary,
    signal: Option<Signal>,
) -> Result<ExitCode, Failure> {
    match decided_by(&cause.reason) {
        Decided::Reason(exit) => Ok(exit),
        Decided::Signal => exit_code(summary, signal),
        Decided::Errno => {
            let row = error_map::find(cause.errno.unwrap_or_default(), cause.during);
            Ok(row.exit.unwrap_or(ExitCode::Io))
        }
    }
}
