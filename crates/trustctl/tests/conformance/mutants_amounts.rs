//! Servers that are right with small amounts and wrong with large ones: messages, receives,
//! answers, bytes.

use super::amounts::Bug::{self, *};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::Mutant;
use super::owing::{self, Full, Place};

pub(crate) const MUTANTS: &[Mutant] = &[
    amounts("answers-1024-messages-of-a-receive", AnswersMax(1024))
        .fails("pipelining/11")
        .also("pipelining/12"),
    amounts("fails-with-more-parts-than-iov-max", PartsMax(1024))
        .fails("pipelining/11")
        .also("pipelining/12"),
    amounts("ends-after-1000-messages", MessagesMax(1000))
        .fails("pipelining/12 pipelining/13")
        .also("pipelining/*"),
    amounts("ends-after-1000-receives", ReceivesMax(1000))
        .fails("pipelining/13")
        .also("partial/12 pipelining/14"),
    amounts("counts-messages-in-16-bits", LosesMessage(1 << 16)).fails("pipelining/12"),
    amounts("wrong-from-message-10000", WrongFrom(10_000)).fails("pipelining/12"),
    amounts("refuses-more-than-200-receives", ReceivesInsideMax(200)).fails("partial/12"),
    amounts("counts-receives-in-8-bits", ForgetsAfterReceives(256)).fails("partial/12"),
    amounts("loses-messages-of-65535-bytes", LosesFramesOf(65_535))
        .fails("framing/19")
        .also("framing/13"),
    // Other cases repeat a message too, and timing decides what a receive returns.
    amounts("drops-repetitions", DropsRepetitions)
        .fails("pipelining/15")
        .also("pipelining/* closing/13 recovery/10"),
    amounts("full-segment-means-more", FullSegmentMeansMore)
        .fails("framing/19")
        .also("framing/13 pipelining/* half-close/* closing/13 recovery/10 limits/6"),
    Mutant::of(
        "closes-unread-behind-large-answers",
        Behaviour { closes_unread_behind_large: true, ..HEALTHY },
    )
    .warns("closing/13"),
    owing(
        "drops-what-is-owed-at-a-refusal",
        owing::Bugs { refusal_drops_the_rest: true, ..owing::NO_BUGS },
    )
    .fails("closing/13"),
    owing(
        "stays-stopped-when-the-kernel-has-room",
        owing::Bugs { stays_stopped: Some(Full::Kernel), ..owing::NO_BUGS },
    )
    .fails("pipelining/14")
    .also("pipelining/7 pipelining/8 pipelining/9 half-close/3 recovery/10"),
    owing(
        "stays-stopped-when-the-queue-has-room",
        owing::Bugs { stays_stopped: Some(Full::Queue), ..owing::NO_BUGS },
    )
    .fails("pipelining/14")
    .also("pipelining/7 pipelining/8 pipelining/9 half-close/3 recovery/10"),
    // With other cases running, timing decides which client is owed answers.
    owing("mixes-owed-answers", owing::Bugs { place: Some(Place::Buffer), ..owing::NO_BUGS })
        .alone()
        .fails("recovery/10"),
    owing("owes-to-one-client", owing::Bugs { place: Some(Place::Slot), ..owing::NO_BUGS })
        .alone()
        .fails("recovery/10"),
];

const fn amounts(name: &'static str, bug: Bug) -> Mutant {
    Mutant::of(name, Behaviour { amounts: Some(bug), ..HEALTHY })
}

const fn owing(name: &'static str, owing: owing::Bugs) -> Mutant {
    Mutant::of(name, Behaviour { owing, ..HEALTHY })
}
