//! Silence, slowness, clocks and pauses.

use super::Case;

pub(crate) const CASES: &[Case] = &[];
