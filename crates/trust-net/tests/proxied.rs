//! Servers whose connections begin with a PROXY header.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use trust_net::wire::{Frames, Limits, Mode};
use trust_net::{Model, Peer, Reply, ServerConfig, Service, Session};

use support::{DEADLINE, MODELS, config, read_to_end, start};

/// Answers every byte with the name of the peer, and counts its sessions.
#[derive(Clone, Default)]
struct Names(Arc<AtomicU32>);

struct NamesSession(Peer);

impl Service for Names {
    type Session = NamesSession;

    fn accept(&self, peer: Peer) -> NamesSession {
        self.0.fetch_add(1, Ordering::SeqCst);
        NamesSession(peer)
    }
}

impl Session for NamesSession {
    fn receive<'a>(&mut self, _frames: Frames<'a>, _reply: &mut Reply<'a>) {}

    fn receive_raw<'a>(&mut self, bytes: &'a [u8], reply: &mut Reply<'a>) {
        bytes.iter().for_each(|_| reply.write_raw(self.0.to_string().as_bytes()));
    }
}

fn awaiting(model: Model, limit: Duration) -> ServerConfig {
    let limits = Limits { mode: Mode::Raw, proxy_header: Some(limit), ..Limits::default() };
    ServerConfig { limits, ..config(model) }
}

fn answer(mut stream: TcpStream, pieces: &[&[u8]]) -> String {
    pieces.iter().for_each(|piece| stream.write_all(piece).unwrap());
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    String::from_utf8(read_to_end(&mut stream)).unwrap()
}

#[test]
fn a_session_is_made_for_the_client_that_the_header_names() {
    for model in MODELS {
        let server = start(awaiting(model, DEADLINE), Names::default());
        let line = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
        let whole = [&line[..], b"?"].concat();
        assert_eq!(answer(server.connect(), &[&whole]), "203.0.113.7:4711");
        assert_eq!(answer(server.connect(), &[&line[..9], &line[9..], b"?"]), "203.0.113.7:4711");
        let mapped = b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n?";
        assert_eq!(answer(server.connect(), &[mapped]), "203.0.113.7:1");
        let v6 = b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n?";
        assert_eq!(answer(server.connect(), &[v6]), "[2001:db8::7]:1");
        for unnamed in [&b"PROXY UNKNOWN\r\n?"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0?"] {
            let stream = server.connect();
            let own = stream.local_addr().unwrap().to_string();
            assert_eq!(answer(stream, &[unnamed]), own);
        }
        let (summary, _) = server.finish();
        assert_eq!(summary.totals.bytes_in, 6, "headers do not count");
    }
}

#[test]
fn a_connection_without_its_header_has_no_session_and_is_told_of_once() {
    let limit = Duration::from_millis(200);
    for model in MODELS {
        let service = Names::default();
        let server = start(awaiting(model, limit), service.clone());
        drop(server.connect());
        server.diary.wait_for("closed 1 PeerFin");
        let mut wrong = server.connect();
        wrong.write_all(b"hello").unwrap();
        assert_eq!(wrong.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        server.diary.wait_for("closed 2 ProxyHeaderInvalid(Missing)");
        let mut slow = server.connect();
        slow.write_all(b"PROXY ").unwrap();
        assert_eq!(slow.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        server.diary.wait_for("closed 3 ProxyHeaderTimeout");
        let (summary, diary) = server.finish();
        assert_eq!((summary.connections, summary.totals.bytes_in), (3, 0));
        assert_eq!(service.0.load(Ordering::SeqCst), 0);
        for connection in 1..=3 {
            let connected = format!("connected {connection}");
            let told = diary.entries().iter().filter(|entry| **entry == connected).count();
            assert_eq!(told, 1, "{connected}");
        }
    }
}

#[test]
fn a_drain_waits_for_no_header() {
    for model in MODELS {
        let started = Instant::now();
        let config = awaiting(model, 10 * DEADLINE);
        let server =
            start(ServerConfig { drain_timeout: 10 * DEADLINE, ..config }, Names::default());
        let mut begun = server.connect();
        begun.write_all(b"PROXY ").unwrap();
        // It is there when the server is told to stop.
        begun.flush().unwrap();
        let reading = std::thread::spawn(move || read_to_end(&mut begun));
        let (summary, diary) = server.finish();
        assert_eq!(reading.join().unwrap(), b"", "an orderly end");
        assert_eq!((summary.drained, summary.cut), (1, 0));
        assert_eq!(diary.reasons(), ["Drain"]);
        assert!(started.elapsed() < DEADLINE);
    }
}
