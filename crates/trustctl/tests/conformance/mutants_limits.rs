//! Servers that let one client take what others need, and that wait too long or not long enough: limits, timing.

use std::time::Duration;

use super::conduct::{Bugs, NO_BUGS};
use super::lapses::{self, Ended};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::{MUTANT, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "charges-declared-lengths",
        // However long it is waited for, nobody is ended meanwhile and makes room.
        behaviour: Behaviour {
            no_timeout: true,
            ..conduct(Bugs { declared_max: Some(1024 * 1024), ..NO_BUGS })
        },
        alone: true,
        fails: &["limits/1", "limits/7"],
        ..MUTANT
    },
    Mutant {
        name: "reads-a-message-to-its-end",
        behaviour: conduct(Bugs { one_message_at_a_time: true, ..NO_BUGS }),
        alone: true,
        fails: &["limits/2", "limits/7", "recovery/7"],
        ..MUTANT
    },
    Mutant {
        name: "sends-an-answer-to-its-end",
        behaviour: conduct(Bugs { one_send_at_a_time: true, no_send_timeout: true, ..NO_BUGS }),
        alone: true,
        fails: &["limits/3"],
        ..MUTANT
    },
    Mutant {
        name: "dies-without-descriptors",
        behaviour: conduct(Bugs { accepts_at_most: Some(80), ..NO_BUGS }),
        alone: true,
        fails: &["limits/4"],
        ..MUTANT
    },
    Mutant {
        name: "has-few-workers",
        // However long it is waited for, nobody is ended meanwhile and makes room.
        behaviour: Behaviour { no_timeout: true, ..conduct(Bugs { workers: Some(32), ..NO_BUGS }) },
        alone: true,
        fails: &["limits/1", "limits/5", "recovery/6"],
        ..MUTANT
    },
    Mutant {
        name: "idle-for-ever",
        behaviour: conduct(Bugs { no_timeout_outside: true, ..NO_BUGS }),
        fails: &["timing/1", "timing/7", "timing/9", "timing/11"],
        ..MUTANT
    },
    Mutant {
        name: "unfinished-for-ever",
        behaviour: conduct(Bugs { no_timeout_inside: true, ..NO_BUGS }),
        fails: &["timing/2", "timing/3", "timing/11"],
        also: &["framing/15"],
        ..MUTANT
    },
    Mutant {
        name: "silent-for-ever",
        behaviour: conduct(Bugs { no_first_timeout: true, ..NO_BUGS }),
        fails: &["timing/9"],
        ..MUTANT
    },
    Mutant {
        name: "ends-idle-clients-early",
        behaviour: conduct(Bugs { timeout: Some(Duration::from_millis(700)), ..NO_BUGS }),
        fails: &["timing/1", "timing/2", "timing/3", "timing/7", "timing/9", "timing/11"],
        ..MUTANT
    },
    Mutant {
        name: "timeout-of-the-whole-connection",
        behaviour: conduct(Bugs { timeout_of_the_whole: true, ..NO_BUGS }),
        fails: &["timing/5"],
        says: &[("timing/4", "a message has a time limit of its own")],
        also: &["timing/10"],
        ..MUTANT
    },
    Mutant {
        name: "delays-small-answers",
        behaviour: Behaviour {
            exact: true,
            ..conduct(Bugs { delays_small_answers: true, ..NO_BUGS })
        },
        warns: &["timing/6"],
        ..MUTANT
    },
    Mutant {
        name: "timeout-aborts",
        behaviour: conduct(Bugs { timeout_aborts: true, ..NO_BUGS }),
        warns: &["timing/7"],
        ..MUTANT
    },
    Mutant {
        name: "sends-for-ever",
        behaviour: conduct(Bugs { no_send_timeout: true, ..NO_BUGS }),
        fails: &["timing/8"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-timers-of-the-broken",
        behaviour: stale(Ended::Broken),
        // Beside other cases it depends on the moment who gets which descriptor.
        alone: true,
        fails: &["timing/10"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-timers-of-those-that-left",
        behaviour: stale(Ended::InOrder),
        alone: true,
        fails: &["timing/10"],
        ..MUTANT
    },
];

const fn stale(ended: Ended) -> Behaviour {
    Behaviour { lapses: lapses::Bugs { timer_stays: Some(ended), ..lapses::NO_BUGS }, ..HEALTHY }
}

const fn conduct(conduct: Bugs) -> Behaviour {
    Behaviour { conduct, ..HEALTHY }
}
