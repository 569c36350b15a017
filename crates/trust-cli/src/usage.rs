//! Mistakes on the command line, each in one line that says what is wrong and what would be right.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Id};

use crate::command::{Entry, Program};
use crate::exit_code::{ExitCode, Failure};
use crate::globals::{self, TOKEN_BYTES_MAX};
use crate::settings::AnySetting;
use crate::values::quoted;

/// Refuses tokens that are too long for anything that this program takes.
pub(crate) fn check_token_lengths(tokens: &[OsString]) -> Result<(), Failure> {
    match tokens.iter().map(|token| token.len()).find(|length| *length > TOKEN_BYTES_MAX) {
        None => Ok(()),
        Some(length) => {
            let limit = format!("argument token exceeds {TOKEN_BYTES_MAX}-byte limit");
            Err(Failure::new(ExitCode::Usage, format!("{limit} (got {length} bytes)")))
        }
    }
}

/// What can be told of a command line that may be wrong: enough to log the failure in the right
/// place and to name the right `--help`.
pub struct Outline<'a> {
    program: &'a Program,
    /// The program's name and the words of the command that are right so far.
    pub place: String,
    /// The command, if it is known.
    pub entry: Option<&'static Entry>,
    /// The texts of global flags, in order.
    pub globals: Vec<(&'static dyn AnySetting, &'a OsStr)>,
    /// Whether a token asks for a document alone on stdout.
    pub json: bool,
}

impl<'a> Outline<'a> {
    /// Reads what it can.
    pub fn new(program: &'a Program, tokens: &'a [OsString]) -> Outline<'a> {
        let mut words = String::new();
        let mut entry = program.only.and_then(|name| program.find(name));
        let mut seeking = program.only.is_none();
        let place = program.name.to_owned();
        let mut outline = Outline { program, place, entry: None, globals: Vec::new(), json: false };
        let mut tokens = tokens.iter().map(OsString::as_os_str).take_while(|token| *token != "--");
        while let Some(token) = tokens.next() {
            outline.json |= token == "--json";
            if let Some((setting, inline)) = global_flag(token) {
                outline
                    .globals
                    .extend(inline.or_else(|| tokens.next()).map(|text| (setting, text)));
            } else if entry.is_some_and(|entry| takes_next(entry, token)) {
                // The value of a flag may be the word of a command too: `load --host merge`.
                tokens.next();
            } else if seeking && !token.as_bytes().starts_with(b"-") {
                let longer = format!("{words} {}", token.to_string_lossy());
                let longer = longer.trim_start();
                let found = program.find(longer);
                seeking = program.commands.iter().any(|entry| entry.is_inside(longer));
                if seeking || found.is_some() {
                    words = longer.to_owned();
                    entry = found;
                }
            }
        }
        if !words.is_empty() {
            outline.place = format!("{} {words}", program.name);
        }
        outline.entry = entry;
        outline
    }

    /// Refuses flags of a command before the word of one inside it, which has its own: `load --port 1 merge`.
    ///
    /// # Errors
    ///
    /// 64, for the first one by name.
    pub(crate) fn check_outer_commands(&self, matches: &ArgMatches) -> Result<(), Failure> {
        let mut level = matches;
        while let Some((word, inner)) = level.subcommand() {
            let is_global = |id: &str| globals::SETTINGS.iter().any(|setting| setting.key() == id);
            let is_given = |id: &&str| level.value_source(id) == Some(ValueSource::CommandLine);
            let given = level.ids().map(Id::as_str).filter(|id| !is_global(id)).find(is_given);
            if let Some(id) = given {
                return Err(self.failure(&format!("--{id} cannot be used before {}", quoted(word))));
            }
            level = inner;
        }
        Ok(())
    }

    /// What clap found wrong, in one line.
    pub(crate) fn explain(&self, error: &clap::Error, tokens: &[OsString]) -> Failure {
        let group = self.place.strip_prefix(self.program.name).unwrap_or_default().trim_start();
        let what = match error.kind() {
            ErrorKind::MissingSubcommand => return self.unknown_command(group, None),
            ErrorKind::InvalidSubcommand => {
                let word = context(error, ContextKind::InvalidSubcommand);
                return self.unknown_command(group, word.as_deref());
            }
            ErrorKind::UnknownArgument => match self.dashed_value(error, tokens) {
                Some(mistake) => mistake,
                None => unknown_argument(error),
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

    /// `word` is missing, or no command of the group (empty: of the program).
    pub(crate) fn unknown_command(&self, group: &str, word: Option<&str>) -> Failure {
        let entries = self.program.commands.iter();
        let entries = entries.filter(|entry| group.is_empty() || entry.is_inside(group));
        let names: Vec<&str> = entries.map(|entry| entry.name).collect();
        let what = match word {
            None if group.is_empty() => "missing command".to_owned(),
            None => format!("missing command after {}", quoted(group)),
            Some(word) => {
                let word = format!("{group} {word}");
                let quoted = quoted(word.trim_start());
                format!("unknown command: {}", &quoted[1..quoted.len() - 1])
            }
        };
        self.failure(&format!("{what}; valid commands: {}", names.join(", ")))
    }

    /// A value that starts with a dash, which clap takes for a cluster of short flags: `-inf`.
    fn dashed_value(&self, error: &clap::Error, tokens: &[OsString]) -> Option<String> {
        let reported = context(error, ContextKind::InvalidArg)?;
        let own = self.entry.map_or(&[][..], |entry| entry.settings);
        let settings =
            || own.iter().chain(globals::SETTINGS).filter(|setting| !setting.is_switch());
        tokens.windows(2).find_map(|pair| {
            let value = pair[1].to_string_lossy();
            let setting = settings().find(|setting| pair[0] == *setting.flag())?;
            let flag = setting.flag();
            if !value.starts_with(&reported) || value.starts_with("--") {
                return None;
            }
            let value_quoted = quoted(&*value);
            Some(match setting.given(&pair[1], flag.clone()) {
                Err(fault) => format!("{flag} {value_quoted}: {fault}"),
                Ok(_) => {
                    let whole = bare(&format!("{flag}={value}"));
                    format!(
                        "missing value for {flag} (if {value_quoted} is the value, write {whole})"
                    )
                }
            })
        })
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(ExitCode::Usage, format!("{what}; see '{} --help'", self.place))
    }
}

/// The global flag that a token is, and its value if that is in the same token.
fn global_flag(token: &OsStr) -> Option<(&'static dyn AnySetting, Option<&OsStr>)> {
    globals::SETTINGS.iter().find_map(|setting| {
        let rest = token.as_bytes().strip_prefix(setting.flag().as_bytes())?;
        match rest {
            [] => Some((*setting, None)),
            [b'=', value @ ..] => Some((*setting, Some(OsStr::from_bytes(value)))),
            _ => None,
        }
    })
}

/// Whether a token is a flag of the command whose value is the next token.
fn takes_next(entry: &Entry, token: &OsStr) -> bool {
    let mut with_values = entry.settings.iter().filter(|setting| !setting.is_switch());
    with_values.any(|setting| token == &*setting.flag())
}

fn unknown_argument(error: &clap::Error) -> String {
    let token = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let what = match token.starts_with('-') {
        true => "unknown flag",
        false => "unexpected argument",
    };
    match context(error, ContextKind::SuggestedArg) {
        Some(near) => format!("{what}: {} (did you mean {near}?)", bare(&token)),
        None => format!("{what}: {}", bare(&token)),
    }
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
            format!("{flag} {}: allowed is {allowed}", quoted(value))
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
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Safe in one line for a terminal, without quotes.
fn bare(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}
