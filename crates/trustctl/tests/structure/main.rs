//! Checks that dependencies between crates, and between the modules of each crate, have one
//! direction; that types have unique names, and structs few fields.

mod crates;
mod modules;
mod rooms;
mod types;
