//! Clients one after the other, a message at a time, a line for each client.

pub mod client;
pub(crate) mod command;
pub mod report;
