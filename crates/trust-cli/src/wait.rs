//! Waiting for descriptors, a signal and a point in time at once.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::signals::{Signal, Signals};

/// What [`wait`] came back with.
#[derive(Debug)]
pub struct Waited<const N: usize> {
    /// The signal that came first.
    pub signal: Option<Signal>,
    /// For each descriptor whether something can be done with it, or is wrong with it.
    pub ready: [bool; N],
}

/// Waits until a descriptor is ready, a signal came, or `until` is reached (`None`: as long as it
/// takes). A `None` among the descriptors is left out. Nothing ready is a possible answer.
///
/// # Errors
///
/// What poll(2) reports, apart from EINTR.
pub fn wait<const N: usize>(
    signals: &Signals,
    descriptors: [Option<(BorrowedFd<'_>, PollFlags)>; N],
    until: Option<Instant>,
) -> io::Result<Waited<N>> {
    let on_signals = signals.descriptors();
    let wanted = descriptors.iter().flatten();
    let mut polled: Vec<PollFd<'_>> = on_signals
        .iter()
        .map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN))
        .chain(wanted.map(|(descriptor, flags)| PollFd::from_borrowed_fd(*descriptor, *flags)))
        .collect();
    // A time that is too long to be expressed is as good as none.
    let timeout = until.and_then(|until| Timespec::try_from(left(until)).ok());
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut came = polled.iter().map(|polled| !polled.revents().is_empty());
    let has_signal = came.by_ref().take(on_signals.len()).fold(false, |any, one| any | one);
    Ok(Waited {
        signal: has_signal.then(|| signals.take()).flatten(),
        ready: descriptors.map(|wanted| wanted.is_some() && came.next() == Some(true)),
    })
}

/// The time left until then; zero if it has passed.
pub fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
