//! Servers that take a stream for messages: lengths, partial delivery, pipelining.

use super::input::{Bugs, NO_BUGS};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::{MUTANT, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "limit-is-exclusive",
        behaviour: bugs(Bugs { limit_is_exclusive: true, ..NO_BUGS }),
        fails: &["framing/4"],
        ..MUTANT
    },
    Mutant {
        name: "no-limit",
        behaviour: bugs(Bugs { no_limit: true, ..NO_BUGS }),
        fails: &["framing/6", "framing/7"],
        ..MUTANT
    },
    Mutant {
        name: "empty-is-the-end",
        behaviour: bugs(Bugs { empty_is_the_end: true, ..NO_BUGS }),
        fails: &["framing/2"],
        ..MUTANT
    },
];

const fn bugs(framing: Bugs) -> Behaviour {
    Behaviour { framing, ..HEALTHY }
}
