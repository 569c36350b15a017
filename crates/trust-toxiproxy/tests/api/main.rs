//! The API as its clients see it: exchanges of `tests/vectors`, without HTTP and over it, and what
//! its server survives, and what the client of `toxiproxy-cli` makes of its answers.

mod cli;
mod control;
mod fake;
mod metrics;
mod page;
mod server;
mod vectors;
