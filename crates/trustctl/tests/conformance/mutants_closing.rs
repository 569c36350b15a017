//! Servers that end connections wrongly: closing, half-close, recovery.

use super::conduct::{Bugs, NO_BUGS};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::{MUTANT, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "ignores-fin",
        behaviour: conduct(Bugs { fin_is_ignored: true, ..NO_BUGS }),
        fails: &["closing/1", "closing/2", "closing/3", "closing/11", "half-close/6"],
        also: &["half-close/*"],
        ..MUTANT
    },
    Mutant {
        name: "fin-waits-for-timeout",
        behaviour: conduct(Bugs { fin_waits_for_timeout: true, ..NO_BUGS }),
        fails: &["closing/1", "closing/11"],
        also: &["closing/*", "half-close/*"],
        ..MUTANT
    },
    Mutant {
        name: "waits-for-the-rest-after-fin",
        behaviour: conduct(Bugs { fin_inside_is_ignored: true, ..NO_BUGS }),
        fails: &["closing/2", "closing/3", "half-close/5"],
        ..MUTANT
    },
    Mutant {
        name: "waits-for-a-message-after-fin",
        behaviour: conduct(Bugs { first_fin_is_ignored: true, ..NO_BUGS }),
        fails: &["half-close/6"],
        ..MUTANT
    },
    Mutant {
        name: "echoes-the-part",
        behaviour: conduct(Bugs { part_is_echoed: true, ..NO_BUGS }),
        fails: &["closing/2", "closing/3", "half-close/5"],
        ..MUTANT
    },
    Mutant {
        name: "half-close-is-close",
        behaviour: conduct(Bugs { half_close_is_close: true, ..NO_BUGS }),
        fails: &["half-close/1", "half-close/2", "half-close/4", "half-close/5"],
        also: &["half-close/3"],
        ..MUTANT
    },
    Mutant {
        name: "fin-is-aborted",
        behaviour: conduct(Bugs { fin_is_aborted: true, ..NO_BUGS }),
        fails: &["half-close/3"],
        warns: &["closing/1", "closing/11"],
        ..MUTANT
    },
    Mutant {
        name: "stays-open-after-refusal",
        behaviour: conduct(Bugs { refusal_is_ignored: true, ..NO_BUGS }),
        fails: &["framing/6", "closing/4", "closing/12"],
        also: &["framing/*", "closing/13"],
        ..MUTANT
    },
    Mutant {
        name: "closes-unread",
        behaviour: Behaviour { closes_unread: true, ..HEALTHY },
        warns: &["closing/4", "closing/12", "closing/13"],
        ..MUTANT
    },
    Mutant {
        name: "dies-of-a-reset",
        behaviour: conduct(Bugs { failed_receive_is_fatal: true, ..NO_BUGS }),
        alone: true,
        fails: &["closing/5", "closing/6", "closing/7", "recovery/8", "recovery/9"],
        ..MUTANT
    },
    Mutant {
        name: "dies-of-a-failed-send",
        behaviour: conduct(Bugs { failed_send_is_fatal: true, ..NO_BUGS }),
        alone: true,
        fails: &["closing/8", "recovery/4"],
        ..MUTANT
    },
    Mutant {
        name: "expects-an-address",
        behaviour: conduct(Bugs { expects_an_address: true, ..NO_BUGS }),
        alone: true,
        fails: &["closing/9"],
        ..MUTANT
    },
    Mutant {
        name: "expects-a-byte",
        behaviour: conduct(Bugs { expects_a_byte: true, ..NO_BUGS }),
        alone: true,
        fails: &["closing/10"],
        ..MUTANT
    },
    Mutant {
        name: "dies-of-a-refused-length",
        behaviour: conduct(Bugs { refusal_is_fatal: true, ..NO_BUGS }),
        alone: true,
        fails: &["framing/6", "recovery/2", "recovery/3", "recovery/9"],
        ..MUTANT
    },
    Mutant {
        name: "leaves-a-part-to-the-next",
        behaviour: conduct(Bugs { leaves_a_part: true, ..NO_BUGS }),
        alone: true,
        fails: &["closing/6", "closing/7", "recovery/1", "recovery/8", "recovery/9"],
        ..MUTANT
    },
    Mutant {
        name: "has-one-buffer-for-parts",
        behaviour: conduct(Bugs { one_part_buffer: true, ..NO_BUGS }),
        alone: true,
        fails: &["recovery/7"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-all-places",
        behaviour: conduct(Bugs { workers: Some(64), all_keep_their_place: true, ..NO_BUGS }),
        alone: true,
        fails: &["recovery/5"],
        ..MUTANT
    },
    Mutant {
        name: "keeps-places-of-the-broken",
        behaviour: conduct(Bugs { workers: Some(16), broken_keep_their_place: true, ..NO_BUGS }),
        alone: true,
        fails: &["recovery/8"],
        ..MUTANT
    },
    Mutant {
        name: "mixes-answers",
        behaviour: conduct(Bugs { one_answer_buffer: true, ..NO_BUGS }),
        alone: true,
        fails: &["recovery/6"],
        ..MUTANT
    },
];

const fn conduct(conduct: Bugs) -> Behaviour {
    Behaviour { conduct, ..HEALTHY }
}
