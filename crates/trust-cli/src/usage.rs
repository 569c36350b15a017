//! Mistakes on the command line: a line with what is wrong and what is expected, and a hint.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::iter;
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Id};

use crate::command::{Entry, Program};
use crate::exit_code::{ExitCode, Failure};
use crate::globals::{self, TOKEN_BYTES_MAX};
use crate::values::{bare, invalid, quoted};

/// How many errors of one line to skip, to find out what else it says.
const MISTAKES_MAX: usize = 16;

/// Refuses tokens that are too long for any argument of this program.
pub(crate) fn check_token_lengths(tokens: &[OsString]) -> Result<(), Failure> {
    match tokens.iter().map(|token| token.len()).find(|length| *length > TOKEN_BYTES_MAX) {
        None => Ok(()),
        Some(length) => {
            let limit = format!("argument token exceeds {TOKEN_BYTES_MAX}-byte limit");
            Err(Failure::new(ExitCode::Usage, format!("{limit} (got {length} bytes)")))
        }
    }
}

/// A command line as parsed by clap.
pub struct CommandLine<'a> {
    program: &'a Program,
    /// What clap found; for a wrong line, the rest of it, so that the failure is logged in the
    /// right place.
    pub matches: ArgMatches,
    /// The words of the command, as far as they are valid.
    words: String,
    /// The command, if known.
    pub entry: Option<&'static Entry>,
    /// What is wrong: 64, with a one-line message.
    pub mistake: Result<(), Failure>,
}

