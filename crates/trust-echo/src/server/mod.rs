//! The echo server: its command, its signals, and the processes that serve a client each.

mod activation;
pub mod child;
pub mod command;
pub mod events;
mod launcher;
mod notify;
mod options;
mod proxy;
mod supervisor;
