//! What to do when `accept(2)` fails, and when all places are taken.

use std::io;
use std::time::Duration;

use trust_wire::Timestamp;

use crate::address::Peer;
use crate::errno::{self, ErrorClass, Operation};
use crate::observer::{Event, Observer};

/// Clients without a place that may linger at the same time; any beyond that get RST. Enough to
/// close a burst of them cleanly, and too few to matter for descriptors.
pub(crate) const MAX_REJECTED_LINGERING: usize = 64;

/// Failures in a row after which accepting pauses: a network that is down does not come back faster
/// for being asked more often.
const FAILURES_BEFORE_PAUSE: u32 = 10;

/// How long accepting pauses. With one try after each pause this makes at most ten calls a second.
const PAUSE: Duration = Duration::from_millis(100);

/// What came of a try to accept.
pub enum Accepted<T> {
    /// A client.
    Client(T),
    /// No client is waiting.
    Drained,
    /// A signal came first: there may be something more urgent than the next try.
    Interrupted,
    /// Nothing before [`AcceptPolicy::paused_until`].
    Paused,
    /// The listening socket is unusable.
    Failed(i32),
}

/// Accepts, and decides what to do when that fails.
#[derive(Debug, Default)]
pub struct AcceptPolicy {
    failures_in_a_row: u32,
    /// When to try again after a pause; zero when there is none.
    paused_until: Timestamp,
    /// The pause is for want of descriptors or memory, and was announced.
    exhausted: bool,
    failures: RateLimit,
    rejects: RateLimit,
}

impl AcceptPolicy {
    /// Tries once, or a few times if single clients fail.
    pub fn accept<T>(
        &mut self,
        now: Timestamp,
        observer: &dyn Observer,
        mut accept: impl FnMut() -> io::Result<T>,
    ) -> Accepted<T> {
        if now < self.paused_until {
            return Accepted::Paused;
        }
        loop {
            let errno = match accept() {
                Ok(client) => {
                    self.handle_success(observer);
                    return Accepted::Client(client);
                }
                Err(error) => errno::of(&error),
            };
            match errno::classify(errno, Operation::Accept) {
                ErrorClass::WouldBlock => {
                    self.handle_success(observer);
                    return Accepted::Drained;
                }
                ErrorClass::Interrupted => {
                    observer.observe(&Event::Interrupted { during: None });
                    return Accepted::Interrupted;
                }
                ErrorClass::Exhausted => {
                    self.handle_exhausted(now, errno, observer);
                    return Accepted::Paused;
                }
                ErrorClass::Fatal => {
                    observer.observe(&Event::ListenerFailed { errno });
                    return Accepted::Failed(errno);
                }
                _ => {
                    self.note_failure(now, errno, observer);
                    if self.failures_in_a_row >= FAILURES_BEFORE_PAUSE {
                        self.paused_until = now + PAUSE;
                        return Accepted::Paused;
                    }
                }
            }
        }
    }

    /// When a pause ends; [`Timestamp::NEVER`] if there is none.
    pub fn paused_until(&self, now: Timestamp) -> Timestamp {
        if now < self.paused_until { self.paused_until } else { Timestamp::NEVER }
    }

    /// Whether accepting is paused.
    pub fn is_paused(&self, now: Timestamp) -> bool {
        now < self.paused_until
    }

    /// What a client needs, its connection or something beside it, cannot be had now.
    pub fn handle_exhausted(&mut self, now: Timestamp, errno: i32, observer: &dyn Observer) {
        if !self.exhausted {
            self.exhausted = true;
            observer.observe(&Event::AcceptPaused { errno });
        }
        self.paused_until = now + PAUSE;
    }

    /// A client has all that it needs.
    pub fn handle_success(&mut self, observer: &dyn Observer) {
        self.failures_in_a_row = 0;
        if self.exhausted {
            self.exhausted = false;
            observer.observe(&Event::AcceptResumed);
        }
    }

    /// A descriptor was closed: there may be one for the next client.
    pub fn handle_descriptor_free(&mut self) {
        if self.exhausted {
            self.resume();
        }
    }

    /// Ends a pause.
    pub fn resume(&mut self) {
        self.paused_until = Timestamp::default();
    }

