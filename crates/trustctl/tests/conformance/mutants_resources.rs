//! Servers that keep something of every client that has gone.

use super::input;
use super::keeps::Keeps;
use super::lapses::{self, Silent};
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
        also: &["resources/10"],
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
    Mutant {
        name: "keeps-a-descriptor-of-the-idle",
        behaviour: Behaviour { keeps_of_idle: Some(Keeps::Descriptor), ..HEALTHY },
        alone: true,
        fails: &["resources/10"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-memory-of-the-idle",
        behaviour: Behaviour { keeps_of_idle: Some(Keeps::Memory), ..HEALTHY },
        alone: true,
        fails: &["resources/10"],
        ..MUTANT
    },
    Mutant {
        name: "fills-its-buffer-to-the-declared-length",
        max_frame: DECLARED_MAX,
        behaviour: Behaviour { framing: TOUCHES, ..HEALTHY },
        alone: true,
        fails: &["resources/8"],
        ..MUTANT
    },
    Mutant {
        name: "makes-payloads-of-ones",
        max_frame: DECLARED_MAX,
        behaviour: Behaviour { framing: TOUCHES, exact: true, ..HEALTHY },
        alone: true,
        fails: &["resources/8"],
        ..MUTANT
    },
    Mutant {
        name: "asks-for-the-rest-of-a-header",
        behaviour: asking(Silent::InAHeader),
        alone: true,
        fails: &["resources/9"],
        ..MUTANT
    },
    Mutant {
        name: "asks-for-the-rest-of-a-payload",
        behaviour: asking(Silent::InAPayload),
        alone: true,
        fails: &["resources/9"],
        ..MUTANT
    },
];

/// So much that memory for a few of the longest messages is seen.
const DECLARED_MAX: u64 = 16 << 20;

const TOUCHES: input::Bugs = input::Bugs { touches_declared: true, ..input::NO_BUGS };

const fn asking(silent: Silent) -> Behaviour {
    Behaviour { lapses: lapses::Bugs { asks: Some(silent), ..lapses::NO_BUGS }, ..HEALTHY }
}

const fn keeping(keeps: Keeps) -> Behaviour {
    Behaviour { keeps: Some(keeps), ..HEALTHY }
}
