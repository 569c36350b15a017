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

impl<S: Service> Worker<'_, S> {
    /// Has a child serve the client, for whom there is a place.
    pub(super) fn start_child(&mut self, stream: TcpStream, client: ClientInfo) {
        let Some(children) = &mut self.children else { return };
        let observer = &*self.shared.observer;
        self.now = self.shared.now();
        let accepted_at = self.now;
        observer.observe(&Event::Connected(&client));
        match children.start(client, stream.as_fd(), accepted_at) {
            Ok(pid) => observer.observe(&Event::ChildStarted { client: &client, pid }),
            Err(error) => {
                let errno = errno::of(&error);
                observer.observe(&Event::ChildFailed { client: &client, errno });
                drop(stream);
                self.shared.loads.take_off(self.index);
                self.close_for_child(&client, accepted_at, None, Reason::IoError);
                self.listeners.pause(self.shared.now());
            }
        }
    }

    /// Reaps those who have ended, and passes on what other threads have to say.
    pub(super) fn tend_children(&mut self) {
        let Some(children) = &self.children else { return };
        let notices = &self.shared.handle.notices;
        if notices.take_log_moved() {
            children.give_order(Order::ReopenLog);
        }
        if notices.take_exit() {
            while let Some(exited) = self.children.as_mut().and_then(|children| children.reap()) {
                self.handle_exit(exited);
            }
        }
    }

    pub(super) fn drain_children(&mut self, drain_ends: Timestamp) {
        if let Some(children) = &mut self.children {
            children.drain(drain_ends);
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
        self.shared.observer.observe(&Event::ChildExited { client: &client, pid, exit });
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
        let Report { reason, totals, was_cut, .. } = report;
        shared.closed[self.index].note(totals, &reason);
        if self.cut_at.is_some() {
            shared.counters.note_drained(was_cut);
        }
        let cause = Disconnect { reason, during: During::Receive, errno: None };
        report.tell(client, &cause, &*shared.observer);
    }
}
