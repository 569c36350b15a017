//! Servers that keep something of every client that has gone.

use super::keeps::Keeps;
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::{MUTANT, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "dies-of-a-broken-connection",
        behaviour: keeping(Keeps::Nothing),
        // Whoever comes next finds nobody.
        alone: true,
        fails: &["resources/1"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-a-descriptor",
        behaviour: keeping(Keeps::Descriptor),
        fails: &["resources/2"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-memory",
        behaviour: keeping(Keeps::Memory),
        alone: true,
        fails: &["resources/3"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-the-connection",
        behaviour: keeping(Keeps::Connection),
        // Its FIN never comes, which others see too.
        alone: true,
        fails: &["resources/2", "resources/4"],
        ..MUTANT
    },
    Mutant {
        name: "asks-broken-connections",
        behaviour: keeping(Keeps::Asking),
        alone: true,
        fails: &["resources/5"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-children",
        behaviour: keeping(Keeps::Child),
        alone: true,
        fails: &["resources/6"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-threads",
        behaviour: keeping(Keeps::Thread),
        alone: true,
        fails: &["resources/7"],
        ..MUTANT
    },
];

const fn keeping(keeps: Keeps) -> Behaviour {
    Behaviour { keeps: Some(keeps), ..HEALTHY }
}
