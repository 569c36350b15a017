//! From the addresses of a target to a connection: racing for it (RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use trust_net::errno::{self, ErrorClass, Operation};
use trust_net::preface::ProxyPreface;
use trust_net::stream::ClientStream;

use crate::error_map::exit_code;
use crate::exit_code::{ExitCode, Failure};
use crate::resolve::Unreached;
use crate::signals::{Signals, Stopped};
use crate::target::Target;
use crate::text::reason;
use crate::wait::{Limit, left, wait_for_any};
use crate::zone;

/// How long an address is alone with its attempt before the next one is tried too: the Connection
/// Attempt Delay that RFC 8305 recommends (section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Addresses that an error message lists; a name can have hundreds.
const LISTED_ADDRESSES_MAX: usize = 4;

/// A connection of the address that won.
#[derive(Debug)]
pub struct Connected {
    /// It is there.
    pub stream: ClientStream,
    /// Whose it is.
    pub address: SocketAddr,
    /// The other addresses that the target had, in the order in which they are tried.
    pub others: Vec<SocketAddr>,
    /// How long connecting to this address took, whatever the others before it took.
    pub took: Duration,
}

impl Connected {
    /// Sends a PROXY header, if there is one to send, before anything else.
    pub fn introduced_by(mut self, preface: Option<&ProxyPreface>) -> Connected {
        if let Some(preface) = preface {
            self.stream.send_preface(preface);
        }
        self
    }
}

/// Connects to the first address that answers. Each begins 250 ms after the one before it, or as
/// soon as that fails, and goes on beside the others, so that a silent address costs no more than
/// that, even without a limit. If the limit is too short for a delay before each, the delays are
/// shorter.
///
/// # Errors
///
/// With the reason for each address: 75 if one did not answer in time, else 77 if one was not
/// permitted, else 69 if one refused or was unreachable, else 71 or 74.
///
/// # Panics
///
/// If there are no addresses.
pub fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    limit: Limit,
    signals: &Signals,
) -> Result<Connected, Unreached> {
    assert!(!addresses.is_empty(), "resolving yields at least one address");
    let mut race =
        Race { addresses, begun: 0, attempts: vec![], lost: vec![], next: Instant::now() };
    loop {
        race.begin_what_is_due(limit);
        if race.attempts.is_empty() {
            let is_not_yet = race.lost.iter().any(|lost| lost.is_not_yet);
            let failure = nobody_answered(target, &race.reasons());
            return Err(if is_not_yet { Unreached::NotYet(failure) } else { failure.into() });
        }
        if let Some(winner) = race.wait(limit, signals)? {
            return Ok(winner);
        }
        if limit.end.is_some_and(|end| left(end).is_zero()) {
            race.give_up(limit);
        }
    }
}

/// Attempts that go on at the same time. Every address is ahead, under way or lost.
struct Race<'a> {
    addresses: &'a [SocketAddr],
    /// How many of the addresses have begun.
    begun: usize,
    attempts: Vec<Attempt>,
    lost: Vec<Lost>,
    /// When the next address begins.
    next: Instant,
}

/// An attempt to connect that goes on.
struct Attempt {
    index: usize,
    stream: ClientStream,
    began: Instant,
}

/// An address that does not answer, and why.
struct Lost {
    index: usize,
    exit: ExitCode,
    reason: String,
    /// It may answer later: the errno is one of a server that is not there yet.
    is_not_yet: bool,
}

