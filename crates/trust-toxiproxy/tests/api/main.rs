//! The API as its clients see it: exchanges of `tests/vectors`, without HTTP and over it, and what
//! its server survives.

mod client;
mod control;
mod fake;
mod metrics;
mod page;
mod server;
mod vectors;
