//! Servers that let one client take what others need, or that wait too long or too briefly: limits,
//! timing.

use std::time::Duration;

use super::conduct::Bug::{self, *};
use super::lapses::{self, Ended};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[
    // Without a timeout, so that no client is ended during the wait, which would make room.
    conduct("charges-declared-lengths", DeclaredMax(1024 * 1024))
        .without_timeout()
        .alone()
        .fails("limits/1 limits/7"),
    conduct("reads-a-message-to-its-end", OneMessageAtATime)
        .alone()
        .fails("limits/2 limits/7 recovery/7"),
    conduct("sends-an-answer-to-its-end", OneSendAtATime).alone().fails("limits/3"),
    conduct("dies-without-descriptors", AcceptsAtMost(80)).alone().fails("limits/4"),
    // Without a timeout, so that no client is ended during the wait, which would make room.
    conduct("has-few-workers", FewWorkers(32))
        .without_timeout()
        .alone()
        .fails("limits/1 limits/5 recovery/6"),
    conduct("idle-for-ever", NoTimeoutOutside).fails("timing/1 timing/7 timing/9 timing/11"),
    conduct("unfinished-for-ever", NoTimeoutInside)
        .fails("timing/2 timing/3 timing/11")
        .also("framing/15"),
    conduct("silent-for-ever", NoFirstTimeout).fails("timing/9"),
    conduct("ends-idle-clients-early", Timeout(Duration::from_millis(700)))
        .fails("timing/1 timing/2 timing/3 timing/7 timing/9 timing/11"),
    conduct("timeout-of-the-whole-connection", TimeoutOfTheWhole)
        .fails("timing/5")
        .also("timing/10")
        .says("timing/4", "a message has a time limit of its own"),
    conduct("delays-small-answers", DelaysSmallAnswers).exact().warns("timing/6"),
    conduct("timeout-aborts", TimeoutAborts).warns("timing/7"),
    conduct("sends-for-ever", NoSendTimeout).fails("timing/8"),
    // With other cases running, timing decides which client gets which descriptor.
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

const fn conduct(name: &'static str, bug: Bug) -> Mutant {
    Mutant::of(name, Behaviour { conduct: Some(bug), ..HEALTHY })
}
