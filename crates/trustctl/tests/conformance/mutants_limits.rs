//! Servers that let one client take what others need, and that wait too long or not long enough: limits, timing.

use std::time::Duration;

use super::conduct::{Bugs, NO_BUGS};
use super::lapses::{self, Ended};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[
    // However long it is waited for, nobody is ended meanwhile and makes room.
    conduct("charges-declared-lengths", Bugs { declared_max: Some(1024 * 1024), ..NO_BUGS })
        .without_timeout()
        .alone()
        .fails("limits/1 limits/7"),
    conduct("reads-a-message-to-its-end", Bugs { one_message_at_a_time: true, ..NO_BUGS })
        .alone()
        .fails("limits/2 limits/7 recovery/7"),
    conduct(
        "sends-an-answer-to-its-end",
        Bugs { one_send_at_a_time: true, no_send_timeout: true, ..NO_BUGS },
    )
    .alone()
    .fails("limits/3"),
    conduct("dies-without-descriptors", Bugs { accepts_at_most: Some(80), ..NO_BUGS })
        .alone()
        .fails("limits/4"),
    // However long it is waited for, nobody is ended meanwhile and makes room.
    conduct("has-few-workers", Bugs { workers: Some(32), ..NO_BUGS })
        .without_timeout()
        .alone()
        .fails("limits/1 limits/5 recovery/6"),
    conduct("idle-for-ever", Bugs { no_timeout_outside: true, ..NO_BUGS })
        .fails("timing/1 timing/7 timing/9 timing/11"),
    conduct("unfinished-for-ever", Bugs { no_timeout_inside: true, ..NO_BUGS })
        .fails("timing/2 timing/3 timing/11")
        .also("framing/15"),
    conduct("silent-for-ever", Bugs { no_first_timeout: true, ..NO_BUGS }).fails("timing/9"),
    conduct(
        "ends-idle-clients-early",
        Bugs { timeout: Some(Duration::from_millis(700)), ..NO_BUGS },
    )
    .fails("timing/1 timing/2 timing/3 timing/7 timing/9 timing/11"),
    conduct("timeout-of-the-whole-connection", Bugs { timeout_of_the_whole: true, ..NO_BUGS })
        .fails("timing/5")
        .also("timing/10")
        .says("timing/4", "a message has a time limit of its own"),
    conduct("delays-small-answers", Bugs { delays_small_answers: true, ..NO_BUGS })
        .exact()
        .warns("timing/6"),
    conduct("timeout-aborts", Bugs { timeout_aborts: true, ..NO_BUGS }).warns("timing/7"),
    conduct("sends-for-ever", Bugs { no_send_timeout: true, ..NO_BUGS }).fails("timing/8"),
    // Beside other cases it depends on the moment who gets which descriptor.
    stale("keeps-timers-of-the-broken", Ended::Broken).alone().fails("timing/10"),
    stale("keeps-timers-of-those-that-left", Ended::InOrder).alone().fails("timing/10"),
];

const fn stale(name: &'static str, ended: Ended) -> Mutant {
    Mutant::of(
        name,
        Behaviour {
            lapses: lapses::Bugs { timer_stays: Some(ended), ..lapses::NO_BUGS },
            ..HEALTHY
        },
    )
}

const fn conduct(name: &'static str, conduct: Bugs) -> Mutant {
    Mutant::of(name, Behaviour { conduct, ..HEALTHY })
}
