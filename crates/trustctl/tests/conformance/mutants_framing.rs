//! Servers that take a stream for messages: lengths, partial delivery, pipelining.
//!
//! Whole groups stand in `also` where it depends on the moment what a receive brings.

use std::time::Duration;

use super::input::{Bugs, NO_BUGS};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::{MUTANT, Mutant};

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "speaks-little-endian",
        speaks: Some("u32le"),
        behaviour: HEALTHY,
        fails: &["framing/1"],
        ..MUTANT
    },
    Mutant {
        name: "adds-a-newline",
        behaviour: bugs(Bugs { adds_a_newline: true, ..NO_BUGS }),
        fails: &["framing/1"],
        ..MUTANT
    },
    Mutant {
        name: "empty-is-the-end",
        behaviour: bugs(Bugs { empty_is_the_end: true, ..NO_BUGS }),
        fails: &["framing/2", "pipelining/4"],
        also: &["framing/13", "pipelining/5", "pipelining/11", "pipelining/12"],
        ..MUTANT
    },
    Mutant {
        name: "drops-single-bytes",
        behaviour: bugs(Bugs { drops_single_bytes: true, ..NO_BUGS }),
        fails: &["framing/3"],
        also: &["framing/13", "partial/2", "pipelining/5", "pipelining/12"],
        ..MUTANT
    },
    Mutant {
        name: "limit-is-exclusive",
        behaviour: bugs(Bugs { limit_is_exclusive: true, ..NO_BUGS }),
        fails: &["framing/4"],
        also: &[
            "framing/12",
            "framing/13",
            "partial/9",
            "pipelining/7",
            "pipelining/8",
            "pipelining/9",
            "half-close/3",
        ],
        ..MUTANT
    },
    Mutant {
        name: "limit-counts-header",
        behaviour: bugs(Bugs { limit_counts_header: true, ..NO_BUGS }),
        fails: &["framing/4", "framing/5"],
        also: &[
            "framing/12",
            "framing/13",
            "partial/9",
            "pipelining/7",
            "pipelining/8",
            "pipelining/9",
            "half-close/3",
            "framing/19",
        ],
        ..MUTANT
    },
    Mutant {
        name: "limit-is-one-more",
        behaviour: bugs(Bugs { limit_is_one_more: true, ..NO_BUGS }),
        fails: &["framing/6"],
        also: &["framing/16", "framing/17", "framing/18", "closing/4", "closing/12", "closing/13"],
        ..MUTANT
    },
    Mutant {
        name: "no-limit",
        behaviour: bugs(Bugs { no_limit: true, ..NO_BUGS }),
        fails: &["framing/6", "framing/7", "framing/8"],
        also: &[
            "framing/9",
            "framing/15",
            "framing/16",
            "framing/17",
            "framing/18",
            "closing/4",
            "closing/12",
            "closing/13",
        ],
        ..MUTANT
    },
    Mutant {
        name: "length-is-signed",
        behaviour: bugs(Bugs { length_is_signed: true, ..NO_BUGS }),
        fails: &["framing/7", "framing/8"],
        ..MUTANT
    },
    Mutant {
        name: "all-ones-is-nothing",
        behaviour: bugs(Bugs { all_ones_is_nothing: true, ..NO_BUGS }),
        fails: &["framing/8"],
        ..MUTANT
    },
    Mutant {
        name: "guesses-byte-order",
        behaviour: bugs(Bugs { guesses_byte_order: true, ..NO_BUGS }),
        fails: &["framing/9"],
        also: &["framing/7"],
        ..MUTANT
    },
    Mutant {
        name: "decodes-twice",
        behaviour: bugs(Bugs { decodes_twice: true, ..NO_BUGS }),
        fails: &["framing/10"],
        ..MUTANT
    },
    Mutant {
        name: "trims",
        behaviour: bugs(Bugs { trims: true, ..NO_BUGS }),
        fails: &["framing/11"],
        also: &[
            "framing/12",
            "framing/13",
            "framing/16",
            "pipelining/2",
            "pipelining/6",
            "pipelining/7",
            "*",
        ],
        ..MUTANT
    },
    Mutant {
        name: "trims-lines",
        framing: "line",
        behaviour: bugs(Bugs { trims: true, ..NO_BUGS }),
        fails: &["framing/11"],
        also: &["framing/13", "pipelining/2", "pipelining/5", "pipelining/6", "pipelining/9", "*"],
        ..MUTANT
    },
    Mutant {
        name: "length-is-u16",
        behaviour: bugs(Bugs { length_is_u16: true, ..NO_BUGS }),
        fails: &["framing/4", "framing/12"],
        also: &[
            "framing/13",
            "partial/9",
            "pipelining/7",
            "pipelining/8",
            "pipelining/9",
            "half-close/3",
        ],
        ..MUTANT
    },
    Mutant {
        name: "page-is-enough",
        behaviour: bugs(Bugs { page_is_enough: true, ..NO_BUGS }),
        fails: &["framing/4", "framing/12", "framing/13"],
        also: &[
            "framing/5",
            "partial/9",
            "pipelining/5",
            "pipelining/7",
            "pipelining/8",
            "pipelining/9",
            "pipelining/10",
            "half-close/3",
            "framing/19",
            "closing/13",
            "recovery/10",
        ],
        ..MUTANT
    },
    Mutant {
        name: "copies-words",
        behaviour: bugs(Bugs { copies_words: true, ..NO_BUGS }),
        fails: &["framing/12", "framing/13"],
        also: &[
            "framing/3",
            "framing/5",
            "partial/2",
            "partial/5",
            "partial/6",
            "partial/7",
            "pipelining/1",
            "pipelining/4",
            "pipelining/5",
            "pipelining/7",
            "framing/19",
            "pipelining/12",
        ],
        ..MUTANT
    },
    Mutant {
        name: "less-is-nothing",
        framing: "u32be+incl",
        behaviour: bugs(Bugs { less_is_nothing: true, ..NO_BUGS }),
        fails: &["framing/14"],
        ..MUTANT
    },
    Mutant {
        name: "echoes-the-unknown",
        behaviour: bugs(Bugs { echoes_the_unknown: true, ..NO_BUGS }),
        fails: &["framing/15"],
        also: &[
            "framing/6",
            "framing/7",
            "framing/8",
            "framing/9",
            "framing/16",
            "framing/17",
            "framing/18",
            "closing/4",
            "closing/12",
            "closing/13",
        ],
        ..MUTANT
    },
    Mutant {
        name: "refusal-drops-answers",
        behaviour: Behaviour { refusal_drops_answers: true, ..HEALTHY },
        fails: &["framing/16", "closing/4"],
        also: &["closing/13"],
        ..MUTANT
    },
    Mutant {
        name: "answers-late",
        behaviour: Behaviour { answers_late: true, ..HEALTHY },
        fails: &["framing/16", "framing/17", "closing/4"],
        also: &["timing/8", "closing/13"],
        ..MUTANT
    },
    Mutant {
        name: "skips-refused",
        behaviour: bugs(Bugs { skips_refused: true, ..NO_BUGS }),
        fails: &["framing/18"],
        also: &[
            "framing/6",
            "framing/7",
            "framing/8",
            "framing/9",
            "framing/15",
            "framing/16",
            "framing/17",
            "closing/4",
            "closing/12",
            "closing/13",
        ],
        ..MUTANT
    },
    Mutant {
        name: "header-in-one-receive",
        behaviour: exact(Bugs { header_in_one_receive: true, ..NO_BUGS }),
        fails: &["partial/1", "partial/4", "partial/6"],
        also: &["partial/*", "pipelining/*", "limits/2", "timing/4"],
        ..MUTANT
    },
    Mutant {
        name: "payload-comes-with-header",
        behaviour: bugs(Bugs { payload_comes_with_header: true, ..NO_BUGS }),
        fails: &["partial/2", "partial/6"],
        also: &["partial/*", "pipelining/*", "limits/2", "timing/4"],
        ..MUTANT
    },
    Mutant {
        name: "payload-in-one-receive",
        behaviour: exact(Bugs { payload_in_one_receive: true, ..NO_BUGS }),
        fails: &["partial/3", "partial/4", "partial/6"],
        also: &[
            "framing/*",
            "partial/*",
            "pipelining/*",
            "closing/3",
            "closing/13",
            "half-close/3",
            "half-close/5",
            "limits/2",
            "timing/3",
            "timing/4",
            "recovery/7",
            "recovery/10",
            "timing/11",
        ],
        ..MUTANT
    },
    Mutant {
        name: "drops-behind-completed",
        behaviour: bugs(Bugs { drops_behind_completed: true, ..NO_BUGS }),
        fails: &["partial/5", "partial/6"],
        also: &["partial/*", "pipelining/*", "half-close/3", "closing/13", "recovery/10"],
        ..MUTANT
    },
    Mutant {
        name: "drops-half-header",
        behaviour: bugs(Bugs { drops_half_header: true, ..NO_BUGS }),
        fails: &["partial/7"],
        also: &["partial/*", "pipelining/*"],
        ..MUTANT
    },
    Mutant {
        name: "forgets-after-a-pause",
        behaviour: Behaviour { forgets_after: Some(Duration::from_millis(300)), ..HEALTHY },
        fails: &["partial/8", "partial/9", "timing/4"],
        ..MUTANT
    },
    Mutant { name: "has-no-messages", speaks: Some("raw"), fails: &["framing/1"], ..MUTANT },
    Mutant { name: "length-is-narrower", speaks: Some("u16be"), fails: &["framing/1"], ..MUTANT },
    Mutant {
        name: "has-no-lines",
        framing: "line",
        speaks: Some("raw"),
        also: &["timing/4"],
        warns: &["partial/10"],
        ..MUTANT
    },
    Mutant {
        name: "line-is-a-receive",
        framing: "line",
        behaviour: bugs(Bugs { line_is_a_receive: true, ..NO_BUGS }),
        fails: &["partial/11"],
        also: &[
            "framing/*",
            "partial/*",
            "pipelining/*",
            "half-close/3",
            "limits/2",
            "timing/4",
            "recovery/10",
        ],
        ..MUTANT
    },
    Mutant {
        name: "one-frame-a-receive",
        behaviour: bugs(Bugs { one_frame_a_receive: true, ..NO_BUGS }),
        fails: &["pipelining/1", "pipelining/2"],
        also: &[
            "framing/16",
            "partial/*",
            "pipelining/*",
            "timing/6",
            "closing/4",
            "half-close/2",
            "half-close/3",
            "half-close/4",
            "recovery/6",
            "closing/13",
            "recovery/10",
        ],
        ..MUTANT
    },
    Mutant {
        name: "one-frame-a-wakeup",
        behaviour: bugs(Bugs { one_frame_a_wakeup: true, ..NO_BUGS }),
        fails: &["pipelining/1", "pipelining/2"],
        also: &[
            "framing/16",
            "partial/*",
            "pipelining/*",
            "half-close/2",
            "half-close/4",
            "timing/6",
            "recovery/6",
            "timing/8",
            "recovery/10",
        ],
        ..MUTANT
    },
    Mutant {
        name: "half-delays-whole",
        behaviour: bugs(Bugs { half_delays_whole: true, ..NO_BUGS }),
        fails: &["pipelining/3"],
        also: &["pipelining/*", "half-close/5"],
        ..MUTANT
    },
    Mutant {
        name: "empty-ends-the-batch",
        behaviour: bugs(Bugs { empty_ends_the_batch: true, ..NO_BUGS }),
        fails: &["pipelining/4"],
        also: &["pipelining/*"],
        ..MUTANT
    },
    Mutant {
        name: "small-answers-first",
        behaviour: Behaviour { small_answers_first: true, ..HEALTHY },
        fails: &["pipelining/5", "pipelining/7"],
        also: &["pipelining/*"],
        ..MUTANT
    },
    Mutant {
        name: "answers-in-a-small-buffer",
        behaviour: Behaviour { answer_room: Some(16 * 1024), ..HEALTHY },
        fails: &["pipelining/6"],
        also: &[
            "framing/4",
            "framing/5",
            "framing/12",
            "framing/13",
            "partial/9",
            "pipelining/5",
            "pipelining/7",
            "pipelining/8",
            "pipelining/9",
            "pipelining/10",
            "half-close/2",
            "half-close/3",
            "framing/19",
            "pipelining/11",
            "pipelining/12",
            "pipelining/14",
            "closing/13",
            "recovery/10",
        ],
        ..MUTANT
    },
    Mutant {
        name: "sends-once",
        behaviour: Behaviour { one_send: true, ..HEALTHY },
        fails: &["pipelining/8"],
        also: &["pipelining/*", "recovery/10"],
        ..MUTANT
    },
    Mutant {
        name: "answers-without-bound",
        behaviour: Behaviour { answers_without_bound: true, ..HEALTHY },
        says: &[("pipelining/9", "it took all 16,")],
        also: &["closing/13", "timing/8"],
        warns: &["limits/6"],
        ..MUTANT
    },
    Mutant {
        name: "full-receive-means-more",
        behaviour: bugs(Bugs { full_receive_means_more: true, ..NO_BUGS }),
        fails: &["pipelining/10"],
        also: &["framing/13", "pipelining/*", "framing/19"],
        ..MUTANT
    },
];

const fn bugs(framing: Bugs) -> Behaviour {
    Behaviour { framing, ..HEALTHY }
}

/// With `read_exact` in place of a buffer.
const fn exact(framing: Bugs) -> Behaviour {
    Behaviour { framing, exact: true, ..HEALTHY }
}
