//! The commands: one file each, and the list of them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};

use crate::event_log::EventLog;
use crate::exclusions::{self, Exclusion};
use crate::exit_code::{ExitCode, Failure};
use crate::settings::{AnySetting, Layers, Setting};
use crate::signals::Signals;
use crate::startup;
use crate::text::reason;
use crate::values::quoted;

pub mod check;
pub mod config_show;
pub mod echo_client;
pub mod echo_server;
pub mod hold;
pub mod load;
pub mod load_merge;
pub mod log_demo;

macro_rules! entry {
    ($module:ident, $product:expr) => {
        entry!($module, $product, &[], |_| Ok(()))
    };
    ($module:ident, $product:expr, $exclusions:expr, $check:expr) => {
        Entry {
            name: $module::NAME,
            settings: $module::SETTINGS,
            exclusions: $exclusions,
            check: $check,
            command: $module::command,
            run: $module::run,
            product: $product,
        }
    };
}

/// Every command, in the order of `--help`.
pub const COMMANDS: &[Entry] = &[
    entry!(echo_server, Product::Service, echo_server::EXCLUSIONS, echo_server::check),
    entry!(echo_client, Product::Output, echo_client::EXCLUSIONS, |_| Ok(())),
    entry!(load, Product::Output, load::EXCLUSIONS, load::check),
    entry!(load_merge, Product::Output),
    entry!(check, Product::Output, check::EXCLUSIONS, check::check),
    entry!(config_show, Product::LogAround),
    entry!(log_demo, Product::Log),
    entry!(hold, Product::Log),
];

/// What the words that only group commands are for.
pub const GROUPS: &[(&str, &str)] =
    &[("config", "Look at the settings"), ("log", "Write to the event log")];

/// One command.
pub struct Entry {
    /// The words that call it: `log demo`.
    pub name: &'static str,
    /// Its own settings, without the global ones.
    pub settings: &'static [&'static dyn AnySetting],
    /// Settings of it that cannot be used together.
    pub exclusions: &'static [Exclusion],
    /// Checks the others against each other, each of which is allowed by itself.
    pub check: fn(&Layers) -> Result<(), Failure>,
    /// Its part of the command line, without the global flags.
    pub command: fn() -> Command,
    /// Does the job.
    pub run: fn(&mut Context<'_>) -> Result<ExitCode, Failure>,
    /// What it makes.
    pub product: Product,
}

/// What a command makes, which decides what its stdout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// A service: events go to stdout too, and a home that cannot be written ends it.
    Service,
    /// Events, which go to stdout too.
    Log,
    /// Lines on stdout among the events, or with `--json` a document alone.
    LogAround,
    /// Output of its own on stdout; events go to the file only.
    Output,
}

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
    /// Why the log file or its directory cannot be written. A [`Product::Service`] has to refuse
    /// to start (73); the other commands' users have been warned.
    pub home_problem: Option<&'a str>,
    /// The log file that is wanted; `None`: none.
    pub log_file: Option<&'a Path>,
    /// What was on descriptor 0, if it is to be served and so was set aside.
    pub descriptor_0: Option<OwnedFd>,
}

impl Entry {
    /// Checks the settings of the command together, and leaves out of the layers what loses against a stronger one.
    ///
    /// # Errors
    ///
    /// 64, or 78 for a mistake that is the configuration file's alone.
    pub fn settle(&self, layers: &mut Layers) -> Result<(), Failure> {
        exclusions::settle(layers, self.exclusions)?;
        (self.check)(layers)
    }

    /// The name as one word: the table in the configuration file, the middle of the variables.
    pub fn table(&self) -> String {
        self.name.replace(' ', "-")
    }
}

/// The command with that name.
pub fn find(name: &str) -> Option<&'static Entry> {
    COMMANDS.iter().find(|entry| entry.name == name)
}

/// All settings there are: the global ones, then command by command.
pub fn all_settings() -> Vec<&'static dyn AnySetting> {
    let of_commands = COMMANDS.iter().flat_map(|entry| entry.settings);
    startup::GLOBALS.iter().chain(of_commands).copied().collect()
}

impl Context<'_> {
    /// Whether a switch is on.
    ///
    /// # Errors
    ///
    /// Those of [`Layers::get`].
    pub fn is_on(&self, switch: &Setting<bool>) -> Result<bool, Failure> {
        Ok(self.layers.get(switch)? == Some(true))
    }

    /// Makes the file that a setting names, so that a long run does not end in the discovery that there can be none.
    ///
    /// # Errors
    ///
    /// 73 if it cannot be made.
    pub fn create(&self, setting: &Setting<PathBuf>) -> Result<Option<OutputFile>, Failure> {
        let Some(path) = self.layers.get(setting)? else { return Ok(None) };
        match File::create(&path) {
            Ok(file) => Ok(Some(OutputFile { path, file })),
            Err(error) => {
                let place = self.layers.place(setting);
                let message =
                    format!("{place}: cannot create {}: {}", quoted(&path), reason(&error));
                Err(Failure::new(ExitCode::CannotCreate, message))
            }
        }
    }
}

/// A file that a command writes a result to.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// The file, for whoever writes it without this.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Writes these bytes behind those before.
    ///
    /// # Errors
    ///
    /// 74, with the name of the file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| {
            let message = format!("cannot write {}: {}", quoted(&self.path), reason(&error));
            Failure::new(ExitCode::Io, message)
        })
    }
}

/// Whether stdout still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdout {
    /// It took everything.
    Open,
    /// The reader went away (EPIPE), as `head` does: end quietly, with success.
    Gone,
}

/// Writes to stdout at once.
///
/// # Errors
///
/// 74 for anything but EPIPE.
pub fn print(bytes: &[u8]) -> Result<Stdout, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Stdout::Open),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Stdout::Gone),
        Err(error) => {
            let message = format!("cannot write to standard output: {}", reason(&error));
            Err(Failure::new(ExitCode::Io, message))
        }
    }
}
