//! Connections that begin with a PROXY header.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::command::{document, run};
use super::server::{Client, Server};
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    every_connection_begins_with_the_header_and_nothing_counts_it,
    a_client_with_nothing_to_send_has_sent_its_header,
    each_source_port_is_the_connections_own_unless_it_is_said,
    a_server_that_does_not_expect_the_header_is_suspected_of_it,
    the_sequential_load_sends_it_too,
];

/// A frame of `load` with its header.
const FRAME: u64 = 68;

/// Lines of version 1, each with the port of its connection.
type Lines = Arc<Mutex<Vec<(u16, String)>>>;

/// A server that takes a line and then sends every frame back, and the lines.
fn behind_header() -> (Server, Lines) {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    let server = Server::start(move |client| {
        let line = header(client)?;
        let port = client.stream.peer_addr()?.port();
        kept.lock().unwrap_or_else(PoisonError::into_inner).push((port, line));
        client.echo()
    });
    (server, lines)
}

/// The header line. Reads byte by byte, so as not to read past its end.
fn header(client: &mut Client) -> io::Result<String> {
    let mut line = String::new();
    while !line.ends_with("\r\n") {
        let mut byte = [0];
        client.stream.read_exact(&mut byte)?;
        line.push(char::from(byte[0]));
    }
    Ok(line)
}

fn lines(kept: &Mutex<Vec<(u16, String)>>) -> Vec<(u16, String)> {
    kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn every_connection_begins_with_the_header_and_nothing_counts_it() {
    for flags in [
        "--concurrency 4 --messages 5",
        "--concurrency 2 --messages 10 --messages-per-connection 3",
        "--concurrency 3 --connect-rate 100 --in-flight 4 --messages 7",
        "--concurrency 2 --rate 100 --duration 0.2",
    ] {
        let (server, kept) = behind_header();
        let flags = format!("{flags} --send-proxy v1=203.0.113.7:4711");
        let seen = document(&server, &flags, 0);
        seen.is_all_right(seen.messages.sent);
        assert_eq!(seen.bytes.sent, FRAME * seen.messages.sent, "{flags}");
        assert_eq!(seen.bytes.received, seen.bytes.sent, "{flags}");
        let port = server.address().port();
        let expected = format!("PROXY TCP4 203.0.113.7 127.0.0.1 4711 {port}\r\n");
        let lines = lines(&kept);
        assert_eq!(lines.len() as u64, seen.connections.made, "{flags}");
        assert!(lines.iter().all(|(_, line)| *line == expected), "{flags}: {lines:?}");
        assert_eq!(seen.facts["send_proxy"], "v1, from 203.0.113.7:4711");
        assert!(seen.again.contains("--send-proxy v1=203.0.113.7:4711"), "{}", seen.again);
    }
}

fn a_client_with_nothing_to_send_has_sent_its_header() {
    let (server, kept) = behind_header();
    // The second client's first message would be due when the run is over.
    document(&server, "--concurrency 2 --rate 1 --duration 1 --send-proxy v1=unknown", 0);
    let mut frames: Vec<usize> =
        server.seen_at_last().iter().map(|seen| seen.frames.len()).collect();
    frames.sort_unstable();
    assert_eq!(frames, [0, 1]);
    let lines: Vec<String> = lines(&kept).into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["PROXY UNKNOWN\r\n"; 2]);
}

fn each_source_port_is_the_connections_own_unless_it_is_said() {
    for (flag, source) in [("v1", "127.0.0.1"), ("v1=203.0.113.7", "203.0.113.7")] {
        let (server, kept) = behind_header();
        document(&server, &format!("--concurrency 3 --send-proxy {flag}"), 0);
        let to = server.address().port();
        let lines = lines(&kept);
        assert_eq!(lines.len(), 3);
        for (port, line) in lines {
            assert_eq!(line, format!("PROXY TCP4 {source} 127.0.0.1 {port} {to}\r\n"));
        }
    }
}

fn a_server_that_does_not_expect_the_header_is_suspected_of_it() {
    let hint = "a PROXY header (v2) was sent first, and perhaps the server does not expect one";
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let server = Server::start(|client| client.stream.read_exact(&mut [0; 16]));
    for flags in ["--concurrency 2", "--clients 1"] {
        let seen = run(&server, &format!("{flags} --send-proxy v2")).exits_with(1);
        assert!(words(seen.text()).contains(hint), "{}", seen.text());
    }
    // One that answers at all has understood it.
    let server = Server::start(|client| {
        header(client)?;
        client.echo_frames(1)
    });
    for flags in ["--concurrency 2", "--clients 1"] {
        let seen = run(&server, &format!("{flags} --send-proxy v1")).exits_with(1);
        assert!(!words(seen.text()).contains("perhaps the server"), "{}", seen.text());
    }
}

fn the_sequential_load_sends_it_too() {
    let (server, kept) = behind_header();
    let address = server.address().to_string();
    let load = Home::new().trustctl(["load", &address, "--clients=3", "--send-proxy=v1"]).run();
    let text = load.exits_with(0).text().to_owned();
    assert!(text.starts_with("client  1: 10/10 ok"), "{text}");
    let line = "PROXY header: v1, from the address of each connection";
    assert!(text.lines().any(|it| it == line), "{text}");
    assert_eq!(lines(&kept).len(), 3);
}
