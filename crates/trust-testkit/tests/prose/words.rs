//! Finds the wordings of `patterns.rs`, also where a line ends in the middle of one.

use std::ops::Range;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use crate::patterns::{EXCEPTIONS, PATTERNS};
use crate::text::{self, Finding, Part};

/// What stands before the text of a line of a comment.
static COMMENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*(//[/!]?|#+|\*|>|--)?\s*").expect("a pattern"));

/// Code in backticks, on one line: names are not wordings.
static INLINE_CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"`[^`]*`").expect("a pattern"));

static COMPILED_PATTERNS: LazyLock<Vec<Regex>> =
    LazyLock::new(|| PATTERNS.iter().map(|pattern| compile(pattern.regex)).collect());

static COMPILED_EXCEPTIONS: LazyLock<Vec<Regex>> =
    LazyLock::new(|| EXCEPTIONS.iter().map(|exception| compile(exception.regex)).collect());

fn compile(regex: &str) -> Regex {
    let compiled = RegexBuilder::new(regex).case_insensitive(true).build();
    compiled.unwrap_or_else(|error| panic!("{regex}: {error}"))
}

pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let joined = Joined::of(path, text);
    let mut findings = vec![];
    joined.for_each_hit(path, |hit, excused_by| {
        if excused_by.is_empty() {
            let better = PATTERNS[hit.pattern].better;
            let message = format!("'{}': better: {better}", &joined.text[hit.range.clone()]);
            let line = joined.line_at(hit.range.start);
            findings.push(Finding { line, message });
        }
    });
    findings.sort_by_key(|finding| finding.line);
    findings
}

pub(crate) fn unused_exceptions(files: &[(String, String)]) -> impl Iterator<Item = String> {
    let mut is_used = vec![false; EXCEPTIONS.len()];
    for (path, text) in files {
        Joined::of(path, text).for_each_hit(path, |_, excused_by| {
            excused_by.iter().for_each(|index| is_used[*index] = true);
        });
    }
    let unused = EXCEPTIONS.iter().zip(is_used).filter(|(_, is_used)| !is_used);
    unused.map(|(it, _)| format!("{}'{}': {}", it.path, it.regex, it.reason))
}

/// A file whose paragraphs and comments are one line each, without inline code.
struct Joined {
    text: String,
    /// Where each line starts in it.
    starts: Vec<usize>,
}

/// A wording that was found.
struct Hit {
    pattern: usize,
    range: Range<usize>,
}

impl Joined {
    fn of(path: &str, text: &str) -> Self {
        let mut joined = Self { text: String::new(), starts: vec![] };
        let mut last = Part::Text;
        for (part, line) in text::lines(path, text) {
            joined.starts.push(joined.text.len());
            let line = INLINE_CODE.replace_all(&COMMENT.replace(line, ""), "``").into_owned();
            let line = line.trim_end().trim_end_matches('\\');
            if line.is_empty() || part != Part::Text || last != Part::Text {
                joined.text.push('\n');
            }
            if part != Part::Output {
                joined.text.push_str(line);
            }
            joined.text.push(' ');
            last = part;
        }
        joined
    }

    /// Hands over every wording that is found, with the exceptions that excuse it.
    fn for_each_hit(&self, path: &str, mut take: impl FnMut(&Hit, &[usize])) {
        let mut excused: Option<Vec<(usize, Range<usize>)>> = None;
        for (pattern, regex) in COMPILED_PATTERNS.iter().enumerate() {
            for found in regex.find_iter(&self.text) {
                let hit = Hit { pattern, range: found.range() };
                let excused = excused.get_or_insert_with(|| self.excused(path));
                let is_around = |range: &Range<usize>| {
                    range.start <= hit.range.start && hit.range.end <= range.end
                };
                let by = excused.iter().filter(|(_, range)| is_around(range));
                take(&hit, &by.map(|(index, _)| *index).collect::<Vec<usize>>());
            }
        }
    }

    /// Places that exceptions excuse, with the numbers of these exceptions.
    fn excused(&self, path: &str) -> Vec<(usize, Range<usize>)> {
        let exceptions = EXCEPTIONS.iter().zip(COMPILED_EXCEPTIONS.iter()).enumerate();
        let exceptions = exceptions.filter(|(_, (exception, _))| path.starts_with(exception.path));
        let places = exceptions.flat_map(|(index, (_, regex))| {
            regex.find_iter(&self.text).map(move |found| (index, found.range()))
        });
        places.collect()
    }

    /// The number of the line at that place, from 1.
    fn line_at(&self, place: usize) -> usize {
        self.starts.partition_point(|start| *start <= place)
    }
}

#[cfg(test)]
fn found(path: &str, text: &str) -> Vec<(usize, String)> {
    check(path, text).into_iter().map(|finding| (finding.line, finding.message)).collect()
}

#[test]
fn every_pattern_finds_its_example_also_across_lines_of_a_comment() {
    for pattern in PATTERNS {
        let hits = found("a.rs", pattern.example);
        let is_found = |found: &[(usize, String)]| {
            found.iter().any(|(_, message)| message.ends_with(pattern.better))
        };
        assert!(is_found(&hits), "'{}' is not found: {hits:?}", pattern.example);
        let wrapped = format!("/// {}", pattern.example.replace(' ', "\n    /// "));
        assert!(is_found(&found("a.rs", &wrapped)), "not found:\n{wrapped}");
    }
}

#[test]
fn a_finding_names_its_line_and_a_better_wording() {
    let text = "fn a() {}\n\n/// It is not served any\n/// more.\n";
    assert_eq!(found("a.rs", text), [(3, "'any more': better: no longer".to_owned())]);
}

#[test]
fn code_and_output_in_documents_are_left_alone() {
    let page = "Not `any more` one:\n\n    $ any more\n\nany\n\nmore\n";
    assert_eq!(found("docs/A.md", page), []);
}

#[test]
fn an_exception_excuses_nothing_else() {
    assert_eq!(found("a.rs", "a client behind a slow proxy"), []);
    assert_eq!(found("a.rs", "behind a slow proxy, and the byte behind it").len(), 1);
}
