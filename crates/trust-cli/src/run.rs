//! One run: the command line, the settings, the home, then the command between its first and last
//! event.

use std::env;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::ArgMatches;
use clap::error::ErrorKind;

use crate::colours::Colours;
use crate::command::{Context, Entry, Product, Program, words_of};
use crate::event_log::EventLog;
use crate::exit_code::{ExitCode, Failure};
use crate::level::Level;
use crate::manual;
use crate::output::{print, tell};
use crate::signals::{self, IgnoredHangup, Signals};
use crate::standard_streams;
use crate::startup::Startup;
use crate::syntax::command_line;
use crate::usage::{CommandLine, check_token_lengths, innermost};

/// Runs the program, from its arguments to its exit code.
pub fn run(program: &Program) -> ExitCode {
    let start = Instant::now();
    signals::survive_file_size_limit();
    let tokens: Vec<OsString> = env::args_os().skip(1).collect();
    let line = match parse(program, &tokens) {
        Parsed::Line(line) => line,
        Parsed::Printed(exit) => return exit,
    };
    let is_service = line.entry.is_some_and(|entry| entry.product == Product::Service);
    let signals = Signals::install(match is_service {
        true => IgnoredHangup::Handle,
        false => IgnoredHangup::Keep,
    });
    let mut startup = Startup::new(program, &line);
    let serves_descriptor_0 = startup.serves_descriptor_0(&line);
    let descriptor_0 = serves_descriptor_0.then(standard_streams::set_connection_aside).transpose();
    let log = startup.take_log(&line, serves_descriptor_0).unwrap_or_else(|error| {
        startup.problem = startup.problem.clone().and(Err(Failure::new(
            ExitCode::OsLimit,
            format!("cannot start the log's threads: {error}"),
        )));
        EventLog::disabled()
    });
    let name = line.entry.map_or(program.name, |entry| entry.name);
    log.event(Level::Info, "cmd_start").field("cmd", name).write_off_terminal();
    let result = startup.problem.clone().and_then(|()| {
        let signals = signals.map_err(|error| {
            Failure::new(ExitCode::OsLimit, format!("cannot handle signals: {error}"))
        })?;
        let descriptor_0 = descriptor_0.map_err(|error| {
            Failure::new(ExitCode::OsLimit, format!("cannot take descriptor 0 over: {error}"))
        })?;
        let entry = line.entry.expect("a line without a command is wrong");
        let matches = innermost(&line.matches);
        run_command(program, entry, matches, &startup, &log, &signals, descriptor_0)
    });
    let exit = result.unwrap_or_else(|failure| {
        let event = log.event(Level::Error, "error").field("message", &failure.message);
        event.field("exit", &failure.exit.code()).write_off_terminal();
        tell(&failure.shown());
        failure.exit
    });
    log.finish(|| {
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let event = log.event(Level::Info, "cmd_finish").field("cmd", name);
        event.field("exit", &exit.code()).field("duration_ms", &duration_ms).write_off_terminal();
    });
    exit
}

/// The result of parsing the command line.
pub enum Parsed<'a> {
    /// A command to run, or an error.
    Line(CommandLine<'a>),
    /// `--help`, `--version`, a manual page or completions: nothing is left to do.
    Printed(ExitCode),
}

/// Parses these words; answers `--help` and `--version`.
pub fn parse<'a>(program: &'a Program, tokens: &[OsString]) -> Parsed<'a> {
    let command = command_line(program);
    if let Err(failure) = check_token_lengths(tokens) {
        return Parsed::Line(CommandLine::wrong(program, &command, tokens, |_| failure));
    }
    if let Some(page) = manual::page(program, tokens) {
        return match page {
            Ok(page) => Parsed::Printed(printed(&page)),
            Err(failure) => {
                Parsed::Line(CommandLine::wrong(program, &command, tokens, |_| failure))
            }
        };
    }
    let error = match command.clone().try_get_matches_from(tokens) {
        Ok(matches) => {
            return match manual::completions(program, &matches) {
                Some(script) => Parsed::Printed(printed(&script)),
                None => answered(CommandLine::new(program, matches)),
            };
        }
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let text = match Colours::of_stdout() {
                Colours::On => text.ansi().to_string(),
                Colours::Off => text.to_string(),
            };
            Parsed::Printed(printed(text.as_bytes()))
        }
        _ => {
            let explain = |line: &CommandLine<'_>| line.explain(&error, &command, tokens);
            Parsed::Line(CommandLine::wrong(program, &command, tokens, explain))
        }
    }
}

/// Prints what the words of a command with a syntax of its own ask for in place of a run.
fn answered(line: CommandLine<'_>) -> Parsed<'_> {
    let syntax = line.entry.and_then(|entry| entry.own_syntax).filter(|_| line.mistake.is_ok());
    match syntax.and_then(|syntax| (syntax.printed)(&words_of(innermost(&line.matches)))) {
        Some(text) => Parsed::Printed(printed(text.as_bytes())),
        None => Parsed::Line(line),
    }
}

/// Prints what is not the output of a command; the exit code.
fn printed(text: &[u8]) -> ExitCode {
    match print(text) {
        Ok(_) => ExitCode::Success,
        Err(failure) => {
            tell(&failure.shown());
            failure.exit
        }
    }
}

/// Runs the command.
fn run_command(
    program: &Program,
    entry: &Entry,
    matches: &ArgMatches,
    startup: &Startup,
    log: &EventLog,
    signals: &Signals,
    descriptor_0: Option<OwnedFd>,
) -> Result<ExitCode, Failure> {
    let home_problem = startup.home_problem.as_deref();
    if let (Some(problem), false) = (home_problem, entry.product == Product::Service) {
        tell(&format!("warning: {problem}; going on without it"));
    }
    if startup.is_homeless {
        tell("warning: no log file: HOME is not set, and neither --log-file nor --trust-home is");
    }
    let mut context = Context {
        program,
        matches,
        layers: &startup.layers,
        log,
        signals,
        home: startup.home.as_deref(),
        home_problem,
        log_file: startup.log_file.as_deref(),
        descriptor_0,
    };
    catching_panics(|| (entry.run)(&mut context))
}

/// Turns a panic into a failure with its own exit code.
pub fn catching_panics<T>(action: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    keep_panic_messages();
    panic::catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
        let message = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        let message = format!("internal error, a bug: {}", message.unwrap_or_default());
        Err(Failure::new(ExitCode::Internal, message))
    })
}

/// The message of the panic that ends the command; those of other threads are told at once.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps the message of a panic for the failure's single line; with RUST_BACKTRACE set, also
/// reports it as Rust usually does.
fn keep_panic_messages() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_default().replace('\n', " ");
        let message = message + &place;
        match std::thread::current().name() {
            Some("main") => {
                *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
            }
            _ => tell(&format!("error: internal error, a bug, in a thread: {message}")),
        }
        if env::var_os("RUST_BACKTRACE").is_some() {
            usual(info);
        }
    }));
}
