//! Where the output of a direction waits, and how it is sent.

use std::time::Duration;

/// A place of the output at which it waits or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelGate {
    /// After how many bytes of the output.
    pub output: usize,
    /// What happens there.
    pub kind: GateKind,
}

/// What happens at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// Nothing passes for so long.
    Stall(Duration),
    /// Nothing passes from there on.
    Hold,
    /// FIN for the receiver.
    Finish,
    /// FIN for both sides.
    Close,
    /// RST for both sides.
    Reset,
    /// RST for these sides, and FIN for the other one.
    ResetSides([bool; 2]),
    /// Bytes are sent in that way of a rule from there on.
    Pattern(usize, SendPattern),
    /// They are no longer sent in the ways of that rule.
    PatternEnd(usize),
}

/// How fast, and in which pieces, bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendPattern {
    /// So many in a second.
    Rate(u64),
    /// So many at once, and so often.
    Dribble {
        /// How many.
        bytes: u64,
        /// How often.
        per: Duration,
    },
    /// Of each `every` bytes the first ones by themselves.
    Split {
        /// How many these are.
        first: u64,
        /// Of how many.
        every: u64,
    },
    /// So many at once, or what has come in such a time.
    Merge {
        /// How many.
        bytes: u64,
        /// How long.
        within: Duration,
    },
}

/// A delay of a part of the output.
#[derive(Clone, Copy, Debug)]
pub struct ModelDelay {
    /// After how many bytes of the output it begins.
    pub output: usize,
    /// And ends; `None`: it does not.
    pub until: Option<usize>,
    /// How long it is.
    pub time: Duration,
}

impl ModelDelay {
    /// Whether it is for the byte at that position of the output.
    pub fn has(&self, output: usize) -> bool {
        self.output <= output && self.until.is_none_or(|until| output < until)
    }
}
