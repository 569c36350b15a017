//! The cases, a file a group. An id never changes and is never used again.

pub mod closing;
pub mod framing;
pub mod half_close;
pub mod limits;
pub mod partial;
pub mod pipelining;
pub mod recovery;
pub mod resources;
pub mod timing;

use crate::case::Case;

/// All groups in the order in which they run: the simplest first, and those that may bring a server
/// down last.
pub const GROUPS: &[&[Case]] = &[
    framing::CASES,
    partial::CASES,
    pipelining::CASES,
    closing::CASES,
    half_close::CASES,
    limits::CASES,
    timing::CASES,
    recovery::CASES,
    resources::CASES,
];

/// All cases.
pub fn all() -> impl Iterator<Item = &'static Case> {
    GROUPS.iter().copied().flatten()
}

/// Whether the pattern matches the id: it is that id, or has `*` for any characters.
pub fn matches(pattern: &str, id: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == id,
        Some((before, after)) => id.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .any(|skipped| rest.is_char_boundary(skipped) && matches(after, &rest[skipped..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::TCP_ALONE;
    use std::collections::HashSet;

    #[test]
    fn every_case_has_an_id_of_its_own_and_says_what_it_is_for() {
        let mut seen = HashSet::new();
        for group in GROUPS {
            let name = group[0].group();
            let mut last = 0;
            for case in *group {
                assert!(seen.insert(case.id), "{} is there twice", case.id);
                assert_eq!(case.group(), name);
                let number: u32 = case.id[name.len() + 1..].parse().unwrap();
                assert!(number > last, "{} is out of order", case.id);
                last = number;
                for text in [case.title, case.requirement, case.source, case.bug] {
                    assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text:?}", case.id);
                }
            }
        }
    }

    #[test]
    fn every_case_that_needs_tcp_is_one() {
        for (id, _) in TCP_ALONE {
            assert!(all().any(|case| case.id == *id), "there is no case {id}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(matches("closing/*", "closing/4"));
        assert!(matches("*", "closing/4") && matches("c*/4", "closing/4"));
        assert!(matches("closing/4", "closing/4"));
        assert!(!matches("closing/*", "half-close/4") && !matches("closing/4", "closing/40"));
    }
}
