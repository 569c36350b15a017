//! Which word was meant.

/// The most characters of a word that is compared: longer ones are no typing errors.
const CHARACTERS_MAX: usize = 40;

/// Characters of a word, rounded up, for each change that still counts as a typing error.
const CHARACTERS_PER_CHANGE: usize = 5;

/// The known word that is most like this one, if any is like it.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(CHARACTERS_MAX + 1).collect();
    if !(2..=CHARACTERS_MAX).contains(&word.len()) {
        return None;
    }
    let most = word.len().div_ceil(CHARACTERS_PER_CHANGE);
    let changes = known.iter().map(|known| (changes(&word, known), *known));
    let near = changes.filter(|(changes, _)| *changes <= most);
    near.min_by_key(|(changes, _)| *changes).map(|(_, known)| known)
}

/// The fewest changes from one word to the other: a character more, less or another, or two
/// neighbours exchanged (the optimal string alignment distance).
fn changes(word: &[char], known: &str) -> usize {
    let known: Vec<char> = known.chars().collect();
    let mut rows = vec![vec![0; known.len() + 1]; word.len() + 1];
    for (row, cells) in rows.iter_mut().enumerate() {
        cells[0] = row;
    }
    rows[0] = (0..=known.len()).collect();
    for row in 1..=word.len() {
        for column in 1..=known.len() {
            let is_other = word[row - 1] != known[column - 1];
            let replaced = rows[row - 1][column - 1] + usize::from(is_other);
            let one_less = rows[row - 1][column] + 1;
            let one_more = rows[row][column - 1] + 1;
            let mut fewest = replaced.min(one_less).min(one_more);
            let are_exchanged = row > 1
                && column > 1
                && word[row - 1] == known[column - 2]
                && word[row - 2] == known[column - 1];
            if are_exchanged {
                fewest = fewest.min(rows[row - 2][column - 2] + 1);
            }
            rows[row][column] = fewest;
        }
    }
    rows[word.len()][known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_understood_and_another_word_is_not() {
        let known = ["send", "send_hex", "want", "want_hex", "once"];
        let cases = [
            ("sned", Some("send")),
            ("sends", Some("send")),
            ("send-hex", Some("send_hex")),
            ("wants", Some("want")),
            ("onse", Some("once")),
            ("on", None),
            ("", None),
            ("x", None),
            ("expect", None),
            ("sedn", Some("send")),
            ("wont_hax", Some("want_hex")),
            ("dens", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest(&"send".repeat(100_000), &known), None);
    }

    #[test]
    fn changes_are_counted() {
        let count = |one: &str, other| changes(&one.chars().collect::<Vec<_>>(), other);
        assert_eq!([count("kitten", "sitting"), count("", "abc"), count("abc", "")], [3, 3, 3]);
        assert_eq!([count("a", "a"), count("sned", "send"), count("ab", "ba")], [0, 1, 1]);
    }
}
