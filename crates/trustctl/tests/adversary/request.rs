//! What the arguments ask for: the run's own, and those that cargo hands to every test target.

use trust_testkit::libtest::{OPTIONS_WITHOUT_EFFECT, SWITCHES_WITHOUT_EFFECT};

/// Scripts that are played unless told otherwise, and how many at once: most of their time is waiting.
const SCRIPTS: u64 = 300;
const AT_ONCE: u64 = 12;

/// Scripts in a run at most: their number is part of their clients' addresses.
const SCRIPTS_MAX: u64 = u16::MAX as u64;

/// The name by which filters find it.
pub(crate) const NAME: &str = "adversary";

/// How it is called.
pub(crate) const USAGE: &str =
    "adversary: [--seed SEED | --scripts N --from SEED] [--at-once N], at most 65535 scripts";

/// What the arguments ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// Say its name and play nothing.
    List,
    /// Play nothing, for this reason.
    Nothing(&'static str),
    /// Play these scripts.
    Play(Scripts),
}

/// The scripts of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scripts {
    pub(crate) from: u64,
    pub(crate) count: u64,
    pub(crate) at_once: u64,
}

/// Reads the arguments, without the program's name; `None` if they make no sense, as a word that is no part of
/// its name.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Request> {
    let mut scripts = Scripts { from: 0, count: SCRIPTS, at_once: AT_ONCE };
    let (mut is_list, mut is_ignored, mut is_skipped) = (false, false, false);
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) if argument.starts_with('-') => (option, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        if SWITCHES_WITHOUT_EFFECT.contains(&option) {
            continue;
        }
        let mut number = || value.clone().or_else(|| arguments.next())?.parse().ok();
        match option {
            "--list" => is_list = true,
            "--ignored" => is_ignored = true,
            "--seed" => (scripts.from, scripts.count) = (number()?, 1),
            "--scripts" => scripts.count = number()?,
            "--from" => scripts.from = number()?,
            "--at-once" => scripts.at_once = number()?,
            _ if option == "--skip" || OPTIONS_WITHOUT_EFFECT.contains(&option) => {
                value.or_else(|| arguments.next())?;
                is_skipped |= option == "--skip";
            }
            _ if !option.starts_with('-') && NAME.contains(option) => {}
            _ => return None,
        }
    }
    let is_possible = (1..=SCRIPTS_MAX).contains(&scripts.count) && scripts.at_once > 0;
    if !is_possible || scripts.from.checked_add(scripts.count).is_none() {
        return None;
    }
    Some(match (is_ignored, is_list, is_skipped) {
        (true, ..) => {
            Request::Nothing("--ignored asks for ignored tests alone, of which there are none")
        }
        (_, true, _) => Request::List,
        (.., true) => Request::Nothing("with --skip it is left out, whatever is to be skipped"),
        _ => Request::Play(scripts),
    })
}