    /// A client was turned away because all places are taken.
    pub fn note_reject(&mut self, now: Timestamp, peer: Peer, observer: &dyn Observer) {
        if let Some(suppressed) = self.rejects.admit(now) {
            observer.observe(&Event::Rejected { peer, suppressed });
        }
    }

    fn note_failure(&mut self, now: Timestamp, errno: i32, observer: &dyn Observer) {
        self.failures_in_a_row += 1;
        if let Some(suppressed) = self.failures.admit(now) {
            observer.observe(&Event::AcceptFailed { errno, suppressed });
        }
    }
}

/// Lets one event per second through and counts the others.
#[derive(Debug, Default)]
struct RateLimit {
    last: Option<Timestamp>,
    suppressed: u64,
}

impl RateLimit {
    const INTERVAL: Duration = Duration::from_secs(1);

    /// How many were suppressed before this one, if this one may pass.
    fn admit(&mut self, now: Timestamp) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + RateLimit::INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const EMFILE: i32 = 24;
    const ECONNABORTED: i32 = 103;
    const EINTR: i32 = 4;
    const EAGAIN: i32 = 11;
    const EBADF: i32 = 9;

    #[derive(Default)]
    struct Names(Mutex<Vec<String>>);

    impl Observer for Names {
        fn observe(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(format!("{event:?}"));
        }
    }

    impl Names {
        fn count(&self, name: &str) -> usize {
            self.0.lock().unwrap().iter().filter(|event| event.starts_with(name)).count()
        }
    }

    fn ms(count: u64) -> Timestamp {
        Timestamp::from_start(Duration::from_millis(count))
    }

    /// Accepts every millisecond for a second; returns how many calls were made.
    fn calls_in_a_second(policy: &mut AcceptPolicy, names: &Names, errno: i32) -> usize {
        let mut calls = 0;
        for now in 0..1000 {
            let accepted: Accepted<()> = policy.accept(ms(now), names, || {
                calls += 1;
                Err(io::Error::from_raw_os_error(errno))
            });
            assert!(!matches!(accepted, Accepted::Client(())));
        }
        calls
    }

    #[test]
    fn without_descriptors_accept_is_called_ten_times_a_second_and_says_so_once() {
        let (mut policy, names) = (AcceptPolicy::default(), Names::default());
        assert_eq!(calls_in_a_second(&mut policy, &names, EMFILE), 10);
        assert_eq!(names.count("AcceptPaused"), 1);
        policy.handle_descriptor_free();
        assert!(matches!(policy.accept(ms(1000), &names, || Ok(7)), Accepted::Client(7)));
        assert_eq!(names.count("AcceptResumed"), 1);
    }

    #[test]
    fn a_failed_client_does_not_keep_the_next_one_waiting() {
        let (mut policy, names) = (AcceptPolicy::default(), Names::default());
        let mut outcomes = [ECONNABORTED, ECONNABORTED].into_iter();
        let accepted = policy.accept(ms(0), &names, || match outcomes.next() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok("client"),
        });
        assert!(matches!(accepted, Accepted::Client("client")));
        assert_eq!(names.count("AcceptFailed"), 1);
    }

    #[test]
    fn ten_failures_in_a_row_make_a_pause() {
        let (mut policy, names) = (AcceptPolicy::default(), Names::default());
        assert_eq!(calls_in_a_second(&mut policy, &names, ECONNABORTED), 10 + 9);
        assert_eq!(names.count("AcceptFailed"), 1, "one event per second");
        assert_eq!(policy.failures.suppressed, 18);
    }

    #[test]
    fn an_empty_queue_and_a_broken_listener_are_told_apart() {
        let (mut policy, names) = (AcceptPolicy::default(), Names::default());
        let fails = |errno| move || Err::<(), _>(io::Error::from_raw_os_error(errno));
        assert!(matches!(policy.accept(ms(0), &names, fails(EAGAIN)), Accepted::Drained));
        assert!(matches!(policy.accept(ms(0), &names, fails(EBADF)), Accepted::Failed(EBADF)));
        assert!(matches!(policy.accept(ms(0), &names, fails(EINTR)), Accepted::Interrupted));
        assert_eq!(names.count("Interrupted"), 1);
    }
}
