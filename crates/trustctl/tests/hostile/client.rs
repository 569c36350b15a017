//! What the client says and exits with.

use super::Case;

pub(crate) const CASES: &[Case] = &[];
