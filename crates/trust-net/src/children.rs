//! The children of a server that has one process serve each client: which there are, how they are
//! started, and how they end.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use trust_wire::Timestamp;

use crate::channel::{self, Introduced, LastWords, Order, Report};
use crate::observer::{ChildExit, ClientInfo};
use crate::sync::{AtomicBool, Ordering};

/// How long to wait for a child, after the end of a drain or after a second request to stop, before
/// it is killed. Its own exit may wait a second for each of the two places that its log goes to.
const PATIENCE: Duration = Duration::from_secs(3);

/// Time between two tries to give an order to a child whose channel is full: it is stopped, or
/// busy.
const ORDER_PAUSE: Duration = Duration::from_millis(100);

/// Starts the processes that serve clients.
///
/// Next to nothing is safe between `fork(2)` and `exec(2)` in a program with threads, so a child is
/// another program, or the same one, executed anew. It calls [`channel::take_over`], serves what it
/// gets with [`crate::Server::of_connection`], and sends a [`channel::Report`] in the end. While it
/// serves it looks for orders ([`channel::next_order`]) when its channel becomes readable, which is
/// left out here.
///
/// ```no_run
/// use std::io;
/// use std::os::fd::{AsFd, AsRawFd, OwnedFd};
/// use std::process::Command;
/// use std::sync::Arc;
/// use trust_net::channel::{Report, Unlogged, take_over};
/// use trust_net::observer::ClientInfo;
/// use trust_net::service::Echo;
/// use trust_net::{Event, Launcher, Observer, Server, ServerConfig, socket};
///
/// /// Starts this program once more, with an argument that makes it call `serve_one`.
/// #[derive(Debug)]
/// struct SameProgram;
///
/// impl Launcher for SameProgram {
///     fn hand_over(&self, client: &ClientInfo) -> Vec<u8> {
///         client.id.to_be_bytes().to_vec()
///     }
///
///     fn launch(&self, _client: &ClientInfo, channel: OwnedFd) -> io::Result<u32> {
///         let mut command = Command::new("/proc/self/exe");
///         Ok(command.arg("serve-one").stdin(channel).spawn()?.id())
///     }
/// }
///
/// fn serve_one() -> Result<(), Box<dyn std::error::Error>> {
///     let (stream, words) = take_over(io::stdin().as_fd())?;
///     let id = u64::from_be_bytes(words.try_into().expect("what hand_over returned"));
///     let info = ClientInfo::new(id, stream.as_raw_fd(), socket::peer(stream.as_fd())?);
///     let config = ServerConfig::new(0);
///     Server::of_connection(config, Echo, Arc::new(Reporter), stream, info)?.run()?;
///     Ok(())
/// }
///
/// /// Reports to the server how the connection has ended.
/// struct Reporter;
///
/// impl Observer for Reporter {
///     fn observe(&self, event: &Event<'_>) {
///         if let Event::Closed { cause, mode, totals, lifetime, path, .. } = *event {
///             let (reason, unlogged) = (cause.reason, Unlogged::default());
///             let report =
///                 Report { reason, was_cut: false, mode, totals, lifetime, path, unlogged };
///             // Fails only if the server is gone.
///             let _ = report.send(io::stdin().as_fd());
///         }
///     }
/// }
/// ```
pub trait Launcher: fmt::Debug + Send + Sync + 'static {
    /// What a child has to know about its client and its server; at most
    /// [`channel::HAND_OVER_BYTES_MAX`] bytes.
    fn hand_over(&self, client: &ClientInfo) -> Vec<u8>;

    /// Starts a child that finds `channel` as its standard input, or wherever it looks for it.
    /// Returns its process ID. The server reaps it, and nothing else may.
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
    /// When orders that found no room are given again.
    order_at: Timestamp,
    was_cut: bool,
}

/// One process that serves one client.
struct Child {
    client: ClientInfo,
    accepted_at: Timestamp,
    channel: OwnedFd,
    /// Orders that the channel had no room for, in their order, each at most once.
    unsent: Vec<Order>,
}

impl Child {
    /// Gives an order, after those that are still to be given. The same order twice counts once.
    fn give_order(&mut self, order: Order) {
        if !self.unsent.contains(&order) {
            self.unsent.push(order);
        }
        self.give_unsent();
    }

    fn give_unsent(&mut self) {
        while let Some(order) = self.unsent.first()
            && channel::give_order(self.channel.as_fd(), *order)
        {
            self.unsent.remove(0);
        }
    }
}

/// A child that was reaped. The server no longer holds anything of it.
pub(crate) struct Exited {
    pub(crate) client: ClientInfo,
    /// The child has told of the client, which is the one that a PROXY header names.
    pub(crate) is_told_of: bool,
    pub(crate) accepted_at: Timestamp,
    pub(crate) pid: u32,
    pub(crate) exit: ChildExit,
    /// `None` if it ended before it could say.
    pub(crate) report: Option<Report>,
}

impl Children {
    pub(crate) fn new(launcher: Arc<dyn Launcher>) -> Children {
        let (by_pid, kill_at) = (HashMap::new(), Timestamp::NEVER);
        Children { launcher, by_pid, kill_at, order_at: Timestamp::NEVER, was_cut: false }
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
        let child = Child { client, accepted_at: now, channel: ours, unsent: vec![] };
        self.by_pid.insert(pid, child);
        Ok(number)
    }

