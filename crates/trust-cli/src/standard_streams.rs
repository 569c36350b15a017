//! The standard streams when they are a client's connection, as under a super-server.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, fstat};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
use socket2::{Domain, SockRef};

/// Takes over descriptor 0. If it is a socket, `/dev/null` replaces it, and also stdout and stderr
/// if they are the same socket or any other internet socket. So nothing written there, not even a
/// panic message, reaches the client.
///
/// # Errors
///
/// If there are no descriptors left, or there is no `/dev/null`.
pub(crate) fn set_connection_aside() -> io::Result<OwnedFd> {
    let connection = stdin().try_clone_to_owned()?;
    if !is_socket(connection.as_fd()) {
        return Ok(connection);
    }
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    if is_connection(stdout(), connection.as_fd()) {
        dup2_stdout(&null)?;
    }
    if is_connection(stderr(), connection.as_fd()) {
        dup2_stderr(&null)?;
    }
    dup2_stdin(&null)?;
    Ok(connection)
}

/// Whether descriptor 0 is a client's connection: an internet socket, or any socket that is stdout
/// too, as super-servers have it.
pub(crate) fn stdin_is_connection() -> bool {
    is_internet_socket(stdin()) || (is_socket(stdin()) && is_same(stdin(), stdout()))
}

fn is_connection(stream: BorrowedFd<'_>, connection: BorrowedFd<'_>) -> bool {
    // stderr of a service of systemd is a socket too, of the UNIX domain.
    is_same(stream, connection) || is_internet_socket(stream)
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

fn is_internet_socket(stream: BorrowedFd<'_>) -> bool {
    let domain = SockRef::from(&stream).domain();
    is_socket(stream) && matches!(domain, Ok(Domain::IPV4 | Domain::IPV6))
}

fn is_socket(descriptor: BorrowedFd<'_>) -> bool {
    let mode = fstat(descriptor).map(|stat| FileType::from_raw_mode(stat.st_mode));
    mode == Ok(FileType::Socket)
}
