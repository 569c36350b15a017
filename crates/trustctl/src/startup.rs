//! What is settled before a command runs: the global settings, the layers, the home, the log.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{env, io};

use clap::ArgMatches;

use crate::commands::{COMMANDS, Entry, Product, all_settings, echo_server};
use crate::config_file::{ConfigFile, printable};
use crate::event_log::EventLog;
use crate::exit_code::{ExitCode, Failure};
use crate::layers::{Layers, check_variable_names};
use crate::level::Level;
use crate::log_sink::open_log_file;
use crate::settings::{AnySetting, Parse, Setting, parse_path, parse_text, variable_prefix};
use crate::standard_streams;
use crate::usage::{Outline, TOKEN_BYTES_MAX, is_inside};

/// The settings of all commands.
pub(crate) const GLOBALS: &[&dyn AnySetting] = &[&TRUST_HOME, &REQUEST_ID, &LOG_LEVEL, &LOG_FILE];

/// In the home.
pub(crate) const CONFIG_FILE_NAME: &str = "config.toml";

const TRUST_HOME: Setting<PathBuf> = Setting {
    command: None,
    key: "trust-home",
    value_name: "DIR",
    default: None,
    help: "Directory of config.toml and the log [default: ~/.trustctl]",
    allowed: "a directory name",
    parse: Parse::Bytes(parse_path),
    switch: false,
};

const REQUEST_ID: Setting<String> = Setting {
    command: None,
    key: "request-id",
    value_name: "ID",
    default: None,
    help: "Identity of this run in every event [default: generated]",
    allowed: "a text of 1 to 1024 bytes",
    parse: Parse::Text(|text| parse_text(text).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX)),
    switch: false,
};

const LOG_LEVEL: Setting<Level> = Setting {
    command: None,
    key: "log-level",
    value_name: "LEVEL",
    default: Some("info"),
    help: "Lowest level of events that are written: debug, info, warn or error",
    allowed: "debug, info, warn or error",
    parse: Parse::Text(Level::parse),
    switch: false,
};

const LOG_FILE: Setting<PathBuf> = Setting {
    command: None,
    key: "log-file",
    value_name: "PATH",
    default: None,
    help: "File that events are appended to, or none [default: logs/trustctl.log in the home]",
    allowed: "a file name, or none",
    parse: Parse::Bytes(parse_path),
    switch: false,
};

/// As long as an identity on the command line can be, whose every byte may become a character of
/// three when it is not UTF-8.
const REQUEST_ID_BYTES_MAX: usize = 3 * TOKEN_BYTES_MAX;

/// What is settled before a command runs; as much as possible, if something is wrong.
pub(crate) struct Startup {
    pub(crate) layers: Layers,
    /// The first thing that is wrong: usage, then configuration.
    pub(crate) problem: Result<(), Failure>,
    /// `None` if not even its default can be told.
    pub(crate) home: Option<PathBuf>,
    pub(crate) log_file: Option<PathBuf>,
    /// The log file, opened, until the event log takes it.
    file: Option<File>,
    /// Why there is none although one is wanted.
    pub(crate) home_problem: Option<String>,
}

impl Startup {
    pub(crate) fn new(outline: &Outline<'_>, matches: Result<&ArgMatches, &Failure>) -> Startup {
        let mut layers = Layers::default();
        let usage = match matches {
            Ok(matches) => add_flags(&mut layers, matches, outline.entry),
            Err(failure) => {
                for (setting, text) in &outline.globals {
                    let _ = layers.add_flag(*setting, text);
                }
                Err(failure.clone())
            }
        };
        let variables = add_variables(&mut layers, outline.entry);
        let home = resolve_home(&layers);
        let configuration = home.as_ref().map_err(Failure::clone).and_then(|home| {
            let settings: Vec<_> = all_settings()
                .into_iter()
                .filter(|setting| setting.display_name() != TRUST_HOME.display_name())
                .collect();
            layers.add_file(ConfigFile::read(&home.join(CONFIG_FILE_NAME), &settings)?);
            Ok(())
        });
        let home = home.ok();
        let log_file = resolve_log_file(&layers, home.as_deref());
        let opened = log_file.as_deref().map(|path| {
            open_log_file(path)
                .map_err(|error| format!("cannot write the log file {}: {error}", printable(path)))
        });
        let (file, home_problem) = match opened.transpose() {
            Ok(file) => (file, None),
            Err(problem) => (None, Some(problem)),
        };
        let problem = usage
            .and(variables)
            .and(configuration)
            .and_then(|()| judged(outline.entry).try_for_each(|entry| entry.settle(&mut layers)));
        Startup { layers, problem, home, log_file, file, home_problem }
    }

