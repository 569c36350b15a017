//! Who has a port that a server cannot have.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::process::Process;
use crate::tcp_table::{SocketState, TableRow, sockets_of_port};

/// Who has a port, as a message says it.
pub(crate) struct PortHolder {
    socket: Option<TableRow>,
    process: Option<Process>,
}

impl PortHolder {
    /// Looks for it: a listener, or else a connection that was bound to the port.
    pub(crate) fn find(address: SocketAddr) -> PortHolder {
        let rows = sockets_of_port(std::process::id(), address.port());
        // Others may have the port on addresses that do not get in the way.
        let clashes = |row: &&TableRow| {
            let ips = [row.local.ip(), address.ip()];
            ips.iter().any(IpAddr::is_unspecified) || ips[0].to_canonical() == ips[1]
        };
        let mut rows = rows.iter().filter(clashes);
        let listens = |row: &&TableRow| row.state == SocketState::Listening;
        let socket = rows.clone().find(listens).or(rows.next()).cloned();
        let process = socket.as_ref().and_then(|socket| {
            let has_it = |process: &Process| {
                process.descriptors().is_ok_and(|found| found.sockets.contains(&socket.inode))
            };
            Process::all().into_iter().find(has_it)
        });
        PortHolder { socket, process }
    }
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(socket) = &self.socket else {
            // Such sockets are in no table.
            return f
                .write_str("a socket has it that is bound and neither listens nor is connected");
        };
        let TableRow { local, remote, state, user, .. } = socket;
        match &self.process {
            Some(process) => {
                let name = process.name().unwrap_or_default();
                write!(f, "process {} ({}) ", process.pid, name.escape_debug())?;
            }
            // The process has closed it or ended, and TCP goes on.
            None if socket.inode == 0 => {
                f.write_str("the kernel, for a process that has closed it, ")?
            }
            None => write!(f, "a process of user {user} that cannot be looked into ")?,
        }
        match state {
            SocketState::Listening => write!(f, "listens on {local}"),
            SocketState::CloseWait | SocketState::Other => {
                write!(f, "has a connection from {local} to {remote}")
            }
        }
    }
}
