//! What more than one command reads of exchange files, which describe protocols in TOML.
//!
//! `trust-check` documents the whole file, and reads it.

pub mod bad_text;
pub mod dialects;
pub mod fields;
pub mod hex;
pub mod message_ends;
pub mod nearest;
