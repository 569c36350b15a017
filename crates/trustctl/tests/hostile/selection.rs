//! Which tests run: this suite's words, and the arguments that cargo hands to every test target.

use super::case::{Subject, Test};
use trust_testkit::apart::ALONE;
use trust_testkit::libtest::{OPTIONS_WITHOUT_EFFECT, SWITCHES_WITHOUT_EFFECT};

/// The suite's name; `--skip` with it leaves all of it out.
pub(crate) const NAME: &str = "hostile";

/// Tests at a time unless told otherwise: they wait much more than they work.
const AT_ONCE: usize = 8;

/// What the arguments ask for.
pub(crate) enum Request {
    /// Name the tests, and what does not apply and why; run none.
    List,
    /// Run nothing, for this reason.
    Nothing(&'static str),
    /// Run this one test in this process.
    Alone(String),
    /// Run what is selected.
    Run(Selection),
}

/// The filters. A test runs if its case fits one of the words, and its subject one of the names of subjects,
/// where given.
pub(crate) struct Selection {
    words: Vec<String>,
    subjects: Vec<Subject>,
    skipped: Vec<String>,
    pub(crate) at_once: usize,
}

/// Reads the arguments; the program's name is not among them.
///
/// # Errors
///
/// A sentence, when an option is unknown or its value is missing or makes no sense.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut selection =
        Selection { words: vec![], subjects: vec![], skipped: vec![], at_once: AT_ONCE };
    let (mut is_list, mut is_ignored) = (false, false);
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) if argument.starts_with('-') => (option, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let mut value =
            || value.clone().or_else(|| arguments.next()).ok_or(format!("{option} needs a value"));
        match option {
            "--list" => is_list = true,
            "--ignored" => is_ignored = true,
            ALONE => return Ok(Request::Alone(value()?)),
            "--skip" => selection.skipped.push(value()?),
            "--test-threads" => {
                let count = value()?;
                let at_once = count.parse().ok().filter(|count| *count > 0);
                selection.at_once = at_once.ok_or(format!("not a number of tests: {count:?}"))?;
            }
            _ if OPTIONS_WITHOUT_EFFECT.contains(&option) => drop(value()?),
            _ if SWITCHES_WITHOUT_EFFECT.contains(&option) => (),
            _ if option.starts_with('-') => return Err(format!("unknown option {option:?}")),
            word => match Subject::all().find(|subject| subject.name() == word) {
                Some(subject) => selection.subjects.push(subject),
                None => selection.words.push(word.to_owned()),
            },
        }
    }
    let is_left_out = |word: &String| word.trim_end_matches("::") == NAME;
    Ok(if is_ignored {
        Request::Nothing("--ignored asks for ignored tests alone, of which there are none")
    } else if is_list {
        Request::List
    } else if selection.skipped.iter().any(is_left_out) {
        Request::Nothing("--skip names the whole suite")
    } else {
        Request::Run(selection)
    })
}

impl Selection {
    /// The tests that run, in their own order.
    ///
    /// # Errors
    ///
    /// A sentence, when a word fits no test at all, or nothing is left.
    pub(crate) fn choose(&self, tests: &[Test]) -> Result<Vec<Test>, String> {
        if let Some(word) =
            self.words.iter().find(|word| !tests.iter().any(|test| fits(test, word)))
        {
            return Err(format!("no case fits {word:?}; --list names them all"));
        }
        let is_chosen = |test: &&Test| {
            (self.words.is_empty() || self.words.iter().any(|word| fits(test, word)))
                && (self.subjects.is_empty() || self.subjects.contains(&test.subject))
                && !self.skipped.iter().any(|part| path(test).contains(part))
        };
        let chosen: Vec<Test> = tests.iter().filter(is_chosen).copied().collect();
        if chosen.is_empty() {
            return Err("no test is left to run; --list names them all".to_owned());
        }
        Ok(chosen)
    }
}

/// `7`, `7/event`, and any part of the title.
fn fits(test: &Test, word: &str) -> bool {
    let (case, subject) = match word.rsplit_once('/') {
        Some((case, subject)) => (case, Some(subject)),
        None => (word, None),
    };
    match case.parse::<u32>() {
        Ok(number) => {
            number == test.case.number && subject.is_none_or(|name| name == test.subject.name())
        }
        Err(_) => test.title().contains(word),
    }
}

/// The name in the form in which libtest would have it.
fn path(test: &Test) -> String {
    format!("{NAME}::{}", test.title().trim_start())
}
