//! The cases, a file a group. An id never changes and is never used again.

pub mod closing;
mod cuts;
pub mod effect;
pub mod framing;
pub mod greeting;
pub mod half_close;
pub mod limits;
pub mod partial;
pub mod pipelining;
pub mod recovery;
pub mod resources;
pub mod timing;
pub mod upgrade;

use crate::case::Case;

/// Cases that take long: half a second or more against a server that is right.
pub const SLOW: &[&str] = &[
    "timing/*",
    "limits/*",
    "resources/*",
    "partial/8",
    "partial/9",
    "partial/12",
    "pipelining/8",
    "pipelining/9",
    "pipelining/14",
    "closing/8",
    "effect/2",
    "recovery/3",
    "recovery/5",
    "recovery/6",
    "recovery/8",
    "recovery/10",
    "recovery/11",
];

/// What the cases of a group do to a server, with one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Connections.
    pub connections: usize,
    /// Connections that are reset.
    pub resets: usize,
    /// Requests that come in pieces, or of which the rest never comes.
    pub pieces: usize,
}

/// The effort of each group, as counted from transcripts and rounded up.
const EFFORTS: [(&str, [usize; 3]); 11] = [
    ("framing", [12, 0, 2]),
    ("partial", [100, 0, 100]),
    ("pipelining", [10, 0, 2]),
    ("closing", [60, 25, 5]),
    ("half-close", [10, 0, 2]),
    ("effect", [160, 32, 64]),
    ("greeting", [5, 0, 0]),
    ("upgrade", [8, 0, 1]),
    ("limits", [300, 0, 20]),
    ("timing", [40, 4, 20]),
    ("recovery", [250, 50, 50]),
];

/// The most that these cases do to a server with that number of exchanges.
pub fn effort<'c>(cases: impl Iterator<Item = &'c Case> + Clone, exchanges: usize) -> Effort {
    // Each exchange is learned from three copies, on connections of their own.
    let mut all = Effort { connections: 3 * exchanges, ..Effort::default() };
    for (group, [connections, resets, pieces]) in EFFORTS {
        if cases.clone().any(|case| case.group() == group) {
            let is_about_bytes =
                matches!(group, "framing" | "partial" | "pipelining" | "closing" | "half-close");
            let times = if is_about_bytes { exchanges } else { 1 };
            all.connections += times * connections;
            all.resets += times * resets;
            all.pieces += times * pieces;
        }
    }
    all
}

/// Cases that take what a server has, and may take it from others.
pub const HEAVY: &[&str] = &["limits/*", "resources/*"];

/// All groups in the order in which they run: the simplest first, and those that may bring a server
/// down last.
pub const GROUPS: &[&[Case]] = &[
    framing::CASES,
    partial::CASES,
    pipelining::CASES,
    closing::CASES,
    half_close::CASES,
    effect::CASES,
    greeting::CASES,
    upgrade::CASES,
    limits::CASES,
    timing::CASES,
    recovery::CASES,
    resources::CASES,
];

/// All cases.
pub fn all() -> impl Iterator<Item = &'static Case> + Clone {
    GROUPS.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{TCP_ALONE, matches};
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
    fn the_effort_is_that_of_the_groups_that_are_tried() {
        let partial = all().filter(|case| case.group() == "partial");
        let effort = effort(partial, 2);
        assert_eq!(effort, Effort { connections: 206, resets: 0, pieces: 200 });
        for (name, _) in EFFORTS {
            assert!(all().any(|case| case.group() == name), "there is no group {name}");
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
