//! One run: the command line, the settings, the home, then the command between its two events.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::iter;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command};

use crate::commands::{COMMANDS, Context, Entry, GROUPS, Product, all_settings, find};
use crate::config_file::{ConfigFile, printable};
use crate::event_log::{EventLog, Level, open_log_file};
use crate::exit_code::{ExitCode, Failure};
use crate::settings::{AnySetting, Layers, Setting, check_variable_names, parse_text};
use crate::signals::Signals;
use crate::usage::{Outline, check_token_lengths};

/// An executable: `trustctl`, or one that stands for a single command of it.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) command: Option<&'static str>,
}

/// The settings of all commands.
pub(crate) const GLOBALS: &[&dyn AnySetting] = &[&TRUST_HOME, &REQUEST_ID, &LOG_LEVEL, &LOG_FILE];

/// In the home.
pub(crate) const CONFIG_FILE_NAME: &str = "config.toml";

const TRUST_HOME: Setting<String> = Setting {
    command: None,
    key: "trust-home",
    value_name: "DIR",
    default: None,
    help: "Directory of config.toml and the log [default: ~/.trustctl]",
    allowed: "a directory name",
    parse: parse_text,
    switch: false,
};

const REQUEST_ID: Setting<String> = Setting {
    command: None,
    key: "request-id",
    value_name: "ID",
    default: None,
    help: "Identity of this run in every event [default: generated]",
    allowed: "a text of 1 to 1024 bytes",
    parse: |text| parse_text(text).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX),
    switch: false,
};

const LOG_LEVEL: Setting<Level> = Setting {
    command: None,
    key: "log-level",
    value_name: "LEVEL",
    default: Some("info"),
    help: "Lowest level of events that are written: debug, info, warn or error",
    allowed: "debug, info, warn or error",
    parse: Level::parse,
    switch: false,
};

const LOG_FILE: Setting<String> = Setting {
    command: None,
    key: "log-file",
    value_name: "PATH",
    default: None,
    help: "File that events are appended to, or none [default: logs/trustctl.log in the home]",
    allowed: "a file name, or none",
    parse: parse_text,
    switch: false,
};

/// As long as an identity on the command line can be, whose every byte may become a character of
/// three when it is not UTF-8.
const REQUEST_ID_BYTES_MAX: usize = 3 * crate::usage::TOKEN_BYTES_MAX;

/// Runs the program from its first argument to its exit code.
pub(crate) fn run(program: &Program) -> ExitCode {
    let start = Instant::now();
    let tokens: Vec<OsString> = env::args_os().skip(1).collect();
    let outline = Outline::new(program.name, program.command, &tokens);
    let matches = match parse(program, &outline, &tokens) {
        Ok(Parsed::Command(matches)) => Ok(matches),
        Ok(Parsed::Printed(exit)) => return exit,
        Err(failure) => Err(failure),
    };
    let signals = Signals::install();
    let mut startup = Startup::new(&outline, matches.as_ref());
    let log = startup.take_log(&outline);
    let name = outline.entry.map_or(program.name, |entry| entry.name);
    log.event(Level::Info, "cmd_start")
        .field("cmd", name)
        .write();
    let result = startup.problem.clone().and(matches).and_then(|matches| {
        let signals = signals.map_err(|error| {
            Failure::new(ExitCode::OsLimit, format!("cannot handle signals: {error}"))
        })?;
        match outline.entry {
            Some(entry) => startup.run_command(entry, innermost(&matches), &log, &signals),
            None => Err(outline.unknown_command("", program.command)),
        }
    });
    let exit = result.unwrap_or_else(|failure| {
        let event = log
            .event(Level::Error, "error")
            .field("message", &failure.message);
        event.field("exit", &failure.exit.code()).write();
        tell(&format!("error: {}", failure.message));
        failure.exit
    });
    let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let event = log.event(Level::Info, "cmd_finish").field("cmd", name);
    event
        .field("exit", &exit.code())
        .field("duration_ms", &duration_ms)
        .write();
    exit
}

/// What the command line came to.
pub(crate) enum Parsed {
    /// A command is to run.
    Command(ArgMatches),
    /// `--help` or `--version`: nothing is left to do.
    Printed(ExitCode),
}

