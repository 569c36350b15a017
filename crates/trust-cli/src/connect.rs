//! From the addresses of a target to a connection: racing for it (RFC 8305).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use trust_net::Address;
use trust_net::errno::{self, ErrorClass, Operation};
use trust_net::preface::ProxyPreface;
use trust_net::stream::ClientStream;

use crate::error_map::exit_code;
use crate::exit_code::{ExitCode, Failure};
use crate::resolve::Unreached;
use crate::signals::Signals;
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
    pub address: Address,
    /// The other addresses that the target had, in the order in which they are tried.
    pub others: Vec<Address>,
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
    addresses: &[Address],
    limit: Limit,
    signals: &Signals,
) -> Result<Connected, Unreached> {
    let mut race = Race::start(addresses.to_vec(), limit);
    let mut is_ready = vec![];
    loop {
        match race.proceed(&is_ready) {
            RaceProgress::Won(connected) => return Ok(connected),
            RaceProgress::Lost(losses) => {
                let failure = losses.failure(target);
                let is_not_yet = losses.0.iter().any(|(_, lost)| lost.is_not_yet);
                return Err(if is_not_yet { Unreached::NotYet(failure) } else { failure.into() });
            }
            RaceProgress::UnderWay => {}
        }
        let sockets: Vec<_> = race.sockets().map(|socket| (socket, PollFlags::OUT)).collect();
        is_ready = wait_for_any(signals, &sockets, race.until())?;
    }
}

/// Attempts to connect to several addresses that go on at the same time, for callers that do the
/// waiting: [`connect`], or an event loop. Every address is ahead, under way or lost.
#[derive(Debug)]
pub struct Race {
    addresses: Vec<Address>,
    limit: Limit,
    /// How many of the addresses have begun.
    begun: usize,
    attempts: Vec<Attempt>,
    lost: Vec<Lost>,
    /// When the next address begins.
    next: Instant,
}

/// How far a race is.
#[derive(Debug)]
pub enum RaceProgress {
    /// An address has answered.
    Won(Connected),
    /// None of them will.
    Lost(Losses),
    /// It goes on.
    UnderWay,
}

/// Why each of the addresses of a race did not answer, in their order.
#[derive(Debug)]
pub struct Losses(Vec<(Address, Lost)>);

/// An attempt to connect that goes on.
#[derive(Debug)]
struct Attempt {
    index: usize,
    state: AttemptState,
    began: Instant,
}

#[derive(Debug)]
enum AttemptState {
    /// The socket becomes writable when it has an answer.
    UnderWay(ClientStream),
    /// The accept queue of the unix socket was full: it is tried again then.
    Queueing { again: Instant },
}

/// An address that does not answer, and why.
#[derive(Debug)]
struct Lost {
    index: usize,
    exit: ExitCode,
    reason: String,
    /// It may answer later: the errno is one of a server that is not there yet.
    is_not_yet: bool,
    /// With this errno, if descriptors or memory have run out here.
    exhausted: Option<i32>,
}

