//! Servers that keep something of every client that has left.

use super::input::Bug;
use super::keeps::Keeps;
use super::lapses::{self, Silent};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[
    // Later clients find no server.
    keeping("dies-of-a-broken-connection", Keeps::Nothing).alone().fails("resources/1"),
    keeping("keeps-a-descriptor", Keeps::Descriptor).fails("resources/2").also("resources/10"),
    keeping("keeps-memory", Keeps::Memory).alone().fails("resources/3"),
    // Its FIN never comes, which other cases see too.
    keeping("keeps-the-connection", Keeps::Connection).alone().fails("resources/2 resources/4"),
    keeping("asks-broken-connections", Keeps::Asking).alone().fails("resources/5"),
    keeping("keeps-children", Keeps::Child).alone().fails("resources/6"),
    keeping("keeps-threads", Keeps::Thread).alone().fails("resources/7"),
    Mutant::of(
        "keeps-a-descriptor-of-the-idle",
        Behaviour { keeps_of_idle: Some(Keeps::Descriptor), ..HEALTHY },
    )
    .alone()
    .fails("resources/10"),
    Mutant::of(
        "keeps-memory-of-the-idle",
        Behaviour { keeps_of_idle: Some(Keeps::Memory), ..HEALTHY },
    )
    .alone()
    .fails("resources/10"),
    Mutant::of(
        "fills-its-buffer-to-the-declared-length",
        Behaviour { framing: TOUCHES, ..HEALTHY },
    )
    .longest(DECLARED_MAX)
    .alone()
    .fails("resources/8"),
    Mutant::of("makes-payloads-of-ones", Behaviour { framing: TOUCHES, exact: true, ..HEALTHY })
        .longest(DECLARED_MAX)
        .alone()
        .fails("resources/8"),
    asking("asks-for-the-rest-of-a-header", Silent::InAHeader).alone().fails("resources/9"),
    asking("asks-for-the-rest-of-a-payload", Silent::InAPayload).alone().fails("resources/9"),
];

/// Enough that the memory for a few of the longest messages is noticed.
const DECLARED_MAX: u64 = 16 << 20;

const TOUCHES: Option<Bug> = Some(Bug::TouchesDeclared);

const fn asking(name: &'static str, silent: Silent) -> Mutant {
    Mutant::of(
        name,
        Behaviour { lapses: lapses::Bugs { asks: Some(silent), ..lapses::NO_BUGS }, ..HEALTHY },
    )
}

const fn keeping(name: &'static str, keeps: Keeps) -> Mutant {
    Mutant::of(name, Behaviour { keeps: Some(keeps), ..HEALTHY })
}
