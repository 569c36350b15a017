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
    let program = program.called(matches.get_one::<String>("executable")?);
    let mut script = vec![];
    let mut command = command_line(&program).no_binary_name(false);
    clap_complete::generate(shell, &mut command, program.name, &mut script);
    match shell {
        Shell::Fish => Some(for_older_fish(&String::from_utf8_lossy(&script)).into_bytes()),
        _ => Some(script),
    }
}

/// Until fish 3.2, which is newer than Debian 11's, argparse expects a letter before the name of a
/// long option, and a dash if the letter is no option itself.
fn for_older_fish(script: &str) -> String {
    const LIST: &str = "    string join \\n ";
    let mut older = String::new();
    for line in script.split_inclusive('\n') {
        let Some(options) = line.strip_prefix(LIST) else {
            older.push_str(line);
            continue;
        };
        // V is taken, by --version.
        let mut letters = 'A'..='U';
        let with_letter = |option: &str| match option.contains('/') {
            true => option.to_owned(),
            false => format!("{}-{option}", letters.next().expect("few global options")),
        };
        let options: Vec<String> = options.split_whitespace().map(with_letter).collect();
        let _ = writeln!(older, "{LIST}{}", options.join(" "));
    }
    older
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
