//! What is ready, and a point in time, exact to microseconds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use trust_cli::signals::Signals;

/// Events that are taken from the kernel at once: few enough that what is due meanwhile is not late
/// by much, and enough that the call costs little for each.
const EVENTS_MAX: usize = 128;

/// Both directions, once for ever: every change is told once (epoll(7), edge-triggered).
const INTEREST: EventFlags = EventFlags::IN
    .union(EventFlags::PRI)
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// The peer's FIN or RST, or urgent data, has come: a receive stops in front of each of them
/// (tcp(7)), and is no sign that nothing is left if it is short.
const TO_THE_END: EventFlags =
    EventFlags::PRI.union(EventFlags::RDHUP).union(EventFlags::HUP).union(EventFlags::ERR);

const SIGNAL: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// Waits for sockets, signals and a point in time.
///
/// A timer of its own, because epoll_wait(2) knows milliseconds only.
pub struct Readiness {
    epoll: OwnedFd,
    timer: OwnedFd,
    started: Instant,
    /// What the timer is set to.
    set_to: Option<Duration>,
    events: Vec<epoll::Event>,
}

/// Identifies a socket by its place and connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Number of the place.
    pub place: u32,
    /// The lower bits of the attempt's number.
    pub attempt: u32,
}

/// What there is to do for a socket.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The key that the socket was added with.
    pub key: Key,
    /// Something can be sent.
    pub is_writable: bool,
    /// What has come has to be received until nothing is left: the peer's FIN or RST may follow
    /// bytes, or urgent data.
    pub is_to_the_end: bool,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken {
    /// A signal came.
    pub is_signal: bool,
    /// More is ready than was told.
    pub is_more: bool,
}

impl Readiness {
    /// Waits for signals, and for what is added.
    ///
    /// # Errors
    ///
    /// No descriptors left.
    pub fn new(signals: &Signals, started: Instant) -> io::Result<Readiness> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC.union(TimerfdFlags::NONBLOCK);
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let key = EventData::new_u64(TIMER);
        epoll::add(&epoll, &timer, key, EventFlags::IN.union(EventFlags::ET))?;
        for descriptor in signals.descriptors() {
            epoll::add(&epoll, descriptor, EventData::new_u64(SIGNAL), EventFlags::IN)?;
        }
        let events = Vec::with_capacity(EVENTS_MAX);
        Ok(Readiness { epoll, timer, started, set_to: None, events })
    }

    /// Reports this socket from now on, until it is closed.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) says.
    pub fn add(&self, socket: impl AsFd, key: Key) -> io::Result<()> {
        let data = u64::from(key.attempt) << 32 | u64::from(key.place);
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(data), INTEREST)?)
    }

    /// Waits until something is ready or `until`, a time since the start, is reached; what is ready
    /// goes to `ready`.
    ///
    /// # Errors
    ///
    /// What the kernel says, apart from EINTR.
    pub fn wait(&mut self, until: Duration, ready: &mut Vec<Ready>) -> io::Result<Woken> {
        let left = until.saturating_sub(self.started.elapsed());
        let timeout = match left.is_zero() {
            true => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
            false => {
                self.set_timer(until, left)?;
                None
            }
        };
        self.events.clear();
        let events = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, events, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut woken = Woken { is_signal: false, is_more: self.events.len() == EVENTS_MAX };
        for event in &self.events {
            let (data, flags) = (event.data.u64(), event.flags);
            match data {
                SIGNAL => woken.is_signal = true,
                TIMER => self.set_to = None,
                _ => ready.push(Ready {
                    key: Key { place: data as u32, attempt: (data >> 32) as u32 },
                    is_writable: flags.contains(EventFlags::OUT),
                    is_to_the_end: flags.intersects(TO_THE_END),
                }),
            }
        }
        Ok(woken)
    }

    fn set_timer(&mut self, until: Duration, left: Duration) -> io::Result<()> {
        if self.set_to == Some(until) {
            return Ok(());
        }
        // A time that is too long to be expressed never comes.
        let it_value =
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let value = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value)?;
        self.set_to = Some(until);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_wait_ends_at_its_time_or_with_what_is_ready() {
        let started = Instant::now();
        let mut readiness = Readiness::new(&Signals::never(), started).expect("descriptors");
        let mut ready = vec![];
        for millis in [3, 1, 0, 20] {
            let until = started.elapsed() + Duration::from_millis(millis);
            while started.elapsed() < until {
                let woken = readiness.wait(until, &mut ready).expect("waits");
                assert!(!woken.is_signal && !woken.is_more && ready.is_empty());
            }
        }
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let key = Key { place: 7, attempt: 3 };
        readiness.add(&near, key).expect("added");
        readiness.wait(Duration::from_secs(60), &mut ready).expect("waits");
        assert!(matches!(
            ready[..],
            [ready] if ready.key == key && ready.is_writable && !ready.is_to_the_end
        ));
        ready.clear();
        far.write_all(b"x").expect("sends");
        drop(far);
        readiness.wait(Duration::from_secs(60), &mut ready).expect("waits");
        assert!(matches!(ready[..], [Ready { is_to_the_end: true, .. }]));
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
