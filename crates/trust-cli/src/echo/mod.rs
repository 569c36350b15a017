//! A client's conversation with an echo server, as the echo client and a load of one client after
//! the other have it.
//!
//! [`conversation`] is pure; [`link`] owns the connection; [`round_trips`] is how long the answers
//! took.

pub mod conversation;
pub mod link;
pub mod round_trips;
