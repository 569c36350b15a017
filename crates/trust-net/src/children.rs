//! The children of a server that has one process serve one client: who there are, how they are started, how they end.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use trust_wire::Timestamp;

use crate::channel::{self, Order, Report};
use crate::observer::{ChildExit, ClientInfo};
use crate::sync::{AtomicBool, Ordering};

/// How long after the end of a drain, or after a second request to stop, a child is waited for before it is killed. Its
/// own end may wait a second for each of the two places that its log goes to.
const PATIENCE: Duration = Duration::from_secs(3);

/// Starts the processes that serve clients.
///
/// Between `fork(2)` and `exec(2)` of a program with threads next to nothing is safe, so a child is another
/// program, or the same one, executed anew. It calls [`channel::take_over`] and serves what it gets with
/// [`crate::Server::of_connection`].
pub trait Launcher: fmt::Debug + Send + Sync + 'static {
    /// What a child has to know about its client and its server; at most [`channel::HAND_OVER_BYTES_MAX`] bytes.
    fn hand_over(&self, client: &ClientInfo) -> Vec<u8>;

    /// Starts a child that finds `channel` as its standard input, or wherever it will look for it. Returns its process
    /// number. The server reaps it, and nobody else may.
    ///
    /// # Errors
    ///
    /// What the system says. The client loses its connection then.
    fn launch(&self, client: &ClientInfo, channel: OwnedFd) -> io::Result<u32>;
}

/// All children that have not been reaped.
pub(crate) struct Children {
    launcher: Arc<dyn Launcher>,
    by_pid: HashMap<Pid, Child>,
    /// When those that are left are killed.
    kill_at: Timestamp,
    was_cut: bool,
}

/// One process that serves one client.
struct Child {
    client: ClientInfo,
    accepted_at: Timestamp,
    channel: OwnedFd,
}

/// A child that was reaped, and of which the server holds nothing any more.
pub(crate) struct Exited {
    pub(crate) client: ClientInfo,
    pub(crate) accepted_at: Timestamp,
    pub(crate) pid: u32,
    pub(crate) exit: ChildExit,
    /// `None` if it ended before it could say.
    pub(crate) report: Option<Report>,
}

impl Children {
    pub(crate) fn new(launcher: Arc<dyn Launcher>) -> Children {
        let (by_pid, kill_at) = (HashMap::new(), Timestamp::NEVER);
        Children { launcher, by_pid, kill_at, was_cut: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// Starts a child for a client and gives it the connection; returns its process number.
    pub(crate) fn start(
        &mut self,
        client: ClientInfo,
        connection: BorrowedFd<'_>,
        now: Timestamp,
    ) -> io::Result<u32> {
        let (ours, its) = channel::pair()?;
        channel::hand_over(ours.as_fd(), connection, &self.launcher.hand_over(&client))?;
        let number = self.launcher.launch(&client, its)?;
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(Errno::SRCH)?;
        self.by_pid.insert(pid, Child { client, accepted_at: now, channel: ours });
        Ok(number)
    }

    /// Reaps a child that has ended; `None` if none has. SIGCHLD comes once for several (`signal(7)`), so this is called
    /// until there are no more.
    pub(crate) fn reap(&mut self) -> Option<Exited> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    // Somebody else's child, of whom nobody else has asked.
                    let Some(child) = self.by_pid.remove(&pid) else { continue };
                    let Child { client, accepted_at, channel } = child;
                    let exit = match status.terminating_signal() {
                        Some(signal) => ChildExit::Signal(signal),
                        None => ChildExit::Status(status.exit_status().unwrap_or_default()),
                    };
                    let report = Report::receive(channel.as_fd());
                    let pid = pid.as_raw_pid().cast_unsigned();
                    return Some(Exited { client, accepted_at, pid, exit, report });
                }
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }

    pub(crate) fn give_order(&self, order: Order) {
        self.by_pid.values().for_each(|child| channel::give_order(child.channel.as_fd(), order));
    }

    /// Has all of them finish. They cut their connections by themselves at the end of the drain.
    pub(crate) fn drain(&mut self, drain_ends: Timestamp) {
        self.give_order(Order::Drain);
        self.kill_at = drain_ends + PATIENCE;
    }

    /// Has all of them cut their connections, and kills those that have had their time.
    pub(crate) fn hurry(&mut self, is_cut: bool, now: Timestamp) {
        if is_cut && !self.was_cut {
            self.was_cut = true;
            self.give_order(Order::Cut);
            self.kill_at = self.kill_at.min(now + PATIENCE);
        }
        if self.kill_at <= now {
            // Their numbers are still theirs: nobody has reaped them.
            for pid in self.by_pid.keys() {
                let _ = kill_process(*pid, Signal::KILL);
            }
            self.kill_at = Timestamp::NEVER;
        }
    }

    /// When [`Children::hurry`] has something to do.
    pub(crate) fn next_wake_up(&self) -> Timestamp {
        self.kill_at
    }
}

/// What other threads have to say about children.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    exited: AtomicBool,
    log_moved: AtomicBool,
}

impl Notices {
    pub(crate) fn note_exit(&self) {
        self.exited.store(true, Ordering::SeqCst);
    }

    pub(crate) fn note_log_moved(&self) {
        self.log_moved.store(true, Ordering::SeqCst);
    }

    /// Whether a child may have ended since the last call.
    pub(crate) fn take_exit(&self) -> bool {
        self.exited.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn take_log_moved(&self) -> bool {
        self.log_moved.swap(false, Ordering::SeqCst)
    }
}
