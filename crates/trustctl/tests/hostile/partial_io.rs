//! Bytes that come and go in pieces.

use super::Case;

pub(crate) const CASES: &[Case] = &[];