impl Race {
    /// A race for these addresses, in which nothing has begun.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn start(addresses: Vec<Address>, limit: Limit) -> Race {
        assert!(!addresses.is_empty(), "resolving yields at least one address");
        let (attempts, lost) = (vec![], vec![]);
        Race { addresses, limit, begun: 0, attempts, lost, next: Instant::now() }
    }

    /// The sockets that become writable when they have an answer.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.attempts.iter().filter_map(|attempt| match &attempt.state {
            AttemptState::UnderWay(stream) => Some(stream.as_fd()),
            AttemptState::Queueing { .. } => None,
        })
    }

    /// When to go on at the latest, whichever sockets are ready; `None`: there is no such time.
    pub fn until(&self) -> Option<Instant> {
        let next = (self.begun < self.addresses.len()).then_some(self.next);
        let again = self.attempts.iter().filter_map(|attempt| match attempt.state {
            AttemptState::Queueing { again } => Some(again),
            AttemptState::UnderWay(_) => None,
        });
        next.into_iter().chain(self.limit.end).chain(again).min()
    }

    /// Goes on. `is_ready` says of each of the [`Race::sockets`] whether it is writable; those
    /// beyond its end are not.
    pub fn proceed(&mut self, is_ready: &[bool]) -> RaceProgress {
        if let Some(winner) = self.look_at_attempts(is_ready) {
            return RaceProgress::Won(winner);
        }
        if self.limit.end.is_some_and(|end| left(end).is_zero()) {
            self.give_up();
        }
        self.begin_what_is_due();
        match self.attempts.is_empty() {
            true => RaceProgress::Lost(self.take_losses()),
            false => RaceProgress::UnderWay,
        }
    }

    /// Ends it; its addresses.
    pub fn into_addresses(self) -> Vec<Address> {
        self.addresses
    }

    /// Begins with the next address if it is time, and with more as long as they fail at once.
    fn begin_what_is_due(&mut self) {
        while self.begun < self.addresses.len()
            && (self.attempts.is_empty() || left(self.next).is_zero())
        {
            let (index, began) = (self.begun, Instant::now());
            let address = &self.addresses[index];
            self.begun += 1;
            if let Some(ip) = address.ip()
                && let Err(reason) = zone::check_is_complete(&ip)
            {
                let exit = ExitCode::Unavailable;
                self.lost.push(Lost::plainly(index, exit, reason));
                continue;
            }
            if self.attempt(index, began) {
                // Half of a share, so that the last ones have some time too.
                let ahead = self.addresses.len() - self.begun;
                let share = self.limit.end.map(|end| left(end) / (2 * ahead as u32 + 1));
                self.next = began + share.map_or(ATTEMPT_DELAY, |it| it.min(ATTEMPT_DELAY));
            }
        }
    }

    /// Attempts to connect to an address, as since `began`; whether that goes on.
    fn attempt(&mut self, index: usize, began: Instant) -> bool {
        let address = &self.addresses[index];
        let state = match ClientStream::begin_connecting(address, |_| ()) {
            Ok(stream) => AttemptState::UnderWay(stream),
            Err(error) if ClientStream::is_queue_full(address, &error) => {
                let again = Instant::now() + ClientStream::queue_pause(began.elapsed());
                AttemptState::Queueing { again }
            }
            Err(error) => {
                self.lose(index, &error);
                return false;
            }
        };
        self.attempts.push(Attempt { index, state, began });
        true
    }

    /// Looks at the attempts that may have ended; the connection, if there is one.
    fn look_at_attempts(&mut self, is_ready: &[bool]) -> Option<Connected> {
        let mut is_ready = is_ready.iter().copied();
        for attempt in std::mem::take(&mut self.attempts) {
            let Attempt { index, began, .. } = attempt;
            let stream = match attempt.state {
                AttemptState::Queueing { again } if left(again).is_zero() => {
                    if !self.attempt(index, began) {
                        self.next = Instant::now();
                    }
                    continue;
                }
                AttemptState::UnderWay(stream) if is_ready.next() == Some(true) => stream,
                state => {
                    self.attempts.push(Attempt { state, ..attempt });
                    continue;
                }
            };
            match stream.finish_connecting() {
                Ok(()) => {
                    let (address, took) = (self.addresses[index].clone(), began.elapsed());
                    let others = self.addresses.iter().filter(|other| **other != address);
                    let others = others.cloned().collect();
                    return Some(Connected { stream, address, others, took });
                }
                Err(error) => {
                    self.lose(index, &error);
                    self.next = Instant::now();
                }
            }
        }
        None
    }

    fn lose(&mut self, index: usize, error: &io::Error) {
        let reason = refusal(&self.addresses[index], error);
        let exit = exit_code(error, Operation::Connect);
        let class = errno::classify(errno::of(error), Operation::Connect);
        let is_not_yet =
            matches!(class, ErrorClass::Refused | ErrorClass::Missing | ErrorClass::Unreachable);
        let exhausted = (class == ErrorClass::Exhausted).then(|| errno::of(error));
        self.lost.push(Lost { is_not_yet, exhausted, ..Lost::plainly(index, exit, reason) });
    }

    /// Counts every address that has not answered as lost: the limit is reached.
    fn give_up(&mut self) {
        let limit = self.limit;
        let begun = self.attempts.drain(..).map(|Attempt { index, state, .. }| match state {
            AttemptState::UnderWay(_) => (index, limit.message()),
            AttemptState::Queueing { .. } => {
                (index, format!("its accept queue is full: {}", limit.message()))
            }
        });
        let ahead = (self.begun..self.addresses.len()).map(|index| (index, limit.message()));
        for (index, reason) in begun.chain(ahead) {
            self.lost.push(Lost::plainly(index, ExitCode::TimedOut, reason));
        }
        self.begun = self.addresses.len();
    }

    fn take_losses(&mut self) -> Losses {
        let mut lost = std::mem::take(&mut self.lost);
        lost.sort_by_key(|lost| lost.index);
        let with_address = |lost: Lost| (self.addresses[lost.index].clone(), lost);
        Losses(lost.into_iter().map(with_address).collect())
    }
}

