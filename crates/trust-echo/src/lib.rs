//! The echo service and its client: `trustctl echo-server` and `trustctl echo-client`.

pub mod client;
pub mod server;
