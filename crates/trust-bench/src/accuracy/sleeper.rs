//! The bare sleeper: what any program is late by that waits for a time and then sends.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// The time of CLOCK_MONOTONIC.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// By how much sends are late that wait for a time each: `count` of them, `delay` from now and so
/// far `apart`.
pub(super) fn lateness(
    delay: Duration,
    apart: Duration,
    count: usize,
) -> io::Result<Vec<Duration>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let own = TcpStream::connect(listener.local_addr()?)?;
    let (mut other, _) = listener.accept()?;
    own.set_nodelay(true)?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let began = now();
    let reader = thread::spawn(move || io::copy(&mut other, &mut io::sink()));
    let mut late = vec![];
    for number in 0..count {
        let due = began + delay + apart * number as u32;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Timespec { tv_sec: due.as_secs() as i64, tv_nsec: i64::from(due.subsec_nanos()) };
        let time = Itimerspec { it_interval: zero, it_value: at };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &time)?;
        let mut waiting = [PollFd::from_borrowed_fd(timer.as_fd(), PollFlags::IN)];
        while poll(&mut waiting, None)? == 0 {}
        rustix::io::read(&timer, &mut [0; 8])?;
        rustix::net::send(&own, &[7; 64], rustix::net::SendFlags::NOSIGNAL)?;
        late.push(now().saturating_sub(due));
    }
    drop(own);
    let _ = reader.join();
    Ok(late)
}
