//! How long lines may be: 100 columns in code, 120 in Markdown text. Tables, links, blocks of code
//! and pasted output may be longer.

use std::sync::LazyLock;

use regex::Regex;

use crate::text::{self, Finding, Part};

/// Columns of code, comments and everything else that is not Markdown.
const CODE_COLUMNS_MAX: usize = 100;
const MARKDOWN_COLUMNS_MAX: usize = 120;

/// Lines that may be longer.
struct Exception {
    path: &'static str,
    /// What such a line has in it.
    text: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        path: "crates/trust-cli/src/error_map.rs",
        text: "row(&[",
        reason: "a table with a row for each kind of error",
    },
    Exception {
        path: "crates/trust-cli/src/tcp_table.rs",
        text: "local_address rem_address",
        reason: "the heading as the kernel writes it",
    },
    Exception {
        path: "crates/trust-cli/src/tcp_table.rs",
        text: "00000000:00000000 00:00000000",
        reason: "a row as the kernel writes it",
    },
    Exception {
        path: "crates/trust-load/src/hdr_log/reader.rs",
        text: "#[trustctl",
        reason: "a line of a log",
    },
    Exception {
        path: "packaging/pins",
        text: "pool/main",
        reason: "a line for each package, with its checksum",
    },
    Exception {
        path: "packaging/inetd/inetd.conf",
        text: "stream",
        reason: "inetd.conf has one line for each service",
    },
];

/// Targets of Markdown links, and addresses.
static LINK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\]\([^)]*\)|https?://\S+").expect("a pattern"));

pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let long = long(path, text).filter(|(_, line, _)| exception(path, line).is_none());
    long.map(|(number, _, message)| Finding { line: number, message }).collect()
}

/// Lines that are too long, with their numbers and what to say about them.
fn long<'a>(path: &str, text: &'a str) -> impl Iterator<Item = (usize, &'a str, String)> {
    let max = if text::is_markdown(path) { MARKDOWN_COLUMNS_MAX } else { CODE_COLUMNS_MAX };
    let lines = text::lines(path, text).into_iter().zip(1..);
    lines.filter(|((part, _), _)| *part == Part::Text).filter_map(move |((_, line), number)| {
        let columns = LINK.replace_all(line, "").chars().count();
        let message = || format!("{columns} columns: expected at most {max}");
        (columns > max).then(|| (number, line, message()))
    })
}

fn exception(path: &str, line: &str) -> Option<usize> {
    EXCEPTIONS.iter().position(|it| it.path == path && line.contains(it.text))
}

pub(crate) fn unused_exceptions(files: &[(String, String)]) -> impl Iterator<Item = String> {
    let mut is_used = vec![false; EXCEPTIONS.len()];
    for (path, text) in files {
        for (_, line, _) in long(path, text) {
            if let Some(index) = exception(path, line) {
                is_used[index] = true;
            }
        }
    }
    let unused = EXCEPTIONS.iter().zip(is_used).filter(|(_, is_used)| !is_used);
    unused.map(|(it, _)| format!("{}: long lines with '{}': {}", it.path, it.text, it.reason))
}

#[test]
fn a_line_that_is_too_long_is_found_unless_it_cannot_be_shorter() {
    let found = |path: &str, text: &str| {
        check(path, text).into_iter().map(|it| it.line).collect::<Vec<usize>>()
    };
    let of = |columns| "ä".repeat(columns);
    assert_eq!(found("a.rs", &format!("{}\n{}", of(100), of(101))), [2]);
    assert_eq!(found("docs/A.md", &format!("{}\n{}", of(120), of(121))), [2]);
    let link = format!("[A page](https://example.org/{}) and {}", of(90), of(100));
    assert_eq!(found("docs/A.md", &link), [0; 0]);
    assert_eq!(found("docs/A.md", &format!("{link}{}", of(9))), [1]);
    let exempt = format!("| {} |\n\n    {}\n\n```\n{}\n```\n", of(121), of(121), of(121));
    assert_eq!(found("docs/A.md", &exempt), [0; 0]);
    assert_eq!(found("a.rs", &format!("// https://example.org/{}", of(101))), [0; 0]);
}
