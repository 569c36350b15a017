//! That the crates use each other in one direction, and so do the modules of each crate; that types have names of
//! their own, and structs few fields.

mod crates;
mod modules;
mod rooms;
mod types;
