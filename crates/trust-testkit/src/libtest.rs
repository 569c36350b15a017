//! What cargo and libtest pass to every test target, and suites of named tests that take it.

/// Arguments of libtest that change nothing in suites that do without libtest.
pub const SWITCHES_WITHOUT_EFFECT: [&str; 9] = [
    "--nocapture",
    "--no-capture",
    "--show-output",
    "--quiet",
    "-q",
    "--exact",
    "--include-ignored",
    "--test",
    "--report-time",
];

/// Arguments of libtest that take a value and change nothing in suites that do without libtest.
pub const OPTIONS_WITHOUT_EFFECT: [&str; 5] =
    ["--test-threads", "--color", "--format", "--logfile", "-Z"];

/// What the arguments ask for: names, and what cargo hands to every test target.
#[derive(Default)]
pub struct Wanted {
    words: Vec<String>,
    skipped: Vec<String>,
    /// The names are to be listed, and nothing is to run.
    pub is_list: bool,
    is_ignored: bool,
}

impl Wanted {
    /// What the arguments say, without the program's name; `None`: an option is unknown, or its value is missing.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Option<Wanted> {
        let mut wanted = Wanted::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (option, value) = match argument.split_once('=') {
                Some((option, value)) if argument.starts_with('-') => {
                    (option, Some(value.to_owned()))
                }
                _ => (argument.as_str(), None),
            };
            match option {
                _ if SWITCHES_WITHOUT_EFFECT.contains(&option) => {}
                "--list" => wanted.is_list = true,
                "--ignored" => wanted.is_ignored = true,
                "--skip" => wanted.skipped.push(value.or_else(|| arguments.next())?),
                _ if OPTIONS_WITHOUT_EFFECT.contains(&option) => {
                    value.or_else(|| arguments.next())?;
                }
                _ if option.starts_with('-') => return None,
                _ => wanted.words.push(argument),
            }
        }
        Some(wanted)
    }

    /// Whether the test of that name is to run.
    pub fn wants(&self, name: &str) -> bool {
        let has = |words: &[String]| words.iter().any(|word| name.contains(word.as_str()));
        !self.is_ignored && !has(&self.skipped) && (self.words.is_empty() || has(&self.words))
    }

    /// Whether running nothing is what was asked for, not the result of a mistake.
    pub fn may_be_empty(&self) -> bool {
        self.is_ignored || !self.skipped.is_empty()
    }
}
