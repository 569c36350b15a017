//! The kernel's table of unix sockets (`/proc/net/unix`, proc_pid_net(5)).

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use trust_net::UnixName;

/// The flag of a socket that listens (__SO_ACCEPTCON of the kernel).
const LISTENS: u32 = 1 << 16;

/// Columns in front of the name.
const COLUMNS: usize = 7;

/// What `/proc/PID/fd` calls the sockets that listen under this name, in the network that the
/// process lives in.
///
/// The table has a path as it was bound, perhaps relative to a directory that is not ours, so the
/// last part of it decides.
pub fn listening_inodes(pid: u32, name: &UnixName) -> HashSet<u64> {
    let table = fs::read(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    table.split(|byte| *byte == b'\n').filter_map(|row| listening(row, name)).collect()
}

fn listening(row: &[u8], name: &UnixName) -> Option<u64> {
    let mut rest = row;
    let mut columns = [&[][..]; COLUMNS];
    for column in &mut columns {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        let end = rest[start..].iter().position(|byte| *byte == b' ')? + start;
        *column = &rest[start..end];
        rest = &rest[end..];
    }
    let [_, _, _, flags, _, _, inode] = columns.map(|column| std::str::from_utf8(column).ok());
    let is_listening = u32::from_str_radix(flags?, 16).ok()? & LISTENS != 0;
    // One space stands in front of the name, which may begin with more.
    (is_listening && is_named(&rest[1..], name)).then_some(inode?.parse().ok()?)
}

fn is_named(shown: &[u8], name: &UnixName) -> bool {
    match (name, shown.strip_prefix(b"@")) {
        // A zero in the name is shown as another @.
        (UnixName::Abstract(name), Some(shown)) => {
            let is_same = |(a, b): (&u8, &u8)| a == b || (*a, *b) == (0, b'@');
            name.len() == shown.len() && name.iter().zip(shown).all(is_same)
        }
        (UnixName::Path(path), _) => {
            path.file_name() == Path::new(OsStr::from_bytes(shown)).file_name()
        }
        (UnixName::Abstract(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::*;

    fn inodes(name: &str) -> usize {
        let name = UnixName::parse(OsStr::new(name)).expect("a name");
        listening_inodes(std::process::id(), &name).len()
    }

    #[test]
    fn a_socket_is_there_as_long_as_it_listens_whatever_else_has_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a table of ours.sock");
        let name = path.to_str().expect("a path of ours");
        assert_eq!(inodes(name), 0);
        let listener = UnixListener::bind(&path).expect("a socket");
        let client = UnixStream::connect(&path).expect("it listens");
        let accepted = listener.accept().expect("a client");
        assert_eq!(inodes(name), 1);
        drop(listener);
        assert_eq!(inodes(name), 0);
        drop((client, accepted));
    }

    #[test]
    fn a_name_in_the_abstract_namespace_is_found() {
        let name = format!("trust-cli-table-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let _listener = UnixListener::bind_addr(&address).expect("it is free");
        assert_eq!(inodes(&format!("@{name}")), 1);
        assert_eq!(inodes(&name), 0);
    }
}
