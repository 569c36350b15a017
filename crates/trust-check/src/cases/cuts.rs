//! Places at which a request is cut.

use std::ops::Range;

use trust_cli::text::grouped;

/// Every place, or as many of them as that.
pub(super) fn cuts_at_most(most: usize, places: Range<usize>) -> impl Iterator<Item = usize> {
    let count = places.len().clamp(2, most);
    let (first, span) = (places.start, places.len().saturating_sub(1));
    let all = places.len() <= most;
    let spread =
        move |index: usize| if all { first + index } else { first + index * span / (count - 1) };
    (0..count.min(places.len())).map(spread)
}

/// `bytes 1 to 3, 7, 9 to 12`
pub(super) fn ranges(at: &[usize]) -> String {
    let runs = at.chunk_by(|one, next| one + 1 == *next).map(|run| match run {
        [one] => grouped(*one as u64),
        run => format!("{} to {}", grouped(run[0] as u64), grouped(run[run.len() - 1] as u64)),
    });
    let list: Vec<String> = runs.collect();
    format!("{} {}", if at.len() == 1 { "byte" } else { "bytes" }, list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_row_are_told_as_a_range() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "bytes 1 to 3, 7, 9 to 10");
        assert_eq!(ranges(&[4]), "byte 4");
    }
}
