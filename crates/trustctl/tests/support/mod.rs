//! What the black-box suites share: executables under test, scripted peers, a strict event reader.
//!
//! Helpers panic with a reason that names what was awaited and what came instead, so that a test
//! reads as the sentence it checks. Every wait is bounded, every process and directory has an owner
//! that removes it when the test ends, in whatever way.

#![allow(dead_code, reason = "each suite is a crate of its own and uses its own part of this")]

use std::time::Duration;

pub(crate) mod apart;
pub(crate) mod event;
pub(crate) mod followed;
pub(crate) mod kernel;
pub(crate) mod leftovers;
pub(crate) mod libtest;
pub(crate) mod model;
pub(crate) mod net;
pub(crate) mod output;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod runner;
pub(crate) mod scene;
pub(crate) mod server;
pub(crate) mod super_server;
pub(crate) mod tools;
pub(crate) mod witness;

/// Longest wait for one step of a test: an event, an answer, the end of a process.
///
/// Generous, because the machine may be busy; a correct build never comes near it.
pub(crate) const STEP_DEADLINE: Duration = Duration::from_secs(10);