impl<'a> CommandLine<'a> {
    /// A line without errors, except perhaps for flags before a command that does not have them.
    pub(crate) fn new(program: &'a Program, matches: ArgMatches) -> CommandLine<'a> {
        let words: Vec<&str> = levels(&matches).filter_map(ArgMatches::subcommand_name).collect();
        let words = words.join(" ");
        let entry = program.only.or_else(|| program.find(&words));
        let mut line = CommandLine { program, matches, words, entry, mistake: Ok(()) };
        line.mistake = line.check_outer_commands();
        line
    }

    /// A line with an error, and the failure that reports it.
    pub(crate) fn wrong(
        program: &'a Program,
        command: &Command,
        tokens: &[OsString],
        failure: impl FnOnce(&CommandLine<'a>) -> Failure,
    ) -> CommandLine<'a> {
        let line = CommandLine::new(program, matches_beside_mistakes(command, tokens, false));
        CommandLine { mistake: Err(failure(&line)), ..line }
    }

    /// Whether only a document goes to stdout.
    pub(crate) fn asks_for_json(&self) -> bool {
        matches!(innermost(&self.matches).try_get_one("json"), Ok(Some(true)))
    }

    /// Refuses flags given before the word of an inner command, which has flags of its own:
    /// `load --port 1 merge`.
    fn check_outer_commands(&self) -> Result<(), Failure> {
        for level in levels(&self.matches) {
            let Some(word) = level.subcommand_name() else { break };
            let is_global = |id: &str| globals::SETTINGS.iter().any(|setting| setting.key == id);
            let is_given = |id: &&str| level.value_source(id) == Some(ValueSource::CommandLine);
            let given = level.ids().map(Id::as_str).filter(|id| !is_global(id)).find(is_given);
            if let Some(id) = given {
                return Err(self.failure(&format!("--{id} cannot be used before {}", quoted(word))));
            }
        }
        Ok(())
    }

    /// Clap's error as one line.
    pub(crate) fn explain(
        &self,
        error: &clap::Error,
        command: &Command,
        tokens: &[OsString],
    ) -> Failure {
        let what = match error.kind() {
            ErrorKind::MissingSubcommand => return self.missing_command(),
            ErrorKind::InvalidSubcommand => {
                let word = context(error, ContextKind::InvalidSubcommand).unwrap_or_default();
                let near = context(error, ContextKind::SuggestedSubcommand);
                return self.unknown_command(&word, near.as_deref());
            }
            ErrorKind::UnknownArgument => match self.dashed_value(error, command, tokens) {
                Some(mistake) => mistake,
                None => {
                    let near = context(error, ContextKind::SuggestedArg);
                    return self.failure_near(&unknown_argument(error), near.as_deref());
                }
            },
            ErrorKind::ArgumentConflict => conflict(error),
            ErrorKind::MissingRequiredArgument => missing_argument(error),
            ErrorKind::InvalidValue => bad_or_missing_value(error),
            ErrorKind::TooManyValues => {
                let flag = flag_of(error, ContextKind::InvalidArg);
                let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
                format!("{flag} takes no value, but got {}", quoted(value))
            }
            _ => first_line(error),
        };
        self.failure(&what)
    }

    /// A command is missing, after the words of a group or altogether.
    fn missing_command(&self) -> Failure {
        let group = &*self.words;
        if !group.is_empty() {
            let what = format!("missing command after {}", quoted(group));
            return self.failure(&format!("{what}: expected {}", self.commands()));
        }
        let mut hint = self.help_line();
        for entry in self.program.commands {
            let (name, about) = (self.program.name, entry.about);
            let line = format!("{name} {} {}", entry.name, entry.example);
            let _ = write!(hint, "\n\n  {}\n      {about}", line.trim_end());
        }
        Failure::new(ExitCode::Usage, "missing command").with_hint(hint)
    }

    /// `word` is no command of the group that the words so far name.
    fn unknown_command(&self, word: &str, near: Option<&str>) -> Failure {
        let word = format!("{} {word}", self.words);
        let what = format!("unknown command: {}", bare(word.trim_start()));
        self.failure_near(&format!("{what}: expected {}", self.commands()), near)
    }

    /// The commands of the group that the words so far name.
    fn commands(&self) -> String {
        let group = &*self.words;
        let entries = self.program.commands.iter();
        let entries = entries.filter(|entry| group.is_empty() || entry.is_inside(group));
        entries.map(|entry| entry.name).collect::<Vec<_>>().join(", ")
    }

    /// A value that starts with a dash, which clap takes for a group of short flags: `-inf`.
    fn dashed_value(
        &self,
        error: &clap::Error,
        command: &Command,
        tokens: &[OsString],
    ) -> Option<String> {
        let reported = context(error, ContextKind::InvalidArg)?;
        let matches = matches_beside_mistakes(command, tokens, true);
        let own = self.entry.map_or(&[][..], |entry| entry.settings);
        let settings =
            || own.iter().chain(globals::SETTINGS).filter(|setting| setting.alone.is_none());
        let given = levels(&matches).flat_map(|level| {
            let text = |key| level.try_get_one::<OsString>(key).ok().flatten();
            settings().filter_map(move |setting| Some((setting, text(setting.key)?)))
        });
        let is_it = |text: &OsStr| {
            let text = text.to_string_lossy();
            text.starts_with(&reported) && !text.starts_with("--")
        };
        let (setting, text) = given.into_iter().find(|(_, text)| is_it(text))?;
        let (flag, value) = (setting.flag(), quoted(text));
        Some(match setting.given(text, flag.clone()) {
            Err(fault) => invalid(value, flag, fault),
            Ok(_) => {
                let whole = bare(format!("{flag}={}", text.to_string_lossy()));
                format!("missing value for {flag} (if {value} is the value, write {whole})")
            }
        })
    }

    fn failure(&self, what: &str) -> Failure {
        self.failure_near(what, None)
    }

    /// A mistake, and the word that may have been meant.
    fn failure_near(&self, what: &str, near: Option<&str>) -> Failure {
        let see = self.help_line();
        let hint = match near {
            Some(near) => format!("did you mean {near}? {see}"),
            None => see,
        };
        Failure::new(ExitCode::Usage, what).with_hint(hint)
    }

    fn help_line(&self) -> String {
        let place = format!("{} {}", self.program.name, self.words);
        format!("see '{} --help'", place.trim_end())
    }
}

/// The levels of a command line: the program's, perhaps a group's, and the command's.
pub(crate) fn levels(matches: &ArgMatches) -> impl Iterator<Item = &ArgMatches> {
    iter::successors(Some(matches), |level| level.subcommand().map(|(_, inner)| inner))
}

/// The level of the command itself.
pub fn innermost(matches: &ArgMatches) -> &ArgMatches {
    levels(matches).last().unwrap_or(matches)
}

/// The matches of a wrong line, without the words that clap rejects.
fn matches_beside_mistakes(command: &Command, tokens: &[OsString], dashed: bool) -> ArgMatches {
    // A request for help would yield no matches.
    let command = lenient(command.clone(), dashed);
    let command = command.disable_help_flag(true).disable_version_flag(true);
    let command = command.disable_help_subcommand(true);
    let mut tokens = tokens.to_vec();
    for _ in 0..MISTAKES_MAX {
        let Err(error) = command.clone().try_get_matches_from(&tokens) else { break };
        let Some(stumbled_over) = stumbled_over(&error) else { break };
        let is_part = |token: &OsString| {
            let rest = token.as_bytes().strip_prefix(stumbled_over.as_bytes());
            let is_short = stumbled_over.len() == 2 && stumbled_over.starts_with('-');
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=' || is_short)
        };
        let all = tokens.len();
        tokens.retain(|token| !is_part(token));
        if tokens.len() == all {
            break;
        }
    }
    command.ignore_errors(true).try_get_matches_from(tokens).expect("errors are ignored")
}

/// The rejected word, for errors after which parsing can go on.
fn stumbled_over(error: &clap::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidValue | ErrorKind::TooManyValues => {
            let word = context(error, ContextKind::InvalidArg)?;
            Some(word.split(" <").next().unwrap_or_default().to_owned())
        }
        _ => None,
    }
}

