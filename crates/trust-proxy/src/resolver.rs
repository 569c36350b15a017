//! Resolves names beside the event loop, whose clients must not wait for a name server.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use mio::Waker;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::resolve::resolve_blocking;
use trust_cli::target::{Family, Target};
use trust_cli::text::reason;
use trust_net::Address;

/// What came of a lookup.
pub(crate) type Lookup = Result<Vec<Address>, Failure>;

/// Looks names up, each in a thread of its own, because `getaddrinfo(3)` can neither be polled nor
/// cut short. The caller has at most one lookup per name under way, so there are as many threads.
pub(crate) struct Resolver {
    waker: Arc<Waker>,
    found: Arc<Mutex<Vec<(usize, Lookup)>>>,
}

impl Resolver {
    /// A resolver that wakes the event loop whenever [`Resolver::take_found`] has something.
    pub(crate) fn new(waker: Arc<Waker>) -> Resolver {
        Resolver { waker, found: Arc::default() }
    }

    /// Begins to look a target up; `key` is for the caller to know it by.
    pub(crate) fn look_up(&self, key: usize, target: &Target) {
        let (waker, found, target) =
            (Arc::clone(&self.waker), Arc::clone(&self.found), target.clone());
        let report = move |outcome| {
            found.lock().unwrap_or_else(PoisonError::into_inner).push((key, outcome));
            // It fails only if there is no event loop any longer.
            let _ = waker.wake();
        };
        let no_thread = {
            let report = report.clone();
            move |error: io::Error| {
                let message = format!("cannot start the resolver: {}", reason(&error));
                report(Err(Failure::new(ExitCode::OsLimit, message)));
            }
        };
        let run = move || report(resolve_blocking(&target, Family::Any));
        let started = thread::Builder::new().name("resolver".into()).spawn(run);
        started.map_or_else(no_thread, drop);
    }

    /// What has been found since the last call.
    pub(crate) fn take_found(&self) -> Vec<(usize, Lookup)> {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
