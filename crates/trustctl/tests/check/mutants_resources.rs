//! Servers that waste or leak: limits, times, resources.

use super::mutants::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[];
