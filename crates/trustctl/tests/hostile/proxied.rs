//! PROXY headers: right ones, wrong ones, late ones, none.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::case::Case;
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::kernel;
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, frame};
use trust_testkit::scene::{lasted, totals};
use trust_testkit::server::Server;
use trust_wire::{ProxyHeader, ProxyVersion};

pub(crate) const CASES: &[Case] = &[
    Case::new("PROXY header, in any pieces", in_any_pieces),
    Case::new("PROXY header of no client", of_no_client),
    Case::new("PROXY header that is none", wrong_headers),
    Case::new("PROXY header, a byte now and then", slow_header),
    Case::new("PROXY header, never the rest", never_the_rest),
    Case::new("PROXY header expected, and probed", probed),
    Case::new("PROXY header expected at a drain", at_a_drain),
    Case::new("PROXY header expected, no place left", no_place_left).except(&[
        (Model::Iterative, "it serves one client, and the next one waits in the backlog"),
        (Model::Inetd, "how many programs there are is for the super-server to say"),
    ]),
];

/// No client is cut here for being slow, unless a case is about that.
const PATIENT: [&str; 3] = ["--proxy-protocol", "--proxy-timeout", "1m"];

/// The start of a header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a proxy says for a client at that address.
fn header(version: ProxyVersion, client: &str) -> Vec<u8> {
    let destination = "198.51.100.1:443".parse().expect("an address");
    let source = address(client);
    let destination = match source {
        SocketAddr::V4(_) => destination,
        SocketAddr::V6(_) => address("[2001:db8::1]:443"),
    };
    ProxyHeader::Tcp { source, destination }.encode(version).to_vec()
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Checks that all events of the connection say that the client has come through that proxy.
#[track_caller]
fn came_through(events: &[Event], client: SocketAddr, proxy: SocketAddr) {
    let all = event::about(events, client);
    let told = all.iter().filter(|event| event.text("peer") == client.to_string());
    let told =
        told.inspect(|event| assert_eq!(event.text("proxy"), proxy.to_string(), "{event:?}"));
    let names: Vec<&str> = told.map(|event| event.name()).collect();
    assert!(names.contains(&"client_connect") && names.contains(&"client_close"), "{names:?}");
    // A child is started before anybody knows the client.
    let others = all.len() - names.len();
    assert!(others <= 1, "{all:?}");
}

fn in_any_pieces(model: Model) {
    let server = Server::of(model, PATIENT);
    let message = frame(b"first");
    let mut clients = vec![];
    for (number, version) in [ProxyVersion::V1, ProxyVersion::V2].into_iter().enumerate() {
        for (family, client) in ["203.0.113.7", "[2001:db8::7]"].into_iter().enumerate() {
            let whole = |port: usize| header(version, &format!("{client}:{port}"));
            let len = whole(10_000).len();
            // With the first message; a byte at a time; cut in the middle, and right after it.
            for (way, piece) in [len + message.len(), 1, len / 2, len].into_iter().enumerate() {
                let port = 10_000 + 1_000 * number + 100 * family + way;
                let mut peer = server.peer();
                let sent = [whole(port), message.clone()].concat();
                for bytes in sent.chunks(piece) {
                    peer.send(bytes);
                    peer.is_received();
                }
                peer.receives(&message);
                clients.push((address(&format!("{client}:{port}")), peer.address()));
                peer.half_close();
                peer.receives_end();
                let (client, _) = clients[clients.len() - 1];
                let close = server.closes(client, "peer_fin");
                assert_eq!(totals(&close), [9, 9, 1, 1], "the header does not count");
            }
        }
    }
    let events = server.stop();
    for (client, proxy) in clients {
        came_through(&events, client, proxy);
    }
}

fn of_no_client(model: Model) {
    let server = Server::of(model, PATIENT);
    let udp = [SIGNATURE, b"\x21\x12\0\x0c", &[1; 12]].concat();
    let unix = [SIGNATURE, b"\x21\x31\0\xd8", &[b'/'; 216]].concat();
    let local = [SIGNATURE, b"\x20\0\0\0"].concat();
    let unspecified = [SIGNATURE, b"\x21\0\0\x03any"].concat();
    let unknown = b"PROXY UNKNOWN whatever stands here\r\n".to_vec();
    for header in [&local, &unspecified, &udp, &unix, &unknown] {
        let mut peer = server.peer();
        peer.send(&[header, &b"raw"[..]].concat());
        peer.receives(b"raw");
        let proxy = peer.address();
        peer.half_close();
        peer.receives_end();
        let close = server.closes(proxy, "peer_fin");
        assert!(!close.has("proxy"), "the proxy itself is the peer: {close:?}");
    }
    server.stop();
}

fn wrong_headers(model: Model) {
    let server = Server::of(model, PATIENT);
    let wrong_checksum =
        b"\x21\x11\0\x13\x01\x01\x01\x01\x02\x02\x02\x02\0\x03\0\x04\x03\0\x04abcd";
    let cases: [(&[u8], &str, Option<&str>); 9] = [
        (
            b"\0\0\0\x05hello",
            "the connection does not begin with a PROXY header",
            Some("looks like frames with a big-endian length of 4 bytes (u32be)"),
        ),
        (
            b"GET / HTTP/1.1\r\n\r\n",
            "the connection does not begin with a PROXY header",
            Some("looks like an HTTP request"),
        ),
        (b"hello\n", "the connection does not begin with a PROXY header", None),
        (
            b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\n",
            "version 1: not printable, or LF without CR",
            None,
        ),
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 04711 443\r\n", "version 1: invalid port", None),
        (b"PROXY TCP4 localhost 198.51.100.1 1 2\r\n", "version 1: invalid address", None),
        (&[SIGNATURE, b"\x31\x11\0\x0c"].concat(), "unknown version 3 of the binary header", None),
        (
            &[SIGNATURE, b"\x21\x11\xff\xff"].concat(),
            "version 2: 65535 bytes after the first 16, the limit is 4096",
            None,
        ),
        (&[SIGNATURE, wrong_checksum].concat(), "version 2: wrong checksum (CRC32C)", None),
    ];
    for (sent, problem, hint) in cases {
        let mut peer = server.peer();
        let proxy = peer.address();
        peer.send(sent);
        peer.receives_reset();
        let invalid = server.event_about(proxy, "proxy_header_invalid");
        assert_eq!((invalid.text("problem"), invalid.text("level")), (problem, "warn"));
        assert!(invalid.has("first_bytes"), "{invalid:?}");
        assert_eq!(invalid.has("hint").then(|| invalid.text("hint")), hint, "{invalid:?}");
        let close = server.closes(proxy, "proxy_header_invalid");
        assert_eq!(totals(&close), [0; 4]);
        assert!(!close.has("proxy"), "{close:?}");
    }
    // FIN inside of one.
    let mut peer = server.peer();
    let proxy = peer.address();
    peer.send(b"PROXY TCP4 203");
    peer.half_close();
    peer.receives_reset();
    let invalid = server.event_about(proxy, "proxy_header_invalid");
    assert_eq!(invalid.text("problem"), "the connection ended inside the PROXY header");
    server.closes(proxy, "proxy_header_invalid");
    server.stop();
}

/// No byte renews the time that a header has.
fn slow_header(model: Model) {
    const LIMIT: Duration = Duration::from_secs(1);
    let server = Server::of(model, ["--proxy-protocol", "--proxy-timeout", "1"]);
    let began = Instant::now();
    let mut peer = server.peer();
    let proxy = peer.address();
    let mut sender = peer.twin().into_stream();
    let sending = std::thread::spawn(move || {
        for byte in header(ProxyVersion::V1, "203.0.113.7:4711") {
            if began.elapsed() > 2 * LIMIT {
                break;
            }
            if let Err(error) = sender.write_all(&[byte]) {
                return error.kind() == ErrorKind::ConnectionReset;
            }
            std::thread::park_timeout(LIMIT / 10);
        }
        false
    });
    let late = server.event_about(proxy, "proxy_header_timeout");
    lasted(began, LIMIT);
    // The call that meets an RST hides it from later ones.
    if !sending.join().expect("it checks nothing") {
        peer.is_reset();
    }
    assert_eq!((late.number("proxy_timeout_sec"), late.text("level")), (1.0, "warn"));
    assert!(late.text("first_bytes").starts_with("PROXY"), "{late:?}");
    server.closes(proxy, "proxy_header_timeout");
    server.stop();
}

fn never_the_rest(model: Model) {
    let server = Server::of(model, ["--proxy-protocol", "--proxy-timeout", "300ms"]);
    let binary = header(ProxyVersion::V2, "203.0.113.7:4711");
    for begun in [&b""[..], b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r", &binary[..27]] {
        let began = Instant::now();
        let mut peer = server.peer();
        let proxy = peer.address();
        peer.send(begun);
        peer.is_reset();
        lasted(began, Duration::from_millis(300));
        let close = server.closes(proxy, "proxy_header_timeout");
        assert_eq!(totals(&close), [0; 4]);
    }
    server.stop();
}

/// Balancers look whether a server accepts: without a header, and with one of their own.
fn probed(model: Model) {
    let server = Server::of(model, PATIENT);
    let local = [SIGNATURE, b"\x20\0\0\0"].concat();
    for probe in [&b""[..], &local, b"PROXY UNKNOWN\r\n"] {
        let mut peer = server.peer();
        let proxy = peer.address();
        peer.send(probe);
        peer.leave();
        server.closes(proxy, "peer_fin");

        // A program that somebody else starts does not learn the address of who has reset by then.
        if model == Model::Inetd && probe.is_empty() {
            continue;
        }
        peer = server.peer();
        let proxy = peer.address();
        peer.send(probe);
        settles(&server, &peer, probe);
        peer.reset();
        server.closes(proxy, "client_reset");
        let reset = server.event_about(proxy, "client_reset");
        assert_eq!(reset.text("level"), "info", "{reset:?}");
    }
    // Inside a header it is no longer a probe.
    let mut peer = server.peer();
    let proxy = peer.address();
    peer.send(&local[..13]);
    settles(&server, &peer, &local[..13]);
    peer.reset();
    server.closes(proxy, "client_reset");
    assert_eq!(server.event_about(proxy, "client_reset").text("level"), "warn");
    server.stop();
}

/// Waits until the server has received what the peer has sent.
fn settles(server: &Server, peer: &Peer, sent: &[u8]) {
    let (SocketAddr::V4(to), SocketAddr::V4(from)) = (server.address(), peer.address()) else {
        panic!("peers come from 127.0.0.1")
    };
    if !sent.is_empty() {
        peer.is_received();
        kernel::wait_until("all bytes being read", || {
            kernel::Socket::find(to, from).is_some_and(|socket| socket.unread == 0)
        });
    }
}

fn at_a_drain(model: Model) {
    let server = Server::of(model, [&PATIENT[..], &["--linger-timeout", "30"]].concat());
    // One after the other is served, or by a program each, whose signals are handled once it has
    // said that it serves: so there is one.
    let count = if model.serves_several() && model != Model::Inetd { 2 } else { 1 };
    let mut peers: Vec<Peer> = (0..count).map(|_| server.peer()).collect();
    let proxies: Vec<SocketAddr> = peers.iter().map(Peer::address).collect();
    if let Some(second) = peers.get_mut(1) {
        second.send(b"PROXY ");
    }
    for peer in &peers {
        settles(&server, peer, if peer.address() == proxies[0] { b"" } else { b"PROXY " });
    }
    server.wait_for_event("server_start", |_| true, STEP_DEADLINE);
    server.signal(Signal::TERM);
    for peer in &mut peers {
        peer.receives_end();
        peer.half_close();
    }
    let events = server.has_stopped(0);
    for proxy in proxies {
        let close = event::only_about(&events, proxy, "client_close");
        assert_eq!(close.text("reason"), "drain", "{close:?}");
    }
}

/// Who is turned away is turned away at once, and the proxy is who is told of.
fn no_place_left(model: Model) {
    let server = Server::of(model, [&PATIENT[..], &["--max-clients", "1"]].concat());
    let mut served = server.peer();
    served.send(&header(ProxyVersion::V2, "203.0.113.7:4711"));
    let client = address("203.0.113.7:4711");
    server.event_about(client, "client_connect");
    let mut rejected = server.peer();
    rejected.receives_end();
    let proxy = rejected.address().to_string();
    let deadline = trust_testkit::STEP_DEADLINE;
    server.wait_for_event("client_reject", |event| event.text("peer") == proxy, deadline);
    rejected.leave();
    served.send(b"raw");
    served.receives(b"raw");
    served.half_close();
    served.receives_end();
    server.closes(client, "peer_fin");
    server.stop();
}
