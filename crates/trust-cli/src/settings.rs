//! Settings, each declared in one place.
//!
//! [`crate::options!`] declares the settings of a command as the fields of a struct. A field says
//! everything about its setting; the command line, the file, `config show` and the documentation
//! are derived from it.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::ops::Deref;

use clap::{Arg, value_parser};

use crate::exit_code::{ExitCode, Failure};

/// One setting of one command, or of all.
pub struct Setting<T: 'static> {
    declaration: Declaration,
    /// Parses a value, and refuses invalid ones.
    parse: Parse<T>,
}

/// Everything about a setting except the type of its values.
pub struct Declaration {
    /// The command that it belongs to (`log-demo` for `log demo`); `None`: all of them.
    pub command: Option<&'static str>,
    /// The name without dashes, which is also the file's key: `frame-timeout`.
    pub key: &'static str,
    /// The value's name in `--help`: `DURATION`.
    pub value_name: &'static str,
    /// What is expected, for error messages: `a port from 0 to 65535`.
    pub allowed: &'static str,
    /// The default, as text; `None`: unset, or determined at run time.
    pub default: Option<&'static str>,
    /// The group of settings that begins with this one; `None`: it is in that of the one before it.
    pub group: Option<Group>,
    /// The text of `--help`, in paragraphs with an empty line between them. The first one is for
    /// `-h`.
    pub help: &'static str,
    /// The value of the flag alone, after which one stands only with `=`; `None`: it needs one.
    pub alone: Option<&'static str>,
}

/// Settings that stand together in `--help`.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its heading.
    pub title: &'static str,
    /// `-h` leaves it out.
    pub is_rare: bool,
}

/// What a setting can be set to.
pub struct ValueKind<T: 'static> {
    /// The value's name in `--help`: `DURATION`.
    pub name: &'static str,
    /// What is expected, for error messages: `a port from 0 to 65535`.
    pub allowed: &'static str,
    /// Parses a value, and refuses invalid ones.
    pub parse: Parse<T>,
    /// The value of the flag alone, after which one stands only with `=`; `None`: it needs one.
    pub alone: Option<&'static str>,
}

/// How to parse a value.
#[derive(Clone, Copy, Debug)]
pub enum Parse<T: 'static> {
    /// From text; bytes that are not UTF-8 are read as replacement characters. `None`: invalid.
    Text(fn(&str) -> Option<T>),
    /// From text of several parts. The error says which of them is wrong.
    Parts(fn(&str) -> Result<T, String>),
    /// From the exact bytes: file names, and what is passed to other programs.
    Bytes(fn(&OsStr) -> Option<T>),
}

impl<T> Setting<T> {
    /// A setting of a command, or of all commands. The help may have spaces around it, as in a
    /// comment.
    pub const fn new(
        command: Option<&'static str>,
        key: &'static [u8],
        kind: ValueKind<T>,
        default: Option<&'static str>,
        help: &'static str,
    ) -> Setting<T> {
        let Ok(key) = std::str::from_utf8(key) else { panic!("a name is UTF-8") };
        let ValueKind { name: value_name, allowed, parse, alone } = kind;
        let help = help.trim_ascii();
        let group = None;
        let declaration =
            Declaration { command, key, value_name, allowed, default, group, help, alone };
        Setting { declaration, parse }
    }

    /// The same as the first setting of a group.
    pub const fn begins(mut self, group: Option<Group>) -> Setting<T> {
        self.declaration.group = group;
        self
    }

    /// The value of a text, or what is wrong with it.
    pub(crate) fn read(&self, text: &OsStr) -> Result<T, String> {
        let value = match self.parse {
            Parse::Text(parse) => parse(&text.to_string_lossy()),
            Parse::Parts(parse) => return parse(&text.to_string_lossy()),
            Parse::Bytes(parse) => parse(text),
        };
        value.ok_or_else(|| format!("expected {}", self.allowed))
    }
}

