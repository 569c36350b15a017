//! Real balancers in front of the echo server, which say in PROXY headers who their clients are,
//! and check whether it is there.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::balancers::{self, NGINX_STREAM};
use super::case::Case;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::kernel;
use trust_testkit::leftovers::{OwnedChild, OwnedDir};
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, frame};
use trust_testkit::server::Server;
use trust_testkit::tools::needs;

pub(crate) const CASES: &[Case] = &[
    Case::new("behind HAProxy, with its checks", haproxy).except(&[(
        Model::Inetd,
        "a check has left, and its address with it, when its program starts",
    )]),
    Case::new("behind nginx", nginx),
];

/// Health checks that are waited for, of each kind.
const CHECKS: usize = 3;

/// Checks of a server that gets headers have one too: LOCAL in version 2, the addresses of the
/// check in version 1. The last server is checked without.
const HAPROXY: &str = "
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h

listen text
    bind LISTEN0
    bind LISTEN1
    server echo SERVER send-proxy check inter 200ms

listen binary
    bind LISTEN2
    bind LISTEN3
    server echo SERVER send-proxy-v2 proxy-v2-options crc32c check inter 200ms

backend bare
    server echo SERVER check inter 200ms
";

const NGINX: &str = "
load_module MODULE;
daemon off;
master_process off;
pid DIRECTORY/nginx.pid;
error_log stderr error;

events {
}

stream {
    server {
        listen LISTEN0;
        listen LISTEN1;
        proxy_pass SERVER;
        proxy_protocol on;
        proxy_half_close on;
    }
}
";

fn haproxy(model: Model) {
    needs("haproxy", Command::new("haproxy").arg("-v"));
    let balancer = Balancer::start(model, HAPROXY, |file| {
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file).stdout(Stdio::null());
        command
    });
    balancer.is_told_of_clients();
    // Those without a header, and those with LOCAL, name no client.
    let mut checks = vec![];
    kernel::wait_until("some checks", || {
        let is_new =
            |event: &Event| !event.has("proxy") && !checks.contains(&event.text("peer").to_owned());
        let next = balancer.server.find_event("client_close", is_new, STEP_DEADLINE);
        checks.extend(next.map(|next| next.text("peer").to_owned()));
        checks.len() >= 2 * CHECKS
    });
    balancer.ends();
}

fn nginx(model: Model) {
    needs("nginx", Command::new("nginx").arg("-v"));
    needs("nginx's stream module", Command::new("test").args(["-e", NGINX_STREAM]));
    let balancer = Balancer::start(model, NGINX, |file| {
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-c"]).arg(file).stdout(Stdio::null());
        command
    });
    balancer.is_told_of_clients();
    balancer.ends();
}

/// A balancer in front of an echo server, and where it listens, in turn over IPv4 and IPv6.
struct Balancer {
    server: Server,
    addresses: Vec<SocketAddr>,
    child: OwnedChild,
    _directory: OwnedDir,
}

impl Balancer {
    fn start(model: Model, configuration: &str, command: impl Fn(&Path) -> Command) -> Balancer {
        let server = Server::of(model, ["--proxy-protocol", "--proxy-timeout", "1m"]);
        let directory = OwnedDir::create();
        let (addresses, child) =
            balancers::start(&server, configuration, directory.path(), command);
        Balancer { server, addresses, child, _directory: directory }
    }

    /// Checks that the server learns who its clients are, over every address.
    fn is_told_of_clients(&self) {
        for address in &self.addresses {
            let mut peer = Peer::connect(*address);
            let client = peer.address();
            peer.send(&frame(b"through a balancer"));
            peer.receives(&frame(b"through a balancer"));
            peer.half_close();
            peer.receives_end();
            let close = self.server.event_about(client, "client_close");
            assert_eq!(close.text("reason"), "peer_fin", "{close:?}");
            assert!(close.text("proxy").starts_with("127.0.0.1:"), "{close:?}");
            assert_eq!(close.count("frames_in"), 1, "{close:?}");
        }
    }

    /// Ends both, and checks that nothing was wrong with any header, of clients and of checks.
    fn ends(self) {
        let Balancer { server, child, .. } = self;
        drop(child);
        let events = server.stop();
        for event in &events {
            let is_asked_for = event.name() == "signal_received";
            assert!(is_asked_for || event.text("level") == "info", "no cause for {event:?}");
        }
        let proxied = event::named(&events, "client_connect");
        assert!(proxied.iter().any(|event| event.has("proxy")), "{proxied:?}");
    }
}
