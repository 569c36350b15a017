//! The proxy: `trustctl proxy`.

mod api;
pub mod command;
mod engine;
mod events;
mod frames;
mod options;
mod pairs;
mod resolver;
pub mod rules;
mod trace;