pub(crate) fn parse(
    program: &Program,
    outline: &Outline<'_>,
    tokens: &[OsString],
) -> Result<Parsed, Failure> {
    check_token_lengths(tokens)?;
    let Some(command) = command_line(program) else {
        return Err(outline.unknown_command("", program.command));
    };
    let words = iter::once(OsString::from(program.name)).chain(tokens.iter().cloned());
    let error = match command.try_get_matches_from(words) {
        Ok(matches) => return Ok(Parsed::Command(matches)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                tell(&format!("error: cannot write to standard output: {error}"));
                Ok(Parsed::Printed(ExitCode::Io))
            }
            _ => Ok(Parsed::Printed(ExitCode::Success)),
        },
        _ => Err(outline.explain(&error, program.name, tokens)),
    }
}

/// What is settled before a command runs; as much as possible, if something is wrong.
struct Startup {
    layers: Layers,
    /// The first thing that is wrong: usage, then configuration.
    problem: Result<(), Failure>,
    /// `None` if not even its default can be told.
    home: Option<PathBuf>,
    log_file: Option<PathBuf>,
    /// The log file, opened, until the event log takes it.
    file: Option<File>,
    /// Why there is none although one is wanted.
    home_problem: Option<String>,
}

impl Startup {
    fn new(outline: &Outline<'_>, matches: Result<&ArgMatches, &Failure>) -> Startup {
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
        let problem = usage.and(variables).and(configuration);
        Startup {
            layers,
            problem,
            home,
            log_file,
            file,
            home_problem,
        }
    }

    fn take_log(&mut self, outline: &Outline<'_>) -> EventLog {
        let level = self
            .layers
            .get(&LOG_LEVEL)
            .ok()
            .flatten()
            .unwrap_or(Level::Info);
        let request_id = match self.layers.text(&REQUEST_ID).0 {
            Some(text) => text.to_string_lossy().into_owned(),
            None => uuid::Uuid::now_v7().to_string(),
        };
        let stdout = match outline.entry.map(|entry| entry.product) {
            None | Some(Product::Service | Product::Log) => true,
            Some(Product::LogAround) => !outline.json,
            Some(Product::Output) => false,
        };
        let file = self.file.take();
        EventLog::new(level, request_id, file, stdout)
    }

    fn run_command(
        &self,
        entry: &Entry,
        matches: &ArgMatches,
        log: &EventLog,
        signals: &Signals,
    ) -> Result<ExitCode, Failure> {
        let home_problem = self.home_problem.as_deref();
        if let (Some(problem), false) = (home_problem, entry.product == Product::Service) {
            tell(&format!("warning: {problem}; going on without it"));
        }
        let mut context = Context {
            matches,
            layers: &self.layers,
            log,
            signals,
            home: self.home.as_deref().unwrap_or(Path::new("")),
            home_problem,
            log_file: self.log_file.as_deref(),
        };
        keep_panic_messages();
        panic::catch_unwind(AssertUnwindSafe(|| (entry.run)(&mut context))).unwrap_or_else(|_| {
            let message = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
            let message = format!("internal error, a bug: {}", message.unwrap_or_default());
            Err(Failure::new(ExitCode::Internal, message))
        })
    }
}

/// The whole command line; `None` if the program's command does not exist.
fn command_line(program: &Program) -> Option<Command> {
    let version = env!("CARGO_PKG_VERSION");
    let command = match program.command {
        Some(name) => (find(name)?.command)().name(program.name),
        None => {
            let mut top = Command::new(program.name)
                .about("Echo service, echo client and load tester for TCP byte streams")
                .subcommand_required(true);
            for (group, about) in GROUPS {
                top = top.subcommand(Command::new(*group).about(*about).subcommand_required(true));
            }
            COMMANDS
                .iter()
                .fold(top, |top, entry| match entry.name.split_once(' ') {
                    None => top.subcommand((entry.command)()),
                    Some((group, _)) => {
                        top.mut_subcommand(group, |group| group.subcommand((entry.command)()))
                    }
                })
        }
    };
    Some(with_globals(
        command,
        &exit_codes_help(),
        program.name,
        version,
    ))
}

/// Global flags are added to every level, not passed down by clap, so that one that stands before
/// the command and after it is noticed.
fn with_globals(
    command: Command,
    after: &str,
    name: &'static str,
    version: &'static str,
) -> Command {
    let globals = GLOBALS
        .iter()
        .map(|setting| setting.arg().help_heading("Global options"));
    command
        .args(globals)
        .version(version)
        .display_name(name)
        .after_help(after.to_owned())
        .mut_subcommands(|command| {
            with_globals(command.disable_help_subcommand(true), after, name, version)
        })
}

