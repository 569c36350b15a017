//! Exact socket I/O and a framed TCP server that gets every ending right.
//!
//! - [`exact`]: [`recv_exact`] and [`send_exact`], which know three outcomes
//! - [`blocking`]: one framed connection with blocking calls
//! - [`service`]: what a server's users write
//! - [`server`]: a server that runs a service, as an event loop, one client at a time, or with one
//!   process per client
//! - [`channel`]: what such a process and its server tell each other
//! - [`observer`]: what happens in a server, as typed events
//! - [`stream`]: a client's connection, for programs with a loop of their own
//! - [`preface`]: what a client sends first to look like a proxy
//! - [`address`]: where sockets listen or connect to, and who is at the other end
//! - [`listening`]: sockets that listen
//! - [`socket`], [`errno`]: sockets and error numbers as everybody here treats them
//!
//! Linux only: readiness, SIOCOUTQ and the order in which errors are reported are Linux's.

mod accept;
pub mod address;
mod alarm;
pub mod blocking;
#[doc(hidden)]
pub mod by_hand;
pub mod channel;
mod children;
mod client;
mod clock;
mod config;
pub mod errno;
mod event_loop;
pub mod exact;
mod handoff;
#[cfg(all(test, loom))]
mod interleavings;
mod iterative;
pub mod listening;
mod loads;
#[doc(hidden)]
pub mod loop_parts;
pub mod observer;
pub mod preface;
mod pulse;
mod questions;
pub mod server;
pub mod service;
mod shared;
pub mod socket;
mod socket_file;
mod stats;
mod stop;
pub mod stream;
mod sync;
mod sys;
mod timers;
mod turn;

pub use address::{Address, Peer, UnixName};
pub use blocking::BlockingConnection;
pub use children::Launcher;
pub use exact::{ExactError, Stream, recv_exact, send_exact};
pub use observer::{Event, Observer};
pub use preface::{PrefaceSource, ProxyPreface};
pub use server::{Handle, Model, Server, ServerConfig, Summary};
pub use service::{Reply, Service, Session};
pub use stream::{ClientStream, Incoming};
pub use trust_wire as wire;

/// Compiles and runs the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
