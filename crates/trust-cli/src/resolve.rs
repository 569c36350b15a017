//! From a target to its addresses.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;

use rustix::event::PollFlags;
use trust_net::Address;

use crate::exit_code::{ExitCode, Failure};
use crate::signals::{Signals, Stopped};
use crate::target::{Family, Target, TargetPlace};
use crate::text::reason;
use crate::values::quoted;
use crate::wait::{Limit, wait_for};
use crate::zone;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// The server may be there later: its name is unknown, nothing listens, or no route leads
    /// there.
    NotYet(Failure),
    /// Anything else, which another try does not change.
    For(Stopped),
}

impl From<Stopped> for Unreached {
    fn from(stopped: Stopped) -> Unreached {
        Unreached::For(stopped)
    }
}

impl From<Failure> for Unreached {
    fn from(failure: Failure) -> Unreached {
        Unreached::For(failure.into())
    }
}

impl From<Unreached> for Stopped {
    fn from(unreached: Unreached) -> Stopped {
        match unreached {
            Unreached::NotYet(failure) => failure.into(),
            Unreached::For(stopped) => stopped,
        }
    }
}

/// All addresses of the target in the order in which they are tried, each once: that of the system
/// (RFC 6724), but with the families in turn (RFC 8305, section 4), so that one of them that leads
/// nowhere costs one delay and not many. A signal does not wait for the name server. A unix socket
/// is its own only address, whether it is there or not.
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
) -> Result<Vec<Address>, Unreached> {
    resolve_with(target, family, |host, port| look_up(host, port, limit, signals))
}

/// The same for a thread that may wait for as long as the name server takes.
///
/// # Errors
///
/// As [`resolve`], without a limit.
pub fn resolve_blocking(target: &Target, family: Family) -> Result<Vec<Address>, Failure> {
    resolve_with(target, family, |host, port| {
        ask_resolver(host, port).map_err(|error| unresolved(&quoted(host), &error))
    })
    .map_err(|unreached| match unreached {
        Unreached::NotYet(failure) | Unreached::For(Stopped::Failed(failure)) => failure,
        Unreached::For(Stopped::Signal(_)) => unreachable!("no signals were listened for"),
    })
}

/// The addresses that a target spells, if it is no name: an address, or a unix socket.
///
/// # Errors
///
/// 64 for an unknown interface.
pub fn literal_addresses(target: &Target) -> Result<Option<Vec<Address>>, Failure> {
    match target.place() {
        TargetPlace::Unix(name) => Ok(Some(vec![Address::Unix(name.clone())])),
        TargetPlace::Host { host, port } => {
            Ok(zone::literal(host, *port)?.map(|address| vec![Address::Ip(address)]))
        }
    }
}

fn resolve_with(
    target: &Target,
    family: Family,
    look_up: impl FnOnce(&str, u16) -> Result<Vec<SocketAddr>, Unreached>,
) -> Result<Vec<Address>, Unreached> {
    let (host, port) = match target.place() {
        TargetPlace::Host { host, port } => (host, *port),
        TargetPlace::Unix(name) => return Ok(vec![Address::Unix(name.clone())]),
    };
    let literal = zone::literal(host, port)?;
    let addresses = match literal {
        Some(address) => vec![address],
        None => look_up(host, port)?,
    };
    let mut fitting: Vec<SocketAddr> = vec![];
    for address in addresses.into_iter().filter(|address| family.has(address)) {
        if !fitting.contains(&address) {
            fitting.push(address);
        }
    }
    if fitting.is_empty() {
        let kind = match family {
            Family::Any => "an",
            Family::V4 => "an IPv4",
            Family::V6 => "an IPv6",
        };
        let message = format!("host {} does not have {kind} address", quoted(host));
        let failure = Failure::new(ExitCode::NoHost, message);
        // A name can get more addresses, and an address no other family.
        let is_name = literal.is_none();
        return Err(if is_name { Unreached::NotYet(failure) } else { failure.into() });
    }
    Ok(families_in_turn(fitting).into_iter().map(Address::Ip).collect())
}

