//! Frames: lengths, limits, rubbish.

use super::Case;

pub(crate) const CASES: &[Case] = &[];
