//! Listening as services do it: on the addresses of what the user named, and in words if that
//! fails.

use std::io;
use std::net::ToSocketAddrs;

use trust_net::errno::Operation;
use trust_net::listening::BindError;
use trust_net::{Address, UnixName, socket};

use crate::error_map;
use crate::exit_code::{ExitCode, Failure};
use crate::listen_host::ListenHost;
use crate::port_holder::PortHolder;
use crate::text::reason;
use crate::values::quoted;
use crate::zone;

/// Listening sockets that a server has at most: an address of each kind for every network that a
/// host is in, several times over.
pub const LISTENERS_MAX: usize = 16;

/// The addresses of a host to listen on, each once; all of this host's without a name.
///
/// # Errors
///
/// 64 for an unknown interface or a name with more than [`LISTENERS_MAX`] addresses, 68 for an
/// unknown name.
pub fn addresses(host: Option<&ListenHost>, port: u16) -> Result<Vec<Address>, Failure> {
    let host = match host {
        None => return Ok(vec![socket::any_address(port).into()]),
        Some(ListenHost::Unix(name)) => return Ok(vec![Address::Unix(name.clone())]),
        Some(ListenHost::Named(host)) => host.as_str(),
    };
    if let Some(address) = zone::literal(host, port)? {
        return Ok(vec![address.into()]);
    }
    let mut found: Vec<Address> = vec![];
    for address in (host, port).to_socket_addrs().into_iter().flatten().map(Address::Ip) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    match found.len() {
        0 => Err(Failure::new(ExitCode::NoHost, format!("unknown host {}", quoted(host)))),
        1..=LISTENERS_MAX => Ok(found),
        count => {
            let host = quoted(host);
            let message = format!("host {host} has {count} addresses: expected {LISTENERS_MAX}");
            Err(Failure::new(ExitCode::Usage, message))
        }
    }
}

/// Why a server cannot listen, with who has the address if somebody has. `host` and `port` are what
/// the user named.
pub fn cannot_listen(error: &BindError, host: Option<&ListenHost>, port: Option<u16>) -> Failure {
    let (address, name, error) = match error {
        BindError { address: None, error, .. } => return loop_failed(error),
        BindError { address: Some(Address::Unix(name)), .. } => {
            return cannot_listen_on_unix(error, name);
        }
        BindError { address: Some(Address::Ip(address)), error, .. } => (address, host, error),
    };
    let host = match name {
        Some(ListenHost::Named(host)) => Some(host),
        Some(ListenHost::Unix(_)) | None => None,
    };
    let port = port.filter(|port| *port != 0).unwrap_or(address.port());
    let place = match host {
        Some(host) if *host != zone::shown_ip(address) => {
            format!("{} port {port} ({})", quoted(host), zone::shown_ip(address))
        }
        Some(host) => format!("{} port {port}", quoted(host)),
        None => format!("port {port}"),
    };
    let mut message = format!("cannot listen on {place}: {}", reason(error));
    if error.kind() == io::ErrorKind::AddrInUse {
        message = format!("{message}: {}", PortHolder::find(*address));
    }
    Failure::new(error_map::exit_code(error, Operation::Listen), message)
}

fn cannot_listen_on_unix(error: &BindError, name: &UnixName) -> Failure {
    let why = match &error.obstacle {
        Some(obstacle) => obstacle.to_string(),
        None => reason(&error.error),
    };
    let exit = match error_map::exit_code(&error.error, Operation::Listen) {
        // A directory that is not there, a file system that is full or for reading only.
        ExitCode::Io => ExitCode::CannotCreate,
        exit => exit,
    };
    Failure::new(exit, format!("cannot listen on {}: {why}", quoted(name.to_string())))
}

/// Why an event loop cannot run.
pub fn loop_failed(error: &io::Error) -> Failure {
    let what = match error.kind() {
        // clone(2) at RLIMIT_NPROC; the loop itself takes EAGAIN for no error.
        io::ErrorKind::WouldBlock => "cannot start a thread (see ulimit -u)",
        _ => "the event loop failed",
    };
    Failure::new(ExitCode::OsLimit, format!("{what}: {}", reason(error)))
}
