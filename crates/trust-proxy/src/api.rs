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
use trust_toxiproxy::data_plane::{DataPlane, EventListener, ToxicChange};
use trust_toxiproxy::model::{ProxyRegistry, ToxicProxy};
use trust_toxiproxy::routes::ToxiproxyApi;
use trust_toxiproxy::server::{ApiServer, ApiSettings};
use trust_toxiproxy::toxic::Toxic;
use trust_toxiproxy::traffic::{ConnectionEnd, ConnectionReport, TrafficReport};

use crate::engine::{ListeningPair, LoopHandle, PairUpstream};
use crate::events::ProxyEvents;
use crate::frames::FrameFormats;
use crate::rules::{Rule, lacking};

/// The proxies of the API, in the event loop.
pub(crate) struct ProxyPlane {
    event_loop: LoopHandle,
    events: ProxyEvents,
    /// The pairs of proxies that listen, by the names of these.
    pairs: BTreeMap<String, usize>,
    /// Where those of the command line listen.
    places: BTreeMap<String, Vec<Address>>,
    /// The rules of proxies besides their toxics, by the names of these.
    schedules: BTreeMap<String, Vec<Rule>>,
    /// How frames are told apart; `None`: there are none.
    frames: Option<FrameFormats>,
}

/// A pair of the command line, which the API has as a proxy unless it listens on a unix socket.
pub(crate) struct FirstProxy {
    pub(crate) name: String,
    pub(crate) addresses: Vec<Address>,
    pub(crate) upstream: String,
}

impl FirstProxy {
    pub(crate) fn of(pair: &ListeningPair) -> FirstProxy {
        FirstProxy {
            name: pair.proxy.clone(),
            addresses: pair.sockets.iter().map(ListeningSocket::address).cloned().collect(),
            upstream: pair.upstream.text.clone(),
        }
    }

    /// Whether it can listen again where it does.
    fn is_of_ip(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().is_some())
    }
}

impl ProxyPlane {
    /// The proxies of that loop, which has these already, in the order of its pairs.
    fn new(start: &ApiStart<'_>, event_loop: LoopHandle, log: &EventLog) -> ProxyPlane {
        let numbered = start.first.iter().enumerate();
        let places = start.first.iter();
        ProxyPlane {
            event_loop,
            events: ProxyEvents { log: log.clone() },
            pairs: numbered.map(|(number, proxy)| (proxy.name.clone(), number)).collect(),
            places: places.map(|it| (it.name.clone(), it.addresses.clone())).collect(),
            schedules: BTreeMap::new(),
            frames: start.frames.clone(),
        }
    }

    /// The rules of a text, one per line. Empty lines, and those that begin with a #, are left out.
    fn read_rules(&self, text: &str) -> Result<Vec<Rule>, String> {
        let lines = text.lines().map(str::trim).zip(1..);
        let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let rules = lines.map(|(line, number)| {
            let place = format!("line {number}");
            let rule = Rule::parse(line).map_err(|error| error.pointed_at(&place, line))?;
            if rule.action.is_of_listener() {
                let instead = "expected another rule: a proxy that is disabled refuses clients";
                return Err(format!("{place}: '{rule}' is for all proxies: {instead}"));
            }
            match lacking(&rule, self.frames.as_ref()) {
                Some(what) => Err(format!("{place}: '{rule}' needs {what}: {FRAMES_MISSING}")),
                None => Ok(rule),
            }
        });
        rules.collect()
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
        let rules = self.schedules.get(proxy).cloned().unwrap_or_default();
        let number = self.event_loop.run(move |relay| relay.open_pair(pair, rules, &toxics))??;
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

    fn forget(&mut self, proxy: &str) {
        self.schedules.remove(proxy);
        let proxy = proxy.to_owned();
        let _ = self.event_loop.run(move |relay| relay.forget_record(&proxy));
    }

    fn schedule(&mut self, proxy: &str) -> String {
        let rules = self.schedules.get(proxy).into_iter().flatten();
        rules.map(|rule| format!("{rule}\n")).collect()
    }

    fn set_schedule(&mut self, proxy: &str, text: &str) -> Result<(), String> {
        let rules = self.read_rules(text)?;
        self.schedules.insert(proxy.to_owned(), rules.clone());
        if let Some(number) = self.pairs.get(proxy).copied() {
            let _ = self.event_loop.run(move |relay| relay.set_rules(number, rules));
        }
        Ok(())
    }

    fn report(&mut self) -> TrafficReport {
        self.event_loop.run(|relay| relay.report()).unwrap_or_default()
    }

    fn connections(&mut self, proxy: Option<&str>, count_max: usize) -> Vec<ConnectionReport> {
        let proxy = proxy.map(str::to_owned);
        let listed = self.event_loop.run(move |it| it.connections(proxy.as_deref(), count_max));
        listed.unwrap_or_default()
    }

    fn end_connection(&mut self, conn: u64, by: ConnectionEnd) -> bool {
        self.event_loop.run(move |relay| relay.end_connection(conn, by)).unwrap_or(false)
    }

    fn set_seed(&mut self, seed: u64) {
        let _ = self.event_loop.run(move |relay| relay.set_seed(seed));
    }

    fn follow(&mut self, listener: EventListener) {
        self.events.log.follow(listener);
    }
}

/// What is missing where the proxy knows no frames.
const FRAMES_MISSING: &str = "expected a proxy that knows frames, by --framing or --dialect";

/// What the API begins with.
pub(crate) struct ApiStart<'a> {
    /// Where it listens.
    pub(crate) place: &'a ListenPlace,
    /// The proxies of the command line.
    pub(crate) first: Vec<FirstProxy>,
    pub(crate) frames: Option<FrameFormats>,
    pub(crate) settings: ApiSettings,
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
    let mut registry = ProxyRegistry::new(ProxyPlane::new(&start, event_loop, log));
    for FirstProxy { name, addresses, upstream } in
        start.first.into_iter().filter(FirstProxy::is_of_ip)
    {
        let listen = addresses.first().map(zone::shown_address).unwrap_or_default();
        registry.adopt(ToxicProxy { name, listen, upstream, enabled: true, toxics: vec![] });
    }
    let addresses: Vec<SocketAddr> =
        start.place.addresses()?.iter().filter_map(Address::ip).collect();
    let api = ToxiproxyApi::new(registry, start.seed);
    let notes = log.clone();
    let note = move |line: String| {
        notes.event(Level::Warn, "api_note").field("message", &line).write();
    };
    let server = ApiServer::start(&addresses, start.settings, api, note)
        .map_err(|error| start.place.cannot_listen(&error))?;
    let shown: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    log.event(Level::Info, "api_listen").field("addresses", &shown).write();
    Ok(server)
}
