//! Servers that are right in small amounts and wrong in large ones: messages, receives, answers, bytes.

use super::amounts::{Bugs, NO_BUGS};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::Mutant;
use super::owing::{self, Full, Place};

pub(crate) const MUTANTS: &[Mutant] = &[
    amounts("answers-1024-messages-of-a-receive", Bugs { answers_max: Some(1024), ..NO_BUGS })
        .fails("pipelining/11")
        .also("pipelining/12"),
    amounts("fails-with-more-parts-than-iov-max", Bugs { parts_max: Some(1024), ..NO_BUGS })
        .fails("pipelining/11")
        .also("pipelining/12"),
    amounts("ends-after-1000-messages", Bugs { messages_max: Some(1000), ..NO_BUGS })
        .fails("pipelining/12 pipelining/13")
        .also("pipelining/*"),
    amounts("ends-after-1000-receives", Bugs { receives_max: Some(1000), ..NO_BUGS })
        .fails("pipelining/13")
        .also("partial/12 pipelining/14"),
    amounts("counts-messages-in-16-bits", Bugs { loses_message: Some(1 << 16), ..NO_BUGS })
        .fails("pipelining/12"),
    amounts("wrong-from-message-10000", Bugs { wrong_from: Some(10_000), ..NO_BUGS })
        .fails("pipelining/12"),
    amounts("refuses-more-than-200-receives", Bugs { receives_inside_max: Some(200), ..NO_BUGS })
        .fails("partial/12"),
    amounts("counts-receives-in-8-bits", Bugs { forgets_after_receives: Some(256), ..NO_BUGS })
        .fails("partial/12"),
    amounts("loses-messages-of-65535-bytes", Bugs { loses_frames_of: Some(65_535), ..NO_BUGS })
        .fails("framing/19")
        .also("framing/13"),
    // Others repeat a message too, and it depends on the moment what a receive brings.
    amounts("drops-repetitions", Bugs { drops_repetitions: true, ..NO_BUGS })
        .fails("pipelining/15")
        .also("pipelining/* closing/13 recovery/10"),
    amounts("full-segment-means-more", Bugs { full_segment_means_more: true, ..NO_BUGS })
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
    // Beside other cases it depends on the moment who owes.
    owing("mixes-owed-answers", owing::Bugs { place: Some(Place::Buffer), ..owing::NO_BUGS })
        .alone()
        .fails("recovery/10"),
    owing("owes-to-one-client", owing::Bugs { place: Some(Place::Slot), ..owing::NO_BUGS })
        .alone()
        .fails("recovery/10"),
];

const fn amounts(name: &'static str, amounts: Bugs) -> Mutant {
    Mutant::of(name, Behaviour { amounts, ..HEALTHY })
}

const fn owing(name: &'static str, owing: owing::Bugs) -> Mutant {
    Mutant::of(name, Behaviour { owing, ..HEALTHY })
}
