//! Who is accepted, and what workers do for many connections at once, over real sockets.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{
    DEADLINE, Diary, MODELS, Running, Sleepy, config, frame, ip_of, read_exactly, read_to_end,
    start,
};
use trust_net::service::Echo;
use trust_net::wire::{Frames, Limits};
use trust_net::{
    Address, Event, Handle, Model, Observer, Peer, Reply, Server, ServerConfig, Service, Session,
    listening, socket,
};

#[test]
fn beyond_the_last_place_clients_are_turned_away_and_a_place_is_usable_at_once() {
    let server = start(ServerConfig { max_clients: 2, workers: 2, ..config(Model::Event) }, Echo);
    let first = server.connect();
    let _second = server.connect();
    server.diary.wait_for("connected 2");
    for _ in 0..5 {
        let mut refused = server.connect();
        assert_eq!(read_to_end(&mut refused), b"");
    }
    server.diary.wait_for("rejected");
    drop(first);
    server.diary.wait_for("closed 1 PeerFin");
    let mut third = server.connect();
    third.write_all(b"served").unwrap();
    assert_eq!(read_exactly(&mut third, 6), b"served");
    let diary = Arc::clone(&server.diary);
    diary.wait_for("connected 3");
    drop(third);
    let (summary, _) = server.finish();
    assert_eq!((summary.connections, summary.rejected), (3, 5));
}

#[test]
fn a_second_server_on_the_port_is_refused() {
    for model in MODELS {
        let server = start(ServerConfig { workers: 2, ..config(model.clone()) }, Echo);
        let again =
            ServerConfig { addresses: vec![server.address.into()], ..config(model.clone()) };
        let error = Server::bind(again, Echo, Arc::new(())).err().unwrap();
        assert_eq!(error.address, Some(server.address.into()));
        assert_eq!(error.error.kind(), std::io::ErrorKind::AddrInUse);
    }
}

#[test]
fn one_socket_serves_ipv6_and_ipv4_where_there_is_ipv6() {
    let addresses = vec![socket::any_address(0).into()];
    let server =
        Server::bind(ServerConfig { addresses, ..config(Model::Event) }, Echo, Arc::new(()));
    let server = server.unwrap();
    let (port, handle) = (ip_of(&server).port(), server.handle());
    let serving = std::thread::spawn(move || server.run());
    let hosts: &[&str] = match TcpStream::connect(("::1", port)) {
        Ok(_) => &["::1", "127.0.0.1"],
        Err(_) => &["127.0.0.1"],
    };
    for host in hosts {
        let mut stream = TcpStream::connect((*host, port)).unwrap();
        stream.write_all(b"hello").unwrap();
        assert_eq!(read_exactly(&mut stream, 5), b"hello");
    }
    handle.drain();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_server_listens_on_all_its_addresses_at_one_port() {
    let addresses = [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]];
    let addresses = addresses.map(|ip| SocketAddr::from((ip, 0))).to_vec();
    for model in MODELS {
        let all = addresses.iter().copied().map(Address::Ip).collect();
        let server = start(ServerConfig { addresses: all, ..config(model) }, Echo);
        // More than once each: an iterative server takes them in turn.
        for address in addresses.iter().cycle().take(2 * addresses.len()) {
            let mut stream = TcpStream::connect((address.ip(), server.address.port())).unwrap();
            stream.write_all(b"hello").unwrap();
            assert_eq!(read_exactly(&mut stream, 5), b"hello");
        }
    }
}

#[test]
fn an_address_that_cannot_be_had_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let listen = |addresses: [SocketAddr; 2]| {
        listening::listen(&addresses.map(Address::Ip), Default::default(), None, |_| Ok(()))
    };
    let free = SocketAddr::from(([127, 0, 0, 1], taken.port()));
    let error = listen([free, taken]).unwrap_err();
    assert_eq!((error.address, error.error.kind()), (Some(taken.into()), ErrorKind::AddrInUse));
    // An address that the host does not have (RFC 5737).
    let foreign = SocketAddr::from(([192, 0, 2, 1], taken.port()));
    let error = listen([free, foreign]).unwrap_err();
    assert_eq!(
        (error.address, error.error.kind()),
        (Some(foreign.into()), ErrorKind::AddrNotAvailable)
    );
}

#[test]
fn clients_are_spread_evenly_over_the_workers() {
    /// Answers with the name of its thread.
    struct Where;
    impl Service for Where {
        type Session = Where;
        fn accept(&self, _peer: Peer) -> Where {
            Where
        }
    }
    impl Session for Where {
        fn receive<'a>(&mut self, _frames: Frames<'a>, reply: &mut Reply<'a>) {
            let name = std::thread::current().name().unwrap_or("worker-0").to_owned();
            reply.write_frame(name.as_bytes());
        }
    }
    let server = start(ServerConfig { workers: 4, ..config(Model::Event) }, Where);
    let mut counts = std::collections::BTreeMap::<Vec<u8>, usize>::new();
    let mut streams: Vec<TcpStream> = (0..48).map(|_| server.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&frame(b"?")).unwrap();
        let len = read_exactly(stream, 4)[3];
        *counts.entry(read_exactly(stream, usize::from(len))).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [12; 4]);
}

