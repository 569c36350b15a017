//! The first worker's job when children serve the clients.

use std::os::fd::AsFd;

use mio::net::TcpStream;
use trust_wire::{Disconnect, During, Reason, Timestamp};

use super::Worker;
use crate::channel::{Order, Report};
use crate::children::Exited;
use crate::errno;
use crate::observer::{ClientInfo, Event};
use crate::service::Service;
use crate::stop::Stop;

/// A client that was accepted and whose child could not be started yet.
pub(super) struct Waiting {
    stream: TcpStream,
    client: ClientInfo,
    accepted_at: Timestamp,
}

impl<S: Service> Worker<'_, S> {
    /// Has a child serve the client, for whom there is a place.
    pub(super) fn start_child(&mut self, stream: TcpStream, client: ClientInfo) {
        self.now = self.shared.now();
        self.shared.observer.observe(&Event::Connected(&client));
        self.waiting = Some(Waiting { stream, client, accepted_at: self.now });
        self.start_waiting();
    }

    /// Starts the child that a client waits for; returns whether nobody waits any more.
    pub(super) fn start_waiting(&mut self) -> bool {
        let (Some(children), Some(waiting)) = (&mut self.children, &self.waiting) else {
            return true;
        };
        let (observer, policy) = (&*self.shared.observer, &mut self.listeners.policy);
        if policy.paused_until(self.now) != Timestamp::NEVER {
            return false;
        }
        let client = waiting.client;
        match children.start(client, waiting.stream.as_fd(), waiting.accepted_at) {
            Ok(pid) => {
                self.waiting = None;
                policy.handle_success(observer);
                observer.observe(&Event::ChildStarted { client: &client, pid });
                true
            }
            Err(error) => {
                let errno = errno::of(&error);
                if errno::is_shortage_of_processes(errno) && self.shared.stop() == Stop::No {
                    // The client goes on waiting, as it would in the backlog.
                    policy.handle_exhausted(self.now, errno, observer);
                    return false;
                }
                observer.observe(&Event::ChildFailed { client: &client, errno });
                let accepted_at = waiting.accepted_at;
                self.waiting = None;
                self.shared.loads.take_off(self.index);
                self.close_for_child(&client, accepted_at, None, Reason::IoError);
                true
            }
        }
    }

    /// Reaps those who have ended, and passes on what other threads have to say.
    pub(super) fn tend_children(&mut self) {
        let Some(children) = &mut self.children else { return };
        let notices = &self.shared.handle.notices;
        if notices.take_log_moved() {
            children.give_order(Order::ReopenLog, self.now);
        }
        children.give_unsent_orders(self.now);
        if notices.take_exit() {
            while let Some(exited) = self.children.as_mut().and_then(|children| children.reap()) {
                self.handle_exit(exited);
            }
        }
    }

    /// Has those who are there finish, before there are more of them.
    pub(super) fn tell_children_to_drain(&mut self) {
        if let Some(children) = &mut self.children {
            children.give_order(Order::Drain, self.now);
        }
    }

    pub(super) fn drain_children(&mut self, drain_ends: Timestamp) {
        if let Some(children) = &mut self.children {
            children.drain(drain_ends, self.now);
        }
    }

    pub(super) fn hurry_children(&mut self, stop: Stop) {
        if let Some(children) = &mut self.children {
            children.hurry(stop == Stop::Cut, self.now);
        }
    }

    pub(super) fn child_count(&self) -> usize {
        self.children.as_ref().map_or(0, |children| children.len())
    }

    fn handle_exit(&mut self, exited: Exited) {
        let Exited { client, accepted_at, pid, exit, report } = exited;
        // Whoever reads in the log that the client is gone finds its place free.
        self.shared.loads.take_off(self.index);
        let unlogged = report.map(|report| report.unlogged).unwrap_or_default();
        self.shared.observer.observe(&Event::ChildExited { client: &client, pid, exit, unlogged });
        if self.shared.stop() != Stop::No {
            // One that could not say was not drained.
            let was_cut = report.is_none_or(|report| report.was_cut);
            self.shared.counters.note_drained(was_cut);
        }
        self.close_for_child(&client, accepted_at, report, Reason::ChildDied);
        self.listeners.handle_descriptor_free();
    }

    /// The client of a child is gone: for `otherwise`, if the child could not say.
    fn close_for_child(
        &mut self,
        client: &ClientInfo,
        accepted_at: Timestamp,
        report: Option<Report>,
        otherwise: Reason,
    ) {
        let shared = self.shared;
        let report = report.unwrap_or_else(|| {
            Report::only(otherwise, shared.limits.mode, shared.now().since(accepted_at))
        });
        let Report { reason, totals, .. } = report;
        shared.closed[self.index].note(totals, &reason);
        let cause = Disconnect { reason, during: During::Receive, errno: None };
        report.tell(client, &cause, &*shared.observer);
    }
}
