//! Everything a test could leave behind: child processes, temporary directories.
//!
//! The owners ([`OwnedChild`], [`OwnedDir`]) clean up when they are dropped. The registry also
//! covers exits that drop nothing: a hung test, or a signal to the test process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

static CHILDREN: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());
static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static EVIDENCE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A child process that is killed and reaped when its owner is dropped, if not before.
pub struct OwnedChild {
    child: Arc<Mutex<Child>>,
    pid: Pid,
}

impl OwnedChild {
    /// Starts the command. Its pipes stay in the child, to be taken by [`OwnedChild::with`].
    ///
    /// # Panics
    ///
    /// If the executable cannot be started.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> OwnedChild {
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {command:?}: {error}"),
        };
        let pid = Pid::from_child(&child);
        let child = Arc::new(Mutex::new(child));
        lock(&CHILDREN).push(Arc::clone(&child));
        OwnedChild { child, pid }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Gives access to the child itself, to take its pipes.
    pub fn with<T>(&self, action: impl FnOnce(&mut Child) -> T) -> T {
        action(&mut lock(&self.child))
    }

    /// Sends a signal. The process is not reaped yet, so its number cannot have been reused.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("signal a child that was not reaped");
    }

    /// Waits for the end of the process and reaps it; `None` when the time is up.
    pub fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        let descriptor = pidfd_open(self.pid, PidfdFlags::empty()).expect("pidfd of a child");
        let mut waiting = [PollFd::new(&descriptor, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).expect("a deadline of seconds");
        let ready =
            rustix::io::retry_on_intr(|| poll(&mut waiting, Some(&timeout))).expect("poll a pidfd");
        (ready > 0).then(|| self.with(|child| child.wait().expect("reap a child that ended")))
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        end(&self.child);
        lock(&CHILDREN).retain(|child| !Arc::ptr_eq(child, &self.child));
    }
}

/// A temporary directory that is removed when its owner is dropped, if not before.
pub struct OwnedDir {
    directory: TempDir,
}

impl OwnedDir {
    pub fn create() -> OwnedDir {
        let directory = tempfile::Builder::new()
            .prefix("trustctl-test-")
            .tempdir()
            .expect("make a temporary directory");
        lock(&DIRECTORIES).push(directory.path().to_owned());
        OwnedDir { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for OwnedDir {
    fn drop(&mut self) {
        lock(&DIRECTORIES).retain(|path| path != self.directory.path());
    }
}

/// Kills and reaps all children that still have an owner, so that a test that waits for one goes
/// on.
pub fn end_children() {
    for child in lock(&CHILDREN).iter() {
        end(child);
    }
}

/// Kills and reaps every child and removes every directory, for a process that is about to end.
pub fn remove_everything() {
    end_children();
    for path in lock(&DIRECTORIES).drain(..) {
        drop(std::fs::remove_dir_all(path));
    }
}

/// Keeps a text that helps to explain the failure in progress.
pub fn add_evidence(text: String) {
    lock(&EVIDENCE).push(text);
}

/// The texts kept since the last call.
pub fn take_evidence() -> Vec<String> {
    std::mem::take(&mut lock(&EVIDENCE))
}

fn end(child: &Mutex<Child>) {
    let mut child = lock(child);
    // Both fail only for a process that is already reaped, which is the goal.
    drop(child.kill());
    drop(child.wait());
}

/// A panic elsewhere is no reason to leave processes running.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
