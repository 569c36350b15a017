//! Command lines as Go's package `flag` reads them: `-port 1`, `-port=1`, `--port 1`, `--port=1`.
//! Flags end before the first word that is none, or after `--`. A flag that is given twice has the
//! last value.

use std::ffi::OsString;
use std::fmt;

/// A flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoFlag {
    /// The name by which its value is asked for, and other names.
    pub(crate) names: &'static [&'static str],
    pub(crate) kind: GoFlagKind,
}

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GoFlagKind {
    /// Nothing, or `=true` or `=false` in the same word.
    Switch,
    /// A value, in the same word or in the next one.
    Text,
}

/// The flags of a command line, and the words after them.
#[derive(Debug)]
pub(crate) struct GivenFlags<'w> {
    /// The first name of each, and its value, in the order in which they were given. That of a
    /// switch is `true` or `false`.
    given: Vec<(&'static str, &'w str)>,
    pub(crate) rest: &'w [String],
}

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxFault {
    /// One line without a final stop, safe for a terminal.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<&'static str>,
}

impl fmt::Display for SyntaxFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl SyntaxFault {
    pub(crate) fn new(message: impl Into<String>) -> SyntaxFault {
        SyntaxFault { message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(self, hint: &'static str) -> SyntaxFault {
        SyntaxFault { hint: Some(hint), ..self }
    }

    /// A value that a flag cannot have.
    pub(crate) fn value(flag: &str, value: &str, expected: &str) -> SyntaxFault {
        let (flag, value) = (flag.escape_debug(), value.escape_debug());
        SyntaxFault::new(format!("invalid value '{value}' for {flag}: expected {expected}"))
    }
}

impl GoFlag {
    /// A flag without a value.
    pub(crate) const fn switch(names: &'static [&'static str]) -> GoFlag {
        GoFlag { names, kind: GoFlagKind::Switch }
    }

    /// A flag with a value.
    pub(crate) const fn text(names: &'static [&'static str]) -> GoFlag {
        GoFlag { names, kind: GoFlagKind::Text }
    }
}

impl GivenFlags<'_> {
    /// The last value of a flag, by its first name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// All values of a flag in order, by its first name.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| *value)
    }

    /// Whether a switch is on, by its first name.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }
}

/// The words as text.
///
/// # Errors
///
/// The first that is not UTF-8.
pub(crate) fn texts(words: &[OsString]) -> Result<Vec<String>, SyntaxFault> {
    let text = |word: &OsString| {
        let text = word.to_str().map(str::to_owned);
        text.ok_or_else(|| SyntaxFault::new(format!("invalid argument {word:?}: not UTF-8")))
    };
    words.iter().map(text).collect()
}

/// Reads the flags at the start of a command line.
///
/// # Errors
///
/// The first flag that is wrong.
pub(crate) fn read<'w>(
    known: &[GoFlag],
    words: &'w [String],
) -> Result<GivenFlags<'w>, SyntaxFault> {
    let (mut given, mut rest) = (vec![], words);
    while let Some((word, after)) = rest.split_first() {
        let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) else { break };
        rest = after;
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.is_empty() {
            break;
        }
        let (name, value) =
            flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let unknown = || SyntaxFault::new(format!("unknown flag: {}", word.escape_debug()));
        let found = known.iter().find(|known| known.names.contains(&name)).ok_or_else(unknown)?;
        let shown = &word[..word.len() - flag.len() + name.len()];
        let value = match (found.kind, value) {
            (GoFlagKind::Switch, value) => read_switch(shown, value.unwrap_or("true"))?,
            (GoFlagKind::Text, Some(value)) => value,
            (GoFlagKind::Text, None) => {
                let missing = || SyntaxFault::new(format!("missing value for {shown}"));
                let (value, after) = rest.split_first().ok_or_else(missing)?;
                rest = after;
                value
            }
        };
        given.push((found.names[0], value));
    }
    Ok(GivenFlags { given, rest })
}

fn read_switch(flag: &str, value: &str) -> Result<&'static str, SyntaxFault> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true"),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false"),
        _ => Err(SyntaxFault::value(flag, value, "true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[GoFlag] = &[GoFlag::text(&["port", "p"]), GoFlag::switch(&["metrics"])];

    /// The port, whether there are metrics, and the rest.
    fn read(line: &str) -> Result<(Option<String>, bool, String), String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let flags = super::read(KNOWN, &words).map_err(|fault| fault.message)?;
        Ok((flags.text("port").map(str::to_owned), flags.is_on("metrics"), flags.rest.join(" ")))
    }

    #[test]
    fn a_flag_has_one_or_two_dashes_and_its_value_in_the_same_word_or_the_next() {
        for line in ["-port 1", "-port=1", "--port 1", "--port=1", "-p 1", "--p=1", "-p 2 -p 1"] {
            assert_eq!(read(line), Ok((Some("1".to_owned()), false, String::new())), "{line}");
        }
        assert_eq!(read("-port="), Ok((Some(String::new()), false, String::new())));
        assert_eq!(read("-port=a=b").unwrap().0.as_deref(), Some("a=b"));
        // Whatever follows is the value.
        assert_eq!(read("-port -metrics").unwrap().0.as_deref(), Some("-metrics"));
    }

    #[test]
    fn a_switch_has_its_value_only_in_the_same_word() {
        for on in ["-metrics", "--metrics", "-metrics=true", "-metrics=1", "-metrics=T"] {
            assert_eq!(read(on), Ok((None, true, String::new())), "{on}");
        }
        for off in ["-metrics=false", "-metrics=0", "-metrics -metrics=False"] {
            assert_eq!(read(off), Ok((None, false, String::new())), "{off}");
        }
        assert_eq!(read("-metrics false"), Ok((None, true, "false".to_owned())));
    }

    #[test]
    fn flags_end_before_the_first_other_word_and_after_two_dashes() {
        assert_eq!(read("a -port 1"), Ok((None, false, "a -port 1".to_owned())));
        assert_eq!(read("-metrics - -port 1"), Ok((None, true, "- -port 1".to_owned())));
        assert_eq!(read("-metrics -- -port 1"), Ok((None, true, "-port 1".to_owned())));
    }

    #[test]
    fn a_wrong_flag_is_named() {
        let cases = [
            ("-x", "unknown flag: -x"),
            ("--prot=1", "unknown flag: --prot=1"),
            ("---port", "unknown flag: ---port"),
            ("-=1", "unknown flag: -=1"),
            ("-\n", "unknown flag: -\\n"),
            ("--port", "missing value for --port"),
            ("-metrics=ja", "invalid value 'ja' for -metrics: expected true or false"),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line), Err(expected.to_owned()));
        }
    }
}
