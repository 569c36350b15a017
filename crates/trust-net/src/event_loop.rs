//! Many clients at once: one event loop per worker thread.
//!
//! Readiness is edge-triggered, and each socket is registered once, for both directions. A
//! connection remembers what it is ready for until a call says otherwise, usually by transferring
//! less than was asked for. EAGAIN is therefore rare. After one, the kernel is asked afresh
//! (`EPOLL_CTL_MOD`), so that an EAGAIN without cause loses no edge; after a second one, it is
//! asked later ([`crate::questions`]). All connections of a worker share one receive buffer; one
//! receive is answered by one send. The first worker also accepts and hands each client to the
//! worker that has the fewest.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use mio::unix::SourceFd;
use mio::{Events, Registry};
use trust_wire::turn::Unread;
use trust_wire::{CloseStep, During, Reason, Timestamp};

use crate::address::Family;
use crate::children::Children;
use crate::client::Client;
use crate::errno;
use crate::handoff::{ALARM, HandedOver, Handoffs, WAKER, WorkerResources};
use crate::listening::ListeningSocket;
use crate::observer::{ClientInfo, Stats};
use crate::questions::Questions;
use crate::service::Service;
use crate::shared::{Handle, RoundReports, Shared};
use crate::socket;
use crate::stop::Stop;
use crate::turn::{Buffers, Next, SocketIo, take_turn};
use accepting::Listeners;
use entry::{Entry, INTEREST, Polled};
use parenting::Parent;
use poller::Poller;
use table::{Table, join_token};

mod accepting;
mod entry;
mod parenting;
mod poller;
mod table;

pub use entry::note_event;

/// Deadlines judged before readiness is looked at again.
const DEADLINES_PER_ROUND: usize = 256;

/// Events taken from the kernel with one call.
pub(crate) const EVENTS_PER_POLL: usize = 1024;