/// The same command, but a flag may be given twice, and the first one counts. With `dashed`, a
/// value may look like a flag.
fn lenient(command: Command, dashed: bool) -> Command {
    let lenient_arg = |arg: Arg| match (arg.get_long(), arg.get_value_names()) {
        (Some(_), Some(_)) => arg.action(ArgAction::Append).allow_hyphen_values(dashed),
        _ => arg,
    };
    command.mut_args(lenient_arg).mut_subcommands(|command| lenient(command, dashed))
}

fn unknown_argument(error: &clap::Error) -> String {
    let token = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let what = match token.starts_with('-') {
        true => "unknown flag",
        false => "unexpected argument",
    };
    format!("{what}: {}", bare(&token))
}

fn conflict(error: &clap::Error) -> String {
    let flag = flag_of(error, ContextKind::InvalidArg);
    match flag_of(error, ContextKind::PriorArg) {
        other if other == flag || other.is_empty() => format!("duplicate flag: {flag}"),
        other => format!("{flag} cannot be used together with {other}"),
    }
}

fn missing_argument(error: &clap::Error) -> String {
    let missing = context(error, ContextKind::InvalidArg).unwrap_or_default();
    match missing.starts_with('-') {
        true => format!("missing required flag: {missing}"),
        false => format!("missing argument: {}", missing.replace(['<', '>'], "")),
    }
}

fn bad_or_missing_value(error: &clap::Error) -> String {
    let flag = flag_of(error, ContextKind::InvalidArg);
    match context(error, ContextKind::InvalidValue).filter(|value| !value.is_empty()) {
        None => format!("missing value for {flag}"),
        Some(value) => {
            let allowed = context(error, ContextKind::ValidValue).unwrap_or_default();
            invalid(quoted(value), flag, format!("expected {allowed}"))
        }
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    bare(line.strip_prefix("error: ").unwrap_or(line))
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}

/// `--seconds` of `--seconds <SECONDS>`.
fn flag_of(error: &clap::Error, kind: ContextKind) -> String {
    let text = context(error, kind).unwrap_or_default();
    let name = text.split(' ').next().unwrap_or_default();
    name.trim_matches(['<', '>']).to_owned()
}
