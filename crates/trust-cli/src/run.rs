//! One run: the command line, the settings, the home, then the command between its two events.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command};

use crate::colours::Colours;
use crate::command::{Context, Entry, Product, Program};
use crate::event_log::EventLog;
use crate::exit_code::{ExitCode, Failure};
use crate::globals;
use crate::level::Level;
use crate::output::{print, tell};
use crate::signals::{self, IgnoredHangup, Signals};
use crate::standard_streams;
use crate::startup::Startup;
use crate::usage::{CommandLine, check_token_lengths, innermost};

/// Runs the program from its first argument to its exit code.
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
        tell(&format!("error: {}", failure.message));
        failure.exit
    });
    log.finish(|| {
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let event = log.event(Level::Info, "cmd_finish").field("cmd", name);
        event.field("exit", &exit.code()).field("duration_ms", &duration_ms).write_off_terminal();
    });
    exit
}

/// What the command line came to.
pub enum Parsed<'a> {
    /// A command is to run, or something is wrong.
    Line(CommandLine<'a>),
    /// `--help` or `--version`: nothing is left to do.
    Printed(ExitCode),
}

/// What these words come to; `--help` and `--version` are answered.
pub fn parse<'a>(program: &'a Program, tokens: &[OsString]) -> Parsed<'a> {
    let command = command_line(program);
    if let Err(failure) = check_token_lengths(tokens) {
        return Parsed::Line(CommandLine::wrong(program, &command, tokens, |_| failure));
    }
    let error = match command.clone().try_get_matches_from(tokens) {
        Ok(matches) => return Parsed::Line(CommandLine::new(program, matches)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let text = match Colours::of_stdout() {
                Colours::On => text.ansi().to_string(),
                Colours::Off => text.to_string(),
            };
            Parsed::Printed(match print(text.as_bytes()) {
                Ok(_) => ExitCode::Success,
                Err(failure) => {
                    tell(&format!("error: {}", failure.message));
                    failure.exit
                }
            })
        }
        _ => {
            let explain = |line: &CommandLine<'_>| line.explain(&error, &command, tokens);
            Parsed::Line(CommandLine::wrong(program, &command, tokens, explain))
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

/// Makes a panic a failure like any other, with its own exit code.
pub fn catching_panics<T>(action: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    keep_panic_messages();
    panic::catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
        let message = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        let message = format!("internal error, a bug: {}", message.unwrap_or_default());
        Err(Failure::new(ExitCode::Internal, message))
    })
}

/// The whole command line, without the program's name.
pub fn command_line(program: &Program) -> Command {
    let version = env!("CARGO_PKG_VERSION");
    let command = match program.only {
        Some(entry) => entry.command().name(program.name),
        None => {
            let top = Command::new(program.name).about(program.about).subcommand_required(true);
            program.commands.iter().fold(top, |top, entry| match entry.name.split_once(' ') {
                None => top.subcommand(entry.command()),
                Some((group, _)) => with_group(program, top, group)
                    .mut_subcommand(group, |group| group.subcommand(entry.command())),
            })
        }
    };
    let command = command.no_binary_name(true).bin_name(program.name);
    with_globals(command, &exit_codes_help(), program.name, version)
}

/// Adds the word that only groups commands, before the first of them. One that is a command itself comes before those
/// inside it.
fn with_group(program: &Program, top: Command, group: &'static str) -> Command {
    if top.find_subcommand(group).is_some() {
        return top;
    }
    let about =
        program.groups.iter().find(|(name, _)| *name == group).map_or("", |(_, about)| *about);
    top.subcommand(Command::new(group).about(about).subcommand_required(true))
}

/// Global flags are added to every level, not passed down by clap, so that one that stands before
/// the command and after it is noticed.
fn with_globals(
    command: Command,
    after: &str,
    name: &'static str,
    version: &'static str,
) -> Command {
    let globals =
        globals::SETTINGS.iter().map(|setting| setting.arg().help_heading("Global options"));
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
        "\nA DURATION has a unit, ns, us, ms, s, m or h, or is in seconds: 500ms, 2.5. A SIZE is in bytes, or\n\
         has k, M, G (of 1000) or Ki, Mi, Gi (of 1024): 64k, 64KiB. A RATE is per second: 500, 10k, 1M.\n\
         \nEvery setting can also stand in config.toml, below its command's [table], or in a variable,\n\
         TRUST_<COMMAND>_<FLAG>. A flag beats a variable, and a variable beats the file.",
    );
    help
}

/// The message of the panic that ends the command; those of other threads are told at once.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Panics are told in the one line of the failure; with RUST_BACKTRACE as Rust usually does, too.
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
