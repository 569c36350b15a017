//! Failures that are known, so that they do not fail a run.

use crate::{case, cases};

/// Lines that a file may have: more than there will ever be cases.
const LINES_MAX: usize = 10_000;

/// The cases that are known to fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    patterns: Vec<String>,
}

/// A line that names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl Known {
    /// Reads one id or pattern a line. What follows a `#` is a comment.
    ///
    /// # Errors
    ///
    /// The first line that names no case.
    pub fn parse(text: &str) -> Result<Known, BadLine> {
        let mut patterns = vec![];
        for (index, line) in text.lines().enumerate() {
            let bad = |problem: String| BadLine { number: index + 1, problem };
            let name = line.split_once('#').map_or(line, |(name, _)| name).trim();
            if index == LINES_MAX {
                return Err(bad(format!("there are more than {LINES_MAX} lines")));
            }
            if name.is_empty() {
                continue;
            }
            if !cases::all().any(|case| case::matches(name, case.id)) {
                let name = trust_cli::values::quoted(name);
                return Err(bad(format!("{name} is no case, and no pattern of one")));
            }
            patterns.push(name.to_owned());
        }
        Ok(Known { patterns })
    }

    /// Whether the case is known to fail.
    pub fn names(&self, id: &str) -> bool {
        self.patterns.iter().any(|pattern| case::matches(pattern, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_id_or_a_pattern_and_comments_are_left_out() {
        let known = Known::parse("# ours\n\n  framing/1  # since May\nresources/*\n").unwrap();
        assert!(known.names("framing/1") && known.names("resources/1"));
        assert!(!known.names("framing/2"));
        assert_eq!(Known::parse("").unwrap(), Known::default());
    }

    #[test]
    fn a_line_that_names_no_case_is_told_with_its_number() {
        let number = |text: &str| Known::parse(text).unwrap_err().number;
        assert_eq!(number("framing/1\n\nframing/1000\n"), 3);
        assert_eq!(number("fraiming/*"), 1);
        assert_eq!(number(&"\n".repeat(LINES_MAX + 1)), LINES_MAX + 1);
        let problem = Known::parse("framing/1 framing/2").unwrap_err().problem;
        assert_eq!(problem, "'framing/1 framing/2' is no case, and no pattern of one");
    }
}