/// The first family's first address, the other one's, the first one's second and so on.
fn families_in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return addresses };
    let is_first = |address: &SocketAddr| address.is_ipv6() == first.is_ipv6();
    let (ours, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_first);
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    let mut in_turn = vec![];
    while ours.len() + others.len() > 0 {
        in_turn.extend(ours.next());
        in_turn.extend(others.next());
    }
    in_turn
}

/// `localhost` is this host even if no file and no name server knows it, as in a system without
/// `/etc/hosts` (RFC 6761, section 6.3).
fn loopback(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let addresses = || vec![(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()];
    host.eq_ignore_ascii_case("localhost").then(addresses)
}

/// Asks the resolver, in a thread of its own as getaddrinfo(3) can neither be polled nor cut short.
fn look_up(
    host: &str,
    port: u16,
    limit: Limit,
    signals: &Signals,
) -> Result<Vec<SocketAddr>, Unreached> {
    let no_thread = |error: io::Error| {
        let message = format!("cannot start the resolver: {}", reason(&error));
        Unreached::from(Failure::new(ExitCode::OsLimit, message))
    };
    let (done, finished) = io::pipe().map_err(no_thread)?;
    let (found_in, found_out) = mpsc::channel();
    let name = (host.to_owned(), port);
    let resolver = move || {
        // After a signal or the limit, the receiver is gone.
        let _ = found_in.send(ask_resolver(&name.0, name.1));
        drop(finished);
    };
    thread::Builder::new().name("resolver".into()).spawn(resolver).map_err(no_thread)?;
    let host = quoted(host);
    if !wait_for(signals, done.as_fd(), PollFlags::IN, limit.end)? {
        let message = format!("cannot resolve host {host}: {}", limit.message());
        return Err(Failure::new(ExitCode::TimedOut, message).into());
    }
    let found = found_out.recv().unwrap_or_else(|_| Err(io::Error::other("the resolver died")));
    found.map_err(|error| unresolved(&host, &error))
}

/// Asks the resolver (`getaddrinfo(3)`), for as long as that takes.
fn ask_resolver(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = (host, port).to_socket_addrs().map(Vec::from_iter);
    found.or_else(|error| loopback(host, port).ok_or(error))
}

fn unresolved(host: &str, error: &io::Error) -> Unreached {
    let reason = reason(error);
    let reason = reason.trim_start_matches("failed to lookup address information: ");
    let message = format!("cannot resolve host {host}: {reason}");
    Unreached::NotYet(Failure::new(ExitCode::NoHost, message))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn target(host: &str) -> Target {
        Target::new(host, 7)
    }

    fn failure(result: Result<Vec<Address>, Unreached>) -> Failure {
        match result.map_err(Stopped::from) {
            Err(Stopped::Failed(failure)) => failure,
            other => panic!("no failure: {other:?}"),
        }
    }

    #[test]
    fn an_address_is_its_own_only_address() {
        let signals = Signals::never();
        let limit = Limit::start(Duration::ZERO);
        let found = resolve(&target("::1"), Family::Any, limit, &signals);
        let own: SocketAddr = "[::1]:7".parse().unwrap();
        assert_eq!(found.unwrap(), [Address::Ip(own)]);
        let wrong = failure(resolve(&target("::1"), Family::V4, limit, &signals));
        assert_eq!(wrong.exit, ExitCode::NoHost);
        assert_eq!(wrong.message, "host '::1' does not have an IPv4 address");
    }

    #[test]
    fn localhost_is_the_loopback_address_where_no_file_says_so() {
        let addresses = ["[::1]:7", "127.0.0.1:7"].map(|it| it.parse().unwrap());
        assert_eq!(loopback("LocalHost", 7), Some(addresses.to_vec()));
        assert_eq!(loopback("localhost.example", 7), None);
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
    fn families_take_turns_and_each_keeps_its_order() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let (a, b, c) = ("[2001:db8::1]:7", "[2001:db8::2]:7", "[2001:db8::3]:7");
        let (x, y) = ("192.0.2.1:7", "192.0.2.2:7");
        let cases: [(&[&str], &[&str]); 4] = [
            (&[a, b, c, x], &[a, x, b, c]),
            (&[x, y, a], &[x, a, y]),
            (&[x, y], &[x, y]),
            (&[], &[]),
        ];
        for (listed, tried) in cases {
            assert_eq!(families_in_turn(addresses(listed)), addresses(tried));
        }
    }
}