/// Raises the soft limit of descriptors, which is 1024 on many machines.
fn allow_descriptors(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    assert!(maximum >= wanted, "needs a hard limit of {wanted} descriptors, not {maximum}");
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[test]
fn a_server_that_was_held_up_cuts_nobody_who_had_sent_in_time() {
    // Several times as many connections as the kernel reports with one call.
    const CLIENTS: usize = 3500;
    allow_descriptors(3 * CLIENTS as u64);
    // A try proves nothing if the clients themselves took longer than the timeout.
    let tried = [1, 2, 4, 8].into_iter().find_map(|seconds| {
        let timeout = Duration::from_secs(seconds);
        let limits = Limits { timeout: Some(timeout), ..Limits::default() };
        let config = ServerConfig { limits, max_clients: 2 * CLIENTS, ..config(Model::Event) };
        let server = start(config, Sleepy(timeout + Duration::from_secs(1), Arc::default()));
        let began = Instant::now();
        let sent = sent_beside_a_sleeper(&server, CLIENTS);
        (began.elapsed() < timeout).then(|| (server, sent.expect("in time")))
    });
    let (_server, mut clients) = tried.expect("clients that connect and send within 8 s");
    for client in &mut clients[1..] {
        assert_eq!(read_exactly(client, 10), frame(b"second"));
    }
}

/// Has the first client hold up its worker once all others were served, and these send once more.
fn sent_beside_a_sleeper(server: &Running, count: usize) -> io::Result<Vec<TcpStream>> {
    let mut clients: Vec<TcpStream> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients[1..] {
        client.write_all(&frame(b"first"))?;
    }
    for client in &mut clients[1..] {
        let mut echo = [0; 9];
        client.read_exact(&mut echo)?;
        assert_eq!(echo[..], frame(b"first"));
    }
    clients[0].write_all(&frame(b"sleep"))?;
    for client in &mut clients[1..] {
        client.write_all(&frame(b"second"))?;
    }
    Ok(clients)
}

#[test]
fn the_time_of_whoever_was_looked_at_late_begins_late() {
    let timeout = Duration::from_secs(1);
    let held_up = timeout * 3 / 2;
    let limits = Limits { timeout: Some(timeout), ..Limits::default() };
    let config = ServerConfig { limits, workers: 1, ..config(Model::Event) };
    let begun = Arc::new(AtomicI64::new(0));
    let server = start(config, Sleepy(held_up, Arc::clone(&begun)));
    let [mut sleeper, mut client] = [(); 2].map(|()| server.connect());
    client.write_all(&frame(b"first")).unwrap();
    assert_eq!(read_exactly(&mut client, 9), frame(b"first"));
    sleeper.write_all(&frame(b"nap")).unwrap();
    let started = Instant::now();
    while begun.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < DEADLINE, "the worker never fell asleep");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    // When it wakes it finds what holds it up, part of a frame and a newcomer, all at once.
    sleeper.write_all(&frame(b"sleep")).unwrap();
    let second = frame(b"second");
    client.write_all(&second[..2]).unwrap();
    let mut newcomer = server.connect();
    newcomer.set_read_timeout(Some(held_up + timeout / 4)).unwrap();
    let outcome = newcomer.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(
        outcome,
        Err(ErrorKind::WouldBlock),
        "the newcomer was ended as soon as it was seen"
    );
    assert_eq!(server.diary.reasons(), Vec::<String>::new());
    client.write_all(&second[2..]).unwrap();
    assert_eq!(read_exactly(&mut client, second.len()), second);
}

/// Panics on a frame `panic`.
struct Clumsy;

impl Service for Clumsy {
    type Session = Clumsy;

    fn accept(&self, _peer: Peer) -> Clumsy {
        Clumsy
    }
}

impl Session for Clumsy {
    fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>) {
        assert!(!frames.into_iter().any(|payload| payload == b"panic"), "a bug of the service");
        reply.send_back(frames);
    }
}

#[test]
fn a_worker_that_panics_ends_the_server_instead_of_leaving_its_clients_alone() {
    // Clients are spread over the workers, so that each of them is hit once.
    for victim in 0..2 {
        let mut server = start(ServerConfig { workers: 2, ..config(Model::Event) }, Clumsy);
        let mut clients: Vec<TcpStream> = (0..2).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.write_all(&frame(b"x")).unwrap();
            assert_eq!(read_exactly(client, 5), frame(b"x"));
        }
        clients[victim].write_all(&frame(b"panic")).unwrap();
        assert!(server.server.take().unwrap().join().is_err(), "the panic is passed on");
    }
}

