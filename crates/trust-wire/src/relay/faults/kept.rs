//! Frames that are kept for a while, to be sent twice, later or with another length.

use alloc::vec::Vec;

use crate::format::LengthFormat;

/// What a frame is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptFor {
    /// To be sent again when the next frame begins.
    Duplicate,
    /// To be sent when the frame after the next one begins.
    Swap,
    /// The header, until it is whole: its length field is changed by this much.
    Length(i64),
}

impl KeptFor {
    /// Those of a lower rank take bytes first.
    pub(super) const fn rank(self) -> u8 {
        match self {
            KeptFor::Length(_) => 0,
            KeptFor::Duplicate => 1,
            KeptFor::Swap => 2,
        }
    }
}

/// What became of a frame or its header.
#[derive(Debug)]
pub(super) struct KeptFrame {
    /// Its number, from 1.
    pub(super) number: u64,
    pub(super) kept_for: KeptFor,
    pub(super) bytes: Vec<u8>,
}

impl KeptFrame {
    pub(super) const fn new(number: u64, kept_for: KeptFor) -> KeptFrame {
        KeptFrame { number, kept_for, bytes: Vec::new() }
    }

    /// Takes the bytes of the output from `start` on, which are of that frame. What must come
    /// later leaves the output.
    pub(super) fn take(&mut self, number: u64, output: &mut Vec<u8>, start: usize) {
        if number != self.number {
            return;
        }
        self.bytes.extend_from_slice(&output[start..]);
        if self.kept_for != KeptFor::Duplicate {
            output.truncate(start);
        }
    }

    /// Whether it is sent when the frame of that number begins.
    pub(super) const fn is_due(&self, begins: u64) -> bool {
        match self.kept_for {
            KeptFor::Duplicate => begins > self.number,
            KeptFor::Swap => begins > self.number + 1,
            KeptFor::Length(_) => false,
        }
    }

    /// Changes the length field of a whole header.
    pub(super) fn change_length(&mut self, format: LengthFormat, by: i64) {
        // Other rules may have dropped some of it.
        let Some(field) = self.bytes.get_mut(format.length_at()) else { return };
        let big_endian = |field: &mut [u8]| match format.is_big_endian() {
            true => {}
            false => field.reverse(),
        };
        big_endian(field);
        let value = field.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let changed = value.wrapping_add_signed(by).to_be_bytes();
        let start = changed.len() - field.len();
        field.copy_from_slice(&changed[start..]);
        big_endian(field);
    }
}
