//! The command-line program: everything that has flags, JSON and text.

pub mod commands;
pub mod config_file;
pub mod event_log;
pub mod exit_code;
pub mod settings;
pub mod signals;
