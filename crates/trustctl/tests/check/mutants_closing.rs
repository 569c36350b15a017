//! Servers that end connections wrongly: closing, half-close, recovery.

use super::mutants::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[];
