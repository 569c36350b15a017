//! Waiting for descriptors, a signal and a point in time together.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::exit_code::{ExitCode, Failure};
use crate::signals::{Signals, Stopped};
use crate::text::{reason, seconds};

/// One time limit for several steps.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    time: Option<Duration>,
    /// When it expires.
    pub end: Option<Instant>,
}

impl Limit {
    /// A limit that starts now; zero means none.
    pub fn start(time: Duration) -> Limit {
        let time = (!time.is_zero()).then_some(time);
        Limit { time, end: time.map(|time| Instant::now() + time) }
    }

    /// The message once it has expired.
    pub fn message(&self) -> String {
        match self.time {
            Some(time) => format!("no answer within {}", seconds(time)),
            None => "no answer".to_owned(),
        }
    }
}

/// Waits until a descriptor is ready or `until` is reached (`None`: indefinitely). A `None` among
/// the descriptors is skipped. Returns for each descriptor whether it is ready or has an error;
/// possibly none is.
///
/// # Errors
///
/// A signal that came first; 71 for errors of poll(2) other than EINTR.
pub fn wait<const N: usize>(
    signals: &Signals,
    descriptors: [Option<(BorrowedFd<'_>, PollFlags)>; N],
    until: Option<Instant>,
) -> Result<[bool; N], Stopped> {
    let wanted: Vec<_> = descriptors.iter().flatten().copied().collect();
    let mut came = wait_for_any(signals, &wanted, until)?.into_iter();
    Ok(descriptors.map(|wanted| wanted.is_some() && came.next() == Some(true)))
}

/// The same for any number of descriptors.
///
/// # Errors
///
/// Like [`wait`].
pub fn wait_for_any(
    signals: &Signals,
    descriptors: &[(BorrowedFd<'_>, PollFlags)],
    until: Option<Instant>,
) -> Result<Vec<bool>, Stopped> {
    let on_signals = signals.descriptors();
    let mut polled: Vec<PollFd<'_>> = on_signals
        .iter()
        .map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN))
        .chain(descriptors.iter().map(|(it, flags)| PollFd::from_borrowed_fd(*it, *flags)))
        .collect();
    // A time too long to express might as well be no limit.
    let timeout = until.and_then(|until| Timespec::try_from(left(until)).ok());
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => {
            let message = format!("cannot wait: {}", reason(&error.into()));
            return Err(Failure::new(ExitCode::OsLimit, message).into());
        }
    }
    let came: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
    let (on_signals, came) = came.split_at(on_signals.len());
    if on_signals.contains(&true)
        && let Some(signal) = signals.take()
    {
        return Err(Stopped::Signal(signal));
    }
    Ok(came.to_vec())
}

/// Waits for one descriptor; returns whether it is ready, as opposed to `until` being reached.
///
/// # Errors
///
/// Like [`wait`].
pub fn wait_for(
    signals: &Signals,
    descriptor: BorrowedFd<'_>,
    flags: PollFlags,
    until: Option<Instant>,
) -> Result<bool, Stopped> {
    loop {
        let [is_ready] = wait(signals, [Some((descriptor, flags))], until)?;
        if is_ready || until.is_some_and(|until| left(until).is_zero()) {
            return Ok(is_ready);
        }
    }
}

/// The time left until then; zero if it has passed.
pub fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