impl<T> ValueKind<T> {
    /// A kind that is parsed from text.
    pub const fn of_text(
        name: &'static str,
        allowed: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> ValueKind<T> {
        ValueKind { name, allowed, parse: Parse::Text(parse), alone: None }
    }

    /// A kind that is parsed from text of several parts.
    pub const fn of_parts(
        name: &'static str,
        allowed: &'static str,
        parse: fn(&str) -> Result<T, String>,
    ) -> ValueKind<T> {
        ValueKind { name, allowed, parse: Parse::Parts(parse), alone: None }
    }

    /// A kind that is parsed from bytes.
    pub const fn of_bytes(
        name: &'static str,
        allowed: &'static str,
        parse: fn(&OsStr) -> Option<T>,
    ) -> ValueKind<T> {
        ValueKind { name, allowed, parse: Parse::Bytes(parse), alone: None }
    }

    /// The same kind, where the flag alone stands for this value.
    pub const fn or_alone(self, value: &'static str) -> ValueKind<T> {
        ValueKind { alone: Some(value), ..self }
    }

    /// The same kind with another name in `--help`.
    pub const fn named(self, name: &'static str) -> ValueKind<T> {
        ValueKind { name, ..self }
    }
}

/// Identifies a setting: its command and its key.
pub type SettingId = (Option<&'static str>, &'static str);

/// A value as given.
#[derive(Debug)]
pub struct Given {
    /// The text, not necessarily UTF-8.
    pub text: OsString,
    /// The value parsed from it.
    pub value: Box<dyn Any>,
    /// Where it was given, for messages: the flag, the variable, or path, line, key and table of
    /// the file.
    pub place: String,
}

/// A [`Setting`] with values of any type.
pub trait AnySetting: Deref<Target = Declaration> + Sync {
    /// Parses a text; the error says what is wrong with it and what is expected.
    fn given(&self, text: &OsStr, place: String) -> Result<Given, String>;

    /// Whether the value is the default, however either of them is written.
    fn is_default(&self, given: &Given) -> bool;
}

impl<T: Any + PartialEq> AnySetting for Setting<T> {
    fn given(&self, text: &OsStr, place: String) -> Result<Given, String> {
        let value = Box::new(self.read(text)?);
        Ok(Given { text: text.to_owned(), value, place })
    }

    fn is_default(&self, given: &Given) -> bool {
        let default = self.default.and_then(|text| self.read(text.as_ref()).ok());
        default.is_some_and(|default| given.value.downcast_ref() == Some(&default))
    }
}

impl<T> Deref for Setting<T> {
    type Target = Declaration;

    fn deref(&self) -> &Declaration {
        &self.declaration
    }
}

impl Declaration {
    /// Its [`SettingId`].
    pub fn id(&self) -> SettingId {
        (self.command, self.key)
    }

    /// `--frame-timeout`
    pub fn flag(&self) -> String {
        format!("--{}", self.key)
    }

    /// The failure of a command that needs this setting and did not get it.
    pub fn missing(&self) -> Failure {
        Failure::new(ExitCode::Usage, format!("missing required flag: {}", self.flag()))
    }

    /// `TRUST_ECHO_SERVER_FRAME_TIMEOUT`, and `TRUST_HOME` for `trust-home`.
    pub fn variable(&self) -> String {
        match self.command {
            Some(command) => format!("{}{}", variable_prefix(command), shouted(self.key)),
            None => format!("TRUST_{}", shouted(self.key.trim_start_matches("trust-"))),
        }
    }

    /// Its name in `config show`: `echo-server.frame-timeout`, `trust_home`.
    pub fn display_name(&self) -> String {
        match self.command {
            Some(command) => format!("{command}.{}", self.key),
            None => self.key.replace('-', "_"),
        }
    }

    /// The first paragraph of its help.
    pub fn summary(&self) -> String {
        joined(self.help.lines().map(str::trim).take_while(|line| !line.is_empty()))
    }

    /// All of its help. The first paragraph is a heading without a stop, the others are sentences.
    pub fn description(&self) -> String {
        let summary = self.summary();
        let lines = self.help.lines().map(str::trim);
        let details = joined(lines.skip_while(|line| !line.is_empty()).skip(1));
        match details.chars().next() {
            None => summary,
            // No sentence: what the default is.
            Some('[') => format!("{summary} {details}"),
            Some(_) => format!("{summary}. {details}"),
        }
    }

    /// Whether the flag alone turns something on; `=false` turns it off.
    pub fn is_switch(&self) -> bool {
        self.alone == Some("true")
    }

    /// The flag for clap; its id is the key.
    pub(crate) fn arg(&self) -> Arg {
        // Our own parsers get every value, so that all layers give the same messages.
        let arg = Arg::new(self.key).long(self.key).value_parser(value_parser!(OsString));
        let arg = arg.value_name(self.value_name);
        if let Some(alone) = self.alone {
            // `--json`, and `--json=false` to override a variable or the file.
            let arg = arg.num_args(0..=1).require_equals(true).default_missing_value(alone);
            return arg.help(self.summary()).long_help(self.description());
        }
        let with_default = |help: String| match self.default {
            Some(default) => format!("{help} [default: {default}]"),
            None => help,
        };
        let arg = arg.help(with_default(self.summary()));
        arg.long_help(with_default(self.description())).allow_negative_numbers(true)
    }
}

/// `TRUST_ECHO_SERVER_` for `echo-server`.
pub fn variable_prefix(command: &str) -> String {
    format!("TRUST_{}_", shouted(command))
}

fn joined<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.collect::<Vec<_>>().join(" ")
}

fn shouted(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}
