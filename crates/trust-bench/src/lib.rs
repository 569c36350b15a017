//! Compares echo servers, load testers and relays: what an echo costs, and what ours add to it. Run
//! it with `make bench`.
#![forbid(unsafe_code)]

pub mod accuracy;
pub mod churn;
pub mod clients;
pub mod echoing;
pub mod goals;
pub mod kernel;
pub mod load;
pub mod measurement;
pub mod outcome;
pub mod peers;
pub mod process;
pub mod proxy;
mod readiness;
pub mod relays;
pub mod report;
pub mod rounds;
pub mod run;
pub mod statistics;
pub mod stream;
