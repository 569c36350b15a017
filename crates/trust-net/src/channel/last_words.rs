//! What a child has said by the time that it has ended.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::{RECEIVE_FLAGS, Report, SEND_FLAGS, insist};
use crate::address::Peer;
use crate::observer::ClientInfo;

/// Whom a PROXY header has named. A child says so before it reports the client, which is its task
/// then and not the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduced {
    /// The client, or the peer that has connected if there was no header.
    pub peer: Peer,
    /// The peer that has connected for it.
    pub proxy: Option<Peer>,
}

/// All that is on the channel of a child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastWords {
    /// `None` if it has not reported its client.
    pub(crate) introduced: Option<Introduced>,
    /// `None` if it could not give one.
    pub(crate) report: Option<Report>,
}

impl LastWords {
    pub(crate) fn receive(channel: BorrowedFd<'_>) -> LastWords {
        // One more, so that what is too long is nothing.
        let mut bytes = [0; Introduced::BYTES + Report::BYTES + 1];
        let receive = || rustix::net::recv(channel, &mut bytes, RECEIVE_FLAGS);
        let count = insist(receive).map_or(0, |(_, count)| count);
        let (introduced, report) = match count {
            Introduced::BYTES => (&bytes[..count], &[][..]),
            Report::BYTES => (&[][..], &bytes[..count]),
            _ => bytes[..count].split_at(count.min(Introduced::BYTES)),
        };
        LastWords {
            introduced: Introduced::from_bytes(introduced),
            report: Report::from_bytes(report),
        }
    }
}

impl Introduced {
    const BYTES: usize = 2 * PEER_BYTES;

    /// What an event says of a client.
    pub fn of(client: &ClientInfo) -> Introduced {
        Introduced { peer: client.peer, proxy: client.proxy }
    }

    /// Reports it to the server.
    ///
    /// # Errors
    ///
    /// EPIPE if it is gone.
    pub fn send(&self, channel: BorrowedFd<'_>) -> io::Result<()> {
        let bytes = self.to_bytes();
        match insist(|| rustix::net::send(channel, &bytes, SEND_FLAGS))? {
            Introduced::BYTES => Ok(()),
            _ => Err(Errno::NOBUFS.into()),
        }
    }

    fn to_bytes(self) -> [u8; Introduced::BYTES] {
        let mut bytes = [0; Introduced::BYTES];
        let (peer, proxy) = bytes.split_at_mut(PEER_BYTES);
        peer.copy_from_slice(&peer_to_bytes(Some(self.peer)));
        proxy.copy_from_slice(&peer_to_bytes(self.proxy));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Introduced> {
        let bytes: &[u8; Introduced::BYTES] = bytes.try_into().ok()?;
        let (peer, proxy) = bytes.split_at(PEER_BYTES);
        Some(Introduced { peer: peer_from_bytes(peer)??, proxy: peer_from_bytes(proxy)? })
    }
}

/// Which kind of a peer, and then: its address, port and zone; or its process and user.
const PEER_BYTES: usize = 1 + 16 + 2 + 4;

const NO_PEER: u8 = 0;
const IPV4: u8 = 1;
const IPV6: u8 = 2;
const UNIX: u8 = 3;

fn peer_to_bytes(peer: Option<Peer>) -> [u8; PEER_BYTES] {
    let mut bytes = [0; PEER_BYTES];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    match peer {
        None => put(0, &[NO_PEER]),
        Some(Peer::Ip(SocketAddr::V4(address))) => {
            put(0, &[IPV4]);
            put(1, &address.ip().octets());
            put(17, &address.port().to_be_bytes());
        }
        Some(Peer::Ip(SocketAddr::V6(address))) => {
            put(0, &[IPV6]);
            put(1, &address.ip().octets());
            put(17, &address.port().to_be_bytes());
            put(19, &address.scope_id().to_be_bytes());
        }
        Some(Peer::Unix { pid, uid }) => {
            put(0, &[UNIX]);
            put(1, &pid.to_be_bytes());
            put(5, &uid.to_be_bytes());
        }
    }
    bytes
}

/// `None` if it is no peer; of none at all `Some(None)`.
fn peer_from_bytes(bytes: &[u8]) -> Option<Option<Peer>> {
    let (kind, rest) = bytes.split_first()?;
    let (address, rest) = rest.split_first_chunk::<16>()?;
    let (port, scope) = rest.split_first_chunk()?;
    let (port, scope) = (u16::from_be_bytes(*port), u32::from_be_bytes(scope.try_into().ok()?));
    let [first, second, ..] = *address.as_chunks::<4>().0 else { return None };
    Some(match *kind {
        NO_PEER => None,
        IPV4 => Some(Peer::Ip((Ipv4Addr::from(first), port).into())),
        IPV6 => {
            let address = SocketAddrV6::new(Ipv6Addr::from(*address), port, 0, scope);
            Some(Peer::Ip(address.into()))
        }
        UNIX => {
            let (pid, uid) = (i32::from_be_bytes(first), u32::from_be_bytes(second));
            Some(Peer::Unix { pid, uid })
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::{pair, tests::report};
    use super::*;

    #[test]
    fn whatever_a_child_could_still_say_is_heard() {
        let v4: Peer = SocketAddr::from(([192, 0, 2, 1], 4711)).into();
        let v6: Peer =
            SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 65_535, 0, 7)).into();
        let unix = Peer::Unix { pid: -1, uid: u32::MAX };
        let introductions = [(v4, None), (v6, Some(v4)), (v4, Some(v6)), (v6, Some(unix))];
        let introductions = introductions.map(|(peer, proxy)| Some(Introduced { peer, proxy }));
        for introduced in introductions.into_iter().chain([None]) {
            for report in [Some(report()), None] {
                let (server, child) = pair().expect("two descriptors");
                if let Some(introduced) = introduced {
                    introduced.send(child.as_fd()).expect("there is room");
                }
                if let Some(report) = report {
                    report.send(child.as_fd()).expect("there is room");
                }
                drop(child);
                let heard = LastWords::receive(server.as_fd());
                assert_eq!(heard, LastWords { introduced, report });
            }
        }
    }

    #[test]
    fn an_introduction_that_is_none_is_not_believed() {
        let peer = Peer::Unix { pid: 1, uid: 2 };
        let whole = Introduced { peer, proxy: None }.to_bytes();
        assert!(Introduced::from_bytes(&whole).is_some());
        for (at, wrong) in [(0, NO_PEER), (0, 4), (PEER_BYTES, 4)] {
            let mut bytes = whole;
            bytes[at] = wrong;
            assert_eq!(Introduced::from_bytes(&bytes), None, "byte {at}");
        }
    }
}
