//! Many connections through a proxy with the API of Toxiproxy, half of them full: how soon a change
//! is answered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};

use super::process::ProxyProcess;

/// Connections, if descriptors allow: each takes two, in the proxy and here.
const CONNECTIONS: usize = 10_000;

/// Descriptors for everything else.
const OTHER_DESCRIPTORS: u64 = 200;

/// How often each change is made.
const ROUNDS: usize = 11;

/// For one step: a hundred times what it takes.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// Receive buffer of the clients, so that those that do not read take little.
const CLIENT_BUFFER: usize = 4096;

/// How long each kind of change took, in milliseconds.
pub(super) struct CrowdAnswers {
    pub(super) connections: usize,
    pub(super) full: usize,
    pub(super) changes: Vec<(&'static str, Vec<f64>)>,
}

/// Connections through the proxy, and both of their ends.
struct Crowd {
    reading: Vec<(TcpStream, TcpStream)>,
    full: Vec<(TcpStream, TcpStream)>,
}

impl Crowd {
    fn gather(proxy: SocketAddr, upstream: &TcpListener, count: usize) -> io::Result<Crowd> {
        let mut crowd = Crowd { reading: vec![], full: vec![] };
        for number in 0..count {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // Before the handshake, which announces the window.
            client.set_recv_buffer_size(CLIENT_BUFFER)?;
            client.connect_timeout(&proxy.into(), STEP_LIMIT)?;
            let (server, _) = upstream.accept()?;
            let group = if number % 2 == 0 { &mut crowd.reading } else { &mut crowd.full };
            group.push((client.into(), server));
        }
        Ok(crowd)
    }

    /// Has the servers of the full ones send until nothing of it is taken.
    fn fill(&self) -> io::Result<()> {
        let bytes = vec![7; 64 * 1024];
        let began = Instant::now();
        loop {
            let mut taken = 0;
            for (_, server) in &self.full {
                server.set_nonblocking(true)?;
                taken += match (&mut &*server).write(&bytes) {
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                    Err(error) => return Err(error),
                };
            }
            if taken == 0 {
                return Ok(());
            }
            if began.elapsed() > STEP_LIMIT {
                return Err(io::Error::other("the connections do not get full"));
            }
        }
    }

    /// Waits until the clients that read have got a byte from their servers, or the end.
    fn receive(&mut self, expected: usize) -> io::Result<()> {
        for (client, _) in &mut self.reading {
            client.set_read_timeout(Some(STEP_LIMIT))?;
            if client.read(&mut [0])? != expected {
                return Err(io::Error::other("a connection has missed a change"));
            }
        }
        Ok(())
    }

    /// Checks that changes are for every connection that reads: what is sent now is held until
    /// the toxic that holds it is gone.
    fn misses_nothing(&mut self, api: SocketAddr) -> io::Result<()> {
        add(api, "bandwidth", &json!({"rate": 0}))?;
        for (_, server) in &mut self.reading {
            server.write_all(b"x")?;
        }
        thread::sleep(Duration::from_millis(500));
        for (client, _) in &self.reading {
            client.set_nonblocking(true)?;
            let is_held = client.peek(&mut [0]).is_err();
            client.set_nonblocking(false)?;
            if !is_held {
                return Err(io::Error::other("a connection has missed a toxic"));
            }
        }
        ask(api, "POST /reset", &Value::Null, 204)?;
        self.receive(1)
    }
}

/// Raises the limit of descriptors as far as allowed; what it is then.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Makes a request of the API that must be answered with this status; how long that took, and the
/// answer's body.
fn ask(api: SocketAddr, request: &str, body: &Value, status: u16) -> io::Result<(f64, Value)> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let began = Instant::now();
    let mut stream = TcpStream::connect(api)?;
    stream.set_read_timeout(Some(STEP_LIMIT))?;
    let length = body.len();
    let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    if !answer.starts_with(&format!("HTTP/1.1 {status} ")) {
        return Err(io::Error::other(format!("{request}: {answer}")));
    }
    Ok((took, serde_json::from_str(body).unwrap_or_default()))
}

/// Adds a toxic of that type; how long that took.
fn add(api: SocketAddr, kind: &str, attributes: &Value) -> io::Result<f64> {
    let body = json!({"name": "it", "type": kind, "attributes": attributes});
    ask(api, "POST /proxies/crowd/toxics", &body, 200).map(|(took, _)| took)
}

/// Measures it.
///
/// # Errors
///
/// The proxy cannot be started, a connection fails, or one has missed a change.
pub(super) fn measure(trustctl: &Path) -> io::Result<CrowdAnswers> {
    let descriptors = raise_descriptor_limit().saturating_sub(OTHER_DESCRIPTORS);
    let count = CONNECTIONS.min((descriptors / 2) as usize);
    let mut command = Command::new(trustctl);
    command.args(["toxiproxy-server", "-host", "127.0.0.1", "-port", "0"]);
    let (process, event) = ProxyProcess::start(&mut command, "api_listen")?;
    let address = |text: &Value| -> io::Result<SocketAddr> {
        text.as_str().unwrap_or_default().parse().map_err(io::Error::other)
    };
    let api = address(&event["addresses"][0])?;
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // So that those that are not read are full soon.
    SockRef::from(&upstream).set_send_buffer_size(1)?;
    let to = upstream.local_addr()?.to_string();
    let body = json!({"name": "crowd", "listen": "127.0.0.1:0", "upstream": to});
    let (_, proxy) = ask(api, "POST /proxies", &body, 201)?;
    let mut crowd = Crowd::gather(address(&proxy["listen"])?, &upstream, count)?;
    crowd.fill()?;
    let (mut added, mut updated, mut removed, mut reset) = (vec![], vec![], vec![], vec![]);
    let it = "/proxies/crowd/toxics/it";
    for _ in 0..ROUNDS {
        added.push(add(api, "latency", &json!({"latency": 10}))?);
        let change = json!({"attributes": {"latency": 20}});
        updated.push(ask(api, &format!("PATCH {it}"), &change, 200)?.0);
        removed.push(ask(api, &format!("DELETE {it}"), &Value::Null, 204)?.0);
        add(api, "bandwidth", &json!({"rate": 10}))?;
        reset.push(ask(api, "POST /reset", &Value::Null, 204)?.0);
    }
    crowd.misses_nothing(api)?;
    add(api, "timeout", &json!({"timeout": 0}))?;
    let closed = vec![ask(api, &format!("DELETE {it}"), &Value::Null, 204)?.0];
    crowd.receive(0)?;
    process.end()?;
    let changes = vec![
        ("a toxic is added", added),
        ("it is changed", updated),
        ("it is removed", removed),
        ("all are removed (`/reset`)", reset),
        ("one is removed that closes all connections", closed),
    ];
    Ok(CrowdAnswers { connections: count, full: crowd.full.len(), changes })
}
