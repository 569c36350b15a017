//! That the crates use each other in one direction, and so do the modules of each crate.

mod crates;
mod modules;
mod rooms;