impl Race<'_> {
    /// Begins with the next address if it is time, and with more as long as they fail at once.
    fn begin_what_is_due(&mut self, limit: Limit) {
        while self.begun < self.addresses.len()
            && (self.attempts.is_empty() || left(self.next).is_zero())
        {
            let (index, began) = (self.begun, Instant::now());
            let address = self.addresses[index];
            self.begun += 1;
            if let Err(reason) = zone::check_is_complete(&address) {
                self.lost.push(Lost {
                    index,
                    exit: ExitCode::Unavailable,
                    reason,
                    is_not_yet: false,
                });
                continue;
            }
            match ClientStream::begin_connecting(address, |_| ()) {
                Ok(stream) => {
                    self.attempts.push(Attempt { index, stream, began });
                    let ahead = self.addresses.len() - self.begun;
                    let share = limit.end.map(|end| left(end) / (ahead as u32 + 1));
                    self.next = began + share.map_or(ATTEMPT_DELAY, |it| it.min(ATTEMPT_DELAY));
                }
                Err(error) => self.lose(index, &error),
            }
        }
    }

    /// Waits for an attempt to end, for the next to begin or for the limit; the connection, if
    /// there is one.
    fn wait(&mut self, limit: Limit, signals: &Signals) -> Result<Option<Connected>, Stopped> {
        let next = (self.begun < self.addresses.len()).then_some(self.next);
        let until = next.into_iter().chain(limit.end).min();
        let sockets: Vec<_> =
            self.attempts.iter().map(|it| (it.stream.as_fd(), PollFlags::OUT)).collect();
        let mut is_ready = wait_for_any(signals, &sockets, until)?.into_iter();
        for attempt in std::mem::take(&mut self.attempts) {
            if is_ready.next() != Some(true) {
                self.attempts.push(attempt);
                continue;
            }
            let Attempt { index, stream, began } = attempt;
            match stream.finish_connecting() {
                Ok(()) => {
                    let (address, took) = (self.addresses[index], began.elapsed());
                    let others = self.addresses.iter().copied().filter(|other| *other != address);
                    let others = others.collect();
                    return Ok(Some(Connected { stream, address, others, took }));
                }
                Err(error) => {
                    self.lose(index, &error);
                    self.next = Instant::now();
                }
            }
        }
        Ok(None)
    }

    fn lose(&mut self, index: usize, error: &io::Error) {
        let (exit, reason) = (exit_code(error, Operation::Connect), reason(error));
        let class = errno::classify(errno::of(error), Operation::Connect);
        let is_not_yet = matches!(class, ErrorClass::Refused | ErrorClass::Unreachable);
        self.lost.push(Lost { index, exit, reason, is_not_yet });
    }

    /// Counts every address that has not answered as lost: the limit is reached.
    fn give_up(&mut self, limit: Limit) {
        let begun = self.attempts.drain(..).map(|attempt| attempt.index);
        for index in begun.chain(self.begun..self.addresses.len()) {
            let (exit, reason) = (ExitCode::TimedOut, limit.message());
            self.lost.push(Lost { index, exit, reason, is_not_yet: false });
        }
        self.begun = self.addresses.len();
    }

    /// In the order of the addresses.
    fn reasons(mut self) -> Vec<(SocketAddr, ExitCode, String)> {
        self.lost.sort_by_key(|lost| lost.index);
        let reason = |lost: Lost| (self.addresses[lost.index], lost.exit, lost.reason);
        self.lost.into_iter().map(reason).collect()
    }
}

