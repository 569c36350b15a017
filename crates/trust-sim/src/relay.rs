//! A relay between two peers, under the same adversary.
//!
//! - [`script`]: from a seed to what happens, faults included; [`loopback`]: the same for a real
//!   proxy
//! - [`model`]: what becomes of a stream, told a second time, byte by byte
//! - [`simulation`]: two peers, their paths and a relay, joined by a clock
//! - [`witness`]: what must hold after every step; [`endings`]: what each peer must have got
pub mod endings;
pub mod loopback;
pub mod model;
pub mod script;
pub mod simulation;
pub mod witness;
