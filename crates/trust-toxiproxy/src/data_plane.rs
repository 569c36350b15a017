//! What carries the traffic, as the API sees it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::toxic::Toxic;

/// What carries the traffic of proxies.
///
/// Each change returns once its effect holds for every connection of the proxy: an answer of the
/// API means that. So an implementation hands it to its loop and waits until the loop has gone
/// round once, and it never waits for a peer.
pub trait DataPlane {
    /// The address of a name to listen on: the first of IPv4, or else the first.
    fn look_up(&mut self, host: &str) -> Option<IpAddr> {
        let addresses = (host, 0).to_socket_addrs().ok()?.map(|address| address.ip());
        // Of equal ones it is the first.
        addresses.min_by_key(IpAddr::is_ipv6)
    }

    /// Listens for the clients of a proxy, and passes on what they and the upstream send, with
    /// these toxics from the first byte on. Port 0 stands for a free one, and `[::]` for every
    /// interface, of IPv4 too. The address returned is the one that is listened on.
    ///
    /// The upstream is text, to be resolved anew for each client.
    ///
    /// # Errors
    ///
    /// What the system says. The proxy is not started then.
    fn start(
        &mut self,
        proxy: &str,
        listen: SocketAddr,
        upstream: &str,
        toxics: &[Toxic],
    ) -> io::Result<SocketAddr>;

    /// Refuses further clients of a started proxy, and closes its connections. When it is started
    /// again, the port must be free for it.
    fn stop(&mut self, proxy: &str);

    /// Replaces the toxics of a started proxy, also of its connections.
    fn set_toxics(&mut self, proxy: &str, toxics: &[Toxic], change: ToxicChange<'_>);
}

/// What differs from the toxics that a proxy had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ToxicChange<'a> {
    /// This one is new, the last of its direction.
    Added(&'a Toxic),
    /// The one of that name has become this one.
    Updated(&'a Toxic),
    /// These are gone. If a `timeout` is one of them, the connections that it was for are closed,
    /// as data was dropped from them, whatever its toxicity.
    Removed(&'a [Toxic]),
}
