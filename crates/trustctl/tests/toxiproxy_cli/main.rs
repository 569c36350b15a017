//! `trustctl toxiproxy-cli`, also as a link: what it does, prints and exits with. The server is the
//! real API, with proxies that carry no traffic.

mod commands;
mod names;
mod servers;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use trust_testkit::program::{Finished, Home, Launch};
use trust_toxiproxy::data_plane::{DataPlane, EventListener, ToxicChange};
use trust_toxiproxy::model::ProxyRegistry;
use trust_toxiproxy::routes::ToxiproxyApi;
use trust_toxiproxy::server::{ApiServer, ApiTimeouts, loopback};
use trust_toxiproxy::toxic::Toxic;
use trust_toxiproxy::traffic::{ConnectionEnd, ConnectionReport, TrafficReport};

/// Proxies that listen nowhere.
struct NoTraffic;

impl DataPlane for NoTraffic {
    fn look_up(&mut self, host: &str) -> Option<IpAddr> {
        (host == "localhost").then_some(Ipv4Addr::LOCALHOST.into())
    }

    fn start(
        &mut self,
        _: &str,
        listen: SocketAddr,
        _: &str,
        _: &[Toxic],
    ) -> io::Result<SocketAddr> {
        Ok(listen)
    }

    fn stop(&mut self, _: &str) {}

    fn set_toxics(&mut self, _: &str, _: &[Toxic], _: ToxicChange<'_>) {}

    fn forget(&mut self, _: &str) {}

    fn schedule(&mut self, _: &str) -> String {
        String::new()
    }

    fn set_schedule(&mut self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn report(&mut self) -> TrafficReport {
        TrafficReport::default()
    }

    fn connections(&mut self, _: Option<&str>, _: usize) -> Vec<ConnectionReport> {
        vec![]
    }

    fn end_connection(&mut self, _: u64, _: ConnectionEnd) -> bool {
        false
    }

    fn set_seed(&mut self, _: u64) {}

    fn follow(&mut self, _: EventListener) {}
}

/// A server, and the client for it.
struct Api {
    home: Home,
    server: ApiServer,
}

impl Api {
    fn start() -> Api {
        Api::at(&loopback(0))
    }

    fn at(addresses: &[SocketAddr]) -> Api {
        let api = ToxiproxyApi::new(ProxyRegistry::new(NoTraffic), 0);
        let server = ApiServer::start(addresses, ApiTimeouts::default(), api, |_| {});
        Api { home: Home::new(), server: server.expect("it can listen") }
    }

    fn port(&self) -> u16 {
        self.server.addresses()[0].port()
    }

    /// A command line, with words that have no blanks.
    fn launch(&self, line: &str) -> Launch {
        let url = format!("localhost:{}", self.port());
        toxiproxy_cli(&self.home, line).env("TOXIPROXY_URL", url)
    }

    /// Runs a command that must succeed, without a complaint.
    #[track_caller]
    fn does(&self, line: &str) -> Finished {
        self.launch(line).run().exits_with(0).complains_about_nothing()
    }

    /// Runs a command that must fail, with this line of complaint.
    #[track_caller]
    fn fails(&self, line: &str, complaint: &str) {
        let failed = self.launch(line).run().exits_with(1).complains_in_one_line().prints("");
        assert_eq!(failed.stderr.lines().next(), Some(complaint), "{line}");
    }

    /// Makes a proxy with a toxic.
    fn with_proxy() -> Api {
        let api = Api::start();
        api.does("create -l localhost:7001 -u u:1 redis");
        api.does("toxic add -t latency -a latency=1000 redis");
        api
    }

    /// What `inspect` prints of that proxy.
    fn toxics(&self) -> String {
        self.does("inspect redis").text().to_owned()
    }
}

fn toxiproxy_cli(home: &Home, line: &str) -> Launch {
    home.trustctl(["toxiproxy-cli"]).args(line.split_whitespace())
}
