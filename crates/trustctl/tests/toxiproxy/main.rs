//! `trustctl toxiproxy-server`: what its toxics do to traffic, and when.
//!
//! What its API answers is tested in `trust-toxiproxy`, and with clients that are not ours by `make
//! toxiproxy`.

mod changes;
mod control;
mod crowd;
mod endings;
mod latency;
mod pace;
mod places;
mod server;
mod toxicity;