    /// Reaps a child that has ended; `None` if none has. One SIGCHLD may stand for several
    /// (`signal(7)`), so this is called until none is left.
    pub(crate) fn reap(&mut self) -> Option<Exited> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    // Not one of the server's children, and nothing else in it waits for this one.
                    let Some(child) = self.by_pid.remove(&pid) else { continue };
                    let Child { client, accepted_at, channel, .. } = child;
                    let exit = match status.terminating_signal() {
                        Some(signal) => ChildExit::Signal(signal),
                        None => ChildExit::Status(status.exit_status().unwrap_or_default()),
                    };
                    let LastWords { introduced, report } = LastWords::receive(channel.as_fd());
                    let is_told_of = introduced.is_some();
                    let Introduced { peer, proxy } =
                        introduced.unwrap_or(Introduced { peer: client.peer, proxy: None });
                    let client = ClientInfo { peer, proxy, ..client };
                    let pid = pid.as_raw_pid().cast_unsigned();
                    return Some(Exited { client, is_told_of, accepted_at, pid, exit, report });
                }
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Gives an order to all of them. A child without room for it gets it later, see
    /// [`Children::give_unsent_orders`].
    pub(crate) fn give_order(&mut self, order: Order, now: Timestamp) {
        self.by_pid.values_mut().for_each(|child| child.give_order(order));
        self.plan_orders(now);
    }

    /// Gives the orders again that found no room, once it is time to.
    pub(crate) fn give_unsent_orders(&mut self, now: Timestamp) {
        if self.order_at <= now {
            self.by_pid.values_mut().for_each(Child::give_unsent);
            self.plan_orders(now);
        }
    }

    fn plan_orders(&mut self, now: Timestamp) {
        let is_done = self.by_pid.values().all(|child| child.unsent.is_empty());
        self.order_at = if is_done { Timestamp::NEVER } else { now + ORDER_PAUSE };
    }

    /// Has all of them finish. They cut their connections by themselves at the end of the drain.
    pub(crate) fn drain(&mut self, drain_ends: Timestamp, now: Timestamp) {
        self.give_order(Order::Drain, now);
        self.kill_at = drain_ends + PATIENCE;
    }

    /// Has all of them cut their connections, and kills those that have had their time.
    pub(crate) fn hurry(&mut self, is_cut: bool, now: Timestamp) {
        if is_cut && !self.was_cut {
            self.was_cut = true;
            self.give_order(Order::Cut, now);
            self.kill_at = self.kill_at.min(now + PATIENCE);
        }
        if self.kill_at <= now {
            // Their process IDs are still theirs: they have not been reaped.
            for pid in self.by_pid.keys() {
                let _ = kill_process(*pid, Signal::KILL);
            }
            self.kill_at = Timestamp::NEVER;
        }
    }

    /// When [`Children::hurry`] or [`Children::give_unsent_orders`] has something to do.
    pub(crate) fn next_wake_up(&self) -> Timestamp {
        self.kill_at.min(self.order_at)
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::channel::{Told, next_order};

    #[derive(Debug)]
    struct NoLauncher;

    impl Launcher for NoLauncher {
        fn hand_over(&self, _: &ClientInfo) -> Vec<u8> {
            vec![]
        }

        fn launch(&self, _: &ClientInfo, _: OwnedFd) -> io::Result<u32> {
            Err(Errno::NOSYS.into())
        }
    }

    fn ms(count: u64) -> Timestamp {
        Timestamp::from_start(Duration::from_millis(count))
    }

    #[test]
    fn no_order_is_lost_to_a_child_that_takes_none_for_a_while() {
        let mut children = Children::new(Arc::new(NoLauncher));
        let (ours, its) = channel::pair().expect("two descriptors");
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into();
        let client = ClientInfo::new(1, 1, peer);
        let (accepted_at, unsent) = (ms(0), vec![]);
        let child = Child { client, accepted_at, channel: ours, unsent };
        children.by_pid.insert(Pid::INIT, child);
        // More than a channel holds, of what can wait.
        for _ in 0..1500 {
            children.give_order(Order::ReopenLog, ms(0));
        }
        assert_eq!(children.next_wake_up(), ms(100), "the channel is full");
        children.drain(ms(10_000), ms(0));
        children.give_order(Order::Cut, ms(0));
        children.give_order(Order::ReopenLog, ms(0));

        let told = || {
            let orders = std::iter::from_fn(|| match next_order(its.as_fd()) {
                Told::Order(order) => Some(order),
                Told::Nothing => None,
                Told::Alone => panic!("the server is there"),
            });
            orders.collect::<Vec<Order>>()
        };
        assert!(told().iter().all(|order| *order == Order::ReopenLog));
        children.give_unsent_orders(ms(99));
        assert_eq!(told(), [], "not before its time");
        children.give_unsent_orders(ms(100));
        assert_eq!(told(), [Order::ReopenLog, Order::Drain, Order::Cut]);
        assert_eq!(children.next_wake_up(), ms(10_000) + PATIENCE, "nothing is left to give");
    }
}
