//! The events of accepting clients, as lines of the event log: the same for every service.

use trust_net::errno::{self, Operation};
use trust_net::wire::During;
use trust_net::{Event, Peer};

use crate::error_map::{self, errno_name};
use crate::event_log::{EventBuilder, EventLog};
use crate::level::Level;

/// The word for a client without a place.
pub const AT_CAPACITY: &str = "at_capacity";

/// Writes an event about accepting, a drain or a signal that interrupted a call; whether it is one.
pub fn write(log: &EventLog, event: &Event<'_>) -> bool {
    match *event {
        Event::Rejected { peer, suppressed } => {
            with_peer(log.event(Level::Warn, "client_reject"), &peer)
                .field("reason", AT_CAPACITY)
                .field("suppressed", &suppressed)
                .write()
        }
        Event::Interrupted { .. } => {
            let row = error_map::find(errno::INTERRUPTED, During::Receive);
            with_errno(log.event(row.level, row.event), errno::INTERRUPTED).write();
        }
        Event::AcceptFailed { errno, suppressed } => {
            accept_event(log, errno).field("suppressed", &suppressed).write();
        }
        // Also for what only serving needs, which is no errno of accept(2).
        Event::AcceptPaused { errno } => {
            with_errno(log.event(Level::Error, "accept_paused"), errno).write();
        }
        Event::ListenerFailed { errno } => accept_event(log, errno).write(),
        Event::AcceptResumed => log.event(Level::Info, "accept_resumed").write(),
        Event::DrainStarted { active } => {
            log.event(Level::Info, "drain_start").field("active", &active).write();
        }
        Event::DrainDone { drained, cut } => {
            let event = log.event(Level::Info, "drain_done");
            event.field("drained", &drained).field("cut", &cut).write();
        }
        _ => return false,
    }
    true
}

fn accept_event(log: &EventLog, errno: i32) -> EventBuilder<'_> {
    let row = error_map::find(errno, Operation::Accept);
    with_errno(log.event(row.level, row.event), errno)
}

/// Adds who the peer is.
pub fn with_peer<'a>(event: EventBuilder<'a>, peer: &Peer) -> EventBuilder<'a> {
    let event = event.field("peer", &format_args!("{peer}"));
    match peer {
        Peer::Ip(_) => event,
        Peer::Unix { pid, uid } => event.field("peer_pid", pid).field("peer_uid", uid),
    }
}

/// Adds an errno and its name.
pub fn with_errno(event: EventBuilder<'_>, errno: i32) -> EventBuilder<'_> {
    event.field("errno", &errno).field("errno_name", &errno_name(errno))
}
