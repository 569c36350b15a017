//! What other threads want of the event loop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use mio::Waker;

use super::RelayLoop;
use crate::resolver::Resolver;

/// Something for the event loop to do between two turns of connections.
type Task = Box<dyn for<'a> FnOnce(&mut RelayLoop<'a>) + Send>;

/// What comes from other threads.
pub(super) struct Inbox {
    waker: Arc<Waker>,
    pub(super) resolver: Resolver,
    sender: Sender<Task>,
    tasks: Receiver<Task>,
    /// There may be some.
    has_tasks: Arc<AtomicBool>,
}

/// A way to the event loop for other threads.
#[derive(Clone)]
pub(crate) struct LoopHandle {
    sender: Sender<Task>,
    has_tasks: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Inbox {
    pub(super) fn new(waker: Waker) -> Inbox {
        let waker = Arc::new(waker);
        let (sender, tasks) = channel();
        let resolver = Resolver::new(Arc::clone(&waker));
        Inbox { waker, resolver, sender, tasks, has_tasks: Arc::default() }
    }

    pub(super) fn handle(&self) -> LoopHandle {
        LoopHandle {
            sender: self.sender.clone(),
            has_tasks: Arc::clone(&self.has_tasks),
            waker: Arc::clone(&self.waker),
        }
    }
}

impl LoopHandle {
    /// Has the event loop do this, and returns what came of it: then it holds for every connection.
    ///
    /// # Errors
    ///
    /// The loop has ended.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        task: impl for<'a> FnOnce(&mut RelayLoop<'a>) -> R + Send + 'static,
    ) -> io::Result<R> {
        let (reply, outcome) = sync_channel(1);
        let task = move |relay: &mut RelayLoop<'_>| {
            // It waits for that.
            let _ = reply.send(task(relay));
        };
        let ended = || io::Error::other("the proxy has ended");
        self.sender.send(Box::new(task)).map_err(|_| ended())?;
        // Only now, so that the loop finds the task when it sees this.
        self.has_tasks.store(true, Ordering::Release);
        self.waker.wake()?;
        outcome.recv().map_err(|_| ended())
    }
}

impl RelayLoop<'_> {
    /// A way to it for other threads, which may ask how late it is.
    pub(crate) fn handle(&mut self) -> LoopHandle {
        self.faults.lateness.get_or_insert_default();
        self.inbox.handle()
    }

    /// Does what other threads want. It is asked for after each turn of a connection: with many
    /// that have much to move, a round of events takes long.
    pub(super) fn do_tasks(&mut self) {
        if !self.inbox.has_tasks.load(Ordering::Relaxed) {
            return;
        }
        self.inbox.has_tasks.swap(false, Ordering::Acquire);
        while let Ok(task) = self.inbox.tasks.try_recv() {
            task(self);
        }
    }
}
