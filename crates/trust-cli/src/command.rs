//! A command, its input, and the program that contains it.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::event_log::EventLog;
use crate::exclusions::{self, Exclusion};
use crate::exit_code::{ExitCode, Failure};
use crate::globals;
use crate::layers::Layers;
use crate::level::Level;
use crate::report_file::{FileId, ReportFile};
use crate::settings::{AnySetting, Setting};
use crate::signals::{Signal, Signals, Stopped};
use crate::text::reason;
use crate::values::quoted;

/// An executable: `trustctl`, or one that stands for a single command.
#[derive(Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its purpose, for `--help`.
    pub about: &'static str,
    /// All commands, in the order of `--help`.
    pub commands: &'static [Entry],
    /// Words that only group commands, each with its purpose.
    pub groups: &'static [(&'static str, &'static str)],
    /// Executables that stand for a single command: their names, and the commands'.
    pub short_names: &'static [(&'static str, &'static str)],
    /// The only command; `None` if the first words of the command line name it.
    pub only: Option<&'static Entry>,
}

impl Program {
    /// The executable of this name, if it is a short one, or else the whole program.
    pub fn called(self, name: &str) -> Program {
        match self.short_names.iter().find(|(short, _)| *short == name) {
            Some((name, command)) => Program { name, only: self.find(command), ..self },
            None => self,
        }
    }

    /// The command with this name.
    pub fn find(&self, name: &str) -> Option<&'static Entry> {
        self.commands.iter().find(|entry| entry.name == name)
    }

    /// All settings: the global ones, then command by command.
    pub fn all_settings(&self) -> Vec<&'static dyn AnySetting> {
        let of_commands = self.commands.iter().flat_map(|entry| entry.settings);
        globals::SETTINGS.iter().chain(of_commands).copied().collect()
    }
}

/// One command.
pub struct Entry {
    /// The words that call it: `log demo`.
    pub name: &'static str,
    /// Its purpose, for `--help`.
    pub about: &'static str,
    /// What may stand after its name, as an example: `localhost:9900`.
    pub example: &'static str,
    /// What its `--help` begins with; empty: nothing.
    pub introduction: &'static str,
    /// Its own settings, without the global ones.
    pub settings: &'static [&'static dyn AnySetting],
    /// Settings that cannot be used together.
    pub exclusions: &'static [Exclusion],
    /// Checks settings against each other that are valid on their own.
    pub check: fn(&Layers) -> Result<(), Failure>,
    /// Its arguments on the command line, besides its settings.
    pub arguments: fn() -> Vec<Arg>,
    /// Does the job.
    pub run: fn(&mut Context<'_>) -> Result<ExitCode, Failure>,
    /// What it produces.
    pub product: Product,
    /// The switch that makes it serve the connection on descriptor 0, so that nothing else may be
    /// written there.
    pub on_descriptor_0: Option<&'static Setting<bool>>,
    /// A syntax of its own in place of settings, arguments and global flags.
    pub own_syntax: Option<&'static OwnSyntax>,
}

/// The syntax of another program, whose place a command takes. The command reads its words itself
/// ([`Context::words`]); global flags can only stand before it.
pub struct OwnSyntax {
    /// What the words can be, for `trustctl help` and the manual page.
    pub usage: &'static str,
    /// What these words ask to be printed instead of a run, as `--help` does.
    pub printed: fn(&[OsString]) -> Option<String>,
    /// The lowest level of events, as a variable of the other program says it. Counts if no setting
    /// says it.
    pub log_level: fn() -> Option<Level>,
}

/// The argument that has all words of a command with a syntax of its own.
const WORDS: &str = "words";

/// What a command produces, which decides how its stdout is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// A service: events also go to stdout, and a home that cannot be written is fatal.
    Service,
    /// Events, which also go to stdout.
    Log,
    /// Lines among the events on stdout, or with `--json` only a document.
    LogAround,
    /// Its own output on stdout; events go only to the file.
    Output,
}

/// Everything that a command needs to run.
pub struct Context<'a> {
    /// The running program, with all its commands.
    pub program: &'a Program,
    /// The command's own level of the parsed command line.
    pub matches: &'a ArgMatches,
    /// The values of all settings, already checked.
    pub layers: &'a Layers,
    /// Where events go.
    pub log: &'a EventLog,
    /// Signals received.
    pub signals: &'a Signals,
    /// The directory of the configuration and the log; created only when a file is written there.
    /// `None` without HOME or a setting in its place: then there is no configuration and no log
    /// file.
    pub home: Option<&'a Path>,
    /// Why the log file or its directory cannot be written. A [`Product::Service`] must refuse to
    /// start (73); users of other commands have been warned.
    pub home_problem: Option<&'a str>,
    /// The log file that is wanted, if any.
    pub log_file: Option<&'a Path>,
    /// The former descriptor 0, if it is to be served and was therefore moved away.
    pub descriptor_0: Option<OwnedFd>,
}

/// The flags of settings, each below the heading of its group.
fn grouped_args(settings: &[&dyn AnySetting]) -> impl Iterator<Item = Arg> {
    let mut group = None;
    settings.iter().map(move |setting| {
        group = setting.group.or(group);
        match group {
            Some(group) => setting.arg().help_heading(group.title).hide_short_help(group.is_rare),
            None => setting.arg(),
        }
    })
}

