//! Which lines of a file people read as text.

/// A line that should be written differently.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// What a line is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text,
    Table,
    /// A block of code, pasted output, or a table that is made from the code.
    Output,
}

pub(crate) fn is_markdown(path: &str) -> bool {
    path.ends_with(".md")
}

/// The lines of a file, each with what it is part of. Code is text in all its lines.
pub(crate) fn lines<'a>(path: &str, text: &'a str) -> Vec<(Part, &'a str)> {
    if !is_markdown(path) {
        return text.lines().map(|line| (Part::Text, line)).collect();
    }
    let (mut is_fenced, mut is_generated) = (false, false);
    let mut is_after_gap = true;
    let mut lines = vec![];
    for line in text.lines() {
        let start = line.trim_start();
        let is_mark = start.starts_with("<!-- made from");
        if is_mark {
            is_generated = line.contains(": start -->");
        }
        let is_fence = start.starts_with("```");
        if is_fence {
            is_fenced = !is_fenced;
        }
        let is_indented = is_after_gap && line.starts_with("    ");
        let part = if is_mark || is_generated || is_fence || is_fenced || is_indented {
            Part::Output
        } else if start.starts_with('|') {
            Part::Table
        } else {
            Part::Text
        };
        is_after_gap = start.is_empty() || is_indented;
        lines.push((part, line));
    }
    lines
}

#[test]
fn blocks_of_code_and_tables_are_told_from_text() {
    let page = "Text\n    of two lines.\n\n    $ code\n    output\n\n| a |\n```\nfenced\n```\n\
                <!-- made from the code: start -->\n| b |\n<!-- made from the code: end -->\nText.";
    let parts: Vec<Part> = lines("docs/A.md", page).into_iter().map(|(part, _)| part).collect();
    use Part::{Output, Table, Text};
    let expected = [
        Text, Text, Text, Output, Output, Text, Table, Output, Output, Output, Output, Output,
        Output, Text,
    ];
    assert_eq!(parts, expected);
    assert!(lines("a.rs", page).iter().all(|(part, _)| *part == Text));
}