impl Lost {
    fn plainly(index: usize, exit: ExitCode, reason: String) -> Lost {
        Lost { index, exit, reason, is_not_yet: false, exhausted: None }
    }
}

impl Losses {
    /// With which errno descriptors or memory have run out here, if they have: that is no fault of
    /// the addresses.
    pub fn exhaustion(&self) -> Option<i32> {
        self.0.iter().find_map(|(_, lost)| lost.exhausted)
    }

    /// The failure of a command that needs the target: 75 if an address did not answer in time,
    /// else 77 if one was not permitted, else 69 if one refused or was unreachable, else 71 or 74.
    pub fn failure(&self, target: &Target) -> Failure {
        let ranks =
            [ExitCode::TimedOut, ExitCode::NotPermitted, ExitCode::Unavailable, ExitCode::OsLimit];
        let exit = ranks
            .into_iter()
            .find(|rank| self.0.iter().any(|(_, lost)| lost.exit == *rank))
            .unwrap_or(ExitCode::Io);
        let is_literal = |address: &Address| zone::shown_address(address) == target.to_string();
        let reasons = match self.0.as_slice() {
            [(address, lost)] if is_literal(address) => format!(": {}", lost.reason),
            [(address, lost)] => format!(" ({}): {}", zone::shown_host(address), lost.reason),
            all => {
                let listed = all.iter().take(LISTED_ADDRESSES_MAX);
                let mut reasons: Vec<String> = listed
                    .map(|(address, lost)| {
                        format!("{}: {}", zone::shown_host(address), lost.reason)
                    })
                    .collect();
                if all.len() > LISTED_ADDRESSES_MAX {
                    let more = all.len() - LISTED_ADDRESSES_MAX;
                    reasons.push(format!("and {more} more"));
                }
                format!(": {}", reasons.join("; "))
            }
        };
        Failure::new(exit, format!("cannot connect to {target}{reasons}"))
    }
}

