//! The kernel's tables of TCP sockets (`/proc/net/tcp` and `tcp6`, proc_pid_net(5)).

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// Its local address.
    pub local: SocketAddr,
    /// The remote address; port 0 if it has none.
    pub remote: SocketAddr,
    /// Its state.
    pub state: SocketState,
    /// The ID of the user who owns it.
    pub user: u32,
    /// Its inode, as in `/proc/PID/fd`; 0 if no process has it open.
    pub inode: u64,
}

/// The states of a socket that matter here (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketState {
    /// It accepts connections.
    Listening,
    /// Its peer has closed, but its owner has not.
    CloseWait,
    /// Any other.
    Other,
}

/// The sockets with this local port, in the process's network namespace.
pub fn sockets_of_port(pid: u32, port: u16) -> Vec<TableRow> {
    // A kernel without IPv6 has no such table.
    let read = |table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    let rows = ["tcp", "tcp6"].into_iter().flat_map(|table| parse(&read(table)));
    rows.filter(|row| row.local.port() == port).collect()
}

/// The inodes of those sockets that are in this state.
pub fn inodes_of_port(pid: u32, port: u16, state: SocketState) -> HashSet<u64> {
    let rows = sockets_of_port(pid, port).into_iter();
    rows.filter(|row| row.state == state).map(|row| row.inode).collect()
}

fn parse(table: &str) -> Vec<TableRow> {
    table.lines().skip(1).filter_map(parse_row).collect()
}

fn parse_row(line: &str) -> Option<TableRow> {
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, remote, state, _, _, _, user, _, inode, ..] = columns[..] else { return None };
    Some(TableRow {
        local: parse_address(local)?,
        remote: parse_address(remote)?,
        state: match state {
            "0A" => SocketState::Listening,
            "08" => SocketState::CloseWait,
            _ => SocketState::Other,
        },
        user: user.parse().ok()?,
        inode: inode.parse().ok()?,
    })
}

/// An address of 4 or 16 bytes, in words of the machine's byte order, and a port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index * 8)?.to_ne_bytes());
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_are_told_apart_by_port_and_state() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        drop(peer);
        let own = std::process::id();
        let rows = sockets_of_port(own, address.port());
        let row = |state| rows.iter().find(|row| row.state == state).expect("it is there");
        let listening = row(SocketState::Listening);
        assert_eq!((listening.local, listening.remote.port()), (address, 0));
        let closed = row(SocketState::CloseWait);
        assert_eq!((closed.local, closed.remote), (address, stream.peer_addr().unwrap()));
        assert_ne!(listening.inode, closed.inode);
        let inodes = inodes_of_port(own, address.port(), SocketState::Listening);
        assert_eq!(inodes, HashSet::from([listening.inode]));
    }

    #[test]
    fn what_is_no_row_is_left_out() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let row = "0: 00000000000000000000000001000000:26AC 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   33        0 501 1\n";
        let rows = parse(&format!("{head}   {row}   1: short\n   {}", row.replace("26AC", "x")));
        let [TableRow { local, state: SocketState::Listening, user: 33, inode: 501, .. }] =
            rows[..]
        else {
            panic!("{rows:?}");
        };
        if cfg!(target_endian = "little") {
            assert_eq!(local, "[::1]:9900".parse().unwrap());
        }
    }
}
