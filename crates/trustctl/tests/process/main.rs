//! One process per client: `echo-server --model process`, its children, and how they end.

mod children;
mod deaths;
mod places;
mod serving;
mod stopping;
