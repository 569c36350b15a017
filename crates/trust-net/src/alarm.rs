//! What ends a worker's sleep when a deadline comes.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use trust_wire::Timestamp;

use crate::clock::Clock;

/// A timer of the kernel (`timerfd_create(2)`), in place of a timeout for each wait: a timeout is
/// set up and taken down by the kernel with every sleep, which is some four per cent of an echo,
/// and a deadline moves seldom.
#[derive(Debug)]
pub struct Alarm {
    timer: OwnedFd,
    /// When it goes off; [`Timestamp::NEVER`] if it is not set.
    set_for: Timestamp,
}

impl Alarm {
    /// An alarm that is not set, and that is announced as `token` when it goes off.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Alarm> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Alarm { timer, set_for: Timestamp::NEVER })
    }

    /// Has it go off at `time` at the latest. Going off too early does no harm, so it is never put
    /// off.
    pub fn set_no_later_than(&mut self, time: Timestamp, clock: Clock) -> io::Result<()> {
        if time >= self.set_for {
            return Ok(());
        }
        let at = clock.since_boot(time);
        let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        let value = Timespec { tv_sec: seconds, tv_nsec: at.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        self.set_for = time;
        Ok(())
    }

    /// It went off.
    pub fn note_went_off(&mut self) {
        self.set_for = Timestamp::NEVER;
    }
}
