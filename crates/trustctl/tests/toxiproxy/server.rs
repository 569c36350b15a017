//! The server under test, one of its proxies, and connections through that.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::Signal;
use serde_json::{Value, json};
use trust_testkit::STEP_DEADLINE;
use trust_testkit::http::{Client, WireAnswer};
use trust_testkit::kernel;
use trust_testkit::peer::{Peer, accept, upstream};
use trust_testkit::program::{Home, Running};

/// When the least patient client gives up, Ruby's.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// How often a time is measured, if it is longer each time than on an idle machine.
const TRIES: usize = 20;

/// A server on a free port, killed and reaped when dropped.
pub(crate) struct Toxiproxy {
    running: Running,
    api: SocketAddr,
    _home: Home,
}

/// A proxy of a server, and what it connects its clients to.
pub(crate) struct Proxy<'a> {
    toxiproxy: &'a Toxiproxy,
    name: &'static str,
    address: SocketAddr,
    upstream: TcpListener,
}

/// A connection through a proxy.
pub(crate) struct Pair {
    pub(crate) client: Peer,
    pub(crate) server: Peer,
}

impl Toxiproxy {
    /// Starts a server with these flags of its own; returns when it listens.
    #[track_caller]
    pub(crate) fn start(flags: &[&str]) -> Toxiproxy {
        let home = Home::new();
        let launch = home.trustctl(["toxiproxy-server", "-host", "127.0.0.1", "-port", "0"]);
        let running = launch.args(flags).start();
        let start = running.wait_for_event("api_listen", |_| true, STEP_DEADLINE);
        let api = start.texts("addresses")[0].parse().expect("an address");
        Toxiproxy { running, api, _home: home }
    }

