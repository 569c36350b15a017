//! The command line of a program as clap reads it.

use std::fmt::Write as _;
use std::iter::once;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, value_parser};
use clap_complete::Shell;

use crate::command::Program;
use crate::exit_code::ExitCode;
use crate::globals;

/// The command that prints completions.
pub(crate) const COMPLETIONS: &str = "completions";

/// The whole command line, without the program's name.
pub fn command_line(program: &Program) -> Command {
    let version = env!("CARGO_PKG_VERSION");
    let command = match program.only {
        Some(entry) => entry.command().name(program.name),
        None => {
            let top = Command::new(program.name).about(program.about).subcommand_required(true);
            let top = top.subcommand(completions_command(program));
            program.commands.iter().fold(top, |top, entry| match entry.name.split_once(' ') {
                None => top.subcommand(entry.command()),
                Some((group, _)) => with_group(program, top, group)
                    .mut_subcommand(group, |group| group.subcommand(entry.command())),
            })
        }
    };
    let command = command.no_binary_name(true).bin_name(program.name);
    let after = exit_codes_help();
    with_globals(command, &after, program.name, version, program.only.is_some())
}

/// Adds the word that only groups commands, before the first of them. One that is a command itself
/// comes before those inside it.
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
    is_command: bool,
) -> Command {
    if command.is_disable_help_flag_set() {
        // It has a syntax of its own, in which our flags may be something else.
        return command;
    }
    // The short help of a command is about its own flags.
    let globals = globals::SETTINGS
        .iter()
        .map(|setting| setting.arg().help_heading("Global options").hide_short_help(is_command));
    command
        .args(globals)
        .version(version)
        .display_name(name)
        .after_long_help(after.to_owned())
        .mut_subcommands(|command| {
            with_globals(command.disable_help_subcommand(true), after, name, version, true)
        })
}

fn exit_codes_help() -> String {
    let mut help = String::from("Exit codes:\n");
    for exit in ExitCode::ALL {
        let _ = writeln!(help, "  {:>3}  {}", exit.code(), exit.meaning());
    }
    help.push_str(
        "\nA DURATION has a unit, ns, us, ms, s, m or h, or is in seconds: 500ms, 2.5. \
         A SIZE is in bytes, or\n\
         has k, M, G (of 1000) or Ki, Mi, Gi (of 1024): 64k, 64KiB. \
         A RATE is per second: 500, 10k, 1M.\n\
         \nEvery setting can also stand in config.toml, below its command's [table], \
         or in a variable,\n\
         TRUST_<COMMAND>_<FLAG>. A flag beats a variable, and a variable beats the file.",
    );
    help
}

/// Hidden, as people need it once.
fn completions_command(program: &Program) -> Command {
    let names = program.short_names.iter().map(|(name, _)| *name);
    let executable = Arg::new("executable").value_name("EXECUTABLE").default_value(program.name);
    let executable =
        executable.value_parser(PossibleValuesParser::new(once(program.name).chain(names)));
    let shell = Arg::new("shell").value_name("SHELL").required(true);
    let shell = shell.value_parser(value_parser!(Shell)).help("The shell");
    let about = "Print completions for a shell, to be saved where it looks for them";
    Command::new(COMPLETIONS).about(about).hide(true).args([shell, executable])
}
