//! Frames that are held back in the model.

use trust_wire::relay::FrameFormat;

/// What a frame is held back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldFor {
    /// Its header, until it is whole.
    Length(i64),
    /// A copy, until it is whole.
    Copy,
    /// Until the next one is whole.
    Later,
}

impl HeldFor {
    /// Headers take bytes first, and frames that are moved last.
    const fn rank(self) -> u8 {
        match self {
            HeldFor::Length(_) => 0,
            HeldFor::Copy => 1,
            HeldFor::Later => 2,
        }
    }
}

/// A frame, by its number, and what it has become.
#[derive(Clone, Debug)]
struct HeldFrame {
    number: u64,
    held_for: HeldFor,
    bytes: Vec<u8>,
}

/// All that is held back, in the order in which bytes are offered to it.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldFrames(Vec<HeldFrame>);

impl HeldFrames {
    pub(super) fn hold(&mut self, number: u64, held_for: HeldFor) {
        self.0.push(HeldFrame { number, held_for, bytes: vec![] });
        self.0.sort_by_key(|held| held.held_for.rank());
    }

    /// A byte of that frame comes out, unless it is held back.
    pub(super) fn put(&mut self, byte: u8, frame: Option<u64>, output: &mut Vec<u8>) {
        self.offer(byte, frame, 0, output);
    }

    fn offer(&mut self, byte: u8, frame: Option<u64>, from: usize, output: &mut Vec<u8>) {
        for held in &mut self.0[from..] {
            if Some(held.number) == frame {
                held.bytes.push(byte);
                if held.held_for != HeldFor::Copy {
                    return;
                }
            }
        }
        output.push(byte);
    }

    /// Headers come out, with their lengths changed if they are whole.
    pub(super) fn end_header(
        &mut self,
        frame: Option<u64>,
        format: Option<&FrameFormat>,
        output: &mut Vec<u8>,
    ) {
        while let Some(index) =
            self.0.iter().position(|held| matches!(held.held_for, HeldFor::Length(_)))
        {
            let HeldFrame { held_for, mut bytes, .. } = self.0.remove(index);
            if let (HeldFor::Length(by), Some(FrameFormat::Length(format))) = (held_for, format)
                && let Some(field) = bytes.get_mut(format.length_at())
            {
                let digits: Vec<u8> = if format.is_big_endian() {
                    field.to_vec()
                } else {
                    field.iter().rev().copied().collect()
                };
                let value = digits.iter().fold(0_u64, |value, digit| {
                    value.wrapping_mul(256).wrapping_add(u64::from(*digit))
                });
                let mut header = vec![];
                format.encode_raw(value.wrapping_add(by as u64), &mut header);
                field.copy_from_slice(&header[format.length_at()]);
            }
            bytes.into_iter().for_each(|byte| self.offer(byte, frame, index, output));
        }
    }

    /// The frame of that number begins: those that waited for it come out.
    pub(super) fn begin(&mut self, number: u64, output: &mut Vec<u8>) {
        self.0.retain(|held| {
            let wait = match held.held_for {
                HeldFor::Length(_) => return true,
                HeldFor::Copy => 1,
                HeldFor::Later => 2,
            };
            let is_due = held.number + wait <= number;
            if is_due {
                output.extend(&held.bytes);
            }
            !is_due
        });
    }

    /// The stream goes no further: what was to come later comes out.
    pub(super) fn release(&mut self, frame: Option<u64>, output: &mut Vec<u8>) {
        self.end_header(frame, None, output);
        for held in self.0.drain(..) {
            if held.held_for == HeldFor::Later {
                output.extend(held.bytes);
            }
        }
    }
}
