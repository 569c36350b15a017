//! What a connection has while it is in the middle of something.

use alloc::boxed::Box;

use crate::closing::Lingering;
use crate::decoder::Decoder;
use crate::disconnect::{Disconnect, Reason};
use crate::foreign::Opening;
use crate::owed::Owed;
use crate::time::Timestamp;

use super::CloseStep;

/// How far a connection is on its way to its end.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Its PROXY header is still to come. The decoder holds what was received of it. If the
    /// connection is to end, for that reason, bytes are received only up to this one.
    Introducing(Option<(Reason, u64)>),
    /// Answers what comes.
    Open,
    /// Answers what begins before byte `until` of the stream, then ends with `reason`.
    Retiring { reason: Reason, until: u64 },
    /// The end is decided; owed bytes are still to be sent, and what comes is discarded.
    Flushing(Disconnect),
    /// Everything is sent, FIN included. Waits until all of it is acknowledged and, unless that has
    /// come or is not waited for, until the peer's FIN.
    FinSent(Disconnect, Lingering),
    /// Over; `step` is how.
    Closed(Disconnect, CloseStep),
}

/// What a connection has only in the middle of a frame, an answer, a stall, or its end. It is kept
/// apart because most connections of a busy server are in the middle of nothing, and ten thousand
/// of them must cost little.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) state: State,
    /// Holds an unfinished frame, or PROXY header.
    pub(super) decoder: Decoder,
    /// When the unfinished frame began, moved on by the time that the connection was not read.
    pub(super) frame_started_at: Timestamp,
    /// Up to which byte of the stream the frame may still be completed although its time is over:
    /// those bytes had arrived when it was first judged. `None` until then. A PROXY header has the
    /// same.
    pub(super) frame_fence: Option<u64>,
    pub(super) owed: Owed,
    /// When the caller last reported a [`Probe`] after which bytes were still outstanding.
    pub(super) probed_at: Timestamp,
    /// An error that the network reported and that the connection may survive (an ICMP
    /// "unreachable"); progress clears it.
    pub(super) soft_error: Option<i32>,
    /// When the connection is cut whatever its state: the grace after its longest life, which
    /// begins when that is found to be over. [`Timestamp::NEVER`] until then.
    pub(super) cut_at: Timestamp,
    /// How the stream began, if that is worth reporting and the caller does not know it yet.
    pub(super) opening: Option<Box<Opening>>,
}

impl Unsettled {
    pub(super) fn new(max_payload: u32) -> Unsettled {
        Unsettled {
            state: State::Open,
            decoder: Decoder::new(max_payload),
            frame_started_at: Timestamp::default(),
            frame_fence: None,
            owed: Owed::nothing(),
            probed_at: Timestamp::default(),
            soft_error: None,
            cut_at: Timestamp::NEVER,
            opening: None,
        }
    }

    /// What a connection has whose PROXY header is still to come.
    #[cold]
    pub(super) fn introducing(max_payload: u32) -> Box<Unsettled> {
        let state = State::Introducing(None);
        Box::new(Unsettled { state, ..Unsettled::new(max_payload) })
    }

    /// The next frame has begun, or may.
    pub(super) fn begin_frame(&mut self, now: Timestamp) {
        self.frame_started_at = now;
        self.frame_fence = None;
    }
}
