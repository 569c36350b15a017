//! From a target to a connection: resolving its name, trying every address.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use trust_net::errno::Operation;
use trust_net::stream::ClientStream;

use crate::error_map::exit_code;
use crate::exit_code::{ExitCode, Failure};
use crate::signals::{Signals, Stopped};
use crate::target::{Family, Target};
use crate::text::{reason, seconds};
use crate::values::quoted;
use crate::wait::{left, wait_for};
use crate::zone;

/// Addresses that an error message lists; a name can have hundreds.
const LISTED_ADDRESSES_MAX: usize = 4;

/// One time limit over several steps.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    time: Option<Duration>,
    end: Option<Instant>,
}

impl Limit {
    /// A limit that runs from now on; zero means none.
    pub fn start(time: Duration) -> Limit {
        let time = (!time.is_zero()).then_some(time);
        Limit { time, end: time.map(|time| Instant::now() + time) }
    }

    fn message(&self) -> String {
        match self.time {
            Some(time) => format!("no answer within {}", seconds(time)),
            None => "no answer".to_owned(),
        }
    }
}

/// All addresses of the target. A signal does not wait for the name server.
///
/// # Errors
///
/// 64 for an unknown interface; 68 for an unknown name or one without address of that family, 75
/// after the limit.
pub fn resolve(
    target: &Target,
    family: Family,
    limit: Limit,
    signals: &Signals,
) -> Result<Vec<SocketAddr>, Stopped> {
    let addresses = match zone::literal(target.host(), target.port())? {
        Some(address) => vec![address],
        None => look_up(target, limit, signals)?,
    };
    let mut fitting: Vec<SocketAddr> = addresses.into_iter().filter(|a| family.has(a)).collect();
    fitting.dedup();
    if fitting.is_empty() {
        let kind = match family {
            Family::Any => "an",
            Family::V4 => "an IPv4",
            Family::V6 => "an IPv6",
        };
        let message = format!("host {} does not have {kind} address", quoted(target.host()));
        return Err(Failure::new(ExitCode::NoHost, message).into());
    }
    Ok(fitting)
}

/// Connects to the first address that answers.
///
/// Each address gets an equal share of what is left of the limit, so that a silent one does not use
/// up the time of those after it.
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
) -> Result<ClientStream, Stopped> {
    assert!(!addresses.is_empty(), "resolving yields at least one address");
    let mut errors = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        if let Err(fault) = zone::check_is_complete(address) {
            errors.push((*address, ExitCode::Unavailable, fault));
            continue;
        }
        let share = (addresses.len() - index) as u32;
        let until = limit.end.map(|end| Instant::now() + left(end) / share);
        let error = match ClientStream::begin_connecting(*address, |_| ()) {
            Ok(stream) if !wait_for(signals, stream.as_fd(), PollFlags::OUT, until)? => {
                errors.push((*address, ExitCode::TimedOut, limit.message()));
                continue;
            }
            Ok(stream) => match stream.finish_connecting() {
                Ok(()) => return Ok(stream),
                Err(error) => error,
            },
            Err(error) => error,
        };
        errors.push((*address, exit_code(&error, Operation::Connect), reason(&error)));
    }
    Err(nobody_answered(target, &errors).into())
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

/// Asks the resolver, in a thread of its own as getaddrinfo(3) can neither be polled nor cut short.
fn look_up(target: &Target, limit: Limit, signals: &Signals) -> Result<Vec<SocketAddr>, Stopped> {
    let no_thread = |error: io::Error| {
        let message = format!("cannot start the resolver: {}", reason(&error));
        Stopped::Failed(Failure::new(ExitCode::OsLimit, message))
    };
    let (done, finished) = io::pipe().map_err(no_thread)?;
    let (found_in, found_out) = mpsc::channel();
    let name = (target.host().to_owned(), target.port());
    let resolver = move || {
        let found = name.to_socket_addrs().map(Vec::from_iter);
        // Nobody listens any more after a signal or the limit.
        let _ = found_in.send(found);
        drop(finished);
    };
    thread::Builder::new().name("resolver".into()).spawn(resolver).map_err(no_thread)?;
    let host = quoted(target.host());
    if !wait_for(signals, done.as_fd(), PollFlags::IN, limit.end)? {
        let message = format!("cannot resolve host {host}: {}", limit.message());
        return Err(Failure::new(ExitCode::TimedOut, message).into());
    }
    let found = found_out.recv().unwrap_or_else(|_| Err(io::Error::other("the resolver died")));
    found.map_err(|error| {
        let reason = reason(&error);
        let reason = reason.trim_start_matches("failed to lookup address information: ");
        let message = format!("cannot resolve host {host}: {reason}");
        Failure::new(ExitCode::NoHost, message).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    const TARGET_PORT: u16 = 7;

    fn target(host: &str) -> Target {
        Target::new(host, TARGET_PORT)
    }

    fn failure<T>(result: Result<T, Stopped>) -> Failure {
        match result {
            Err(Stopped::Failed(failure)) => failure,
            Err(Stopped::Signal(signal)) => panic!("{signal:?}"),
            Ok(_) => panic!("no failure"),
        }
    }

    #[test]
    fn an_address_is_its_own_only_address() {
        let signals = Signals::never();
        let limit = Limit::start(Duration::ZERO);
        let found = resolve(&target("::1"), Family::Any, limit, &signals);
        assert_eq!(found.unwrap(), ["[::1]:7".parse().unwrap()]);
        let wrong = failure(resolve(&target("::1"), Family::V4, limit, &signals));
        assert_eq!(wrong.exit, ExitCode::NoHost);
        assert_eq!(wrong.message, "host '::1' does not have an IPv4 address");
    }

    #[test]
    fn a_name_that_cannot_exist_is_unknown() {
        let signals = Signals::never();
        let limit = Limit::start(Duration::ZERO);
        // Longer than a label may be, so that no name server is asked.
        let name = "x".repeat(64);
        let unknown = failure(resolve(&target(&name), Family::Any, limit, &signals));
        assert_eq!(unknown.exit, ExitCode::NoHost);
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
        let stream = connect(&target("name"), &[closed, listening], limit, &signals).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listening);
    }

    #[test]
    fn an_address_that_does_not_answer_ends_with_the_limit() {
        let signals = Signals::never();
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = vec![];
        let end = loop {
            let limit = Limit::start(Duration::from_millis(50));
            match connect(&target("name"), &[address], limit, &signals) {
                Ok(stream) => waiting.push(stream),
                error => break failure(error),
            }
        };
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
