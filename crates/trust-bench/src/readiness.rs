//! What the bare readiness loops of the bench ask the kernel for.

use rustix::event::epoll;

/// Events taken from the kernel per call.
pub(crate) const EVENTS: usize = 1024;

/// Both directions, registered once and for all: the cheapest way.
pub(crate) const INTEREST: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::OUT)
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);

/// The peer has ended its stream, or the connection is over.
pub(crate) const ENDING: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);
