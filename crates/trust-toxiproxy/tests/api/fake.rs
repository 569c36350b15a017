//! A data plane that listens nowhere, and records what it is told.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use trust_proxy::rules::Rule;
use trust_toxiproxy::data_plane::{DataPlane, EventListener, ToxicChange};
use trust_toxiproxy::model::ProxyRegistry;
use trust_toxiproxy::routes::ToxiproxyApi;
use trust_toxiproxy::toxic::Toxic;
use trust_toxiproxy::traffic::{ConnectionEnd, ConnectionReport, TrafficReport};

/// A port that another program has.
const TAKEN_PORT: u16 = 7070;

/// The first port that is chosen for port 0.
const FIRST_FREE_PORT: u16 = 40001;

/// What it was told, a line each.
pub(crate) type Calls = Arc<Mutex<Vec<String>>>;

pub(crate) struct FakeDataPlane {
    calls: Calls,
    traffic: FakeTraffic,
    started: u16,
}

/// The traffic that it reports, which tests choose.
#[derive(Clone, Default)]
pub(crate) struct FakeTraffic(Arc<Mutex<TrafficParts>>);

#[derive(Default)]
pub(crate) struct TrafficParts {
    pub(crate) report: TrafficReport,
    pub(crate) connections: Vec<ConnectionReport>,
    pub(crate) schedules: BTreeMap<String, String>,
    listeners: Vec<EventListener>,
}

impl FakeTraffic {
    pub(crate) fn lock(&self) -> MutexGuard<'_, TrafficParts> {
        self.0.lock().expect("no test has failed")
    }

    /// Has an event, as the thread of a loop has.
    pub(crate) fn note(&self, line: &str) {
        self.lock().listeners.iter_mut().for_each(|listener| listener(line));
    }

    /// Has a rule fire.
    pub(crate) fn fire(&self, index: usize) {
        let mut parts = self.lock();
        let report = &mut parts.report.rules[index];
        report.fired += 1;
        let event = serde_json::json!({"event": "fault", "rule": report.rule});
        drop(parts);
        self.note(&event.to_string());
    }
}

/// The API of a fake, and what that is told.
pub(crate) fn api() -> (ToxiproxyApi<FakeDataPlane>, Calls) {
    let calls = Calls::default();
    (api_of(FakeTraffic::default(), calls.clone()), calls)
}

/// The API of a fake with this traffic.
pub(crate) fn api_of(traffic: FakeTraffic, calls: Calls) -> ToxiproxyApi<FakeDataPlane> {
    let fake = FakeDataPlane { calls, traffic, started: 0 };
    ToxiproxyApi::new(ProxyRegistry::new(fake), 0)
}

/// What was recorded since the last call.
pub(crate) fn take(calls: &Calls) -> Vec<String> {
    std::mem::take(&mut calls.lock().expect("no test has failed"))
}

fn names(toxics: &[Toxic]) -> String {
    toxics.iter().map(|toxic| format!(" {}", toxic.name)).collect()
}

impl FakeDataPlane {
    fn record(&self, call: String) {
        self.calls.lock().expect("no test has failed").push(call);
    }
}

impl DataPlane for FakeDataPlane {
    fn look_up(&mut self, host: &str) -> Option<IpAddr> {
        (host == "localhost").then_some(Ipv4Addr::LOCALHOST.into())
    }

    fn start(
        &mut self,
        proxy: &str,
        mut listen: SocketAddr,
        upstream: &str,
        toxics: &[Toxic],
    ) -> io::Result<SocketAddr> {
        if listen.port() == 0 {
            listen.set_port(FIRST_FREE_PORT + self.started);
            self.started += 1;
        }
        let call = format!("start {proxy} {listen} {upstream}{}", names(toxics));
        if listen.port() == TAKEN_PORT {
            self.record(format!("failed {call}"));
            const EADDRINUSE: i32 = 98;
            return Err(io::Error::from_raw_os_error(EADDRINUSE));
        }
        self.record(call);
        Ok(listen)
    }

    fn stop(&mut self, proxy: &str) {
        self.record(format!("stop {proxy}"));
    }

    fn set_toxics(&mut self, proxy: &str, toxics: &[Toxic], change: ToxicChange<'_>) {
        let (change, word) = match change {
            ToxicChange::Added(toxic) => (format!("add {}", toxic.name), "to"),
            ToxicChange::Updated(toxic) => (format!("update {}", toxic.name), "of"),
            ToxicChange::Removed(removed) => (format!("remove{}", names(removed)), "from"),
        };
        self.record(format!("{change} {word} {proxy}:{}", names(toxics)));
    }
    /// It is recorded only if there was something.
    fn forget(&mut self, proxy: &str) {
        if self.traffic.lock().schedules.remove(proxy).is_some() {
            self.record(format!("forget {proxy}"));
        }
    }

    fn schedule(&mut self, proxy: &str) -> String {
        self.traffic.lock().schedules.get(proxy).cloned().unwrap_or_default()
    }

    fn set_schedule(&mut self, proxy: &str, text: &str) -> Result<(), String> {
        let canonical = |(line, number): (&str, usize)| {
            let rule =
                Rule::parse(line).map_err(|_| format!("line {number}: no rule\n{line}\n^"))?;
            Ok(format!("{rule}\n"))
        };
        let rules = text.lines().zip(1..).map(canonical).collect::<Result<String, String>>()?;
        self.record(format!("schedule {proxy}: {rules:?}"));
        self.traffic.lock().schedules.insert(proxy.to_owned(), rules);
        Ok(())
    }

    fn report(&mut self) -> TrafficReport {
        self.traffic.lock().report.clone()
    }

    fn connections(&mut self, proxy: Option<&str>, count_max: usize) -> Vec<ConnectionReport> {
        let connections = self.traffic.lock().connections.clone();
        let is_of = |it: &ConnectionReport| proxy.is_none_or(|proxy| it.proxy == proxy);
        let mut found: Vec<_> = connections.into_iter().filter(is_of).collect();
        found.split_off(found.len().saturating_sub(count_max))
    }

    fn end_connection(&mut self, conn: u64, by: ConnectionEnd) -> bool {
        let mut parts = self.traffic.lock();
        let count = parts.connections.len();
        parts.connections.retain(|connection| connection.conn != conn);
        let is_there = parts.connections.len() < count;
        drop(parts);
        self.record(format!("end {conn} {by:?}"));
        is_there
    }

    fn set_seed(&mut self, seed: u64) {
        self.traffic.lock().report.seed = seed;
    }

    fn follow(&mut self, listener: EventListener) {
        self.traffic.lock().listeners.push(listener);
    }
}
