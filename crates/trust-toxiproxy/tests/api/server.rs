//! What the server survives: clients that are slow, gone, or send too much.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use trust_testkit::http::Client;
use trust_toxiproxy::server::{ApiServer, ApiTimeouts, loopback};

use crate::fake::api;

const NONE: &[String] = &[];

fn start(timeouts: ApiTimeouts) -> ApiServer {
    ApiServer::start(&loopback(0), timeouts, api().0, |_| {}).expect("it can listen")
}

fn expect_answer(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send("GET /version", NONE, "");
    assert_eq!(client.receive(false).status, 200);
}

/// So short that they pass in a test, and so long that no request takes as long on a busy machine.
fn short() -> ApiTimeouts {
    ApiTimeouts { read: Duration::from_secs(1), idle: Duration::from_secs(1) }
}

#[test]
fn both_loopback_addresses_have_the_same_port() {
    let server = start(ApiTimeouts::default());
    let addresses = server.addresses();
    assert!(addresses[0].is_ipv4() && addresses[0].port() != 0);
    assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
    addresses.iter().copied().for_each(expect_answer);
    let taken = ApiServer::start(addresses, ApiTimeouts::default(), api().0, |_| {});
    assert_eq!(taken.unwrap_err().error.kind(), ErrorKind::AddrInUse);
}

#[test]
fn it_ends_when_it_is_dropped_whatever_its_clients_do() {
    let server = start(ApiTimeouts::default());
    let address = server.addresses()[0];
    let mut idle = Client::connect(address);
    let mut unfinished = Client::connect(address);
    unfinished.send_head("POST /proxies", &["Content-Length: 5".to_owned()]);
    let mut answered = Client::connect(address);
    answered.send("GET /version", NONE, "");
    assert_eq!(answered.receive(false).status, 200);
    drop(server);
    for client in [&mut idle, &mut unfinished, &mut answered] {
        client.expect_end();
    }
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_client_that_has_sent_fin_gets_all_of_its_answer() {
    let server = start(ApiTimeouts::default());
    let mut client = Client::connect(server.addresses()[0]);
    // More than all buffers on the way have room for.
    let long = "u".repeat(1_000_000);
    for name in 0..20 {
        let body = format!(r#"{{"name":"{name}","upstream":"{long}","enabled":false}}"#);
        client.send("POST /proxies", NONE, &body);
        assert_eq!(client.receive(false).status, 201);
    }
    client.send("GET /proxies", NONE, "");
    client.stream.shutdown(Shutdown::Write).unwrap();
    let answer = client.receive(false);
    assert_eq!((answer.status, answer.body.ends_with("}}")), (200, true));
    client.expect_end();
}

#[test]
fn a_client_may_be_idle_for_longer_than_it_may_take_to_send_a_request() {
    let server = start(ApiTimeouts { idle: Duration::from_secs(60), ..short() });
    let address = server.addresses()[0];
    let mut idle = Client::connect(address);
    idle.send("GET /version", NONE, "");
    assert_eq!(idle.receive(false).status, 200);
    // It has come later, so its time is over later.
    Client::connect(address).expect_end();
    idle.send("GET /version", NONE, "");
    assert_eq!(idle.receive(false).status, 200);
}

#[test]
fn clients_that_send_no_whole_request_are_closed() {
    let server = start(short());
    let address = server.addresses()[0];
    let mut silent = Client::connect(address);
    let mut without_body = Client::connect(address);
    without_body.send_head("POST /reset", &["Transfer-Encoding: chunked".to_owned()]);
    let mut idle = Client::connect(address);
    idle.send("GET /version", NONE, "");
    assert_eq!(idle.receive(false).status, 200);
    for client in [&mut silent, &mut without_body, &mut idle] {
        client.expect_end();
    }
    expect_answer(address);
}

#[test]
fn a_client_that_reads_no_answer_is_closed_and_holds_up_no_other() {
    let server = start(short());
    let address = server.addresses()[0];
    let mut greedy = Client::connect(address);
    let name = "n".repeat(64 << 10);
    let body = format!(r#"{{"name":"{name}","upstream":"u:1","enabled":false}}"#);
    greedy.send("POST /proxies", NONE, &body);
    assert_eq!(greedy.receive(false).status, 201);
    // Until the server reads no more, because its answers are not read, and then closes.
    let requests = "GET /proxies HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let error = loop {
        match greedy.stream.write_all(requests.as_bytes()) {
            Ok(()) => expect_answer(address),
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    expect_answer(address);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let server = start(ApiTimeouts::default());
    let address = server.addresses()[0];
    let mut client = Client::connect(address);
    let body = "x".repeat(1 << 20);
    client.send("POST /populate", NONE, &body);
    assert_eq!(client.receive(false).status, 400, "the longest");
    let header = format!("Content-Length: {}", 1_u64 << 40);
    let mut client = Client::connect(address);
    // Only its length is sent.
    client.send_head("POST /populate", &[header]);
    let answer = client.receive(false);
    assert_eq!(answer.status, 413);
    let text = r#"{"error":"request body too large: expected at most 1048576 bytes","status":413}"#;
    assert_eq!(answer.body, format!("{text}\n"));
    client.expect_end();
    expect_answer(address);
}

#[test]
fn what_is_no_http_gets_an_answer_or_an_end() {
    let server = start(ApiTimeouts::default());
    let address = server.addresses()[0];
    for rubbish in [&b"\x16\x03\x01\x02\x00"[..], b"GET\r\n\r\n", &[0xff; 100_000]] {
        let mut client = Client::connect(address);
        // It may be reset before it has sent everything.
        let _ = client.stream.write_all(rubbish);
        let _ = client.stream.shutdown(Shutdown::Write);
        client.expect_end();
    }
    expect_answer(address);
}