    /// Where the API listens.
    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    /// The answer to a request, which must have this status.
    #[track_caller]
    pub(crate) fn answer(&self, request: &str, body: &Value, status: u16) -> WireAnswer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut client = Client::connect(self.api);
        let began = Instant::now();
        client.send(request, &[], &body);
        let answer = client.receive(false);
        let took = began.elapsed();
        assert_eq!(answer.status, status, "{request} {body}: {}", answer.body);
        assert!(took < ANSWER_DEADLINE, "{request} took {took:?}");
        answer
    }

    /// What a path has.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.answer(&format!("GET {path}"), &Value::Null, 200);
        serde_json::from_str(&answer.body).expect("an answer is JSON")
    }

    /// Asks for a proxy of that name on a free port.
    #[track_caller]
    pub(crate) fn proxy(&self, name: &'static str) -> Proxy<'_> {
        self.proxy_on(name, Ipv4Addr::LOCALHOST)
    }

    /// The same on this address.
    #[track_caller]
    pub(crate) fn proxy_on(&self, name: &'static str, listen: Ipv4Addr) -> Proxy<'_> {
        let upstream = upstream();
        let to = upstream.local_addr().expect("an address").to_string();
        let body = json!({"name": name, "listen": format!("{listen}:0"), "upstream": to});
        self.answer("POST /proxies", &body, 201);
        self.proxy_before(name, upstream)
    }

    /// The proxy of that name, which connects its clients to this upstream.
    #[track_caller]
    pub(crate) fn proxy_before(&self, name: &'static str, upstream: TcpListener) -> Proxy<'_> {
        let listed = self.get(&format!("/proxies/{name}"));
        let address = listed["listen"].as_str().expect("a text");
        let address = address.parse().expect("an address");
        Proxy { toxiproxy: self, name, address, upstream }
    }

    /// Enables all proxies, and removes all toxics.
    #[track_caller]
    pub(crate) fn reset(&self) {
        self.answer("POST /reset", &Value::Null, 204);
    }

    /// Waits until the server has done all that it can do by now.
    #[track_caller]
    pub(crate) fn is_quiet(&self) {
        kernel::wait_until_quiet(|| vec![self.running.pid()]);
    }

    /// Stops it with SIGTERM.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.running.signal(Signal::TERM);
        self.running.wait().exits_with(0);
    }
}

impl Proxy<'_> {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Pair {
        let client = Peer::connect(self.address);
        Pair { client, server: self.accept() }
    }

    /// The next of its connections, at the upstream.
    #[track_caller]
    pub(crate) fn accept(&self) -> Peer {
        accept(&self.upstream)
    }

    /// What it connects its clients to.
    pub(crate) fn upstream(&self) -> &TcpListener {
        &self.upstream
    }

    /// Has nothing listen where it connects to.
    pub(crate) fn lose_upstream(self) {
        drop(self.upstream);
    }

    /// Adds a toxic of that type and stream, with the name that follows from both.
    #[track_caller]
    pub(crate) fn add(&self, type_name: &str, stream: &str, attributes: Value) {
        self.add_some(type_name, stream, attributes, 1.0);
    }

    /// The same for a share of the connections.
    #[track_caller]
    pub(crate) fn add_some(&self, type_name: &str, stream: &str, attributes: Value, share: f64) {
        let body = json!({
            "type": type_name, "stream": stream, "attributes": attributes, "toxicity": share,
        });
        self.toxiproxy.answer(&format!("POST /proxies/{}/toxics", self.name), &body, 200);
    }

    /// Changes attributes of a toxic.
    #[track_caller]
    pub(crate) fn update(&self, toxic: &str, attributes: Value) {
        let body = json!({"attributes": attributes});
        self.toxiproxy.answer(&format!("PATCH /proxies/{}/toxics/{toxic}", self.name), &body, 200);
    }

    #[track_caller]
    pub(crate) fn remove(&self, toxic: &str) {
        let request = format!("DELETE /proxies/{}/toxics/{toxic}", self.name);
        self.toxiproxy.answer(&request, &Value::Null, 204);
    }

    /// Changes the proxy itself; what it is then.
    #[track_caller]
    pub(crate) fn change(&self, body: &Value) -> Value {
        let answer = self.toxiproxy.answer(&format!("PATCH /proxies/{}", self.name), body, 200);
        serde_json::from_str(&answer.body).expect("an answer is JSON")
    }

    /// The names of its toxics.
    #[track_caller]
    pub(crate) fn toxics(&self) -> Vec<String> {
        let listed = self.toxiproxy.get(&format!("/proxies/{}/toxics", self.name));
        let names = listed.as_array().expect("a list").iter().map(|toxic| &toxic["name"]);
        names.map(|name| name.as_str().expect("a text").to_owned()).collect()
    }

    /// Checks that nothing comes of what the other side has sent.
    #[track_caller]
    pub(crate) fn holds(&self, sender: &Peer, receiver: &Peer) {
        sender.is_received();
        self.toxiproxy.is_quiet();
        has_nothing(receiver);
    }
}

impl Pair {
    /// Sends this from either end, and checks that it comes to the other one.
    #[track_caller]
    pub(crate) fn carries(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
        self.server.receives(bytes);
        self.server.send(bytes);
        self.client.receives(bytes);
    }

    /// How long a byte takes to the client.
    #[track_caller]
    pub(crate) fn takes_down(&mut self) -> Duration {
        let began = Instant::now();
        self.server.send(b"d");
        self.client.receives(b"d");
        began.elapsed()
    }

    /// How long a byte takes from the client.
    #[track_caller]
    pub(crate) fn takes_up(&mut self) -> Duration {
        let began = Instant::now();
        self.client.send(b"u");
        self.server.receives(b"u");
        began.elapsed()
    }
}

/// Checks that nothing has come, not even an end.
#[track_caller]
pub(crate) fn has_nothing(peer: &Peer) {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let came = rustix::net::recv(peer.stream(), &mut [0; 16], flags).map(|(count, _)| count);
    assert_eq!(came, Err(Errno::AGAIN));
}

/// Measures until a time is as short as on an idle machine; none may be too short.
#[track_caller]
pub(crate) fn takes_ms(least: u64, most: u64, mut measure: impl FnMut() -> Duration) {
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let took = measure();
        assert!(took >= Duration::from_millis(least), "{took:?}: before {least} ms");
        best = best.min(took);
        if best <= Duration::from_millis(most) {
            return;
        }
    }
    panic!("{best:?} at best, more than {most} ms");
}
