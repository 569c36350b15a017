//! Servers that read messages from a stream wrongly: lengths, partial delivery, pipelining.
//!
//! Whole groups are in `also` if timing decides what a receive returns.

use std::time::Duration;

use super::input::Bug::{self, *};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant::of("speaks-little-endian", HEALTHY).speaking("u32le").fails("framing/1"),
    framing("adds-a-newline", AddsANewline).fails("framing/1"),
    framing("empty-is-the-end", EmptyIsTheEnd)
        .fails("framing/2 pipelining/4")
        .also("framing/13 pipelining/5 pipelining/11 pipelining/12"),
    framing("drops-single-bytes", DropsSingleBytes)
        .fails("framing/3")
        .also("framing/13 partial/2 pipelining/5 pipelining/12"),
    framing("limit-is-exclusive", LimitIsExclusive).fails("framing/4").also(
        "framing/12 framing/13 partial/9 pipelining/7 pipelining/8 pipelining/9 \
                half-close/3",
    ),
    framing("limit-counts-header", LimitCountsHeader).fails("framing/4 framing/5").also(
        "framing/12 framing/13 partial/9 pipelining/7 pipelining/8 pipelining/9 \
                half-close/3 framing/19",
    ),
    framing("limit-is-one-more", LimitIsOneMore)
        .fails("framing/6")
        .also("framing/16 framing/17 framing/18 closing/4 closing/12 closing/13"),
    framing("no-limit", NoLimit).fails("framing/6 framing/7 framing/8").also(
        "framing/9 framing/15 framing/16 framing/17 framing/18 closing/4 closing/12 \
                closing/13",
    ),
    framing("length-is-signed", LengthIsSigned).fails("framing/7 framing/8"),
    framing("all-ones-is-nothing", AllOnesIsNothing).fails("framing/8"),
    framing("guesses-byte-order", GuessesByteOrder).fails("framing/9").also("framing/7"),
    framing("decodes-twice", DecodesTwice).fails("framing/10"),
    framing("trims", Trims)
        .fails("framing/11")
        .also("framing/12 framing/13 framing/16 pipelining/2 pipelining/6 pipelining/7 *"),
    framing("trims-lines", Trims)
        .tried_as("line")
        .fails("framing/11")
        .also("framing/13 pipelining/2 pipelining/5 pipelining/6 pipelining/9 *"),
    framing("length-is-u16", LengthIsU16)
        .fails("framing/4 framing/12")
        .also("framing/13 partial/9 pipelining/7 pipelining/8 pipelining/9 half-close/3"),
    framing("page-is-enough", PageIsEnough).fails("framing/4 framing/12 framing/13").also(
        "framing/5 partial/9 pipelining/5 pipelining/7 pipelining/8 pipelining/9 \
                pipelining/10 half-close/3 framing/19 closing/13 recovery/10",
    ),
    framing("copies-words", CopiesWords).fails("framing/12 framing/13").also(
        "framing/3 framing/5 partial/2 partial/5 partial/6 partial/7 pipelining/1 \
                pipelining/4 pipelining/5 pipelining/7 framing/19 pipelining/12",
    ),
    framing("less-is-nothing", LessIsNothing).tried_as("u32be+incl").fails("framing/14"),
    framing("echoes-the-unknown", EchoesTheUnknown).fails("framing/15").also(
        "framing/6 framing/7 framing/8 framing/9 framing/16 framing/17 framing/18 \
                closing/4 closing/12 closing/13",
    ),
    Mutant::of("refusal-drops-answers", Behaviour { refusal_drops_answers: true, ..HEALTHY })
        .fails("framing/16 closing/4")
        .also("closing/13"),
    Mutant::of("answers-late", Behaviour { answers_late: true, ..HEALTHY })
        .fails("framing/16 framing/17 closing/4")
        .also("timing/8 closing/13"),
    framing("skips-refused", SkipsRefused).fails("framing/18").also(
        "framing/6 framing/7 framing/8 framing/9 framing/15 framing/16 framing/17 \
                closing/4 closing/12 closing/13",
    ),
    framing("header-in-one-receive", HeaderInOneReceive)
        .exact()
        .fails("partial/1 partial/4 partial/6")
        .also("partial/* pipelining/* limits/2 timing/4"),
    framing("payload-comes-with-header", PayloadComesWithHeader)
        .fails("partial/2 partial/6")
        .also("partial/* pipelining/* limits/2 timing/4"),
    framing("payload-in-one-receive", PayloadInOneReceive)
        .exact()
        .fails("partial/3 partial/4 partial/6")
        .also(
            "framing/* partial/* pipelining/* closing/3 closing/13 half-close/3 \
                half-close/5 limits/2 timing/3 timing/4 recovery/7 recovery/10 recovery/12 \
                timing/11",
        ),
    framing("drops-behind-completed", DropsBehindCompleted)
        .fails("partial/5 partial/6")
        .also("partial/* pipelining/* half-close/3 closing/13 recovery/10"),
    framing("drops-half-header", DropsHalfHeader).fails("partial/7").also("partial/* pipelining/*"),
    Mutant::of(
        "forgets-after-a-pause",
        Behaviour { forgets_after: Some(Duration::from_millis(300)), ..HEALTHY },
    )
    .fails("partial/8 partial/9 timing/4"),
    Mutant::of("has-no-messages", HEALTHY).speaking("raw").fails("framing/1"),
    Mutant::of("length-is-narrower", HEALTHY).speaking("u16be").fails("framing/1"),
    Mutant::of("has-no-lines", HEALTHY)
        .tried_as("line")
        .speaking("raw")
        .also("timing/4")
        .warns("partial/10"),
    framing("line-is-a-receive", LineIsAReceive).tried_as("line").fails("partial/11").also(
        "framing/* partial/* pipelining/* half-close/3 limits/2 timing/4 recovery/10 recovery/12",
    ),
    framing("one-frame-a-receive", OneFrameAReceive).fails("pipelining/1 pipelining/2").also(
        "framing/16 partial/* pipelining/* timing/6 closing/4 half-close/2 \
                half-close/3 half-close/4 recovery/6 closing/13 recovery/10",
    ),
    framing("one-frame-a-wakeup", OneFrameAWakeup).fails("pipelining/1 pipelining/2").also(
        "framing/16 partial/* pipelining/* half-close/2 half-close/4 timing/6 \
                recovery/6 timing/8 recovery/10",
    ),
    framing("half-delays-whole", HalfDelaysWhole)
        .fails("pipelining/3")
        .also("pipelining/* half-close/5"),
    framing("empty-ends-the-batch", EmptyEndsTheBatch).fails("pipelining/4").also("pipelining/*"),
    Mutant::of("small-answers-first", Behaviour { small_answers_first: true, ..HEALTHY })
        .fails("pipelining/5 pipelining/7")
        .also("pipelining/*"),
    Mutant::of("answers-in-a-small-buffer", Behaviour { answer_room: Some(16 * 1024), ..HEALTHY })
        .fails("pipelining/6")
        .also(
            "framing/4 framing/5 framing/12 framing/13 partial/9 pipelining/5 \
                pipelining/7 pipelining/8 pipelining/9 pipelining/10 half-close/2 \
                half-close/3 framing/19 pipelining/11 pipelining/12 pipelining/14 closing/13 \
                recovery/10",
        ),
    Mutant::of("sends-once", Behaviour { one_send: true, ..HEALTHY })
        .fails("pipelining/8")
        .also("pipelining/* recovery/10"),
    Mutant::of("answers-without-bound", Behaviour { answers_without_bound: true, ..HEALTHY })
        .also("closing/13 timing/8")
        .warns("limits/6")
        .says("pipelining/9", "it took all 16,"),
    framing("full-receive-means-more", FullReceiveMeansMore)
        .fails("pipelining/10")
        .also("framing/13 pipelining/* framing/19"),
];

const fn framing(name: &'static str, bug: Bug) -> Mutant {
    Mutant::of(name, Behaviour { framing: Some(bug), ..HEALTHY })
}
