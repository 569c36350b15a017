//! FIN, half-close, RST, killed peers.

use super::Case;

pub(crate) const CASES: &[Case] = &[];
