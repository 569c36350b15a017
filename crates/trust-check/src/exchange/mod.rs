//! Exchanges with a server of any protocol: what is sent, and what has to come back.

pub mod body;
pub mod dialect;
pub mod difference;
pub mod escapes;
pub mod file;
pub mod learned;
pub mod pattern;
pub mod protocol;
pub mod template;
