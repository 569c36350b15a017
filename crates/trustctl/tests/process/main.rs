//! A process a client: `echo-server --model process`, its children, and what becomes of them.

mod children;
mod deaths;
mod places;
mod serving;
mod stopping;
