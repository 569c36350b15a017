//! To be written.

use crate::check::case::Case;

/// The cases of this group.
pub const CASES: &[Case] = &[];
