//! What the engine is to do: settings that go together.

use std::time::Duration;

use trust_net::Address;
use trust_net::preface::ProxyPreface;

use crate::schedule::Arrivals;
use crate::script::Script;
use crate::shard::Shard;

/// What the engine is to do.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Where its connections go to, and how often there is a new one.
    pub connecting: ConnectPlan,
    /// What is sent.
    pub script: Script,
    /// Places for clients: how many there are at the same time.
    pub places: Places,
    /// When messages are sent.
    pub pace: Pace,
    /// The most messages on the way at once on a connection.
    pub in_flight: usize,
    /// When it is over.
    pub length: Length,
    /// Longest wait for the last answers when a time ends the run.
    pub grace: Duration,
    /// What happens in this time after the begin is not measured.
    pub warm_up: Duration,
    /// Longest time to connect, and without progress while an answer is owed; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Longest time from when a message was sent to the last byte of its answer; `None`: no limit.
    pub answer_timeout: Option<Duration>,
    /// Decides what is random about times.
    pub seed: u64,
}

/// Where connections go to, and how often there is a new one.
#[derive(Clone, Debug)]
pub struct ConnectPlan {
    /// The server's, at least one, which take connections in turn.
    pub addresses: Vec<Address>,
    /// What each begins with, if with a PROXY header.
    pub preface: Option<ProxyPreface>,
    /// The least time between two connection attempts.
    pub gap: Duration,
    /// Messages after which a connection is closed and another one made; `u64::MAX`: none.
    pub messages: u64,
}

/// Which of all places are this process's: `first`, `first + step` and so on, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Number of the first, from 0.
    pub first: u64,
    /// From one number to the next: into how many shards the load is split.
    pub step: u64,
    /// How many are this process's.
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

    /// What these places have of something that all of them have together.
    pub fn share(&self, of_all: f64) -> f64 {
        of_all * self.count as f64 / self.of_all as f64
    }
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The next one when an answer has come and some time has passed.
    Closed {
        /// The time.
        think: Duration,
    },
    /// When it is due, whatever came back.
    Open {
        /// Messages a second, of all places of all shards together.
        rate: f64,
        /// How they lie in time.
        arrivals: Arrivals,
    },
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// When so many clients have sent their messages. A client that fails sends no more.
    Messages {
        /// How many clients; with fewer places one after the other.
        clients: u64,
        /// Messages of each.
        each: u64,
    },
    /// After this time, not counting the warm-up. A client that fails takes another connection.
    Time(Duration),
}

impl Shape {
    /// Whether messages are due at their times, whatever comes back.
    pub fn is_open_loop(&self) -> bool {
        matches!(self.pace, Pace::Open { .. })
    }
}
