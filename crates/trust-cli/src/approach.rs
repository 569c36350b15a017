//! From a target to a connection: resolving, racing, and waiting until the server is there.

use std::time::{Duration, Instant};

use trust_net::Address;
use trust_net::preface::ProxyPreface;

use crate::connect::{Connected, connect};
use crate::exit_code::Failure;
use crate::output::tell;
use crate::resolve::{Unreached, resolve};
use crate::signals::{Signals, Stopped};
use crate::target::{Family, Target};
use crate::text::seconds;
use crate::wait::{Limit, left};

/// The first pause between two tries; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause: name servers are not asked more often than this.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a client command gets to its server.
#[derive(Clone, Copy)]
pub struct Approach<'a> {
    /// The server.
    pub target: &'a Target,
    /// Which of its addresses are tried.
    pub family: Family,
    /// Longest time of one try, from resolving to a connection; 0: no limit.
    pub timeout: Duration,
    /// How long a server that is not there yet is tried again; 0: not at all.
    pub wait: Duration,
    /// What each connection begins with, if with a PROXY header.
    pub preface: Option<ProxyPreface>,
    /// What ends it.
    pub signals: &'a Signals,
}

impl Approach<'_> {
    /// The addresses of the server.
    ///
    /// # Errors
    ///
    /// As [`resolve`], once the wait is over.
    pub fn resolve(&self) -> Result<Vec<Address>, Stopped> {
        let limit = || Limit::start(self.timeout);
        self.wait_for(|| resolve(self.target, self.family, limit(), self.signals))
    }

    /// Connects to the server. The preface is sent already.
    ///
    /// # Errors
    ///
    /// As [`resolve`] and [`connect`], once the wait is over.
    pub fn reach(&self) -> Result<Connected, Stopped> {
        self.wait_for(|| self.attempt(None))
    }

    /// Connects to one of these addresses, or to one that the name has when they are tried again.
    ///
    /// # Errors
    ///
    /// As [`Approach::reach`].
    pub fn reach_first_at(&self, addresses: Vec<Address>) -> Result<Connected, Stopped> {
        let mut addresses = Some(addresses);
        self.wait_for(|| self.attempt(addresses.take()))
    }

    fn attempt(&self, addresses: Option<Vec<Address>>) -> Result<Connected, Unreached> {
        let limit = Limit::start(self.timeout);
        let addresses = match addresses {
            Some(addresses) => addresses,
            None => resolve(self.target, self.family, limit, self.signals)?,
        };
        let connected = connect(self.target, &addresses, limit, self.signals)?;
        Ok(connected.introduced_by(self.preface.as_ref()))
    }

    /// Tries again as long as the server is not there yet.
    fn wait_for<T>(&self, mut attempt: impl FnMut() -> Result<T, Unreached>) -> Result<T, Stopped> {
        let until = Instant::now() + self.wait;
        let mut pause = PAUSE_MIN;
        loop {
            let failure = match attempt() {
                Ok(done) => return Ok(done),
                Err(Unreached::NotYet(failure)) if self.wait.is_zero() => {
                    return Err(failure.into());
                }
                Err(Unreached::NotYet(failure)) => failure,
                Err(Unreached::For(stopped)) => return Err(stopped),
            };
            let (left, wait) = (left(until), seconds(self.wait));
            let Failure { exit, message, .. } = failure;
            if left.is_zero() {
                let message = format!("{message}, after {wait} of waiting");
                return Err(Failure::new(exit, message).into());
            }
            if pause == PAUSE_MIN {
                tell(&format!("{message}; waiting up to {wait} for it"));
            }
            if let Some(signal) = self.signals.wait(Some(pause.min(left))) {
                return Err(Stopped::Signal(signal));
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::exit_code::ExitCode;

    fn failure(result: Result<Connected, Stopped>) -> Failure {
        match result {
            Err(Stopped::Failed(failure)) => failure,
            other => panic!("no failure: {other:?}"),
        }
    }

    fn waiting<'a>(target: &'a Target, wait: Duration, signals: &'a Signals) -> Approach<'a> {
        let (family, timeout, preface) = (Family::Any, Duration::from_secs(60), None);
        Approach { target, family, timeout, wait, preface, signals }
    }

    #[test]
    fn a_server_that_never_comes_ends_the_wait_with_the_last_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (target, signals) = (Target::new("127.0.0.1", address.port()), Signals::never());
        let begun = Instant::now();
        let wait = Duration::from_millis(200);
        let refused = failure(waiting(&target, wait, &signals).reach());
        assert!(begun.elapsed() >= wait, "{:?}", begun.elapsed());
        assert_eq!(refused.exit, ExitCode::Unavailable);
        let expected =
            format!("cannot connect to {address}: Connection refused, after 0.2 s of waiting");
        assert_eq!(refused.message, expected);
        let at_once = failure(waiting(&target, Duration::ZERO, &signals).reach());
        assert_eq!(at_once.message, format!("cannot connect to {address}: Connection refused"));
    }

    #[test]
    fn what_waiting_does_not_change_is_not_waited_for() {
        let signals = Signals::never();
        let forever = Duration::from_secs(1_000_000);
        let v6 = Target::new("::1", 7);
        let wrong = Approach { family: Family::V4, ..waiting(&v6, forever, &signals) };
        assert_eq!(failure(wrong.reach()).exit, ExitCode::NoHost);
        let nowhere = Target::new("fe80::1%nosuch", 7);
        assert_eq!(failure(waiting(&nowhere, forever, &signals).reach()).exit, ExitCode::Usage);
    }
}
