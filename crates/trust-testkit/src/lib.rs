//! What the black-box suites share: executables under test, scripted peers, a strict event reader.
//!
//! Helpers panic with a message that names what was awaited and what came instead, so that a test
//! reads like the sentence it checks. Every wait is bounded. Every process and directory has an
//! owner that removes it when the test ends, however it ends.

#![allow(missing_docs, reason = "the sentences that tests are made of say what they are")]
#![allow(clippy::new_without_default, reason = "`new` makes a directory, or skips the test")]

use std::time::Duration;

pub use libtest_mimic;

pub mod docs;
pub mod document;
pub mod event;
pub mod files;
pub mod followed;
pub mod http;
pub mod kernel;
pub mod leftovers;
pub mod model;
pub mod net;
pub mod output;
pub mod peer;
pub mod program;
pub mod runner;
pub mod scene;
pub mod server;
pub mod suite;
pub mod super_server;
pub mod terminal;
pub mod tools;
pub mod witness;

/// Longest wait for one step of a test: an event, an answer, the end of a process.
///
/// Generous, because the machine may be busy; a correct build never comes close to it.
pub const STEP_DEADLINE: Duration = Duration::from_secs(25);
