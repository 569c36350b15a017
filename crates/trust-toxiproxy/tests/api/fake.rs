//! A data plane that listens nowhere, and records what it is told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use trust_toxiproxy::data_plane::{DataPlane, ToxicChange};
use trust_toxiproxy::model::ProxyRegistry;
use trust_toxiproxy::routes::ToxiproxyApi;
use trust_toxiproxy::toxic::Toxic;

/// A port that another program has.
const TAKEN_PORT: u16 = 7070;

/// The first port that is chosen for port 0.
const FIRST_FREE_PORT: u16 = 40001;

/// What it was told, a line each.
pub(crate) type Calls = Arc<Mutex<Vec<String>>>;

pub(crate) struct FakeDataPlane {
    calls: Calls,
    started: u16,
}

/// The API of a fake, and what that is told.
pub(crate) fn api() -> (ToxiproxyApi<FakeDataPlane>, Calls) {
    let calls = Calls::default();
    let fake = FakeDataPlane { calls: calls.clone(), started: 0 };
    (ToxiproxyApi::new(ProxyRegistry::new(fake), 0), calls)
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
}
