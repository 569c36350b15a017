//! Places, descriptors, errnos of accept, many at once.

use super::Case;

pub(crate) const CASES: &[Case] = &[];
