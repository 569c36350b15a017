//! Servers that keep something of every client that has gone.

use super::keeps::Keeps;
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::{MUTANT, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "dies-of-a-broken-connection",
        behaviour: keeping(Keeps::Nothing),
        fails: &["resources/1"],
        // Whoever comes next finds nobody, so it may be any of them.
        also: &["*"],
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
        fails: &["resources/3"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-the-connection",
        behaviour: keeping(Keeps::Connection),
        fails: &["resources/2", "resources/4"],
        // Its FIN never comes.
        also: &["*"],
        ..MUTANT
    },
    Mutant {
        name: "asks-broken-connections",
        behaviour: keeping(Keeps::Asking),
        fails: &["resources/5"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-children",
        behaviour: keeping(Keeps::Child),
        fails: &["resources/6"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-threads",
        behaviour: keeping(Keeps::Thread),
        fails: &["resources/7"],
        // A thread's stack is a little memory too.
        also: &["resources/3"],
        ..MUTANT
    },
];

const fn keeping(keeps: Keeps) -> Behaviour {
    Behaviour { keeps: Some(keeps), ..HEALTHY }
}
