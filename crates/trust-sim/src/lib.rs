//! Whole connections under a seeded adversary, in simulated time.
//!
//! The core that decides about connections does no I/O and reads no clock, so clients, networks and
//! hours can be simulated around it in microseconds. A seed decides everything that happens. A
//! second, naive model of the protocol, together with the simulated network, knows the right
//! outcome.
//!
//! - [`script`]: from a seed to what happens; [`loopback`]: the same for a real server
//! - [`simulation`]: clients, paths and a server, joined by a clock
//! - [`network`], [`peer`], [`driver`]: a TCP path, a client at one end, the server at the other;
//!   [`link`]: a path and its client
//! - [`relay`]: the same for a relay between two peers
//! - [`watched`]: a connection whose turns are judged
//! - [`check`], [`model`], [`effort`]: what must hold
//! - [`shrink`]: reduces a failing script to a small one
#![forbid(unsafe_code)]

pub mod check;
pub mod clock;
pub mod driver;
pub mod effort;
pub mod errno;
pub mod link;
pub mod loopback;
pub mod model;
pub mod network;
pub mod peer;
pub mod relay;
pub mod rng;
pub mod script;
pub mod shrink;
pub mod simulation;
pub mod watched;
