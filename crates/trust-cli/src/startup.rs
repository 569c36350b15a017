//! Everything settled before a command runs: the global settings, the layers, the home, the log.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{env, io};

use clap::ArgMatches;

use crate::command::{Entry, Product, Program};
use crate::config_file::{ConfigFile, printable};
use crate::event_log::EventLog;
use crate::exit_code::Failure;
use crate::globals::{self, CONFIG_FILE_NAME, GlobalOptions, LOG_FILE, LOG_LEVEL, TRUST_HOME};
use crate::layers::{Layers, Source, check_variable_names};
use crate::level::Level;
use crate::log_sink::LogFile;
use crate::settings::variable_prefix;
use crate::standard_streams;
use crate::usage::{CommandLine, innermost, levels};

/// Everything settled before a command runs; as much as possible, if something is wrong.
pub(crate) struct Startup {
    pub(crate) layers: Layers,
    /// The first problem: usage errors first, then configuration errors.
    pub(crate) problem: Result<(), Failure>,
    /// `None` without HOME or a setting in its place: then there is no configuration file.
    pub(crate) home: Option<PathBuf>,
    pub(crate) log_file: Option<PathBuf>,
    /// The log file, opened, until the event log takes it.
    file: Option<LogFile>,
    /// Why there is no log file although one is wanted.
    pub(crate) home_problem: Option<String>,
    /// There is no log file because no place is known for one: no reason for a command to fail.
    pub(crate) is_homeless: bool,
}

impl Startup {
    pub(crate) fn new(program: &Program, line: &CommandLine<'_>) -> Startup {
        let mut layers = Layers::default();
        let sound = line.entry.filter(|_| line.mistake.is_ok());
        let flags = add_flags(&mut layers, &line.matches, sound);
        let usage = line.mistake.clone().and(flags);
        let variables = add_variables(&mut layers, program, line.entry);
        let home = resolve_home(&layers);
        let configuration = home.as_ref().map_or(Ok(()), |home| {
            let settings: Vec<_> = program
                .all_settings()
                .into_iter()
                .filter(|setting| setting.display_name() != TRUST_HOME.display_name())
                .collect();
            layers.add_file(ConfigFile::read(&home.join(CONFIG_FILE_NAME), &settings)?);
            Ok(())
        });
        let log_file = resolve_log_file(&layers, home.as_deref());
        let is_homeless = home.is_none() && layers.get(&LOG_FILE).is_none();
        let opened = log_file.as_deref().map(|path| {
            LogFile::open(path)
                .map_err(|error| format!("cannot write the log file {}: {error}", printable(path)))
        });
        let (file, home_problem) = match opened.transpose() {
            Ok(file) => (file, None),
            Err(problem) => (None, Some(problem)),
        };
        let problem = usage.and(variables).and(configuration).and_then(|()| {
            judged(program, line.entry).try_for_each(|entry| entry.settle(&mut layers))
        });
        Startup { layers, problem, home, log_file, file, home_problem, is_homeless }
    }

    /// Whether the connection on descriptor 0 is to be served, so that nothing may be written to
    /// it. After an error this is unknown, and a connection there is assumed to be a client's.
    pub(crate) fn serves_descriptor_0(&self, line: &CommandLine<'_>) -> bool {
        let switch = line.entry.and_then(|entry| entry.on_descriptor_0);
        let is_asked_to = switch.is_some_and(|switch| self.layers.get(switch) == Some(true));
        is_asked_to || (self.problem.is_err() && standard_streams::stdin_is_connection())
    }

    /// The log; with `file_alone`, nothing goes to stdout.
    pub(crate) fn take_log(
        &mut self,
        line: &CommandLine<'_>,
        file_alone: bool,
    ) -> io::Result<EventLog> {
        let options = GlobalOptions::of(&self.layers);
        let request_id = options.request_id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let stdout = match line.entry.map(|entry| entry.product) {
            _ if file_alone => false,
            None | Some(Product::Service | Product::Log) => true,
            Some(Product::LogAround) => !line.asks_for_json(),
            Some(Product::Output) => false,
        };
        let file = self.file.take();
        let stdout = stdout.then_some(options.log_format);
        EventLog::new(log_level(&self.layers, line.entry), request_id, file, stdout)
    }
}