    /// Whether the connection on descriptor 0 is to be served, so that nothing may be written to it. Where something
    /// is wrong nobody can tell, and a connection there is taken for a client.
    pub(crate) fn serves_descriptor_0(&self, outline: &Outline<'_>) -> bool {
        let is_server = outline.entry.is_some_and(|entry| entry.name == echo_server::NAME);
        let is_asked_to = is_server && self.layers.get(&echo_server::INETD) == Ok(Some(true));
        is_asked_to || (self.problem.is_err() && standard_streams::stdin_is_connection())
    }

    /// The log; with `file_alone`, stdout is not written to.
    pub(crate) fn take_log(
        &mut self,
        outline: &Outline<'_>,
        file_alone: bool,
    ) -> io::Result<EventLog> {
        let level = self.layers.get(&LOG_LEVEL).ok().flatten().unwrap_or(Level::Info);
        let request_id = match self.layers.text(&REQUEST_ID).0 {
            Some(text) => text.to_string_lossy().into_owned(),
            None => uuid::Uuid::now_v7().to_string(),
        };
        let stdout = match outline.entry.map(|entry| entry.product) {
            _ if file_alone => false,
            None | Some(Product::Service | Product::Log) => true,
            Some(Product::LogAround) => !outline.json,
            Some(Product::Output) => false,
        };
        let file = self.file.take();
        EventLog::new(level, request_id, file, stdout)
    }
}

/// Takes the flags of all levels over: the program's, the command's and what is between.
fn add_flags(
    layers: &mut Layers,
    matches: &ArgMatches,
    entry: Option<&Entry>,
) -> Result<(), Failure> {
    let mut result = Ok(());
    let mut level = matches;
    loop {
        result = result.and(layers.add_flags(level, GLOBALS));
        match level.subcommand() {
            Some((_, inner)) => level = inner,
            None => break,
        }
    }
    let own = entry.map_or(&[][..], |entry| entry.settings);
    result.and(layers.add_flags(level, own))
}

/// The commands whose settings matter to the one that runs: all of them to `config show`.
fn judged(entry: Option<&Entry>) -> impl Iterator<Item = &'static Entry> {
    let shows_all = entry.is_some_and(|entry| entry.product == Product::LogAround);
    let name = entry.map(|entry| entry.name);
    COMMANDS.iter().filter(move |judged| shows_all || name == Some(judged.name))
}

/// Takes the variables over that matter to the command; to `config show` all of them do.
fn add_variables(layers: &mut Layers, entry: Option<&Entry>) -> Result<(), Failure> {
    let variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    let mut result = layers.add_environment(&variables, GLOBALS);
    for judged in judged(entry) {
        // TRUST_LOAD_MERGE_JSON is none of load's, though it begins like those.
        let of_inner = |name: &OsStr| {
            let inner = COMMANDS.iter().filter(|entry| is_inside(entry.name, judged.name));
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

fn resolve_home(layers: &Layers) -> Result<PathBuf, Failure> {
    if let Some(home) = layers.get(&TRUST_HOME)? {
        return Ok(home);
    }
    match env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(".trustctl")),
        None => {
            let message = "no home: HOME is not set, and neither --trust-home nor TRUST_HOME is";
            Err(Failure::new(ExitCode::Config, message))
        }
    }
}

fn resolve_log_file(layers: &Layers, home: Option<&Path>) -> Option<PathBuf> {
    match layers.get(&LOG_FILE).ok().flatten() {
        Some(path) if path.as_os_str() == "none" => None,
        Some(path) => Some(path),
        None => home.map(|home| home.join("logs").join("trustctl.log")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Program, command_line};
    use crate::commands::find;

    const TRUSTCTL: Program = Program { name: "trustctl", command: None };

    #[test]
    fn global_flags_are_taken_before_and_after_the_command_but_not_twice() {
        let home_of = |line: &[&str]| {
            let matches = command_line(&TRUSTCTL).unwrap().try_get_matches_from(line).unwrap();
            let mut layers = Layers::default();
            add_flags(&mut layers, &matches, find("log demo"))?;
            Ok(layers.text(&TRUST_HOME).0)
        };
        let expected = Ok(Some(OsString::from("/x")));
        assert_eq!(home_of(&["trustctl", "--trust-home", "/x", "log", "demo", "m"]), expected);
        assert_eq!(home_of(&["trustctl", "log", "--trust-home", "/x", "demo", "m"]), expected);
        assert_eq!(home_of(&["trustctl", "log", "demo", "m", "--trust-home=/x"]), expected);
        let twice = ["trustctl", "--trust-home=/x", "log", "demo", "m", "--trust-home=/x"];
        let failure = Failure::new(ExitCode::Usage, "duplicate flag: --trust-home");
        assert_eq!(home_of(&twice), Err(failure));
    }
}
