//! Manual pages and completions, made from what clap knows of the program.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::ArgMatches;
use clap_complete::Shell;

use crate::command::Program;
use crate::exit_code::{ExitCode, Failure};
use crate::syntax::{COMPLETIONS, command_line};
use crate::values::quoted;

/// The completions, if the line asks for them.
pub(crate) fn completions(program: &Program, matches: &ArgMatches) -> Option<Vec<u8>> {
    let (COMPLETIONS, matches) = matches.subcommand()? else { return None };
    let shell = *matches.get_one::<Shell>("shell")?;
    let mut script = vec![];
    let mut command = command_line(program).no_binary_name(false);
    clap_complete::generate(shell, &mut command, program.name, &mut script);
    Some(script)
}

/// The manual page (`man(7)`) that `help --man COMMAND…` asks for, if the line does.
///
/// # Errors
///
/// 64: there is no such command.
pub(crate) fn page(program: &Program, tokens: &[OsString]) -> Option<Result<Vec<u8>, Failure>> {
    let [help, man, words @ ..] = tokens else { return None };
    if help != "help" || man != "--man" {
        return None;
    }
    let mut command = command_line(program);
    command.build();
    let mut name = program.name.to_owned();
    for word in words {
        let _ = write!(name, "-{}", word.display());
        let Some(inner) = command.find_subcommand(word) else {
            let message = format!("no manual page for {}: expected a command", quoted(word));
            return Some(Err(Failure::new(ExitCode::Usage, message)));
        };
        command = inner.clone();
    }
    let mut page = vec![];
    let manual = clap_mangen::Man::new(command.display_name(&name)).title(&name);
    let source = concat!("trustctl ", env!("CARGO_PKG_VERSION"));
    let written = manual.manual("trustctl").source(source).render(&mut page);
    written.expect("writing into memory does not fail");
    Some(Ok(page))
}
