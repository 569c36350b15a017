//! What a run finds around it: limits of the system, signals, and files that stand in the way.

mod limits;
#[path = "../support/mod.rs"]
mod support;
