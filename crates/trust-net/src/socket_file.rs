//! The file of a unix socket that is listened on (`unix(7)`): made, instead of one on which no
//! process listens, and removed.
//!
//! `bind(2)` makes the file and takes no path that is there. A server that was killed leaves its
//! file behind, so the next one has to tell such a file from one that is in use, and remove it; and
//! two that start at the same moment must not take the first one's new file for the old one. No
//! call removes a file only if it is still the same. So the process that binds holds a lock
//! meanwhile and for as long as the file is its own: `PATH.lock`, as `flock(2)` has it, which ends
//! with the process however that ends. PostgreSQL and MySQL keep such a file beside their sockets
//! too. Users who may make that file may make the socket's, so it lets no one in who could not get
//! in the way before.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, Stat, flock, fstat, lstat, open};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::Peer;
use crate::socket;

/// How often the lock is taken anew because its file was removed meanwhile, as a server does that
/// stops.
const LOCK_TRIES: u32 = 16;

/// What is in the way of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A server listens there: the process that began to, 0 if it cannot be seen from here.
    Server(i32),
    /// The lock beside the path is held, and no process listens there: a server starts or stops.
    Locked(PathBuf),
    /// The lock cannot be taken, and why.
    NoLock(PathBuf, String),
    /// The path is a file of another kind.
    NoSocket,
    /// Whether anybody listens there cannot be found out, and why.
    Unclear(String),
}

impl Obstacle {
    /// The server that listens at an address, if there is one.
    pub(crate) fn listener_at(address: &SockAddr) -> Option<Obstacle> {
        match try_to_connect(address) {
            Ok(Some(pid)) => Some(Obstacle::Server(pid)),
            Ok(None) | Err(_) => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Server(0) => f.write_str("another server listens there"),
            Obstacle::Server(pid) => write!(f, "another server listens there (process {pid})"),
            Obstacle::Locked(lock) => {
                write!(f, "another server is about to listen there: it holds {}", lock.display())
            }
            Obstacle::NoLock(lock, why) => write!(f, "cannot lock {}: {why}", lock.display()),
            Obstacle::NoSocket => f.write_str("a file that is no socket has that name"),
            Obstacle::Unclear(why) => {
                write!(f, "cannot find out whether another server listens there: {why}")
            }
        }
    }
}

/// Why a path was not bound.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: io::Error,
    pub(crate) obstacle: Option<Obstacle>,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused { error, obstacle: None }
    }
}

impl From<Obstacle> for Refused {
    fn from(obstacle: Obstacle) -> Refused {
        Refused { error: Errno::ADDRINUSE.into(), obstacle: Some(obstacle) }
    }
}

/// The file of a bound socket; removed when dropped, if it still has that name.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// The file itself, whatever becomes of its name. As long as it is open, no other file has its
    /// number.
    file: OwnedFd,
    _lock: Lock,
}

impl SocketFile {
    /// Binds the socket to the path, whose form as the kernel takes it is `address`.
    pub(crate) fn bind(
        socket: &Socket,
        path: &Path,
        address: &SockAddr,
    ) -> Result<SocketFile, Refused> {
        let lock = Lock::take(path).map_err(|mut refused| {
            if let Some(Obstacle::Locked(_)) = refused.obstacle {
                refused.obstacle = Obstacle::listener_at(address).or(refused.obstacle);
            }
            refused
        })?;
        remove_stale(path, address)?;
        socket.bind(address)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(file) => Ok(SocketFile { path: path.to_owned(), file, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_file(path);
                Err(Refused::from(io::Error::from(error)))
            }
        }
    }

