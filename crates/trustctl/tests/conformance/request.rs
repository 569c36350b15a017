//! What the arguments ask for: the run's own, and those that cargo hands to every test target.

use trust_testkit::libtest::{OPTIONS_WITHOUT_EFFECT, SWITCHES_WITHOUT_EFFECT};

/// Servers that are tried at once: most of their time is waiting.
const AT_ONCE: usize = 8;

/// The name by which filters find it.
pub(crate) const NAME: &str = "conformance";

/// How it is called.
pub(crate) const USAGE: &str = "conformance: [--at-once N] [--right] [WORD]…, where a word selects servers, and --right those that are right";

/// What the arguments ask for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Say its name and run nothing.
    List,
    /// Run nothing, for this reason.
    Nothing(&'static str),
    /// Try these servers.
    Run(Wanted),
}

/// What is tried.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Servers whose names contain one of these; all, if there is none.
    pub(crate) words: Vec<String>,
    pub(crate) at_once: usize,
    /// The right ones alone.
    pub(crate) right_alone: bool,
}

impl Wanted {
    /// Whether no server is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.words.is_empty() && !self.right_alone
    }

    /// Whether the server of this name is to be tried.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }
}

/// Reads the arguments, without the program's name; `None` if they make no sense.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Request> {
    let mut wanted = Wanted { words: vec![], at_once: AT_ONCE, right_alone: false };
    let (mut is_list, mut is_ignored, mut is_skipped) = (false, false, false);
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) if argument.starts_with('-') => (option, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        match option {
            _ if SWITCHES_WITHOUT_EFFECT.contains(&option) => {}
            "--list" => is_list = true,
            "--ignored" => is_ignored = true,
            "--right" => wanted.right_alone = true,
            "--at-once" => {
                let at_once = value.or_else(|| arguments.next())?.parse().ok();
                wanted.at_once = at_once.filter(|count| *count > 0)?;
            }
            _ if option == "--skip" || OPTIONS_WITHOUT_EFFECT.contains(&option) => {
                value.or_else(|| arguments.next())?;
                is_skipped |= option == "--skip";
            }
            _ if option.starts_with('-') => return None,
            _ => wanted.words.push(argument),
        }
    }
    Some(match (is_ignored, is_list, is_skipped) {
        (true, ..) => {
            Request::Nothing("--ignored asks for ignored tests alone, of which there are none")
        }
        (_, true, _) => Request::List,
        (.., true) => Request::Nothing("with --skip it is left out, whatever is to be skipped"),
        _ => Request::Run(wanted),
    })
}
