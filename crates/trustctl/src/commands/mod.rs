//! The commands: one file each, and the list of them.

use std::path::Path;

use clap::ArgMatches;

use crate::event_log::EventLog;
use crate::settings::Layers;
use crate::signals::Signals;

/// What a command gets to run with.
pub struct Context<'a> {
    /// The command's own level of the parsed command line.
    pub matches: &'a ArgMatches,
    /// The values of all settings, checked.
    pub layers: &'a Layers,
    /// Where events go.
    pub log: &'a EventLog,
    /// Signals that came.
    pub signals: &'a Signals,
    /// The directory of the configuration and the log; it is only made when a file goes there.
    pub home: &'a Path,
    /// Why the home or the log file cannot be written.
    pub home_problem: Option<&'a str>,
    /// The log file that is wanted; `None`: none.
    pub log_file: Option<&'a Path>,
}