    /// Gives the file these permissions, and no other that may have its name by now.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        // No call changes what is open in this way; this link leads to it (`open(2)`, O_PATH).
        let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        fs::set_permissions(link, Permissions::from_mode(mode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if is_at(self.file.as_fd(), &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A lock on a path, removed when dropped.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(of: &Path) -> Result<Lock, Refused> {
        let mut path = of.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        for _ in 0..LOCK_TRIES {
            let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match open(&path, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => File::from(file),
                // As for the socket's file itself, unless this one is there.
                Err(error) => return Err(refused_lock(path, error.into())),
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(file.as_fd(), &path) => return Ok(Lock { path, _file: file }),
                // It was another server's, which has removed it.
                Ok(()) => {}
                Err(Errno::AGAIN) => return Err(Obstacle::Locked(path).into()),
                Err(error) => return Err(refused_lock(path, error.into())),
            }
        }
        Err(Obstacle::Locked(path).into())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock ends with the descriptor, so that no process takes it on a file that
        // goes.
        let _ = fs::remove_file(&self.path);
    }
}

fn refused_lock(path: PathBuf, error: io::Error) -> Refused {
    let is_there = fs::symlink_metadata(&path).is_ok();
    let obstacle = is_there.then(|| Obstacle::NoLock(path, why(&error)));
    Refused { error, obstacle }
}

/// Removes a socket on which no process listens.
fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), Refused> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(file) if !file.file_type().is_socket() => return Err(Obstacle::NoSocket.into()),
        Ok(_) => {}
    }
    match try_to_connect(address) {
        Ok(None) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        },
        Ok(Some(pid)) => Err(Obstacle::Server(pid).into()),
        Err(error) => {
            let obstacle = Some(Obstacle::Unclear(why(&error)));
            Err(Refused { error, obstacle })
        }
    }
}

/// The process that began to listen at an address; `None`: there is none.
fn try_to_connect(address: &SockAddr) -> io::Result<Option<i32>> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(address).map_err(|error| Errno::from_io_error(&error)) {
        Ok(()) => match socket::unix_peer(socket.as_fd())? {
            Peer::Unix { pid, .. } => Ok(Some(pid)),
            Peer::Ip(_) => Ok(Some(0)),
        },
        // All places in its backlog are taken.
        Err(Some(Errno::AGAIN)) => Ok(Some(0)),
        Err(Some(Errno::CONNREFUSED | Errno::NOENT)) => Ok(None),
        Err(errno) => Err(errno.unwrap_or(Errno::IO).into()),
    }
}

/// Whether the path leads to that file.
fn is_at(file: impl AsFd, path: &Path) -> bool {
    let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
    match (fstat(file), lstat(path)) {
        (Ok(file), Ok(named)) => identity(file) == identity(named),
        _ => false,
    }
}

/// What the system says, without the number.
fn why(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn fresh() -> Socket {
        Socket::new(Domain::UNIX, Type::STREAM, None).unwrap()
    }

    fn bind(path: &Path) -> Result<(Socket, SocketFile), Refused> {
        let socket = fresh();
        let file = SocketFile::bind(&socket, path, &SockAddr::unix(path).unwrap())?;
        socket.listen(8).unwrap();
        Ok((socket, file))
    }

    fn obstacle(path: &Path) -> Option<Obstacle> {
        bind(path).expect_err("something is in the way").obstacle
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_on_which_nobody_listens_is_replaced_and_nothing_is_left_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let (socket, file) = bind(&path).unwrap();
        drop(UnixStream::connect(&path).unwrap());
        file.set_mode(0o604).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o604);
        drop((file, socket));
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn what_is_in_the_way_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let own = std::process::id() as i32;

        let others = UnixListener::bind(&path).unwrap();
        assert_eq!(obstacle(&path), Some(Obstacle::Server(own)));
        drop(UnixStream::connect(&path).unwrap());
        drop(others);
        fs::remove_file(&path).unwrap();

        fs::write(&path, "precious").unwrap();
        assert_eq!(obstacle(&path), Some(Obstacle::NoSocket));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();

        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        assert_eq!(obstacle(&path), Some(Obstacle::NoSocket));
        fs::remove_file(&path).unwrap();

        let ours = bind(&path).unwrap();
        assert_eq!(obstacle(&path), Some(Obstacle::Server(own)));
        drop(ours);
        let lock = Lock::take(&path).unwrap();
        assert_eq!(obstacle(&path), Some(Obstacle::Locked(lock.path.clone())));
        drop(lock);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_file_that_has_taken_the_name_since_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let ours = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        drop(UnixStream::connect(&path).unwrap());
        drop(theirs);
        assert_eq!(names(directory.path()), ["socket"]);
    }

    #[test]
    fn of_many_that_start_at_once_one_has_the_path() {
        const SERVERS: usize = 8;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let start = Barrier::new(SERVERS);
            let servers: Vec<_> = thread::scope(|scope| {
                let begin = || {
                    start.wait();
                    bind(&path)
                };
                let threads: Vec<_> = (0..SERVERS).map(|_| scope.spawn(begin)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(servers.iter().filter(|server| server.is_ok()).count(), 1);
            drop(UnixStream::connect(&path).unwrap());
            drop(servers);
            assert!(names(directory.path()).is_empty());
        }
    }
}
