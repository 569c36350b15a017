//! What every service does when signals come.

use std::path::Path;

use crate::event_log::EventLog;
use crate::exit_code::ExitCode;
use crate::level::Level;
use crate::log_sink::LogFile;
use crate::signals::Signal;

/// Writes that a signal came, and what is done about it.
pub fn note_signal(log: &EventLog, signal: Signal, action: &str) {
    let event = log.event(Level::Warn, "signal_received");
    event.field("signal", signal.name()).field("action", action).write();
}

/// Opens the log file anew, as log rotation wants it. If that fails, the old one stays.
pub fn reopen_log(log: &EventLog, log_file: Option<&Path>) {
    let Some(path) = log_file else { return };
    match LogFile::open(path) {
        Ok(file) => log.replace_file(file),
        Err(error) => log
            .event(Level::Error, "log_reopen_failed")
            .field("path", &path.to_string_lossy())
            .field("message", &error.to_string())
            .write(),
    }
}

/// Does what SIGHUP asks a service for whose standard input is no terminal.
pub fn handle_hangup(log: &EventLog, log_file: Option<&Path>) {
    note_signal(log, Signal::Hangup, if log_file.is_some() { "reopen_log" } else { "none" });
    reopen_log(log, log_file);
}

/// How a service ends that a signal has asked to: with success only if that was SIGTERM, and no
/// connection had to be cut. `None`: it ended by itself.
pub fn exit_code(signal: Option<Signal>, is_cut: bool) -> ExitCode {
    match signal {
        Some(Signal::Terminate) if !is_cut => ExitCode::Success,
        Some(Signal::Terminate) | None => ExitCode::Negative,
        Some(signal) => signal.exit_code(),
    }
}
