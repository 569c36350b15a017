//! The work of the engine, from settings that fit together.

use std::time::Duration;

use trust_net::Address;
use trust_net::preface::ProxyPreface;

use crate::schedule::Arrivals;
use crate::script::Script;
use crate::shard::Shard;

/// The work of the engine.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Where connections go, and how often a new one is made.
    pub connecting: ConnectPlan,
    /// What is sent.
    pub script: Script,
    /// Places for clients, one for each concurrent client.
    pub places: Places,
    /// When messages are sent.
    pub pace: Pace,
    /// The most messages in flight per connection.
    pub in_flight: usize,
    /// When the run is over.
    pub length: Length,
    /// Longest wait for the last answers when a time ends the run.
    pub grace: Duration,
    /// Time at the start of the run that is not measured.
    pub warm_up: Duration,
    /// Longest time to connect, and without progress while an answer is owed; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Longest time from when a message was sent to the last byte of its answer; `None`: no limit.
    pub answer_timeout: Option<Duration>,
    /// Seeds the random part of the times.
    pub seed: u64,
}

/// Where connections go, and how often a new one is made.
#[derive(Clone, Debug)]
pub struct ConnectPlan {
    /// The server's addresses, at least one. Connections take them in turn.
    pub addresses: Vec<Address>,
    /// The PROXY header that each begins with, if any.
    pub preface: Option<ProxyPreface>,
    /// The least time between two connection attempts.
    pub gap: Duration,
    /// Messages after which a connection is closed and another one made; `u64::MAX`: none.
    pub messages: u64,
}

/// The places that belong to this process: `first`, `first + step` and so on, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Number of the first, from 0.
    pub first: u64,
    /// Distance between two numbers, which is the number of shards.
    pub step: u64,
    /// How many belong to this process.
    pub count: u64,
    /// How many there are in all shards.
    pub of_all: u64,
}

impl Places {
    /// One shard's part of all places.
    pub fn of_shard(shard: Shard, of_all: u64) -> Places {
        let (first, step) = (u64::from(shard.index()), u64::from(shard.of()));
        Places { first, step, count: shard.share(of_all), of_all }
    }

    /// These places' share of something that belongs to all places together.
    pub fn share(&self, of_all: f64) -> f64 {
        of_all * self.count as f64 / self.of_all as f64
    }
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The next one after an answer and a think time.
    Closed {
        /// The think time.
        think: Duration,
    },
    /// When each is due, whatever has come back.
    Open {
        /// Messages per second, of all places of all shards together.
        rate: f64,
        /// How they are spread over time.
        arrivals: Arrivals,
    },
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// When this many clients have sent their messages. A client that fails sends no more.
    Messages {
        /// How many clients; one after another if there are fewer places.
        clients: u64,
        /// Messages per client.
        each: u64,
    },
    /// After this time, not counting the warm-up. A client that fails connects again.
    Time(Duration),
}

impl Shape {
    /// Whether messages are due at their times, whatever comes back.
    pub fn is_open_loop(&self) -> bool {
        matches!(self.pace, Pace::Open { .. })
    }
}
