//! Everything that the commands of `trustctl` share: from the command line through settings and
//! signals to the event log and the exit code.
//!
//! A command is a [`command::Entry`], a program a [`command::Program`] with a list of them, and
//! [`run::run`] runs it. This crate knows no command by name.

pub mod accept_events;
pub mod again;
pub mod approach;
pub mod colours;
pub mod command;
pub mod config_file;
pub mod connect;
pub mod descriptor;
pub mod echo;
pub mod error_map;
pub mod event_line;
pub mod event_log;
pub mod event_text;
pub mod exchange_file;
pub mod exclusions;
pub mod exit_code;
pub mod foreign;
pub mod framing;
pub mod globals;
#[cfg(all(test, loom))]
mod interleavings;
pub mod layers;
pub mod level;
pub mod listen_host;
pub mod listen_place;
pub mod listening;
mod log_queue;
pub mod log_sink;
mod manual;
pub mod markup;
pub mod options;
pub mod output;
pub mod own_host;
mod port_holder;
pub mod process;
pub mod progress;
pub mod quantity;
pub mod random;
pub mod report_file;
pub mod resolve;
pub mod run;
pub mod send_proxy;
pub mod service;
pub mod settings;
pub mod signals;
mod standard_streams;
pub mod startup;
mod sync;
pub mod syntax;
pub mod sys;
pub mod target;
pub mod tcp_table;
pub mod text;
pub mod text_file;
pub mod unix_table;
pub mod usage;
pub mod values;
pub mod wait;
pub mod zone;
