//! Load with one client after the other, each echo compared byte for byte.

pub mod client;
pub mod payload;
pub mod report;
pub mod round_trips;
