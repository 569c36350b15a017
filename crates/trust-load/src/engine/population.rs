//! How many clients and connections there are.

use std::collections::HashMap;

use super::farewell::{Leaving, leaving_max};
use crate::readiness::Key;
use crate::shape::{Length, Places};

/// How many clients and connections there are.
pub(super) struct Population {
    /// Clients that a place was given.
    begun: u64,
    /// Connections that were made.
    connections: u64,
    /// Connections that are open.
    pub(super) open: u64,
    /// Places that have a client, or may have one later.
    pub(super) busy_places: usize,
    /// Places whose first connection is neither there nor failed.
    pub(super) first_attempts: usize,
    /// Connections that have sent FIN.
    pub(super) leaving: HashMap<Key, Leaving>,
    /// How many of them may be there while their places go on.
    pub(super) leaving_max: usize,
}

impl Population {
    pub(super) fn new(places: usize) -> Population {
        Population {
            begun: 0,
            connections: 0,
            open: 0,
            busy_places: places,
            first_attempts: places,
            leaving: HashMap::new(),
            leaving_max: leaving_max(places),
        }
    }

    /// A connection was made; returns its number. No two shards have one in common, so an echo that
    /// came to the wrong one is seen.
    pub(super) fn connected(&mut self, places: Places) -> u64 {
        let number = places.first + 1 + self.connections * places.step;
        self.connections += 1;
        self.open += 1;
        number
    }

    /// Whether there are clients or connections.
    pub(super) fn is_active(&self) -> bool {
        !self.is_settled() || !self.leaving.is_empty()
    }

    /// Whether every message has had its answer, or never will.
    pub(super) fn is_settled(&self) -> bool {
        self.busy_places == 0
    }

    /// Whether a client is left that has not begun.
    pub(super) fn has_another_client(&self, length: Length) -> bool {
        match length {
            Length::Time(_) => true,
            Length::Messages { clients, .. } => self.begun < clients,
        }
    }

    /// How many messages the next client sends; none if there is no other client.
    pub(super) fn take_client(&mut self, length: Length) -> u64 {
        match length {
            Length::Time(_) => u64::MAX,
            Length::Messages { each, .. } if self.has_another_client(length) => {
                self.begun += 1;
                each
            }
            Length::Messages { .. } => 0,
        }
    }
}