fn nobody_answered(target: &Target, errors: &[(SocketAddr, ExitCode, String)]) -> Failure {
    let ranks =
        [ExitCode::TimedOut, ExitCode::NotPermitted, ExitCode::Unavailable, ExitCode::OsLimit];
    let exit = ranks
        .into_iter()
        .find(|rank| errors.iter().any(|(_, exit, _)| exit == rank))
        .unwrap_or(ExitCode::Io);
    let is_literal = |address: &SocketAddr| zone::shown(address) == target.to_string();
    let reasons = match errors {
        [(address, _, reason)] if is_literal(address) => format!(": {reason}"),
        [(address, _, reason)] => format!(" ({}): {reason}", zone::shown_ip(address)),
        _ => {
            let listed = errors.iter().take(LISTED_ADDRESSES_MAX);
            let mut reasons: Vec<String> = listed
                .map(|(address, _, reason)| format!("{}: {reason}", zone::shown_ip(address)))
                .collect();
            if errors.len() > LISTED_ADDRESSES_MAX {
                let more = errors.len() - LISTED_ADDRESSES_MAX;
                reasons.push(format!("and {more} more"));
            }
            format!(": {}", reasons.join("; "))
        }
    };
    Failure::new(exit, format!("cannot connect to {target}{reasons}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    fn target(host: &str) -> Target {
        Target::new(host, 7)
    }

    fn failure(result: Result<Connected, Unreached>) -> Failure {
        match result.map_err(Stopped::from) {
            Err(Stopped::Failed(failure)) => failure,
            other => panic!("no failure: {other:?}"),
        }
    }

    /// An address that drops SYNs, as its accept queue is full, and what fills it.
    fn silent() -> (SocketAddr, Vec<Socket>) {
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap();
        let mut held = vec![full];
        loop {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            if client.connect_timeout(&address, Duration::from_millis(50)).is_err() {
                return (address.as_socket().unwrap(), held);
            }
            held.push(client);
        }
    }

    #[test]
    fn the_next_address_is_tried_when_one_refuses() {
        let signals = Signals::never();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let limit = Limit::start(Duration::from_secs(60));
        let refused = connect(&target("name"), &[closed], limit, &signals);
        assert_eq!(failure(refused).exit, ExitCode::Unavailable);
        let connected = connect(&target("name"), &[closed, listening], limit, &signals).unwrap();
        assert_eq!(
            (connected.address, connected.stream.peer_addr().unwrap()),
            (listening, listening)
        );
    }

    #[test]
    fn a_silent_address_holds_up_the_next_for_the_delay_alone_even_without_a_limit() {
        let signals = Signals::never();
        let (silent, _held) = silent();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let begun = Instant::now();
        let none = Limit::start(Duration::ZERO);
        let connected = connect(&target("name"), &[silent, listening], none, &signals).unwrap();
        assert_eq!(connected.address, listening);
        let waited = begun.elapsed();
        // What the winner took is its own.
        assert!(waited >= ATTEMPT_DELAY && waited - connected.took >= ATTEMPT_DELAY, "{waited:?}");
    }

    #[test]
    fn the_last_of_many_silent_addresses_has_its_turn_within_the_limit() {
        let signals = Signals::never();
        let (silent, _held) = silent();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut addresses = vec![silent; 40];
        addresses.push(listener.local_addr().unwrap());
        // 40 delays are 10 s.
        let limit = Limit::start(Duration::from_secs(5));
        let connected = connect(&target("name"), &addresses, limit, &signals).unwrap();
        assert_eq!(connected.address, addresses[40]);
    }

    #[test]
    fn an_address_that_does_not_answer_ends_with_the_limit() {
        let signals = Signals::never();
        let (silent, _held) = silent();
        let limit = Limit::start(Duration::from_millis(50));
        let end = failure(connect(&target("name"), &[silent], limit, &signals));
        assert_eq!(end.exit, ExitCode::TimedOut);
        let expected = "cannot connect to name:7 (127.0.0.1): no answer within 0.05 s";
        assert_eq!(end.message, expected);
    }

    #[test]
    fn the_worst_surprise_of_all_addresses_gives_the_exit_code() {
        let target = target("name");
        let address: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let refused = (address, ExitCode::Unavailable, "Connection refused".to_owned());
        let silent = (address, ExitCode::TimedOut, "no answer within 5 s".to_owned());
        let one = nobody_answered(&target, std::slice::from_ref(&refused));
        assert_eq!(one.message, "cannot connect to name:7 (192.0.2.1): Connection refused");
        let both = nobody_answered(&target, &[refused.clone(), silent]);
        assert_eq!(both.exit, ExitCode::TimedOut);
        let many = nobody_answered(&target, &vec![refused; 6]);
        assert_eq!(many.exit, ExitCode::Unavailable);
        assert!(many.message.ends_with("Connection refused; and 2 more"));
    }
}