fn exit_codes_help() -> String {
    let mut help = String::from("Exit codes:\n");
    for exit in ExitCode::ALL {
        let _ = writeln!(help, "  {:>3}  {}", exit.code(), exit.meaning());
    }
    help.push_str(
        "\nEvery setting can also stand in config.toml, below its command's [table], or in a variable,\n\
         TRUST_<COMMAND>_<FLAG>. A flag beats a variable, and a variable beats the file.",
    );
    help
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

fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches
        .subcommand()
        .map_or(matches, |(_, inner)| innermost(inner))
}

/// Takes the variables over that matter to the command; to `config show` all of them do.
fn add_variables(layers: &mut Layers, entry: Option<&Entry>) -> Result<(), Failure> {
    let variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    let mut result = layers.add_environment(&variables, GLOBALS);
    let shows_all = entry.is_some_and(|entry| entry.product == Product::LogAround);
    let judged = COMMANDS
        .iter()
        .filter(|judged| shows_all || entry.is_some_and(|entry| entry.name == judged.name));
    for judged in judged {
        result = result
            .and(check_variable_names(
                &variables,
                &judged.table(),
                judged.settings,
            ))
            .and(layers.add_environment(&variables, judged.settings));
    }
    result
}

fn resolve_home(layers: &Layers) -> Result<PathBuf, Failure> {
    if let (Some(home), _) = layers.text(&TRUST_HOME) {
        return Ok(home.into());
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
    match layers.text(&LOG_FILE).0 {
        Some(text) if text == "none" => None,
        Some(path) => Some(path.into()),
        None => home.map(|home| home.join("logs").join("trustctl.log")),
    }
}

/// The message of the panic that ends the command.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Panics are told in the one line of the failure; with RUST_BACKTRACE as Rust usually does, too.
fn keep_panic_messages() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info
            .location()
            .map(|place| format!(" at {place}"))
            .unwrap_or_default();
        let payload = info.payload();
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_default().replace('\n', " ");
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(message + &place);
        if env::var_os("RUST_BACKTRACE").is_some() {
            usual(info);
        }
    }));
}

/// Writes a line for the user; stderr that is gone is no reason to fail.
fn tell(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUSTCTL: Program = Program {
        name: "trustctl",
        command: None,
    };

    #[test]
    fn the_command_line_is_consistent() {
        command_line(&TRUSTCTL).unwrap().debug_assert();
        for entry in COMMANDS {
            let front = Program {
                name: "front",
                command: Some(entry.name),
            };
            command_line(&front).unwrap().debug_assert();
        }
    }

    #[test]
    fn help_lists_every_exit_code() {
        let help = command_line(&TRUSTCTL).unwrap().render_help().to_string();
        for exit in ExitCode::ALL {
            let line = format!("  {:>3}  {}\n", exit.code(), exit.meaning());
            assert!(help.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_front_names_itself_in_its_help_and_version() {
        let front = Program {
            name: "front",
            command: Some("hold"),
        };
        let mut command = command_line(&front).unwrap();
        assert_eq!(
            command.render_version(),
            concat!("front ", env!("CARGO_PKG_VERSION"), "\n")
        );
        assert!(
            command
                .render_usage()
                .to_string()
                .starts_with("Usage: front ")
        );
        assert!(
            command_line(&Program {
                name: "front",
                command: Some("nothing")
            })
            .is_none()
        );
    }

    #[test]
    fn global_flags_are_taken_before_and_after_the_command_but_not_twice() {
        let home_of = |line: &[&str]| {
            let matches = command_line(&TRUSTCTL)
                .unwrap()
                .try_get_matches_from(line)
                .unwrap();
            let mut layers = Layers::default();
            add_flags(&mut layers, &matches, find("log demo"))?;
            Ok(layers.text(&TRUST_HOME).0)
        };
        let expected = Ok(Some(OsString::from("/x")));
        assert_eq!(
            home_of(&["trustctl", "--trust-home", "/x", "log", "demo", "m"]),
            expected
        );
        assert_eq!(
            home_of(&["trustctl", "log", "--trust-home", "/x", "demo", "m"]),
            expected
        );
        assert_eq!(
            home_of(&["trustctl", "log", "demo", "m", "--trust-home=/x"]),
            expected
        );
        let twice = [
            "trustctl",
            "--trust-home=/x",
            "log",
            "demo",
            "m",
            "--trust-home=/x",
        ];
        let failure = Failure::new(ExitCode::Usage, "duplicate flag: --trust-home");
        assert_eq!(home_of(&twice), Err(failure));
    }
}