/// The lowest level of events that are written.
fn log_level(layers: &Layers, entry: Option<&Entry>) -> Level {
    let level = GlobalOptions::of(layers).log_level;
    match entry.and_then(|entry| entry.own_syntax) {
        Some(syntax) if layers.source(&LOG_LEVEL) <= Source::Default => {
            (syntax.log_level)().unwrap_or(level)
        }
        _ => level,
    }
}

/// Adds the flags of all levels: the program's, the command's and any in between.
pub fn add_flags(
    layers: &mut Layers,
    matches: &ArgMatches,
    entry: Option<&Entry>,
) -> Result<(), Failure> {
    let global = |level| layers.add_flags(level, globals::SETTINGS);
    let globals = levels(matches).map(global).fold(Ok(()), Result::and);
    let own = entry.map_or(&[][..], |entry| entry.settings);
    globals.and(layers.add_flags(innermost(matches), own))
}

/// The commands whose settings matter to the one that runs: for `config show`, all of them.
fn judged(program: &Program, entry: Option<&Entry>) -> impl Iterator<Item = &'static Entry> {
    let shows_all = entry.is_some_and(|entry| entry.product == Product::LogAround);
    let name = entry.map(|entry| entry.name);
    program.commands.iter().filter(move |judged| shows_all || name == Some(judged.name))
}

/// Adds the variables that matter to the command; for `config show`, all of them.
fn add_variables(
    layers: &mut Layers,
    program: &Program,
    entry: Option<&Entry>,
) -> Result<(), Failure> {
    let variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    let mut result = layers.add_environment(&variables, globals::SETTINGS);
    for judged in judged(program, entry) {
        // TRUST_LOAD_MERGE_JSON is not a setting of `load`, although it has the same prefix.
        let of_inner = |name: &OsStr| {
            let inner = program.commands.iter().filter(|entry| entry.is_inside(judged.name));
            let mut prefixes = inner.map(|entry| variable_prefix(&entry.table()));
            prefixes.any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
        };
        let own: Vec<_> = variables.iter().filter(|(name, _)| !of_inner(name)).cloned().collect();
        result = result
            .and(check_variable_names(&own, &judged.table(), judged.settings))
            .and(layers.add_environment(&variables, judged.settings));
    }
    result
}

fn resolve_home(layers: &Layers) -> Option<PathBuf> {
    layers.get(&TRUST_HOME).or_else(|| {
        let home = env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(Path::new(&home).join(".trustctl"))
    })
}

fn resolve_log_file(layers: &Layers, home: Option<&Path>) -> Option<PathBuf> {
    match layers.get(&LOG_FILE) {
        Some(path) if path.as_os_str() == "none" => None,
        Some(path) => Some(path),
        None => home.map(|home| home.join("logs").join("trustctl.log")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::OwnSyntax;
    use crate::exit_code::ExitCode;

    const ENTRY: Entry = Entry {
        own_syntax: Some(&OwnSyntax {
            usage: "",
            printed: |_| None,
            log_level: || Some(Level::Error),
        }),
        ..Entry::new("it", "", Product::Output, |_| Ok(ExitCode::Success))
    };

    #[test]
    fn a_level_of_the_other_program_counts_if_no_setting_says_one() {
        let level = |flag: Option<&str>, entry| {
            let mut layers = Layers::default();
            flag.map_or(Ok(()), |flag| layers.add_flag(&LOG_LEVEL, flag.as_ref())).unwrap();
            log_level(&layers, entry)
        };
        assert_eq!(level(None, Some(&ENTRY)), Level::Error);
        assert_eq!(level(Some("info"), Some(&ENTRY)), Level::Info);
        assert_eq!(level(None, None), Level::Info);
    }
}