impl Entry {
    /// A command with nothing but what every command has.
    pub const fn new(
        name: &'static str,
        about: &'static str,
        product: Product,
        run: fn(&mut Context<'_>) -> Result<ExitCode, Failure>,
    ) -> Entry {
        Entry {
            name,
            about,
            example: "",
            introduction: "",
            settings: &[],
            exclusions: &[],
            check: |_| Ok(()),
            arguments: Vec::new,
            run,
            product,
            on_descriptor_0: None,
            own_syntax: None,
        }
    }

    /// Its part of clap's command line, without the global flags.
    pub fn command(&self) -> Command {
        let word = self.name.split_once(' ').map_or(self.name, |(_, word)| word);
        let command = Command::new(word).about(self.about);
        if let Some(syntax) = self.own_syntax {
            // Its own --help and --version are among the words.
            let command = command.disable_help_flag(true).disable_version_flag(true);
            return command.arg(words_argument()).after_long_help(syntax.usage);
        }
        let command = command.args(grouped_args(self.settings));
        match self.introduction {
            "" => command.args((self.arguments)()),
            introduction => command.args((self.arguments)()).before_long_help(introduction),
        }
    }

    /// Checks the command's settings together, and removes from the layers settings that lose to a
    /// stronger layer.
    ///
    /// # Errors
    ///
    /// 64, or 78 if only the configuration file is at fault.
    pub fn settle(&self, layers: &mut Layers) -> Result<(), Failure> {
        exclusions::settle(layers, self.exclusions)?;
        (self.check)(layers)
    }

    /// Whether the command is inside a group, as `log demo` is inside `log`.
    pub fn is_inside(&self, group: &str) -> bool {
        self.name.strip_prefix(group).is_some_and(|rest| rest.starts_with(' '))
    }

    /// The name as one word, used for the table in the configuration file and in the names of
    /// variables.
    pub fn table(&self) -> String {
        self.name.replace(' ', "-")
    }
}

/// All that follows the name of a command, whatever it looks like.
fn words_argument() -> Arg {
    let argument = Arg::new(WORDS).value_name("ARGUMENT").value_parser(value_parser!(OsString));
    let argument = argument.num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
    argument.help("Its own flags and arguments, as below")
}

/// The words of a command with a syntax of its own, at its own level of the command line.
pub(crate) fn words_of(matches: &ArgMatches) -> Vec<OsString> {
    matches.get_many::<OsString>(WORDS).unwrap_or_default().cloned().collect()
}

impl Context<'_> {
    /// The words after the name of a command with a syntax of its own.
    ///
    /// # Panics
    ///
    /// If the command has none.
    pub fn words(&self) -> Vec<OsString> {
        words_of(self.matches)
    }

    /// Ends a client command that was stopped early.
    ///
    /// # Errors
    ///
    /// What failed, if anything did.
    pub fn end(&self, stopped: Stopped) -> Result<ExitCode, Failure> {
        match stopped {
            Stopped::Signal(signal) => Ok(self.stopped_by(signal)),
            Stopped::Failed(failure) => Err(failure),
        }
    }

    /// Logs the signal that stops a client command; returns the exit code.
    pub fn stopped_by(&self, signal: Signal) -> ExitCode {
        self.log
            .event(Level::Warn, "signal_received")
            .field("signal", signal.name())
            .field("action", "shutdown")
            .write();
        signal.exit_code()
    }

    /// Makes sure that the files named by these settings can be written, so that a long run does
    /// not fail at the end. `inputs` are the files that the command reads, each with a description.
    ///
    /// # Errors
    ///
    /// 64 if one file is named for two reports or already has another use; 73 if it cannot be
    /// created.
    pub fn create_reports<const N: usize>(
        &self,
        files: [(&dyn AnySetting, Option<&Path>); N],
        inputs: Vec<(FileId, String)>,
    ) -> Result<[Option<ReportFile>; N], Failure> {
        let mut taken = inputs;
        let log = self.log_file.and_then(FileId::of_path);
        taken.extend(log.map(|id| (id, "is the event log".to_owned())));
        let stdout = fs::metadata("/proc/self/fd/1").ok().filter(fs::Metadata::is_file);
        let stdout = stdout.and_then(|metadata| FileId::of(&metadata));
        taken.extend(stdout.map(|id| (id, "is where standard output goes".to_owned())));
        // Checks all names before creating any file.
        for (setting, path) in files {
            let Some(path) = path else { continue };
            let place = self.layers.place(setting);
            let Some(id) = FileId::of_path(path) else { continue };
            if let Some((_, what)) = taken.iter().find(|(other, _)| *other == id) {
                let message = format!("{place}: {} {what}", quoted(path));
                return Err(Failure::new(ExitCode::Usage, message));
            }
            taken.push((id, format!("is the same file as that of {place}")));
        }
        let mut reports = [const { None }; N];
        for ((setting, path), report) in files.into_iter().zip(&mut reports) {
            let Some(path) = path else { continue };
            let created = ReportFile::create(path).map_err(|error| {
                let place = self.layers.place(setting);
                let message =
                    format!("{place}: cannot create {}: {}", quoted(path), reason(&error));
                Failure::new(ExitCode::CannotCreate, message)
            });
            *report = Some(created?);
        }
        Ok(reports)
    }
}
