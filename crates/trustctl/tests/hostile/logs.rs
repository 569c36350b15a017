//! The log, the environment and bad input.

use super::Case;

pub(crate) const CASES: &[Case] = &[];
