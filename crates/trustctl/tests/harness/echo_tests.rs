//! The echo server as its peers see it, and what its log says about them.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::server::Server;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    test_listen,
    test_echo_raw,
    test_framed_echo,
    test_two_messages,
    test_disconnect_recovery,
    test_oversize_reject,
    test_recv_timeout,
    test_partial_header_timeout,
    test_sigpipe_survival,
    test_load_50_clients,
];

/// The largest payload by default, inclusive.
const MAX_PAYLOAD: usize = 65_536;

/// No flags for the server.
const DEFAULTS: [&str; 0] = [];

/// An idle timeout that a test can wait for, far above the time of a step.
const SHORT_TIMEOUT: Duration = Duration::from_millis(300);
const SHORT_TIMEOUT_FLAG: [&str; 2] = ["--timeout", "0.3"];

/// EAGAIN on Linux.
const EAGAIN: u64 = 11;

fn test_listen() {
    let server = Server::start(DEFAULTS);
    let start = server.start_event();
    assert_ne!(server.port(), 0, "{start:?}");
    assert_eq!(start.count("pid"), u64::from(server.pid()), "{start:?}");
    assert_eq!(start.text("mode"), "auto", "{start:?}");
    assert_eq!(start.text("model"), "event", "{start:?}");
    assert_eq!(start.count("max_frame_bytes"), 65_536, "{start:?}");
    assert_eq!(start.number("timeout_sec"), 5.0, "{start:?}");
    assert!(start.count("workers") > 0 && start.count("max_clients") > 0, "{start:?}");
    assert!(!start.text("addr").is_empty(), "{start:?}");
    assert!(is_listening(server.port()), "no listening socket has port {}", server.port());
    server.peer().leave();

    let events = server.stop_with(Signal::TERM, 0);
    for name in ["server_start", "server_stop", "signal_received", "drain_start", "drain_done"] {
        event::only(&events, name);
    }
    assert_eq!(event::only(&events, "cmd_finish").count("exit"), 0);
}

fn test_echo_raw() {
    let server = Server::start(DEFAULTS);
    let mut peer = server.peer();
    let address = peer.address();
    peer.send(b"raw test\n");
    peer.half_close();
    peer.receives_to_end(b"raw test\n");
    let close = server.closes(address, "peer_fin");
    assert_eq!(close.text("mode"), "raw", "{close:?}");
    assert_eq!((close.count("bytes_in"), close.count("bytes_out")), (9, 9), "{close:?}");

    let mut typing = server.peer();
    for key in [b"a", b"\n", b"\0"] {
        typing.send(key);
        typing.receives(key);
    }
    typing.leave();
    server.stop();
}

fn test_framed_echo() {
    let server = Server::start(DEFAULTS);
    let mut peer = server.peer();
    let address = peer.address();
    for size in [0, 1, 5, 1000, MAX_PAYLOAD, 0, 1] {
        peer.send_frame(&pattern(size));
        peer.receives_frame(&pattern(size));
    }
    peer.half_close();
    peer.receives_end();
    let close = server.closes(address, "peer_fin");
    assert_eq!(close.text("mode"), "framed", "{close:?}");
    assert_eq!((close.count("frames_in"), close.count("frames_out")), (7, 7), "{close:?}");
    assert_eq!(close.count("bytes_in"), close.count("bytes_out"), "{close:?}");

    let hello = server.echo_client(["hello framed"]).run().exits_with(0);
    hello.prints("hello framed\n").complains_about_nothing();
    let largest = server.echo_client(["--payload-size", "65536"]).run().exits_with(0);
    assert_eq!(largest.stdout.len(), MAX_PAYLOAD + 1, "payload and newline");
    server.stop();
}

fn test_two_messages() {
    let server = Server::start(DEFAULTS);
    let mut peer = server.peer();
    let address = peer.address();
    peer.send(&[frame(b"MSG_A"), frame(b"MSG_B")].concat());
    peer.receives_frame(b"MSG_A");
    peer.receives_frame(b"MSG_B");
    peer.half_close();
    peer.receives_end();
    assert_eq!(server.closes(address, "peer_fin").count("frames_out"), 2);

    let client = server.echo_client(["MSG_A", "MSG_B"]).run().exits_with(0);
    client.prints("MSG_A\nMSG_B\n").complains_about_nothing();
    let typed = server.echo_client(DEFAULTS).run_with_input(b"first\nsecond\n");
    typed.exits_with(0).prints("first\nsecond\n").complains_about_nothing();
    server.stop();
}

fn test_disconnect_recovery() {
    let server = Server::start(DEFAULTS);
    let in_a_frame = &frame(b"0123456789")[..7];

    let (address, leaving) = peer_that_sent(&server, in_a_frame);
    leaving.leave();
    server.closes(address, "truncated_frame");
    server.event_about(address, "truncated_frame");
    server.event_about(address, "client_disconnect");
    server.serves_the_next();

    let (address, resetting) = peer_that_sent(&server, in_a_frame);
    resetting.reset();
    server.closes(address, "client_reset");
    server.event_about(address, "client_reset");
    server.serves_the_next();

    let (address, silent) = peer_that_sent(&server, b"");
    silent.leave();
    let close = server.closes(address, "peer_fin");
    assert_eq!(close.count("bytes_in"), 0, "{close:?}");
    server.serves_the_next();
    server.stop();
}

