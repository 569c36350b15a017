//! Which tests run: the harness's filters, and the arguments that cargo hands to every test target.

use std::ffi::OsString;

use super::{Group, Test};
use trust_testkit::libtest::{OPTIONS_WITHOUT_EFFECT, SWITCHES_WITHOUT_EFFECT};

/// What the arguments ask for.
pub(crate) enum Request {
    /// Name every test and run none.
    List,
    /// Run what is selected.
    Run(Selection),
}

/// The filters. A test runs if it fits one of the groups and one of the names, where given.
#[derive(Default)]
pub(crate) struct Selection {
    groups: Vec<Group>,
    names: Vec<String>,
    skipped: Vec<String>,
    /// libtest's `--ignored`: run the tests that are marked as ignored, of which there are none.
    only_ignored: bool,
}

/// Reads the arguments; the program's name is not among them.
///
/// # Errors
///
/// A sentence, when an option is unknown or lacks its value.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut selection = Selection::default();
    let mut list = false;
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = arg.into_string().map_err(|arg| format!("not UTF-8: {arg:?}"))?;
        let (option, mut value) = match arg.split_once('=') {
            Some((option, value)) if arg.starts_with('-') => (option, Some(value.to_owned())),
            _ => (arg.as_str(), None),
        };
        if option == "--skip" || OPTIONS_WITHOUT_EFFECT.contains(&option) {
            value = value.or_else(|| args.next().and_then(|value| value.into_string().ok()));
            let value = value.ok_or_else(|| format!("{option} needs a value"))?;
            if option == "--skip" {
                selection.skipped.push(value);
            }
        } else if option == "--list" {
            list = true;
        } else if option == "--ignored" {
            selection.only_ignored = true;
        } else if option.starts_with('-') {
            if !SWITCHES_WITHOUT_EFFECT.contains(&option) {
                return Err(format!("unknown option {option:?}"));
            }
        } else {
            selection.add_filter(&arg);
        }
    }
    Ok(if list && !selection.only_ignored { Request::List } else { Request::Run(selection) })
}

impl Selection {
    /// The tests that run, in their own order.
    ///
    /// # Errors
    ///
    /// A sentence, when a filter fits no test or group at all.
    pub(crate) fn choose(&self, tests: &[Test]) -> Result<Vec<Test>, String> {
        for name in &self.names {
            if !tests.iter().any(|test| goes_by(test, name)) {
                return Err(format!(
                    "no test or group is named {name:?}; --list names the tests, \
                     the groups are cli and echo"
                ));
            }
        }
        let fits = |test: &&Test| {
            (self.groups.is_empty() || self.groups.contains(&test.group))
                && (self.names.is_empty() || self.names.iter().any(|name| goes_by(test, name)))
                && !self.skipped.iter().any(|part| test.path().contains(part))
                && !self.only_ignored
        };
        Ok(tests.iter().filter(fits).copied().collect())
    }

    /// Whether running nothing is what was asked for, not the result of a mistake.
    pub(crate) fn may_be_empty(&self) -> bool {
        self.only_ignored || !self.skipped.is_empty()
    }

    fn add_filter(&mut self, word: &str) {
        match Group::ALL.into_iter().find(|group| group.word() == word) {
            Some(group) => self.groups.push(group),
            None => self.names.push(word.to_owned()),
        }
    }
}

/// `test_listen`, `echo::test_listen` and `harness::echo::test_listen` name the same test.
fn goes_by(test: &Test, name: &str) -> bool {
    let path = test.path();
    path == name || path.ends_with(&format!("::{name}"))
}