/// Runs all workers, the first one on this thread, until all of them are done.
pub(crate) fn run<S: Service>(
    shared: &Shared<S>,
    resources: Vec<WorkerResources>,
    listeners: Vec<ListeningSocket>,
) -> io::Result<()> {
    let listeners = Listeners::new(listeners, false)?;
    let handoffs =
        &Handoffs::new(resources.iter().map(|resources| Arc::clone(&resources.handoff)).collect());
    thread::scope(|scope| {
        let ends_all = EndsAll { handoffs, handle: &shared.handle };
        let mut workers = resources.into_iter().enumerate();
        let (index, resources) = workers.next().expect("at least one worker");
        let first = Worker::new(index, resources, listeners, shared, handoffs)?;
        let mut others = Vec::new();
        for (index, resources) in workers {
            let run = move || {
                Worker::new(index, resources, Listeners::new(vec![], false)?, shared, handoffs)?
                    .run()
            };
            let thread = thread::Builder::new().name(format!("worker-{index}"));
            others.push(thread.spawn_scoped(scope, run)?);
        }
        std::mem::forget(ends_all);
        shared.announce();
        others.into_iter().fold(first.run(), |outcome, worker| match worker.join() {
            Ok(its_outcome) => outcome.and(its_outcome),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Has all workers cut what they have and end, unless it is forgotten: on an error, and on a panic.
struct EndsAll<'a> {
    handoffs: &'a Handoffs,
    handle: &'a Handle,
}

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        // The first worker may no longer be there to say so.
        self.handoffs.close();
        self.handle.cut();
    }
}

/// Ends a server that must stop and has run without an event loop so far: serves `current` and all
/// clients in the backlog, all at once, until the drain is over.
pub(crate) fn drain<S: Service>(
    shared: &Shared<S>,
    resources: WorkerResources,
    listeners: Vec<ListeningSocket>,
    current: Option<(Client<S::Session>, OwnedFd)>,
) -> io::Result<()> {
    let listeners = Listeners::new(listeners, shared.counters.listener_failed())?;
    let handoffs = Handoffs::new(vec![Arc::clone(&resources.handoff)]);
    let mut worker = Worker::new(0, resources, listeners, shared, &handoffs)?;
    if let Some((client, stream)) = current {
        let registered = worker.register(stream.as_fd());
        worker.enter(stream, client, registered);
    }
    // At once, so that the drain is of everybody who was there when it was asked for.
    worker.follow_stop_flag();
    worker.run()
}

/// Accepts clients and has children serve them.
pub(crate) fn run_with_children<S: Service>(
    shared: &Shared<S>,
    resources: WorkerResources,
    listeners: Vec<ListeningSocket>,
    children: Children,
) -> io::Result<()> {
    let handoffs = Handoffs::new(vec![Arc::clone(&resources.handoff)]);
    let mut worker = Worker::alone(resources, listeners, shared, &handoffs)?;
    worker.role = Role::Parenting(Parent::new(children));
    shared.announce();
    worker.run()
}

/// Serves the one connection that somebody else accepted, to its end.
pub(crate) fn serve_one<S: Service>(
    shared: &Shared<S>,
    resources: WorkerResources,
    stream: OwnedFd,
    info: ClientInfo,
) -> io::Result<()> {
    let handoffs = Handoffs::new(vec![Arc::clone(&resources.handoff)]);
    let mut worker = Worker::alone(resources, vec![], shared, &handoffs)?;
    worker.role = Role::ServingOne;
    shared.announce();
    shared.loads.add(worker.index);
    let registered = worker.register(stream.as_fd());
    worker.welcome(stream, info, registered);
    worker.run()
}

/// What a worker does with clients.
enum Role {
    /// Serves those that it has accepted, and those that are handed over to it.
    Serving,
    /// Serves the one connection that somebody else accepted, and ends with it.
    ServingOne,
    /// Has children serve those that it has accepted.
    Parenting(Parent),
}

impl Role {
    fn parent(&mut self) -> Option<&mut Parent> {
        if let Role::Parenting(parent) = self { Some(parent) } else { None }
    }

    fn children(&self) -> Option<&Children> {
        if let Role::Parenting(parent) = self { Some(&parent.children) } else { None }
    }
}

/// Whether more clients may come.
enum Lifecycle {
    Open,
    /// Those who are there finish; what is left of them is cut at that time.
    Draining {
        cut_at: Timestamp,
    },
}

pub(crate) struct Worker<'a, S: Service> {
    index: usize,
    shared: &'a Shared<S>,
    /// Closed once the listener is closed and `DrainStarted` was reported.
    handoffs: &'a Handoffs,
    role: Role,
    lifecycle: Lifecycle,
    poller: Poller,
    /// Only the first worker has some, until the server stops.
    listeners: Listeners,
    table: Table<S::Session>,
    questions: Questions,
    buffers: Buffers,
    reports: RoundReports,
    now: Timestamp,
}

impl<'a, S: Service> Worker<'a, S> {
    /// The only worker of a server.
    pub(crate) fn alone(
        resources: WorkerResources,
        listeners: Vec<ListeningSocket>,
        shared: &'a Shared<S>,
        handoffs: &'a Handoffs,
    ) -> io::Result<Worker<'a, S>> {
        Worker::new(0, resources, Listeners::new(listeners, false)?, shared, handoffs)
    }

    fn new(
        index: usize,
        resources: WorkerResources,
        mut listeners: Listeners,
        shared: &'a Shared<S>,
        handoffs: &'a Handoffs,
    ) -> io::Result<Worker<'a, S>> {
        listeners.register(resources.poll.registry())?;
        Ok(Worker {
            index,
            shared,
            handoffs,
            role: Role::Serving,
            lifecycle: Lifecycle::Open,
            poller: Poller::new(resources.poll, resources.alarm),
            listeners,
            table: Table::new(shared.config.max_clients, &shared.limits),
            questions: Questions::default(),
            buffers: Buffers::new(&shared.limits),
            reports: RoundReports::new(index, &shared.pulse),
            now: shared.now(),
        })
    }

    /// Runs to the end of the drain. If it ends in any other way, so do the other workers: a server
    /// without one of its workers would leave clients unserved.
    fn run(mut self) -> io::Result<()> {
        let ends_all = EndsAll { handoffs: self.handoffs, handle: &self.shared.handle };
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        while !self.is_done() {
            self.go_round(&mut events, self.next_wake_up())?;
        }
        self.reports.end(self.shared);
        std::mem::forget(ends_all);
        Ok(())
    }

    /// Where what the worker waits for is registered.
    pub(crate) fn registry(&self) -> &Registry {
        self.poller.registry()
    }

    /// Waits once, until something is ready or `until`, and does all that there is to do then.
    pub(crate) fn go_round(&mut self, events: &mut Events, until: Timestamp) -> io::Result<()> {
        self.wait(events, until)?;
        self.handle_events(events);
        self.give_turns();
        if self.table.timers.next() <= self.now {
            let due = self.now;
            self.serve_what_is_ready(events)?;
            self.judge_deadlines(due);
        }
        self.ask_again();
        // After the last wait of the round: what it was woken for is looked at now.
        self.tend_children();
        self.accept_clients();
        self.welcome_all(self.handoffs.handed_over(self.index));
        self.contribute_stats();
        self.follow_stop_flag();
        self.reports.beat(self.shared, self.now);
        Ok(())
    }

    /// Serves everything that has arrived by now, so that deadlines can be judged against this
    /// moment: no client that has sent in time is cut, even after a pause of the whole process.
    fn serve_what_is_ready(&mut self, events: &mut Events) -> io::Result<()> {
        // Connections that become ready meanwhile are no reason to go on.
        for _ in 0..=self.table.entries.len() / EVENTS_PER_POLL {
            self.wait(events, Timestamp::default())?;
            self.handle_events(events);
            if events.iter().count() < EVENTS_PER_POLL {
                break;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let more_may_come = match (&self.lifecycle, &self.role) {
            (Lifecycle::Draining { .. }, _) | (Lifecycle::Open, Role::ServingOne) => false,
            (Lifecycle::Open, Role::Serving | Role::Parenting(_)) => true,
        };
        !more_may_come && self.table.entries.is_empty() && self.child_count() == 0
    }

    fn child_count(&self) -> usize {
        self.role.children().map_or(0, Children::len)
    }

    fn wait(&mut self, events: &mut Events, until: Timestamp) -> io::Result<()> {
        self.now = self.poller.wait(events, until, self.now, self.shared)?;
        Ok(())
    }

    fn next_wake_up(&self) -> Timestamp {
        if !self.table.unfinished.is_empty() || self.poller.is_awake(self.now) {
            return self.now;
        }
        let listeners = self.listeners.next_wake_up(self.now);
        let cut_at = match self.lifecycle {
            Lifecycle::Draining { cut_at } if !self.table.entries.is_empty() => cut_at,
            // Once a worker has cut what it has, it may still wait for its children.
            Lifecycle::Draining { .. } | Lifecycle::Open => Timestamp::NEVER,
        };
        let children = self.role.children().map_or(Timestamp::NEVER, Children::next_wake_up);
        let timers = self.table.timers.next().min(self.questions.next()).min(cut_at).min(children);
        listeners.min(timers).min(self.reports.next_beat())
    }

    fn handle_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                ALARM => self.poller.note_alarm(),
                // The inbox and the flags are looked at in every round, after the last wait.
                WAKER => {}
                token if self.listeners.note_readiness(token) => {}
                token => {
                    let Some((key, entry)) = self.table.find(token) else { continue };
                    entry.note_readiness(event);
                    self.give_turn(key);
                }
            }
        }
    }

    /// Asks the kernel about sockets that were not as ready as it had said, and whose pause is over
    /// now.
    fn ask_again(&mut self) {
        let (table, listeners) = (&mut self.table, &self.listeners);
        let is_there = |token| {
            let found = table.find(token);
            found.is_some_and(|(_, entry)| entry.readiness.is_to_be_asked())
                || listeners.have(token)
        };
        for token in self.questions.take_due(self.now, is_there) {
            let registry = self.poller.registry();
            match self.table.find(token) {
                Some((_, entry)) => entry.ask_again(registry, token),
                None => self.listeners.ask_again(registry, token),
            }
        }
    }

    fn give_turns(&mut self) {
        for key in std::mem::take(&mut self.table.unfinished) {
            if let Some(entry) = self.table.entries.get_mut(key)
                && std::mem::take(&mut entry.queued)
            {
                self.give_turn(key);
            }
        }
    }

    /// Lets a connection do what it is ready for.
    fn give_turn(&mut self, key: usize) {
        let Some(entry) = self.table.entries.get_mut(key) else { return };
        let endpoint = Polled {
            stream: &entry.stream,
            registry: self.poller.registry(),
            token: join_token(key, entry.generation),
            questions: &mut self.questions,
        };
        let began_at = self.now;
        let family = entry.client.family();
        let mut io = SocketIo { shared: self.shared, endpoint, family, now: began_at };
        let Entry { client, readiness, .. } = entry;
        let next = take_turn(client, readiness, &mut io, &mut self.buffers);
        self.now = io.now;
        client.report_cause(&*self.shared.observer);
        match next {
            Next::Close(step) => return self.close(key, step),
            Next::Turn if !entry.queued => {
                entry.queued = true;
                self.table.unfinished.push(key);
            }
            Next::Turn | Next::Wait => {}
        }
        let connection = &entry.client.connection;
        let timers = &self.table.timers;
        if timers.may_be_earlier(entry.armed, began_at) || connection.is_ending() {
            let deadline = connection.poll_deadline();
            if timers.is_earlier(deadline, entry.armed) {
                self.table.arm(key, deadline);
            }
        }
    }

    fn judge_deadlines(&mut self, due: Timestamp) {
        // Taken out first: what is entered anew for a time that has passed waits for the next
        // round. Where thousands are due at once, so do the rest: clients that are served do not
        // wait until all of those have been ended.
        let (mut taken, mut left) = (vec![], DEADLINES_PER_ROUND);
        while left > 0
            && let Some((time, keys)) = self.table.timers.take_due(due, left)
        {
            left -= keys.len();
            taken.push((time, keys));
        }
        for (time, keys) in taken {
            keys.into_iter().for_each(|key| self.judge_deadline(due, time, key as usize));
        }
    }

    fn judge_deadline(&mut self, due: Timestamp, entered_for: Timestamp, key: usize) {
        let Some(entry) = self.table.entries.get_mut(key) else { return };
        // The entry was armed again for an earlier time, or is that of a closed connection that had
        // the same place. A connection that is in that place now and was entered for the same time
        // is judged once, at either of the two.
        if entry.armed != entered_for {
            return;
        }
        entry.armed = Timestamp::NEVER;
        let family = entry.client.family();
        let connection = &mut entry.client.connection;
        if connection.poll_deadline() <= due {
            let mut probe = socket::probe_of(entry.stream.as_fd(), family);
            probe.asked_at = self.shared.now();
            entry.readiness.note_probe(&probe);
            connection.handle_deadline(due, probe);
        }
        self.give_turn(key);
    }

    fn welcome_all(&mut self, clients: Vec<HandedOver>) {
        clients.into_iter().for_each(|client| self.welcome_one(client));
    }

    fn welcome_one(&mut self, client: HandedOver) {
        let HandedOver { stream, peer, id } = client;
        let registered = self.register(stream.as_fd());
        if let Err(error) = &registered
            && self.shared.stop() == Stop::No
            && errno::is_shortage_of_watches(errno::of(error))
        {
            let client = HandedOver { stream, peer, id };
            return self.put_off(client, errno::of(error));
        }
        let info = ClientInfo::new(id, stream.as_raw_fd(), peer);
        self.welcome(stream, info, registered);
    }

    fn welcome(&mut self, stream: OwnedFd, info: ClientInfo, registered: io::Result<()>) {
        let shared = self.shared;
        let limits = Arc::clone(&shared.limits);
        self.now = shared.now();
        let client = Client::accept(&shared.service, limits, info, &*shared.observer, self.now);
        self.enter(stream, client, registered);
    }

    /// Registers the stream of the next one that enters.
    fn register(&self, stream: BorrowedFd<'_>) -> io::Result<()> {
        let mut source = SourceFd(&stream.as_raw_fd());
        self.poller.registry().register(&mut source, self.table.next_token(), INTEREST)
    }

    fn enter(&mut self, stream: OwnedFd, client: Client<S::Session>, registered: io::Result<()>) {
        let key = self.table.enter(stream, client);
        if let Err(error) = registered {
            self.table.entries[key].client.handle_io_error(&error, During::Receive);
        }
        self.give_turn(key);
    }

    fn close(&mut self, key: usize, step: CloseStep) {
        let entry = self.table.entries.remove(key);
        let family = entry.client.family();
        if step == CloseStep::Reset && family == Family::Ip {
            socket::reset_on_close(entry.stream.as_fd());
        }
        let is_served = entry.client.is_served();
        if is_served {
            // Once the log says that the client is gone, its place is free.
            self.shared.loads.take_off(self.index);
        }
        let (observer, counters) = (&*self.shared.observer, &self.shared.closed[self.index]);
        entry.client.close(entry.stream.as_fd(), observer, counters, self.now);
        if matches!(self.role, Role::ServingOne) {
            // Who has handed the connection over may have kept it.
            socket::end_for_everybody(entry.stream.as_fd(), family, step);
        }
        drop(entry.stream);
        self.table.drop_dead_timers();
        self.listeners.handle_descriptor_free();
        if !is_served {
            self.listeners.note_rejected_gone();
        } else if matches!(self.lifecycle, Lifecycle::Draining { .. }) {
            self.shared.counters.note_drained(step == CloseStep::Reset);
        }
    }

    fn contribute_stats(&mut self) {
        let (children, entries) = (self.child_count(), &self.table.entries);
        self.reports.contribute_stats(self.shared, || {
            let mut stats = Stats { open: children as u64, ..Stats::default() };
            for (_, entry) in entries.iter().filter(|(_, entry)| entry.client.is_served()) {
                let connection = &entry.client.connection;
                stats.add_open(connection.phase(), connection.totals());
            }
            stats
        });
    }

    fn follow_stop_flag(&mut self) {
        let stop = self.shared.stop();
        if stop == Stop::No {
            return;
        }
        if self.index == 0 && !self.handoffs.are_closed() {
            self.end_accepting();
        }
        if matches!(self.lifecycle, Lifecycle::Open)
            && let Some(clients) = self.handoffs.last_handed_over(self.index)
        {
            self.welcome_all(clients);
            self.begin_drain();
        }
        match self.lifecycle {
            Lifecycle::Draining { .. } if stop == Stop::Cut => self.cut(Reason::SecondSignal),
            Lifecycle::Draining { cut_at } if cut_at <= self.now => self.cut(Reason::DrainTimeout),
            Lifecycle::Draining { .. } | Lifecycle::Open => {}
        }
        if let Some(parent) = self.role.parent() {
            parent.children.hurry(stop == Stop::Cut, self.now);
        }
    }

    fn begin_drain(&mut self) {
        self.now = self.shared.now();
        let cut_at = self.now + self.shared.config.drain_timeout;
        self.lifecycle = Lifecycle::Draining { cut_at };
        if let Some(parent) = self.role.parent() {
            parent.children.drain(cut_at, self.now);
        }
        self.for_each_entry(|entry| {
            if !entry.client.is_served() {
                // Nothing is owed to it, and whatever it sends was not asked for: it has had its
                // FIN.
                let probe = socket::probe_of(entry.stream.as_fd(), entry.client.family());
                return entry.client.connection.abort(Reason::Drain, probe);
            }
            let unread = socket::unread(entry.stream.as_fd());
            // What came since the last event has not been announced yet.
            entry.readiness.note(Unread::Bytes, false);
            entry.client.connection.retire(Reason::Drain, unread);
        });
    }

    fn cut(&mut self, reason: Reason) {
        self.for_each_entry(|entry| {
            let probe = socket::probe_of(entry.stream.as_fd(), entry.client.family());
            entry.client.connection.abort(reason, probe);
        });
    }

    fn for_each_entry(&mut self, change: impl Fn(&mut Entry<S::Session>)) {
        let keys: Vec<usize> = self.table.entries.iter().map(|(key, _)| key).collect();
        for key in keys {
            change(&mut self.table.entries[key]);
            self.give_turn(key);
        }
    }
}

#[cfg(test)]
mod tests;
