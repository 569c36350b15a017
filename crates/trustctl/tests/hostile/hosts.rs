//! Hosts that vanish, come back, reboot or are unreachable.

use super::Case;

pub(crate) const CASES: &[Case] = &[];
