//! What a server does while a client is silent, and what it leaves running after a client has left.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::mutant::TIMEOUT;

/// What may go wrong about time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bugs {
    /// The timer of a connection that ended this way outlives it, and ends the connection that has
    /// its descriptor by then.
    pub(crate) timer_stays: Option<Ended>,
    /// A client that is silent at this point is polled again and again.
    pub(crate) asks: Option<Silent>,
}

/// Nothing wrong.
pub(crate) const NO_BUGS: Bugs = Bugs { timer_stays: None, asks: None };

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With an RST.
    Broken,
    /// With a FIN, or because the server ended it.
    InOrder,
}

/// The part of a message inside which a client falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silent {
    /// Inside a header.
    InAHeader,
    /// Inside a payload.
    InAPayload,
}

/// Half of a core is enough to be noticed, and leaves the rest to others.
const BUSY: Duration = Duration::from_millis(2);

/// The current owner of each descriptor.
static HOLDERS: LazyLock<Mutex<HashMap<RawFd, Weak<TcpStream>>>> = LazyLock::new(Mutex::default);

/// The timers left behind, in the order in which they expire.
static TIMERS: LazyLock<mpsc::Sender<(Instant, RawFd)>> = LazyLock::new(|| {
    let (sender, left) = mpsc::channel::<(Instant, RawFd)>();
    drop(thread::Builder::new().spawn(move || {
        for (due, descriptor) in left {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let holder = lock().get(&descriptor).and_then(Weak::upgrade);
            holder.inspect(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
    }));
    sender
});

/// Records the owner of the descriptor.
pub(crate) fn begin(bugs: &Bugs, stream: &Arc<TcpStream>) {
    if bugs.timer_stays.is_some() {
        lock().insert(stream.as_raw_fd(), Arc::downgrade(stream));
    }
}

/// Leaves a timer behind.
pub(crate) fn end(bugs: &Bugs, stream: &TcpStream, ended: Ended) {
    if bugs.timer_stays != Some(ended) {
        return;
    }
    // Without the thread that runs them there are no timers.
    let _ = TIMERS.send((Instant::now() + TIMEOUT, stream.as_raw_fd()));
}

/// Keeps a core half busy until something arrives or `patience` is over.
pub(crate) fn ask(stream: &TcpStream, patience: Option<Duration>) {
    let until = patience.map(|patience| Instant::now() + patience);
    let moment = Timespec::try_from(BUSY).ok();
    while until.is_none_or(|until| Instant::now() < until) {
        let began = Instant::now();
        while began.elapsed() < BUSY {
            std::hint::spin_loop();
        }
        let mut polled = [PollFd::new(stream, PollFlags::IN)];
        if poll(&mut polled, moment.as_ref()) != Ok(0) {
            return;
        }
    }
}

fn lock() -> MutexGuard<'static, HashMap<RawFd, Weak<TcpStream>>> {
    HOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}
