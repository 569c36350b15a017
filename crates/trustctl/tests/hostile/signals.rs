//! Draining, cutting, restarting.

use super::Case;

pub(crate) const CASES: &[Case] = &[];
