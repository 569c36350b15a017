//! The HTTP API of Toxiproxy, as the fault proxy of `trustctl` offers it: resources, errors and
//! answers are those of Toxiproxy 2.12, which its clients depend on.
//!
//! - [`model`]: the proxies, and what can be done to them
//! - [`toxic`]: what happens to their traffic; as rules of the fault proxy too
//! - [`data_plane`]: what carries the traffic, as a trait
//! - [`routes`]: which request gets which answer
//! - [`control`]: what there is beyond Toxiproxy, under `/trustctl/`
//! - [`traffic`]: what passes, as numbers; [`events`]: what happens, for followers;
//!   [`metrics`]: for Prometheus; [`page`]: for people
//! - [`server`]: requests and answers over HTTP, on a thread of its own
//! - [`server_flags`]: the command line of `toxiproxy-server`
//! - [`cli`]: the command line, the requests and the HTTP client of `toxiproxy-cli`
//! - [`go_flags`]: what both command lines have in common
//!
//! It differs where clients do not depend on it and Toxiproxy is of no help: every request of a
//! browser is refused outside of `/` and `/trustctl/`, `0.0.0.0` and `[::]` are the same place,
//! port 0 is the one that a proxy has already, an update with an error in it changes nothing, and a
//! proxy can be created with its toxics.

mod address;
mod admission;
pub mod cli;
pub mod control;
pub mod data_plane;
pub mod error;
pub mod events;
pub mod go_flags;
mod json;
pub mod metrics;
pub mod model;
pub mod page;
mod process_metrics;
mod proxy_page;
pub mod routes;
pub mod server;
pub mod server_flags;
pub mod toxic;
mod toxic_rules;
pub mod traffic;
