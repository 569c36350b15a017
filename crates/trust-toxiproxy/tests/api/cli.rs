//! The client of `toxiproxy-cli` against the API, and against what is none.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use trust_testkit::STEP_DEADLINE;
use trust_toxiproxy::cli::client::{CliAnswer, CliServer, ExchangeError, exchange};
use trust_toxiproxy::cli::command::{CliLine, CliRequest};
use trust_toxiproxy::cli::listed::{ListedProxies, ListedProxy};
use trust_toxiproxy::server::{ApiServer, ApiTimeouts, loopback};

use crate::fake::{api, take};

fn request(line: &str) -> CliRequest {
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let line = CliLine::parse(&words).unwrap_or_else(|fault| panic!("{line}: {fault}"));
    line.command.request().expect("it asks the server")
}

fn ask(address: SocketAddr, request: &CliRequest) -> Result<CliAnswer, ExchangeError> {
    ask_within(address, request, STEP_DEADLINE, [])
}

fn ask_within(
    address: SocketAddr,
    request: &CliRequest,
    limit: Duration,
    stops: impl IntoIterator<Item = OwnedFd>,
) -> Result<CliAnswer, ExchangeError> {
    let connection = TcpStream::connect(address).expect("it listens");
    exchange(connection, CliServer { host: "localhost", prefix: "" }, request, limit, stops)
}

/// Where a server is that reads the head of a request, and answers it with these bytes.
fn answering(answer: &'static [u8]) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let serving = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client.set_read_timeout(Some(STEP_DEADLINE)).expect("it is not zero");
        let mut head = vec![];
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            client.read_exact(&mut byte).expect("a whole head");
            head.push(byte[0]);
        }
        // The client may have left because of what came before.
        let _ = client.write_all(answer);
        String::from_utf8(head).expect("text")
    });
    (address, serving)
}

/// What is wrong with an answer of these bytes.
fn fault(answer: &'static [u8]) -> String {
    let (address, serving) = answering(answer);
    let fault = ask(address, &request("list")).expect_err("no good answer").to_string();
    serving.join().expect("it has been asked");
    fault
}

#[test]
fn every_request_has_its_effect() {
    let (api, calls) = api();
    let server = ApiServer::start(&loopback(0), ApiTimeouts::default(), api, |_| {}).unwrap();
    let address = server.addresses()[0];
    let does = |line: &str, expected: &[&str]| {
        let answer = ask(address, &request(line)).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(take(&calls), expected, "{line}");
        answer
    };
    does("create -l 127.0.0.1:0 -u u:1 a/b", &["start a/b 127.0.0.1:40001 u:1"]);
    does("create -l 127.0.0.1:0 -u u:2 ü.", &["start ü. 127.0.0.1:40002 u:2"]);
    does("toxic add -t latency ü.", &["add latency_downstream to ü.: latency_downstream"]);
    does("toxic add -t noop -u -n .. ü.", &["add .. to ü.: .. latency_downstream"]);
    does("toxic update -n .. ü.", &["update .. of ü.: .. latency_downstream"]);
    does("toxic remove -n .. ü.", &["remove .. from ü.: latency_downstream"]);
    let mut proxy: ListedProxy = does("inspect ü.", &[]).read().unwrap();
    assert_eq!((proxy.toxics.len(), proxy.enabled), (1, true));
    proxy.enabled = false;
    ask(address, &CliRequest::save(&proxy)).unwrap();
    assert_eq!(take(&calls), ["stop ü."]);
    let proxies: ListedProxies = does("list", &[]).read().unwrap();
    assert_eq!(proxies.keys().collect::<Vec<_>>(), ["a/b", "ü."]);
    assert_eq!(proxies["ü."], proxy);
    does("delete ü.", &[]);
}

#[test]
fn the_reason_of_a_refusal_is_given() {
    let server = ApiServer::start(&loopback(0), ApiTimeouts::default(), api().0, |_| {}).unwrap();
    let refused = |line: &str| ask(server.addresses()[0], &request(line)).unwrap_err().to_string();
    assert_eq!(refused("inspect a"), "proxy not found (status 404)");
    let taken = "create -l 127.0.0.1:7070 -u u:1 a";
    let expected = "listen tcp 127.0.0.1:7070: bind: address already in use (status 500)";
    assert_eq!(refused(taken), expected);
}

#[test]
fn a_request_has_the_headers_that_toxiproxy_s_own_client_sends() {
    let (address, serving) = answering(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    ask(address, &request("create -l a -u b c")).unwrap();
    let head = serving.join().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /proxies http/1.1\r\n"), "{head}");
    let agent = "\r\nuser-agent: toxiproxy-cli/2.12.0 (linux/";
    for header in ["\r\nhost: localhost\r\n", "\r\ncontent-type: application/json\r\n", agent] {
        assert!(head.contains(header), "{header:?} is not in {head}");
    }
}

#[test]
fn what_is_no_answer_of_the_api_is_said_in_one_line() {
    let cases: [(&[u8], &str); 5] = [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno\nsuch\x1b\n",
            "no such  (status 404)",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "no reason given (status 502)"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "no reason given (status 301)"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "invalid HTTP version parsed"),
        (b"", "connection closed before message completed"),
    ];
    for (answer, expected) in cases {
        assert_eq!(fault(answer), expected);
    }
    let cut = fault(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}");
    assert!(!cut.is_empty() && !cut.contains('\n'), "{cut}");
    let (address, _) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
    let answer = ask(address, &request("list")).unwrap();
    let error = answer.read::<ListedProxies>().unwrap_err().to_string();
    assert!(error.starts_with("invalid answer: ") && !error.contains('\n'), "{error}");
}

#[test]
fn an_answer_without_bounds_is_not_read_to_its_end() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(answer.len() + (17 << 20), b' ');
    assert_eq!(fault(answer.leak()), "the answer is longer than 16777216 bytes");
}

#[test]
fn the_wait_for_an_answer_has_a_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let limit = Duration::from_millis(50);
    let begun = Instant::now();
    let outcome = ask_within(listener.local_addr().unwrap(), &request("list"), limit, []);
    assert!(matches!(outcome, Err(ExchangeError::TimedOut)), "{outcome:?}");
    assert!(begun.elapsed() >= limit);
}

#[test]
fn the_wait_for_an_answer_ends_when_a_pipe_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (idle, _idle_end) = io::pipe().unwrap();
    let (stop, mut stopping) = io::pipe().unwrap();
    let waiting = thread::spawn(move || {
        let stops = [idle, stop].map(OwnedFd::from);
        ask_within(address, &request("list"), STEP_DEADLINE, stops)
    });
    let _connection = listener.accept().unwrap();
    stopping.write_all(b"x").unwrap();
    let outcome = waiting.join().unwrap();
    assert!(matches!(outcome, Err(ExchangeError::Stopped)), "{outcome:?}");
}