/// Why an attempt to connect failed, in words that fit the kind of address.
pub fn refusal(address: &Address, error: &io::Error) -> String {
    let errno = Errno::from_raw_os_error(errno::of(error));
    match (address, errno) {
        (Address::Unix(_), Errno::NOENT) => "no such socket".to_owned(),
        (Address::Unix(_), Errno::CONNREFUSED) => "nothing listens there".to_owned(),
        (Address::Unix(_), Errno::PROTOTYPE) => "it is not a stream socket".to_owned(),
        _ => reason(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Stopped;

    use std::net::{SocketAddr, TcpListener};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};

    use socket2::{Domain, Socket, Type};
    use trust_net::UnixName;

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
    fn silent() -> (Address, Vec<Socket>) {
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap();
        let mut held = vec![full];
        loop {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            if client.connect_timeout(&address, Duration::from_millis(50)).is_err() {
                return (address.as_socket().unwrap().into(), held);
            }
            held.push(client);
        }
    }

    #[test]
    fn the_next_address_is_tried_when_one_refuses() {
        let signals = Signals::never();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = Address::from(listener.local_addr().unwrap());
        let closed = Address::from(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let limit = Limit::start(Duration::from_secs(60));
        let refused = connect(&target("name"), std::slice::from_ref(&closed), limit, &signals);
        assert_eq!(failure(refused).exit, ExitCode::Unavailable);
        let addresses = [closed, listening.clone()];
        let connected = connect(&target("name"), &addresses, limit, &signals).unwrap();
        assert_eq!(connected.address, listening);
        assert_eq!(connected.stream.peer_addr().unwrap(), listening);
    }

    #[test]
    fn a_silent_address_holds_up_the_next_for_the_delay_alone_even_without_a_limit() {
        let signals = Signals::never();
        let (silent, _held) = silent();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = Address::from(listener.local_addr().unwrap());
        let begun = Instant::now();
        let none = Limit::start(Duration::ZERO);
        let addresses = [silent, listening.clone()];
        let connected = connect(&target("name"), &addresses, none, &signals).unwrap();
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
        addresses.push(listener.local_addr().unwrap().into());
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

    /// A unix socket that has room for one client who waits, and one who does.
    fn full(name: &str) -> (Address, UnixListener, ClientStream) {
        let name = format!("trust-cli-{name}-{}", std::process::id());
        let address = UnixAddress::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = Address::Unix(UnixName::Abstract(name.into_bytes()));
        let waiting = ClientStream::begin_connecting(&address, |_| ()).unwrap();
        (address, listener, waiting)
    }

    #[test]
    fn a_full_accept_queue_of_a_unix_socket_is_tried_again_until_there_is_room() {
        let signals = Signals::never();
        let (address, listener, _waiting) = full("until-room");
        let (soon, made) = (Duration::from_millis(30), Duration::from_secs(60));
        let began = Instant::now();
        let room = std::thread::spawn(move || {
            std::thread::sleep(soon);
            // One makes room, and the other one is ours.
            [listener.accept().unwrap(), listener.accept().unwrap()].len()
        });
        let addresses = [address.clone()];
        let connected = connect(&target("name"), &addresses, Limit::start(made), &signals).unwrap();
        assert_eq!(connected.address, address);
        assert!(began.elapsed() >= soon, "there was no room yet");
        assert_eq!(room.join().unwrap(), 2);
    }

    #[test]
    fn a_full_accept_queue_of_a_unix_socket_ends_with_the_limit() {
        let signals = Signals::never();
        let (address, _listener, _waiting) = full("until-limit");
        let limit = Limit::start(Duration::from_millis(50));
        let end = failure(connect(&target("name"), &[address], limit, &signals));
        assert_eq!(end.exit, ExitCode::TimedOut);
        let why = "its accept queue is full: no answer within 0.05 s";
        assert!(end.message.ends_with(why), "{}", end.message);
    }

    #[test]
    fn a_unix_socket_on_which_nobody_listens_is_not_there_yet_whether_it_has_a_file_or_not() {
        let signals = Signals::never();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let address = [Address::Unix(UnixName::Path(path.clone()))];
        let none = Limit::start(Duration::ZERO);
        for why in ["no such socket", "nothing listens there"] {
            match connect(&target("name"), &address, none, &signals).map(drop) {
                Err(Unreached::NotYet(Failure {
                    exit: ExitCode::Unavailable, message, ..
                })) => {
                    assert!(message.ends_with(why), "{message}");
                }
                other => panic!("{why}: {other:?}"),
            }
            drop(UnixListener::bind(&path));
        }
    }

    #[test]
    fn the_worst_surprise_of_all_addresses_gives_the_exit_code() {
        let target = target("name");
        let address: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let address = Address::from(address);
        let lost =
            |exit, reason: &str| (address.clone(), Lost::plainly(0, exit, reason.to_owned()));
        let refused = || lost(ExitCode::Unavailable, "Connection refused");
        let silent = lost(ExitCode::TimedOut, "no answer within 5 s");
        let one = Losses(vec![refused()]).failure(&target);
        assert_eq!(one.message, "cannot connect to name:7 (192.0.2.1): Connection refused");
        let both = Losses(vec![refused(), silent]).failure(&target);
        assert_eq!(both.exit, ExitCode::TimedOut);
        let many = Losses(Vec::from_iter(std::iter::repeat_with(refused).take(6))).failure(&target);
        assert_eq!(many.exit, ExitCode::Unavailable);
        assert!(many.message.ends_with("Connection refused; and 2 more"));
    }
}
