//! The HTTP API: what it has the event loop do.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use trust_cli::event_log::EventLog;
use trust_cli::exit_code::Failure;
use trust_cli::level::Level;
use trust_cli::listen_place::ListenPlace;
use trust_cli::zone;
use trust_net::Address;
use trust_net::listening::{ListeningSocket, listen};
use trust_net::socket::AcceptedOptions;
use trust_toxiproxy::data_plane::{DataPlane, ToxicChange};
use trust_toxiproxy::model::{Populated, ProxyRegistry, ToxicProxy};
use trust_toxiproxy::routes::ToxiproxyApi;
use trust_toxiproxy::server::{ApiServer, ApiTimeouts};
use trust_toxiproxy::toxic::Toxic;

use crate::engine::{ListeningPair, LoopHandle, PairUpstream};
use crate::events::ProxyEvents;

/// The proxies of the API, in the event loop.
pub(crate) struct ProxyPlane {
    event_loop: LoopHandle,
    events: ProxyEvents,
    /// The pairs of proxies that listen, by the names of these.
    pairs: BTreeMap<String, usize>,
    /// Where those of the command line listen.
    places: BTreeMap<String, Vec<Address>>,
}

/// A pair of the command line, which the API has as a proxy.
pub(crate) struct FirstProxy {
    pub(crate) name: String,
    pub(crate) addresses: Vec<Address>,
    pub(crate) upstream: String,
}

impl ProxyPlane {
    /// The proxies of that loop, which has these already, in the order of its pairs.
    fn new(event_loop: LoopHandle, log: &EventLog, first: &[FirstProxy]) -> ProxyPlane {
        let numbered = first.iter().enumerate();
        let pairs = numbered.map(|(number, proxy)| (proxy.name.clone(), number)).collect();
        let places = first.iter().map(|it| (it.name.clone(), it.addresses.clone())).collect();
        ProxyPlane { event_loop, events: ProxyEvents { log: log.clone() }, pairs, places }
    }

    /// Where a proxy listens that is to listen there: one of the command line at all addresses of
    /// its place.
    fn addresses(&self, proxy: &str, listen: SocketAddr) -> Vec<Address> {
        let listen = Address::Ip(listen);
        let own = self.places.get(proxy).filter(|places| places.contains(&listen));
        own.cloned().unwrap_or_else(|| vec![listen])
    }
}

impl DataPlane for ProxyPlane {
    fn start(
        &mut self,
        proxy: &str,
        listen_on: SocketAddr,
        upstream: &str,
        toxics: &[Toxic],
    ) -> io::Result<SocketAddr> {
        let addresses = self.addresses(proxy, listen_on);
        let options = AcceptedOptions { keepalive: true };
        let sockets = listen(&addresses, options, None, |_socket| Ok(()))?;
        let bound: Vec<Address> = sockets.iter().map(ListeningSocket::address).cloned().collect();
        let upstream = PairUpstream::of_text(upstream);
        self.events.write_listening(&bound, &upstream.text);
        let pair = ListeningPair { sockets, proxy: proxy.to_owned(), upstream };
        let toxics = toxics.to_vec();
        let number = self.event_loop.run(move |relay| relay.open_pair(pair, &toxics))??;
        self.pairs.insert(proxy.to_owned(), number);
        Ok(bound[0].ip().unwrap_or(listen_on))
    }

    fn stop(&mut self, proxy: &str) {
        if let Some(number) = self.pairs.remove(proxy) {
            // If the loop has ended, so has the proxy.
            let _ = self.event_loop.run(move |relay| relay.close_pair(number));
        }
    }

    fn set_toxics(&mut self, proxy: &str, _: &[Toxic], change: ToxicChange<'_>) {
        let Some(number) = self.pairs.get(proxy).copied() else { return };
        let _ = match change {
            ToxicChange::Added(toxic) => {
                let toxic = toxic.clone();
                self.event_loop.run(move |relay| relay.add_toxic(number, &toxic))
            }
            ToxicChange::Updated(toxic) => {
                let toxic = toxic.clone();
                self.event_loop.run(move |relay| relay.update_toxic(number, &toxic))
            }
            ToxicChange::Removed(toxics) => {
                let toxics = toxics.to_vec();
                self.event_loop.run(move |relay| relay.remove_toxics(number, &toxics))
            }
        };
    }
}

/// What the API begins with.
pub(crate) struct ApiStart<'a> {
    /// Where it listens.
    pub(crate) place: &'a ListenPlace,
    /// The proxies of the command line.
    pub(crate) first: Vec<FirstProxy>,
    /// A list of proxies as the body of `/populate`.
    pub(crate) list: Option<Vec<u8>>,
    pub(crate) seed: u64,
}

/// Starts the API of an event loop that is about to run.
///
/// # Errors
///
/// Its address cannot be had.
pub(crate) fn start(
    start: ApiStart<'_>,
    event_loop: LoopHandle,
    log: &EventLog,
) -> Result<ApiServer, Failure> {
    let mut registry = ProxyRegistry::new(ProxyPlane::new(event_loop, log, &start.first));
    for FirstProxy { name, addresses, upstream } in start.first {
        let listen = addresses.first().map(zone::shown_address).unwrap_or_default();
        registry.adopt(ToxicProxy { name, listen, upstream, enabled: true, toxics: vec![] });
    }
    let _ = start.list;
    let _: Option<Populated> = None;
    let addresses: Vec<SocketAddr> =
        start.place.addresses()?.iter().filter_map(Address::ip).collect();
    let api = ToxiproxyApi::new(registry, start.seed);
    let notes = log.clone();
    let note = move |line: String| {
        notes.event(Level::Warn, "api_note").field("message", &line).write();
    };
    let server = ApiServer::start(&addresses, ApiTimeouts::default(), api, note)
        .map_err(|error| start.place.cannot_listen(&error))?;
    let shown: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    log.event(Level::Info, "api_listen").field("addresses", &shown).write();
    Ok(server)
}
