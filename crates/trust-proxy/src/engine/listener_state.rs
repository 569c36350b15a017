//! Times at which the kernel refuses clients or leaves them waiting. It does so without telling the
//! proxy, so these are states of the listening sockets, and no connection has a part in them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};
use trust_wire::Timestamp;

use crate::rules::{RuleAction, RulePlace, Rules};

/// What happens to those who connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenerState {
    /// They are accepted.
    Open,
    /// The kernel answers with RST (ECONNREFUSED).
    Refusing,
    /// The kernel drops their SYN, so that they try again after 1, 3, 7, … seconds.
    Ignoring,
}

/// When which state begins and ends.
#[derive(Debug, Default)]
pub(super) struct StateSchedule {
    windows: Vec<StateWindow>,
}

#[derive(Debug)]
struct StateWindow {
    rule: usize,
    state: ListenerState,
    from: Timestamp,
    until: Timestamp,
    has_begun: bool,
}

impl StateSchedule {
    /// What the rules say, from the time 0 on.
    pub(super) fn of(rules: &Rules) -> StateSchedule {
        let windows = rules.numbered().filter_map(|(rule, kept)| {
            let (state, time) = match kept.rule.action {
                RuleAction::Refuse(time) => (ListenerState::Refusing, time),
                RuleAction::Ignore(time) => (ListenerState::Ignoring, time),
                _ => return None,
            };
            let RulePlace::Time(begins) = kept.rule.place else { return None };
            let from = Timestamp::from_start(begins);
            Some(StateWindow { rule, state, from, until: from.after(time), has_begun: false })
        });
        StateSchedule { windows: windows.collect() }
    }

    /// The state at this time: of those that overlap, refusing.
    pub(super) fn at(&self, now: Timestamp) -> ListenerState {
        let is_open = |window: &&StateWindow| window.from <= now && now < window.until;
        let states = || self.windows.iter().filter(is_open).map(|window| window.state);
        if states().any(|state| state == ListenerState::Refusing) {
            return ListenerState::Refusing;
        }
        states().next().unwrap_or(ListenerState::Open)
    }

    /// A rule whose time has begun since the last call, and is not over.
    pub(super) fn take_begun(&mut self, now: Timestamp) -> Option<usize> {
        let is_now = |window: &StateWindow| window.from <= now && now < window.until;
        let window = self.windows.iter_mut().find(|it| is_now(it) && !it.has_begun)?;
        window.has_begun = true;
        Some(window.rule)
    }

    /// When the state changes next.
    pub(super) fn next(&self, now: Timestamp) -> Timestamp {
        let times = self.windows.iter().flat_map(|window| [window.from, window.until]);
        times.filter(|time| *time > now).min().unwrap_or(Timestamp::NEVER)
    }
}

/// Has the kernel refuse those who connect to a listening socket. It keeps its port, and listening
/// again ends that.
pub(super) fn refuse(listener: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&listener).shutdown(Shutdown::Read)
}

/// Has the kernel drop what those send who connect to a listening socket: only one can wait to be
/// accepted, and the connection that is returned does. Listening again ends that.
pub(super) fn ignore(listener: BorrowedFd<'_>, address: SocketAddr) -> io::Result<Socket> {
    SockRef::from(&listener).listen(0)?;
    let target = reachable(address);
    let own = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    own.set_nonblocking(true)?;
    match own.connect(&target.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(own),
    }
}

/// An address of this host at which one reaches that which listens there. One that is given stays
/// as it is, with its scope.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}