fn test_oversize_reject() {
    let server = Server::start(DEFAULTS);
    let client = server.echo_client(["--payload-size", "70000"]).run().exits_with(76);
    client.prints("").complains_in_one_line();
    let refused = server.wait_for_event("frame_too_large", |_| true, STEP_DEADLINE);
    assert!(refused.mentions(70_000), "the declared size is missing in {refused:?}");
    server.serves_the_next();

    let (header, payload) = (70_000_u32.to_be_bytes(), pattern(70_000));
    let (address, mut peer) = peer_that_sent(&server, &[&frame(b"before")[..], &header].concat());
    peer.receives_frame(b"before");
    server.event_about(address, "frame_too_large");
    // Bytes after the refusal are discarded; a server that had closed would answer with RST.
    peer.send(&payload);
    peer.receives_end();
    peer.leave();
    let close = server.closes(address, "frame_too_large");
    assert_eq!((close.count("frames_in"), close.count("frames_out")), (1, 1), "{close:?}");
    server.serves_the_next();
    server.stop();
}

fn test_recv_timeout() {
    let server = Server::start(SHORT_TIMEOUT_FLAG);
    let began = Instant::now();
    let (address, peer) = peer_that_sent(&server, b"");
    times_out(&server, address, peer, began);
    server.serves_the_next();
    server.stop();
}

fn test_partial_header_timeout() {
    let server = Server::start(SHORT_TIMEOUT_FLAG);
    let began = Instant::now();
    let (address, peer) = peer_that_sent(&server, &[0, 0]);
    let close = times_out(&server, address, peer, began);
    assert_eq!(close.count("bytes_in"), 2, "{close:?}");
    server.serves_the_next();
    server.stop();
}

fn test_sigpipe_survival() {
    let server = Server::start(DEFAULTS);
    let (client, mut input) = server.echo_client(["--chunk", "65536"]).start_with_input();
    let feeder = thread::spawn(move || while input.write_all(&[b'x'; MAX_PAYLOAD]).is_ok() {});
    client.wait_for_output(1 << 20);
    client.signal(Signal::KILL);
    drop(client);
    feeder.join().expect("the feeder ends with the client");
    let close = server.wait_for_event("client_close", |_| true, STEP_DEADLINE);
    // Which one depends on whether the kernel had unread bytes to discard when the process died.
    let reasons = ["client_reset", "broken_pipe", "truncated_frame", "peer_fin"];
    assert!(reasons.contains(&close.text("reason")), "{close:?}");
    assert!(close.count("bytes_out") >= 1 << 20, "{close:?}");
    server.serves_the_next();
    server.stop();
}

fn test_load_50_clients() {
    let server = Server::start(["--timeout", "60"]);
    // The resident client stays connected, so that everything the server needs exists when it is
    // counted.
    let mut resident = server.peer();
    resident.send_frame(b"before");
    resident.receives_frame(b"before");
    let before = server.descriptor_count();

    let load = server.echo_load_test(["--clients", "50", "--messages", "5"]).run();
    let load = load.exits_with(0).complains_about_nothing();
    let text = load.text();
    let all_ok = |line: &&str| line.starts_with("client ") && line.contains(": 5/5 ok ");
    assert_eq!(text.lines().filter(all_ok).count(), 50, "{text}");
    let total = "total: 50 clients, 250 messages, 250 ok, 0 fail";
    assert!(text.lines().any(|line| line == total), "no line {total:?} in:\n{text}");
    assert!(text.lines().any(|line| line.starts_with("rtt overall")), "{text}");

    server.comes_back_to_descriptors(before);
    resident.send_frame(b"after");
    resident.receives_frame(b"after");
    resident.leave();
    let events = server.stop();
    let closes = event::named(&events, "client_close");
    assert_eq!(closes.len(), 51);
    let echoed: u64 = closes.iter().map(|close| close.count("frames_out")).sum();
    assert_eq!(echoed, 252);
}

#[track_caller]
fn peer_that_sent(server: &Server, bytes: &[u8]) -> (SocketAddr, Peer) {
    let mut peer = server.peer();
    peer.send(bytes);
    (peer.address(), peer)
}

/// Checks that the server ends this idle peer with an orderly close, in time and not too early.
#[track_caller]
fn times_out(server: &Server, address: SocketAddr, mut peer: Peer, began: Instant) -> Event {
    peer.receives_end();
    let waited = began.elapsed();
    assert!(waited >= SHORT_TIMEOUT, "ended after {waited:?}, before the timeout");
    peer.leave();
    let timeout = server.event_about(address, "recv_timeout");
    assert_eq!(timeout.count("errno"), EAGAIN, "{timeout:?}");
    assert_eq!(timeout.number("timeout_sec"), SHORT_TIMEOUT.as_secs_f64(), "{timeout:?}");
    assert_eq!(timeout.text("level"), "warn", "{timeout:?}");
    server.closes(address, "recv_timeout")
}

/// Whether the kernel's tables (proc(5), `/proc/net/tcp`) list a TCP socket listening on this port.
fn is_listening(port: u16) -> bool {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        // A kernel without IPv6 has no such table.
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .any(|table| {
            table.lines().any(|line| {
                let columns: Vec<&str> = line.split_whitespace().collect();
                columns.len() > 3 && columns[1].ends_with(&port) && columns[3] == LISTEN
            })
        })
}
