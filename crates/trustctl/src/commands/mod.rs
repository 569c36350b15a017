//! The commands: one file each, and the list of them.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use rustix::io::Errno;

use crate::event_log::EventLog;
use crate::exclusions::{self, Exclusion};
use crate::exit_code::{ExitCode, Failure};
use crate::layers::Layers;
use crate::report_file::{FileId, ReportFile};
use crate::settings::{AnySetting, Setting};
use crate::signals::Signals;
use crate::text::reason;
use crate::values::quoted;
use crate::{startup, sys};

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

    /// Makes sure that the files which these settings name can be written, so that a long run does not end in the
    /// discovery that they cannot. `inputs` are files that the command reads, and what is said of each.
    ///
    /// # Errors
    ///
    /// 64 if a file is to be two of the reports, or is needed for something else; 73 if it cannot be made.
    pub fn create_reports<const N: usize>(
        &self,
        settings: [&Setting<PathBuf>; N],
        inputs: Vec<(FileId, String)>,
    ) -> Result<[Option<ReportFile>; N], Failure> {
        let mut taken = inputs;
        let log = self.log_file.and_then(FileId::of_path);
        taken.extend(log.map(|id| (id, "is the event log".to_owned())));
        let stdout = fs::metadata("/proc/self/fd/1").ok().filter(fs::Metadata::is_file);
        let stdout = stdout.and_then(|metadata| FileId::of(&metadata));
        taken.extend(stdout.map(|id| (id, "is where standard output goes".to_owned())));
        // All names before any file is made.
        for setting in settings {
            let Some(path) = self.layers.get(setting)? else { continue };
            let place = self.layers.place(setting);
            let Some(id) = FileId::of_path(&path) else { continue };
            if let Some((_, what)) = taken.iter().find(|(other, _)| *other == id) {
                let message = format!("{place}: {} {what}", quoted(&path));
                return Err(Failure::new(ExitCode::Usage, message));
            }
            taken.push((id, format!("is the same file as that of {place}")));
        }
        let mut reports = [const { None }; N];
        for (setting, report) in settings.into_iter().zip(&mut reports) {
            let Some(path) = self.layers.get(setting)? else { continue };
            let created = ReportFile::create(&path).map_err(|error| {
                let place = self.layers.place(setting);
                let message =
                    format!("{place}: cannot create {}: {}", quoted(&path), reason(&error));
                Failure::new(ExitCode::CannotCreate, message)
            });
            *report = Some(created?);
        }
        Ok(reports)
    }
}

/// What could not be written: every output is tried, whatever became of the others.
#[derive(Clone, Debug, Default)]
pub struct Unwritten(Option<Failure>);

impl Unwritten {
    /// Keeps what went wrong, behind what did before.
    pub fn keep<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        match (result, &mut self.0) {
            (Ok(value), _) => return Some(value),
            (Err(failure), None) => self.0 = Some(failure),
            (Err(failure), Some(first)) => {
                first.message = format!("{}; {}", first.message, failure.message);
            }
        }
        None
    }

    /// What went wrong; `None`: nothing did.
    pub fn failure(&self) -> Option<&Failure> {
        self.0.as_ref()
    }

    /// What went wrong, as how the command ends.
    ///
    /// # Errors
    ///
    /// All of it in one line, with the exit code of the first.
    pub fn into_result(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
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
    let written = match sys::stdout_was_closed() && !bytes.is_empty() {
        true => Err(Errno::BADF.into()),
        false => stdout.write_all(bytes).and_then(|()| stdout.flush()),
    };
    match written {
        Ok(()) => Ok(Stdout::Open),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Stdout::Gone),
        Err(error) => {
            let message = format!("cannot write to standard output: {}", reason(&error));
            Err(Failure::new(ExitCode::Io, message))
        }
    }
}
