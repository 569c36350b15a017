//! What carries the traffic, as the API sees it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::toxic::Toxic;
use crate::traffic::{ConnectionEnd, ConnectionReport, TrafficReport};

/// Is given each event of the log as one JSON line, by the thread of the loop. It never blocks.
pub type EventListener = Box<dyn FnMut(&str) + Send>;

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

    /// Drops what is kept of a stopped proxy: its fault rules and its counts. There may be none.
    fn forget(&mut self, proxy: &str);

    /// The fault rules of a proxy besides its toxics, in their canonical text, one per line; empty
    /// if there are none. Each report asks for those of every proxy, so it does not take a turn of
    /// the loop.
    fn schedule(&mut self, proxy: &str) -> String;

    /// Replaces the fault rules of a proxy besides its toxics, also of its connections. They are
    /// kept while it is stopped, and can be set before it is started for the first time: then they
    /// hold from the first byte on.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, with its line and a caret. Nothing has changed then.
    fn set_schedule(&mut self, proxy: &str, text: &str) -> Result<(), String>;

    /// All traffic, after one turn of the loop.
    fn report(&mut self) -> TrafficReport;

    /// The live connections, of one proxy or of all, after one turn of the loop: the newest
    /// `count_max` of them, in the order of their numbers.
    fn connections(&mut self, proxy: Option<&str>, count_max: usize) -> Vec<ConnectionReport>;

    /// Ends a connection; false: there is none of that number.
    fn end_connection(&mut self, conn: u64, by: ConnectionEnd) -> bool;

    /// What random choices are drawn from, for connections that are accepted from now on.
    fn set_seed(&mut self, seed: u64);

    /// Has each event from now on given to a listener, besides those that there are. They are
    /// dropped with the loop.
    fn follow(&mut self, listener: EventListener);
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
