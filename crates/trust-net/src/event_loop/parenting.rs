//! The first worker's job when children serve the clients.

use std::os::fd::{AsFd, OwnedFd};

use trust_wire::{Disconnect, During, Reason, Timestamp};

use crate::accept::AcceptPolicy;
use crate::channel::{Order, Report};
use crate::children::{Children, Exited};
use crate::errno;
use crate::observer::{ClientInfo, Event};
use crate::service::Service;
use crate::shared::Shared;
use crate::stop::Stop;

/// The only worker of a server with children.
const PARENT: usize = 0;

/// What a worker has whose clients are served by children.
pub(super) struct Parent {
    pub(super) children: Children,
    /// Who could not be given a child yet.
    waiting: Option<Waiting>,
}

/// A client that was accepted and whose child could not be started yet.
struct Waiting {
    stream: OwnedFd,
    client: ClientInfo,
    accepted_at: Timestamp,
}

impl Parent {
    pub(super) fn new(children: Children) -> Parent {
        Parent { children, waiting: None }
    }

    /// Has a child serve the client, for whom there is a place.
    pub(super) fn serve<S: Service>(
        &mut self,
        stream: OwnedFd,
        client: ClientInfo,
        shared: &Shared<S>,
        policy: &mut AcceptPolicy,
        now: Timestamp,
    ) {
        // Else the child does, once it knows the client.
        if shared.limits.proxy_header.is_none() {
            shared.observer.observe(&Event::Connected(&client));
        }
        self.waiting = Some(Waiting { stream, client, accepted_at: now });
        self.start_waiting(shared, policy, now);
    }

    /// Starts the child that a client waits for; returns whether no client is left waiting.
    pub(super) fn start_waiting<S: Service>(
        &mut self,
        shared: &Shared<S>,
        policy: &mut AcceptPolicy,
        now: Timestamp,
    ) -> bool {
        let Some(Waiting { stream, client, accepted_at }) = &self.waiting else { return true };
        if policy.is_paused(now) {
            return false;
        }
        let (observer, client, accepted_at) = (&*shared.observer, *client, *accepted_at);
        match self.children.start(client, stream.as_fd(), accepted_at) {
            Ok(pid) => {
                self.waiting = None;
                policy.handle_success(observer);
                observer.observe(&Event::ChildStarted { client: &client, pid });
            }
            Err(error) => {
                let errno = errno::of(&error);
                if errno::is_shortage_of_processes(errno) && shared.stop() == Stop::No {
                    // The client goes on waiting, as it would in the backlog.
                    policy.handle_exhausted(now, errno, observer);
                    return false;
                }
                tell_of_unknown(shared, &client);
                observer.observe(&Event::ChildFailed { client: &client, errno });
                self.waiting = None;
                shared.loads.take_off(PARENT);
                close(shared, &client, accepted_at, None, Reason::IoError);
            }
        }
        true
    }

    /// Reaps those who have ended, and passes on what other threads have to say.
    pub(super) fn tend<S: Service>(
        &mut self,
        shared: &Shared<S>,
        policy: &mut AcceptPolicy,
        now: Timestamp,
    ) {
        let notices = &shared.handle.notices;
        if notices.take_log_moved() {
            self.children.give_order(Order::ReopenLog, now);
        }
        self.children.give_unsent_orders(now);
        if notices.take_exit() {
            while let Some(exited) = self.children.reap() {
                handle_exit(shared, &exited);
                policy.handle_descriptor_free();
            }
        }
    }
}

fn handle_exit<S: Service>(shared: &Shared<S>, exited: &Exited) {
    let Exited { client, is_told_of, accepted_at, pid, exit, report } = *exited;
    if !is_told_of {
        tell_of_unknown(shared, &client);
    }
    // Once the log says that the client is gone, its place is free.
    shared.loads.take_off(PARENT);
    let unlogged = report.map(|report| report.unlogged).unwrap_or_default();
    shared.observer.observe(&Event::ChildExited { client: &client, pid, exit, unlogged });
    if shared.stop() != Stop::No {
        // One that could not say was not drained.
        let was_cut = report.is_none_or(|report| report.was_cut);
        shared.counters.note_drained(was_cut);
    }
    close(shared, &client, accepted_at, report, Reason::ChildDied);
}

/// Reports a client whose PROXY header was never read, if its connection had to begin with one.
fn tell_of_unknown<S: Service>(shared: &Shared<S>, client: &ClientInfo) {
    if shared.limits.proxy_header.is_some() {
        shared.observer.observe(&Event::Connected(client));
    }
}

/// The client of a child is gone: for `otherwise`, if the child could not say.
fn close<S: Service>(
    shared: &Shared<S>,
    client: &ClientInfo,
    accepted_at: Timestamp,
    report: Option<Report>,
    otherwise: Reason,
) {
    let report = report.unwrap_or_else(|| {
        Report::only(otherwise, shared.limits.mode, shared.now().since(accepted_at))
    });
    let Report { reason, totals, .. } = report;
    shared.closed[PARENT].note(totals, &reason);
    let cause = Disconnect { reason, during: During::Receive, errno: None };
    report.tell(client, &cause, &*shared.observer);
}
