//! Servers that end connections wrongly: closing, half-close, recovery.

use super::conduct::Bug::{self, *};
use super::mutant::{Behaviour, HEALTHY};
use super::mutants::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[
    conduct("ignores-fin", FinIsIgnored)
        .fails("closing/1 closing/2 closing/3 closing/11 half-close/6")
        .also("half-close/*"),
    conduct("fin-waits-for-timeout", FinWaitsForTimeout)
        .fails("closing/1 closing/11")
        .also("closing/* half-close/*"),
    conduct("waits-for-the-rest-after-fin", FinInsideIsIgnored)
        .fails("closing/2 closing/3 half-close/5"),
    conduct("waits-for-a-message-after-fin", FirstFinIsIgnored).fails("half-close/6"),
    conduct("echoes-the-part", PartIsEchoed).fails("closing/2 closing/3 half-close/5"),
    conduct("half-close-is-close", HalfCloseIsClose)
        .fails("half-close/1 half-close/2 half-close/4 half-close/5")
        .also("half-close/3"),
    conduct("fin-is-aborted", FinIsAborted).fails("half-close/3").warns("closing/1 closing/11"),
    conduct("stays-open-after-refusal", RefusalIsIgnored)
        .fails("framing/6 closing/4 closing/12")
        .also("framing/* closing/13"),
    Mutant::of("closes-unread", Behaviour { closes_unread: true, ..HEALTHY })
        .warns("closing/4 closing/12 closing/13"),
    conduct("dies-of-a-reset", FailedReceiveIsFatal)
        .alone()
        .fails("closing/5 closing/6 closing/7 recovery/8 recovery/9"),
    conduct("dies-of-a-failed-send", FailedSendIsFatal).alone().fails("closing/8 recovery/4"),
    conduct("expects-an-address", ExpectsAnAddress).alone().fails("closing/9"),
    conduct("expects-a-byte", ExpectsAByte).alone().fails("closing/10"),
    conduct("dies-of-a-refused-length", RefusalIsFatal)
        .alone()
        .fails("framing/6 recovery/2 recovery/3 recovery/9"),
    conduct("leaves-a-part-to-the-next", LeavesAPart)
        .alone()
        .fails("closing/6 closing/7 recovery/1 recovery/8 recovery/9"),
    conduct("has-one-buffer-for-parts", OnePartBuffer).alone().fails("recovery/7 recovery/12"),
    conduct("keeps-all-places", AllKeepTheirPlace(64)).alone().fails("recovery/5"),
    conduct("keeps-places-of-the-broken", BrokenKeepTheirPlace(16)).alone().fails("recovery/8"),
    conduct("mixes-answers", OneAnswerBuffer).alone().fails("recovery/6"),
    conduct("leaves-an-answer-to-the-next", LeavesAnAnswer).alone().fails("recovery/11"),
];

const fn conduct(name: &'static str, bug: Bug) -> Mutant {
    Mutant::of(name, Behaviour { conduct: Some(bug), ..HEALTHY })
}