/// Asks for statistics again whenever it gets some, until the server has been asked `most` times.
#[derive(Default)]
struct Insatiable {
    handle: OnceLock<Handle>,
    /// How often it was told.
    told: Mutex<u64>,
    changed: Condvar,
}

impl Insatiable {
    const MOST: u64 = 4;
}

impl Observer for Insatiable {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Stats(_) = event {
            let mut told = self.told.lock().unwrap();
            *told += 1;
            self.changed.notify_all();
            if *told < Insatiable::MOST {
                self.handle.get().unwrap().report_stats();
            }
        }
    }
}

/// Asks for statistics, and holds its worker up until a deadline of another connection has passed.
#[derive(Clone)]
struct HoldsUp {
    observer: Arc<Insatiable>,
    pause: Duration,
}

impl Service for HoldsUp {
    type Session = HoldsUp;

    fn accept(&self, _peer: Peer) -> HoldsUp {
        self.clone()
    }
}

impl Session for HoldsUp {
    fn receive(&mut self, _frames: Frames<'_>, _reply: &mut Reply<'_>) {
        self.observer.handle.get().unwrap().report_stats();
        std::thread::sleep(self.pause);
    }
}

#[test]
fn a_bell_that_is_rung_just_before_deadlines_are_judged_is_not_missed() {
    let frame_timeout = Duration::from_millis(100);
    // Afterwards no deadline wakes the worker before the test is over.
    let limits = Limits {
        timeout: None,
        frame_timeout: Some(frame_timeout),
        linger_timeout: 100 * DEADLINE,
        ..Limits::default()
    };
    let observer = Arc::new(Insatiable::default());
    let service = HoldsUp { observer: Arc::clone(&observer), pause: 2 * frame_timeout };
    let config = ServerConfig { limits, ..config(Model::Event) };
    let watching = Arc::clone(&observer) as Arc<dyn Observer>;
    let server = Server::bind(config, service, watching).unwrap();
    let (address, handle) = (ip_of(&server), server.handle());
    assert!(observer.handle.set(handle.clone()).is_ok());
    let server = std::thread::spawn(move || server.run().unwrap());

    let connect = || TcpStream::connect(address).unwrap();
    let (mut unfinished, mut busy) = (connect(), connect());
    unfinished.write_all(&frame(b"never finished")[..6]).unwrap();
    busy.write_all(&frame(b"hold the worker up")).unwrap();

    let told = observer.told.lock().unwrap();
    let is_missing = |told: &mut u64| *told < Insatiable::MOST;
    let (told, waited) = observer.changed.wait_timeout_while(told, DEADLINE, is_missing).unwrap();
    let answered = *told;
    drop(told);
    handle.cut();
    server.join().unwrap();
    assert!(!waited.timed_out(), "{answered} of {} requests were answered", Insatiable::MOST);
}

/// How often the thread of this process with that name has gone to sleep (`proc_pid_status(5)`).
fn sleeps_of(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_it = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let status = std::fs::read_to_string(tasks.into_iter().find(is_it).unwrap().join("status"));
    let status = status.unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn idle_connections_wake_nobody_but_for_the_sweep() {
    const CLIENTS: usize = 500;
    // Each connection has a deadline of its own a second or so from now: they share a few sweeps.
    let timeout = Some(Duration::from_secs(4));
    let limits = Limits { timeout, linger_timeout: Duration::ZERO, ..Limits::default() };
    let config = ServerConfig { limits, ..config(Model::Event) };
    let diary = Arc::new(Diary::default());
    let server = Server::bind(config, Echo, Arc::clone(&diary) as Arc<dyn Observer>).unwrap();
    let (address, handle) = (ip_of(&server), server.handle());
    let run = move || server.run().unwrap();
    let server = std::thread::Builder::new().name("idle-server".into()).spawn(run).unwrap();
    let server = Running { address, handle, diary, server: Some(server) };

    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(&frame(b"once")).unwrap();
        assert_eq!(read_exactly(client, 8), frame(b"once"));
        // So that no two deadlines are the same: the kernel rounds waits up to a millisecond.
        std::thread::park_timeout(Duration::from_millis(2));
    }
    let (before, started) = (sleeps_of("idle-server"), Instant::now());
    // Not by the diary, for which the server would wait while it is read.
    for client in &mut clients {
        assert_eq!(read_to_end(client), b"");
    }
    let (sleeps, seconds) = (sleeps_of("idle-server") - before, started.elapsed().as_secs_f64());
    let (_, diary) = server.finish();
    assert_eq!(diary.reasons(), ["RecvTimeout"; CLIENTS]);
    // The grid for limits of 2 s and more is at least 62.5 ms.
    let sweeps = 2 + (seconds / 0.0625).ceil() as u64;
    assert!(sleeps <= sweeps, "{sleeps} sleeps in {seconds} s, {CLIENTS} connections");
}
