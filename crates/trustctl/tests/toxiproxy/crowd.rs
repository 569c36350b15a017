//! Many connections, of which half are dead or have full buffers: no change waits for them, and
//! none misses a connection.

use std::net::TcpListener;

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use serde_json::json;
use socket2::SockRef;
use trust_testkit::net::Hosts;
use trust_testkit::peer::{Peer, pattern};
use trust_testkit::runner::leave_out;

use crate::server::{Pair, Proxy, Toxiproxy, has_nothing};

/// Connections whose peers read.
const WELL: usize = 1000;

/// Connections whose clients do not read all that the server has sent.
const STUCK: usize = 1000;

struct Crowd {
    well: Vec<Pair>,
    /// Stuck ones with both peers.
    full: Vec<Pair>,
    /// Clients of stuck ones whose server has left.
    clients: Vec<Peer>,
    /// Servers of stuck ones whose client's host has vanished.
    servers: Vec<Peer>,
}

impl Crowd {
    #[track_caller]
    fn gather(proxy: &Proxy<'_>) -> Crowd {
        let well = (0..WELL).map(|_| proxy.connect()).collect();
        Crowd { well, full: vec![], clients: vec![], servers: vec![] }
    }

    /// Checks that changes are answered, and are for every connection.
    #[track_caller]
    fn has_changes(mut self, toxiproxy: &Toxiproxy, proxy: &Proxy<'_>) {
        self.send();
        self.receives();

        proxy.add("bandwidth", "downstream", json!({"rate": 0}));
        self.is_held(toxiproxy);
        proxy.update("bandwidth_downstream", json!({"rate": 1000}));
        self.receives();

        proxy.update("bandwidth_downstream", json!({"rate": 0}));
        self.is_held(toxiproxy);
        toxiproxy.reset();
        assert_eq!(proxy.toxics(), [""; 0]);
        self.receives();

        proxy.add("timeout", "upstream", json!({"timeout": 0}));
        toxiproxy.reset();
        self.is_gone();
        proxy.connect().carries(b"after");
    }

    /// Has all servers that are well send a byte.
    #[track_caller]
    fn send(&mut self) {
        for pair in &mut self.well {
            pair.server.send(b"x");
        }
    }

    /// Has all servers that are well send a byte, and checks that no client gets it.
    #[track_caller]
    fn is_held(&mut self, toxiproxy: &Toxiproxy) {
        self.send();
        for pair in &self.well {
            pair.server.is_received();
        }
        toxiproxy.is_quiet();
        for pair in &self.well {
            has_nothing(&pair.client);
        }
    }

    /// Checks that each client that is well gets that byte.
    #[track_caller]
    fn receives(&mut self) {
        for pair in &mut self.well {
            pair.client.receives(b"x");
        }
    }

    /// Checks that every connection has ended.
    #[track_caller]
    fn is_gone(&mut self) {
        for pair in &mut self.well {
            pair.client.receives_end();
            pair.server.receives_end();
        }
        let (clients, servers): (Vec<&mut Peer>, Vec<&mut Peer>) =
            self.full.iter_mut().map(|pair| (&mut pair.client, &mut pair.server)).unzip();
        for client in clients.into_iter().chain(&mut self.clients) {
            client.enlarge_receive_buffer();
            client.is_gone();
        }
        for server in servers.into_iter().chain(&mut self.servers) {
            server.is_gone();
        }
    }
}

/// Connections whose buffers are full: the server has sent as much as there is room for.
#[track_caller]
fn full(toxiproxy: &Toxiproxy, proxy: &Proxy<'_>, connect: impl Fn() -> Peer) -> Vec<Pair> {
    shrink(proxy.upstream());
    let connect = |_| {
        let client = connect();
        Pair { client, server: proxy.accept() }
    };
    let pairs: Vec<Pair> = (0..STUCK).map(connect).collect();
    let bytes = pattern(64 << 10);
    while pairs.iter().map(|pair| pair.server.sends_what_fits(&bytes)).sum::<usize>() > 0 {
        toxiproxy.is_quiet();
    }
    pairs
}

/// Has connections that the upstream accepts hold little of what is not read, so that they are full
/// soon.
fn shrink(upstream: &TcpListener) {
    SockRef::from(upstream).set_send_buffer_size(1).expect("set SO_SNDBUF");
}

/// There are four sockets per connection, two of them here.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).expect("the soft limit can be raised");
}

#[test]
fn changes_are_for_every_connection_and_wait_for_no_peer_that_does_not_read() {
    raise_limit();
    let toxiproxy = Toxiproxy::start(&[]);
    let proxy = toxiproxy.proxy("p");
    let mut crowd = Crowd::gather(&proxy);
    crowd.full = full(&toxiproxy, &proxy, || Peer::connect_tiny(proxy.address()));
    // Half of the servers leave.
    let left = crowd.full.split_off(STUCK / 2);
    crowd.clients = left.into_iter().map(|pair| pair.client).collect();
    crowd.has_changes(&toxiproxy, &proxy);
    toxiproxy.stop();
}

#[test]
fn changes_are_for_every_connection_and_wait_for_no_host_that_has_vanished() {
    if !geteuid().is_root() {
        return leave_out("root, for hosts of its own");
    }
    raise_limit();
    let hosts = Hosts::create();
    hosts.server.inside(|| {
        let toxiproxy = Toxiproxy::start(&[]);
        let proxy = toxiproxy.proxy_on("p", Hosts::SERVER);
        let mut crowd = Crowd::gather(&proxy);
        let address = proxy.address();
        let stuck =
            full(&toxiproxy, &proxy, || hosts.client.inside(|| Peer::connect_tiny(address)));
        hosts.cut();
        let (_vanished, servers): (Vec<Peer>, Vec<Peer>) =
            stuck.into_iter().map(|pair| (pair.client, pair.server)).unzip();
        crowd.servers = servers;
        crowd.has_changes(&toxiproxy, &proxy);
        toxiproxy.stop();
    });
}
