//! Servers that are right in small amounts and wrong in large ones: messages, receives, answers, bytes.

use super::amounts::{Bugs, NO_BUGS};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::{MUTANT, Mutant};
use super::owing::{self, Full, Place};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "answers-1024-messages-of-a-receive",
        behaviour: amounts(Bugs { answers_max: Some(1024), ..NO_BUGS }),
        fails: &["pipelining/11"],
        also: &["pipelining/12"],
        ..MUTANT
    },
    Mutant {
        name: "fails-with-more-parts-than-iov-max",
        behaviour: amounts(Bugs { parts_max: Some(1024), ..NO_BUGS }),
        fails: &["pipelining/11"],
        also: &["pipelining/12"],
        ..MUTANT
    },
    Mutant {
        name: "ends-after-1000-messages",
        behaviour: amounts(Bugs { messages_max: Some(1000), ..NO_BUGS }),
        fails: &["pipelining/12", "pipelining/13"],
        also: &["pipelining/*"],
        ..MUTANT
    },
    Mutant {
        name: "ends-after-1000-receives",
        behaviour: amounts(Bugs { receives_max: Some(1000), ..NO_BUGS }),
        fails: &["pipelining/13"],
        also: &["partial/12", "pipelining/14"],
        ..MUTANT
    },
    Mutant {
        name: "counts-messages-in-16-bits",
        behaviour: amounts(Bugs { loses_message: Some(1 << 16), ..NO_BUGS }),
        fails: &["pipelining/12"],
        ..MUTANT
    },
    Mutant {
        name: "wrong-from-message-10000",
        behaviour: amounts(Bugs { wrong_from: Some(10_000), ..NO_BUGS }),
        fails: &["pipelining/12"],
        ..MUTANT
    },
    Mutant {
        name: "refuses-more-than-200-receives",
        behaviour: amounts(Bugs { receives_inside_max: Some(200), ..NO_BUGS }),
        fails: &["partial/12"],
        ..MUTANT
    },
    Mutant {
        name: "counts-receives-in-8-bits",
        behaviour: amounts(Bugs { forgets_after_receives: Some(256), ..NO_BUGS }),
        fails: &["partial/12"],
        ..MUTANT
    },
    Mutant {
        name: "loses-messages-of-65535-bytes",
        behaviour: amounts(Bugs { loses_frames_of: Some(65_535), ..NO_BUGS }),
        fails: &["framing/19"],
        also: &["framing/13"],
        ..MUTANT
    },
    Mutant {
        name: "drops-repetitions",
        behaviour: amounts(Bugs { drops_repetitions: true, ..NO_BUGS }),
        fails: &["pipelining/15"],
        // Others repeat a message too, and it depends on the moment what a receive brings.
        also: &["pipelining/*", "closing/13", "recovery/10"],
        ..MUTANT
    },
    Mutant {
        name: "full-segment-means-more",
        behaviour: amounts(Bugs { full_segment_means_more: true, ..NO_BUGS }),
        fails: &["framing/19"],
        also: &[
            "framing/13",
            "pipelining/*",
            "half-close/*",
            "closing/13",
            "recovery/10",
            "limits/6",
        ],
        ..MUTANT
    },
    Mutant {
        name: "closes-unread-behind-large-answers",
        behaviour: Behaviour { closes_unread_behind_large: true, ..HEALTHY },
        warns: &["closing/13"],
        ..MUTANT
    },
    Mutant {
        name: "drops-what-is-owed-at-a-refusal",
        behaviour: owing(owing::Bugs { refusal_drops_the_rest: true, ..owing::NO_BUGS }),
        fails: &["closing/13"],
        ..MUTANT
    },
    Mutant {
        name: "stays-stopped-when-the-kernel-has-room",
        behaviour: owing(owing::Bugs { stays_stopped: Some(Full::Kernel), ..owing::NO_BUGS }),
        fails: &["pipelining/14"],
        also: &["pipelining/7", "pipelining/8", "pipelining/9", "half-close/3", "recovery/10"],
        ..MUTANT
    },
    Mutant {
        name: "stays-stopped-when-the-queue-has-room",
        behaviour: owing(owing::Bugs { stays_stopped: Some(Full::Queue), ..owing::NO_BUGS }),
        fails: &["pipelining/14"],
        also: &["pipelining/7", "pipelining/8", "pipelining/9", "half-close/3", "recovery/10"],
        ..MUTANT
    },
    Mutant {
        name: "mixes-owed-answers",
        behaviour: owing(owing::Bugs { place: Some(Place::Buffer), ..owing::NO_BUGS }),
        // Beside other cases it depends on the moment who owes.
        alone: true,
        fails: &["recovery/10"],
        ..MUTANT
    },
    Mutant {
        name: "owes-to-one-client",
        behaviour: owing(owing::Bugs { place: Some(Place::Slot), ..owing::NO_BUGS }),
        alone: true,
        fails: &["recovery/10"],
        ..MUTANT
    },
];

const fn amounts(amounts: Bugs) -> Behaviour {
    Behaviour { amounts, ..HEALTHY }
}

const fn owing(owing: owing::Bugs) -> Behaviour {
    Behaviour { owing, ..HEALTHY }
}
