//! Colours on a terminal.

use std::env;

pub use anstyle::{AnsiColor, Style};

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// No colours.
    Off,
    /// Colours according to the styles.
    On,
}

impl Colours {
    /// On if stdout is a terminal that can show colours, unless the user opts out
    /// (<https://no-color.org>).
    pub fn of_stdout() -> Colours {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        match rustix::termios::isatty(std::io::stdout()) && !is_set("NO_COLOR") && !is_dumb {
            true => Colours::On,
            false => Colours::Off,
        }
    }

    /// The text in this style.
    pub fn paint(self, style: Style, text: &str) -> String {
        match self {
            Colours::Off => text.to_owned(),
            Colours::On => format!("{style}{text}{style:#}"),
        }
    }
}
