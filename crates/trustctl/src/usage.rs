//! Mistakes on the command line, each in one line that says what is wrong and what would be right.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Id};

use crate::commands::{COMMANDS, Entry, find};
use crate::exit_code::{ExitCode, Failure};
use crate::settings::{AnySetting, quoted};
use crate::startup::GLOBALS;

/// Bytes that one token of the command line may have.
pub(crate) const TOKEN_BYTES_MAX: usize = 1024;

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
pub(crate) struct Outline<'a> {
    /// The program's name and the words of the command that are right so far.
    pub(crate) place: String,
    /// The command, if it is known.
    pub(crate) entry: Option<&'static Entry>,
    /// The texts of global flags, in order.
    pub(crate) globals: Vec<(&'static dyn AnySetting, &'a OsStr)>,
    /// Whether a token asks for a document alone on stdout.
    pub(crate) json: bool,
}

impl<'a> Outline<'a> {
    /// Reads what it can. `fixed`: the command that the program itself stands for.
    pub(crate) fn new(
        program: &str,
        fixed: Option<&'static str>,
        tokens: &'a [OsString],
    ) -> Outline<'a> {
        let mut words = String::new();
        let mut entry = fixed.and_then(find);
        let mut seeking = fixed.is_none();
        let mut outline =
            Outline { place: program.to_owned(), entry: None, globals: Vec::new(), json: false };
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
                let found = find(longer);
                seeking = COMMANDS.iter().any(|entry| is_inside(entry.name, longer));
                if seeking || found.is_some() {
                    words = longer.to_owned();
                    entry = found;
                }
            }
        }
        if !words.is_empty() {
            outline.place = format!("{program} {words}");
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
            let is_global = |id: &str| GLOBALS.iter().any(|setting| setting.key() == id);
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
    pub(crate) fn explain(
        &self,
        error: &clap::Error,
        program: &str,
        tokens: &[OsString],
    ) -> Failure {
        let group = self.place.strip_prefix(program).unwrap_or_default().trim_start();
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
        let names = COMMANDS.iter().map(|entry| entry.name);
        let names: Vec<&str> =
            names.filter(|name| group.is_empty() || is_inside(name, group)).collect();
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
        let settings = || own.iter().chain(GLOBALS).filter(|setting| !setting.is_switch());
        tokens.windows(2).find_map(|pair| {
            let value = pair[1].to_string_lossy();
            let setting = settings().find(|setting| pair[0] == *setting.flag())?;
            let flag = setting.flag();
            if !value.starts_with(&reported) || value.starts_with("--") {
                return None;
            }
            let value_quoted = quoted(&*value);
            Some(match setting.fault(&pair[1]) {
                Some(fault) => format!("{flag} {value_quoted}: {fault}"),
                None => {
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
    GLOBALS.iter().find_map(|setting| {
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

/// Whether the command `name` is in the group of commands, as `log demo` is in `log`.
pub(crate) fn is_inside(name: &str, group: &str) -> bool {
    name.strip_prefix(group).is_some_and(|rest| rest.starts_with(' '))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Parsed, Program, parse};

    const TRUSTCTL: Program = Program { name: "trustctl", command: None };

    fn mistake(line: &[&str]) -> String {
        let tokens: Vec<OsString> = line.iter().map(OsString::from).collect();
        let outline = Outline::new(TRUSTCTL.name, TRUSTCTL.command, &tokens);
        match parse(&TRUSTCTL, &outline, &tokens) {
            Err(failure) => {
                assert_eq!(failure.exit, ExitCode::Usage);
                assert!(!failure.message.contains('\n'), "{}", failure.message);
                failure.message
            }
            Ok(Parsed::Command(_)) => "runs".into(),
            Ok(Parsed::Printed(_)) => "prints".into(),
        }
    }

    #[test]
    fn mistakes_are_told_in_one_line_that_names_them() {
        let hold = "; see 'trustctl hold --help'";
        let cases: [(&[&str], &str); 15] = [
            (&["hold", "--seconds"], "missing value for --seconds"),
            (&["hold", "--seconds", "--log-level", "info"], "missing value for --seconds"),
            (&["hold", "--seconds", "1", "--seconds", "2"], "duplicate flag: --seconds"),
            (&["hold", "--secnds", "1"], "unknown flag: --secnds (did you mean --seconds?)"),
            (&["hold", "-x"], "unknown flag: -x"),
            (&["hold", "--a\nb"], "unknown flag: --a\\nb"),
            (&["hold", "5"], "unexpected argument: 5"),
            (&["hold", "--help=5"], "--help takes no value, but got '5'"),
            (
                &["hold", "--seconds", "-inf"],
                "--seconds '-inf': allowed is a number of seconds, 0 (at once) or at least 0.001",
            ),
            (
                &["hold", "--request-id", "-run"],
                "missing value for --request-id (if '-run' is the value, write --request-id=-run)",
            ),
            (&["--log-level", "info", "hold", "-x"], "unknown flag: -x"),
            (&["hold", "--trust-home=/x", "-x"], "unknown flag: -x"),
            (&["--request-id", "log", "hold", "-x"], "unknown flag: -x"),
            (&["hold", "\u{1b}[1m"], "unexpected argument: \\u{1b}[1m"),
            (&["hold", "--trust-home"], "missing value for --trust-home"),
        ];
        for (line, expected) in cases {
            assert_eq!(mistake(line), format!("{expected}{hold}"), "{line:?}");
        }
        let message = mistake(&["log", "demo"]);
        assert_eq!(message, "missing argument: MESSAGE; see 'trustctl log demo --help'");
    }

    #[test]
    fn unknown_and_missing_commands_come_with_the_valid_ones() {
        for (line, what) in [
            (&["foo"][..], "unknown command: foo"),
            (&["foo", "--seconds", "1"], "unknown command: foo"),
            (&["--log-level", "info", "a\nb"], "unknown command: a\\nb"),
            (&[], "missing command"),
        ] {
            let message = mistake(line);
            let names: Vec<&str> = COMMANDS.iter().map(|entry| entry.name).collect();
            let names = names.join(", ");
            let expected = format!("{what}; valid commands: {names}; see 'trustctl --help'");
            assert_eq!(message, expected);
        }
        let rest = "; valid commands: log demo; see 'trustctl log --help'";
        assert_eq!(mistake(&["log"]), format!("missing command after 'log'{rest}"));
        assert_eq!(mistake(&["log", "foo"]), format!("unknown command: log foo{rest}"));
    }

    #[test]
    fn a_command_can_have_another_one_inside_it() {
        let command_of = |line: &[&str]| {
            let tokens: Vec<OsString> = line.iter().map(OsString::from).collect();
            let outline = Outline::new(TRUSTCTL.name, TRUSTCTL.command, &tokens);
            let told = outline.entry.map(|entry| entry.name);
            (mistake(line), told)
        };
        let runs = |name| ("runs".to_owned(), Some(name));
        assert_eq!(command_of(&["load", "--port", "1"]), runs("load"));
        assert_eq!(command_of(&["load", "merge", "a", "b"]), runs("load merge"));
        assert_eq!(command_of(&["load", "--log-level", "info", "merge", "a"]), runs("load merge"));
        assert_eq!(command_of(&["load", "--host", "merge", "--port", "1"]), runs("load"));
        assert_eq!(command_of(&["load", "--host=x", "-4"]), runs("load"));
        let merge = "; see 'trustctl load merge --help'";
        for (line, what) in [
            (&["load", "--port", "1", "merge", "x"][..], "--port cannot be used before 'merge'"),
            (&["load", "-4", "merge", "x"], "--ipv4 cannot be used before 'merge'"),
            (&["load", "merge"], "missing argument: FILE..."),
            (&["load", "merge", "x", "--port", "1"], "unknown flag: --port"),
        ] {
            assert_eq!(command_of(line), (format!("{what}{merge}"), Some("load merge")));
        }
        let message =
            "unknown command: load mrge; valid commands: load merge; see 'trustctl load --help'";
        assert_eq!(command_of(&["load", "mrge"]), (message.to_owned(), Some("load")));
    }

    #[test]
    fn a_token_of_more_than_1024_bytes_is_refused_before_anything_else() {
        assert_eq!(mistake(&["log", "demo", &"x".repeat(1024)]), "runs");
        let long = "x".repeat(2000);
        let message = "argument token exceeds 1024-byte limit (got 2000 bytes)";
        for line in [&[&*long][..], &["--help", &long], &["log", "demo", "--", &long]] {
            assert_eq!(mistake(line), message);
        }
    }

    #[test]
    fn global_flags_and_the_command_are_found_in_a_wrong_line_too() {
        let line =
            ["--trust-home=/x", "log", "--bad", "demo", "--log-file", "none", "--", "--log-level"];
        let tokens = line.map(OsString::from);
        let outline = Outline::new("trustctl", None, &tokens);
        let globals: Vec<_> =
            outline.globals.iter().map(|(setting, text)| (setting.key(), *text)).collect();
        let expected = [("trust-home", OsStr::new("/x")), ("log-file", OsStr::new("none"))];
        assert_eq!(globals, expected);
        assert_eq!(outline.entry.map(|entry| entry.name), Some("log demo"));
    }
}
