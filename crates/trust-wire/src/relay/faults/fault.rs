//! What can happen to a stream on purpose, and where.

use alloc::boxed::Box;
use core::time::Duration;

use super::draw::draw;
use super::pace::SharedRate;

/// A fault of one direction of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayFault {
    /// For the caller to know it by. Faults at one place happen in the order of these.
    pub rule: usize,
    /// Where it happens: once, or each time if there are many such places.
    pub place: FaultPlace,
    /// What happens.
    pub action: FaultAction,
}

impl RelayFault {
    /// The same fault, so many bytes and so much time later, if it is at a byte or a time.
    #[must_use]
    pub fn later(mut self, bytes: u64, time: Duration) -> RelayFault {
        let place = match &mut self.place {
            FaultPlace::First { of, .. } => of,
            place => place,
        };
        match place {
            FaultPlace::Byte(at) => *at = at.saturating_add(bytes),
            FaultPlace::Time(at) => *at = at.saturating_add(time),
            _ => {}
        }
        self
    }
}

/// A place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultPlace {
    /// After this many bytes.
    Byte(u64),
    /// After the first occurrence of these bytes; never if there are none.
    Match(Box<[u8]>),
    /// The first ones of many places, or of the occurrences of the bytes of a match; these do not
    /// overlap.
    First {
        /// How many of them.
        times: u64,
        /// Of which.
        of: Box<FaultPlace>,
    },
    /// Inside a frame; never if the frame does not come, or is too short for that.
    Frame {
        /// Which one, from 1.
        number: u64,
        /// Where in it.
        part: FramePart,
    },
    /// After the last byte, if the stream ends with FIN.
    End,
    /// After each multiple of this many bytes.
    EveryBytes(u64),
    /// Where each frame begins whose number is a multiple of this.
    EveryFrames(u64),
    /// At a random byte of some KiB of the stream: of how many, and which, the chance says.
    RandomBytes(Chance),
    /// Where some frames begin: how many, and which, the chance says.
    RandomFrames(Chance),
    /// Wherever the stream is when the relay has existed for so long.
    Time(Duration),
    /// Wherever the stream is once nothing has come for so long.
    Idle(Duration),
}

/// How likely something is, and what decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    /// How many of a million.
    pub per_million: u32,
    /// The same one gives the same choices.
    pub seed: u64,
}

impl Chance {
    /// Whether the choice of this number hits.
    pub fn hits(self, number: u64) -> bool {
        // The high half of the product is uniform below a million.
        let scaled = (u128::from(draw(self.seed, number)) * 1_000_000) >> 64;
        scaled < u128::from(self.per_million)
    }
}

/// Which bits of the byte at that place are inverted by [`FaultAction::Flip`].
pub fn flip_mask(bits: u32, seed: u64, position: u64) -> u8 {
    let random = draw(seed, position);
    let (mut mask, mut number) = (0_u8, 0);
    while mask.count_ones() < bits.min(8) {
        mask |= 1 << (draw(random, number) % 8);
        number += 1;
    }
    mask
}

/// A place in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePart {
    /// After this many of its bytes, those of its header included. 0 is as soon as the frame before
    /// it has ended.
    Byte(u64),
    /// After its header.
    Payload,
    /// Before this many of its last bytes. Only if its header says how long it is.
    BeforeEnd(u64),
    /// After its last byte.
    End,
}

