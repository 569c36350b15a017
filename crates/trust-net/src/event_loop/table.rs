//! The connections of a worker, and when their deadlines are looked at.

use std::os::fd::OwnedFd;

use mio::Token;
use slab::Slab;
use trust_wire::{Limits, Timestamp};

use super::entry::Entry;
use crate::client::Client;
use crate::timers::Timers;

/// Places for connections that a table has from the start. They are address space and no memory
/// until they are used, and a table that does not move leaves no holes.
const PLACES_RESERVED: usize = 16 * 1024;

/// Timers of no use that are left where they are: sweeping them out has a price.
pub(super) const DEAD_TIMERS_KEPT: usize = 1024;

/// The connections of a worker.
pub(super) struct Table<S> {
    pub(super) entries: Slab<Entry<S>>,
    pub(super) timers: Timers,
    /// Connections that have used up their turn and are still ready.
    pub(super) unfinished: Vec<usize>,
    next_generation: u32,
}

impl<S> Table<S> {
    pub(super) fn new(max_clients: usize, limits: &Limits) -> Table<S> {
        Table {
            entries: Slab::with_capacity(max_clients.min(PLACES_RESERVED)),
            timers: Timers::new(limits),
            unfinished: Vec::new(),
            next_generation: 0,
        }
    }

    /// The token of the next connection that enters.
    pub(super) fn next_token(&self) -> Token {
        join_token(self.entries.vacant_key(), self.next_generation)
    }

    pub(super) fn enter(&mut self, stream: OwnedFd, client: Client<S>) -> usize {
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        self.entries.insert(Entry::new(stream, client, generation))
    }

    /// The connection with that token and its place, unless it has ended.
    pub(super) fn find(&mut self, token: Token) -> Option<(usize, &mut Entry<S>)> {
        let (key, generation) = split_token(token);
        let entry = self.entries.get_mut(key).filter(|entry| entry.generation == generation);
        entry.map(|entry| (key, entry))
    }

    /// Has the deadline of a connection looked at when it comes.
    pub(super) fn arm(&mut self, key: usize, deadline: Timestamp) {
        self.entries[key].armed = self.timers.arm(deadline, key as u32);
        self.drop_dead_timers();
    }

    /// Closed connections leave their timers behind, and so do those that are armed for an earlier
    /// time. These are swept out before they outnumber the others, by whatever makes more of them.
    pub(super) fn drop_dead_timers(&mut self) {
        if self.timers.len() > DEAD_TIMERS_KEPT + 2 * self.entries.len() {
            let entries = &self.entries;
            self.timers.retain(|time, key| {
                entries.get(key as usize).is_some_and(|entry| entry.armed == time)
            });
        }
    }
}

fn split_token(Token(token): Token) -> (usize, u32) {
    (token & u32::MAX as usize, (token >> 32) as u32)
}

/// The token of the connection in that place.
pub(super) fn join_token(key: usize, generation: u32) -> Token {
    debug_assert!(key < u32::MAX as usize, "more connections than descriptors can be");
    Token((generation as usize) << 32 | key)
}
