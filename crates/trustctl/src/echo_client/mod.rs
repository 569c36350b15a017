//! One side of a conversation with an echo server.
//!
//! [`conversation`] and [`input`] are pure; [`source`], [`link`] and [`output`] each own one
//! descriptor; [`session`] is the loop between them.

pub mod conversation;
pub mod input;
pub mod link;
pub mod output;
pub mod session;
pub mod source;
