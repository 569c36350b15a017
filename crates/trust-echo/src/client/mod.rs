//! The echo client: a conversation with an echo server between a terminal and a connection.
//!
//! [`input`] is pure; [`source`] and [`output`] each own one descriptor; [`session`] is the loop
//! between them.

pub mod command;
pub mod input;
mod options;
pub mod output;
pub mod session;
pub mod source;
