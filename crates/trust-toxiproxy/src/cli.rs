//! What `toxiproxy-cli` needs: its command line, its requests and the answers to them. What is
//! printed is up to the caller, who also connects.
//!
//! - [`command`]: from words to a command, and from that to a request
//! - [`client`]: a request and its answer over HTTP
//! - [`listed`]: proxies as answers have them

pub mod client;
pub mod command;
pub mod listed;
