//! Servers that end connections wrongly: closing, half-close, recovery.

use super::conduct::{Bugs, NO_BUGS};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[
    conduct("ignores-fin", Bugs { fin_is_ignored: true, ..NO_BUGS })
        .fails("closing/1 closing/2 closing/3 closing/11 half-close/6")
        .also("half-close/*"),
    conduct("fin-waits-for-timeout", Bugs { fin_waits_for_timeout: true, ..NO_BUGS })
        .fails("closing/1 closing/11")
        .also("closing/* half-close/*"),
    conduct("waits-for-the-rest-after-fin", Bugs { fin_inside_is_ignored: true, ..NO_BUGS })
        .fails("closing/2 closing/3 half-close/5"),
    conduct("waits-for-a-message-after-fin", Bugs { first_fin_is_ignored: true, ..NO_BUGS })
        .fails("half-close/6"),
    conduct("echoes-the-part", Bugs { part_is_echoed: true, ..NO_BUGS })
        .fails("closing/2 closing/3 half-close/5"),
    conduct("half-close-is-close", Bugs { half_close_is_close: true, ..NO_BUGS })
        .fails("half-close/1 half-close/2 half-close/4 half-close/5")
        .also("half-close/3"),
    conduct("fin-is-aborted", Bugs { fin_is_aborted: true, ..NO_BUGS })
        .fails("half-close/3")
        .warns("closing/1 closing/11"),
    conduct("stays-open-after-refusal", Bugs { refusal_is_ignored: true, ..NO_BUGS })
        .fails("framing/6 closing/4 closing/12")
        .also("framing/* closing/13"),
    Mutant::of("closes-unread", Behaviour { closes_unread: true, ..HEALTHY })
        .warns("closing/4 closing/12 closing/13"),
    conduct("dies-of-a-reset", Bugs { failed_receive_is_fatal: true, ..NO_BUGS })
        .alone()
        .fails("closing/5 closing/6 closing/7 recovery/8 recovery/9"),
    conduct("dies-of-a-failed-send", Bugs { failed_send_is_fatal: true, ..NO_BUGS })
        .alone()
        .fails("closing/8 recovery/4"),
    conduct("expects-an-address", Bugs { expects_an_address: true, ..NO_BUGS })
        .alone()
        .fails("closing/9"),
    conduct("expects-a-byte", Bugs { expects_a_byte: true, ..NO_BUGS }).alone().fails("closing/10"),
    conduct("dies-of-a-refused-length", Bugs { refusal_is_fatal: true, ..NO_BUGS })
        .alone()
        .fails("framing/6 recovery/2 recovery/3 recovery/9"),
    conduct("leaves-a-part-to-the-next", Bugs { leaves_a_part: true, ..NO_BUGS })
        .alone()
        .fails("closing/6 closing/7 recovery/1 recovery/8 recovery/9"),
    conduct("has-one-buffer-for-parts", Bugs { one_part_buffer: true, ..NO_BUGS })
        .alone()
        .fails("recovery/7"),
    conduct("keeps-all-places", Bugs { workers: Some(64), all_keep_their_place: true, ..NO_BUGS })
        .alone()
        .fails("recovery/5"),
    conduct(
        "keeps-places-of-the-broken",
        Bugs { workers: Some(16), broken_keep_their_place: true, ..NO_BUGS },
    )
    .alone()
    .fails("recovery/8"),
    conduct("mixes-answers", Bugs { one_answer_buffer: true, ..NO_BUGS })
        .alone()
        .fails("recovery/6"),
];

const fn conduct(name: &'static str, conduct: Bugs) -> Mutant {
    Mutant::of(name, Behaviour { conduct, ..HEALTHY })
}
