//! What is wrong with a text that a person has written, and where.

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadText {
    /// The offset of the mistake from the start of the text, in bytes; at most the text's length.
    pub at: usize,
    /// What it is: what is there, and what is expected instead.
    pub message: String,
}

impl BadText {
    /// The message with the column in the text, counted in characters from 1, and the line if the
    /// text has several.
    pub fn with_place(&self, text: &str) -> String {
        let (line, column) = line_and_column(text, self.at);
        let line = if text.contains('\n') { format!("line {line}, ") } else { String::new() };
        format!("{line}column {column}: {}", self.message)
    }
}

/// Line and column of an offset, both from 1. The column is in characters.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let is_boundary = |offset: &usize| text.is_char_boundary(*offset);
    let end = (0..=offset.min(text.len())).rev().find(is_boundary).unwrap_or(0);
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        assert_eq!(line_and_column("", 0), (1, 1));
        assert_eq!(line_and_column("äb\nü", 2), (1, 2));
        assert_eq!(line_and_column("äb\nü", 4), (2, 1));
        assert_eq!(line_and_column("äb\nü", 5), (2, 1), "in the middle of a character");
        assert_eq!(line_and_column("äb\nü", 99), (2, 2));
    }
}