/// What happens at a place. The receiver is the side that the direction leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// The receiver gets exactly the bytes before the place, and then RST. The source gets RST at
    /// the same time.
    Reset,
    /// These sides, of the client and the upstream, get RST once they have acknowledged what was
    /// sent to them; the receiver gets exactly the bytes before the place. The other one, if there
    /// is one, gets FIN.
    ResetSides([bool; 2]),
    /// The receiver gets FIN, and what follows is dropped. The opposite direction goes on.
    Finish,
    /// Both sides get FIN, the receiver after the bytes before the place. What follows is dropped.
    Close,
    /// Nothing passes for so long, counted from when everything before was sent.
    Stall(Duration),
    /// Nothing passes from here on, and the source is no longer received from.
    Hold,
    /// Nothing passes until the relay has existed for so long.
    HoldUntil(Duration),
    /// What follows is received and dropped, FIN included.
    BlackHole,
    /// This many of the bytes that follow are dropped.
    Drop(u64),
    /// What is left of the current frame, and so many whole frames less one after it, are dropped;
    /// from 1.
    DropFrames(u64),
    /// The frame that begins here keeps this many bytes, and the rest is dropped. This happens
    /// after those bytes, and not at all if the frame has no more.
    TruncateFrame(u64),
    /// This many bits of the next byte, at most 8, are inverted; the seed and the place say which.
    Flip {
        /// How many.
        bits: u32,
        /// The same one gives the same choices.
        seed: u64,
    },
    /// The bytes that follow are combined with these by exclusive or.
    Xor(Box<[u8]>),
    /// The bytes that follow are replaced by these.
    Set(Box<[u8]>),
    /// These bytes are sent before those that follow.
    Insert(Box<[u8]>),
    /// FIN is not passed on.
    SwallowFin,
    /// The length field of the frame that begins here says this instead. If that is too large for
    /// the field, its highest bytes are cut off.
    SetLength(u64),
    /// The length field of the frame that begins here says this much more; as large as the field
    /// is, the sum wraps around.
    AddLength(i64),
    /// The frame that begins here is sent twice, if it comes whole and fits into what may be held.
    DuplicateFrame,
    /// The frame that begins here is sent after the next one; at the end of the stream if there is
    /// none. It stays where it is if it does not fit into what may be held.
    SwapFrame,
    /// Each byte from here on, and FIN, is sent so long after it came.
    Delay {
        /// How long.
        time: Duration,
        /// How much more or less at most: drawn for each frame, or without frames for each 1,460
        /// bytes of the stream. What came first is still sent first.
        jitter: Duration,
        /// The same one gives the same choices.
        seed: u64,
    },
    /// From here on at most so many bytes are sent in a second. With 0 none are: what has come
    /// meanwhile is sent once that ends.
    Rate(u64),
    /// From here on all streams that share the rate keep it together, as [`FaultAction::Rate`].
    /// It replaces another one of this kind.
    SharedRate(SharedRate),
    /// From here on at most so many bytes are sent at once, and so often.
    Dribble {
        /// Bytes at once.
        bytes: u64,
        /// The time from one to the next.
        per: Duration,
    },
    /// From here on, of each `every` bytes the first ones are sent by themselves, and the others
    /// too.
    Split {
        /// How many the first ones are, from 1.
        first: u64,
        /// From `first`.
        every: u64,
    },
    /// From here on bytes are sent in pieces of about one size, each by itself.
    Slice {
        /// How many bytes on average, from 1.
        size: u64,
        /// How many more or less at most, below `size`: drawn for each piece.
        vary: u64,
        /// The time from one to the next.
        per: Duration,
        /// The same one gives the same choices.
        seed: u64,
    },
    /// From here on bytes are kept until there are so many, or until the first one has been kept
    /// for so long, and then sent at once.
    Merge {
        /// How many.
        bytes: u64,
        /// How long.
        within: Duration,
    },
    /// From here on at most so many bytes are received at once.
    Window(u64),
    /// What the faults of the same rule have begun ends here, and none of them happens from here
    /// on, nor here. A change of bytes or of a frame that has begun is completed. Bytes that came
    /// before are still sent as these faults say, but at a time or a pause what paces them ends for
    /// these too. Dropped bytes and the end of a stream cannot be taken back.
    Lift,
}

impl FaultAction {
    /// After how many bytes of a frame it happens if its place is where the frame begins.
    pub(super) const fn frame_byte(&self) -> u64 {
        match self {
            FaultAction::TruncateFrame(kept) => *kept,
            _ => 0,
        }
    }
}

/// A fault that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiredFault {
    /// Which one.
    pub rule: usize,
    /// After how many bytes from the source.
    pub position: u64,
    /// In which frame, from 1, and after how many of its bytes; `None` without frames.
    pub frame: Option<(u64, u64)>,
    /// What the rule had begun ended here, by [`FaultAction::Lift`].
    pub is_lifted: bool,
}
