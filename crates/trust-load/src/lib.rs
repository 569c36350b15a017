//! Load on an echo server, each echo compared byte for byte.
//!
//! [`sequential`] is one client after the other. Everything else is the engine: clients at the same
//! time, in a closed or an open loop. What a run of it saw is a [`summary::Summary`], which all
//! reports are made of.

pub mod budget;
pub mod command;
mod concurrent;
pub mod connection;
pub mod content;
pub mod engine;
mod find_rate;
pub mod hdr_log;
pub mod merge;
pub mod metric;
pub mod options;
mod output;
pub mod plan;
pub mod readiness;
pub mod report;
pub mod schedule;
pub mod script;
pub mod search;
pub mod sequential;
pub mod shape;
pub mod shard;
pub mod sizes;
pub mod start_at;
pub mod summary;
pub mod support;
pub mod tally;
pub mod timings;
pub mod trend;
