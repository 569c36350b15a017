//! Servers over real sockets, seen from the outside, in both models.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use trust_net::service::Echo;
use trust_net::wire::{Disconnect, Frames, Limits, Reason};
use trust_net::{
    Event, Handle, Model, Observer, Reply, Server, ServerConfig, Service, Session, Summary, socket,
};

/// Longer than anything here takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

const MODELS: [Model; 2] = [Model::Event, Model::Iterative];

/// Remembers what happened, and lets a test wait for it.
#[derive(Default)]
struct Diary {
    entries: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Observer for Diary {
    fn observe(&self, event: &Event<'_>) {
        let entry = match event {
            Event::Connected(client) => format!("connected {}", client.id),
            Event::Closed { client, cause, .. } => {
                format!("closed {} {:?}", client.id, cause.reason)
            }
            Event::Rejected { .. } => "rejected".to_owned(),
            Event::DrainStarted { active } => format!("drain of {active}"),
            _ => return,
        };
        self.entries.lock().unwrap().push(entry);
        self.changed.notify_all();
    }
}

impl Diary {
    fn wait_for(&self, wanted: &str) {
        let entries = self.entries.lock().unwrap();
        let is_missing = |entries: &mut Vec<String>| !entries.iter().any(|entry| entry == wanted);
        let (entries, waited) =
            self.changed.wait_timeout_while(entries, DEADLINE, is_missing).unwrap();
        assert!(!waited.timed_out(), "no {wanted:?} in {entries:?}");
    }

    fn reasons(&self) -> Vec<String> {
        let entries = self.entries.lock().unwrap();
        let closed = entries.iter().filter_map(|entry| entry.strip_prefix("closed "));
        closed.map(|entry| entry.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

struct Running {
    address: SocketAddr,
    handle: Handle,
    diary: Arc<Diary>,
    server: Option<JoinHandle<Summary>>,
}

fn config(model: Model) -> ServerConfig {
    ServerConfig { addresses: vec!["127.0.0.1:0".parse().unwrap()], model, ..ServerConfig::new(0) }
}

fn start(config: ServerConfig, service: impl Service) -> Running {
    let diary = Arc::new(Diary::default());
    let server = Server::bind(config, service, Arc::clone(&diary) as Arc<dyn Observer>).unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let server = std::thread::spawn(move || server.run().unwrap());
    Running { address, handle, diary, server: Some(server) }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn finish(mut self) -> (Summary, Arc<Diary>) {
        self.handle.drain();
        let summary = self.server.take().unwrap().join().unwrap();
        (summary, Arc::clone(&self.diary))
    }
}

/// A failing test does not leave its server behind.
impl Drop for Running {
    fn drop(&mut self) {
        self.handle.cut();
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    trust_net::wire::frame::encode_frame(payload, &mut frame);
    frame
}

fn read_exactly(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn frames_and_text_come_back_as_they_went_out() {
    for model in MODELS {
        let server = start(config(model), Echo);
        for message in [frame(b""), frame(b"hello"), frame(&[7; 65_536]), b"plain text".to_vec()] {
            let mut stream = server.connect();
            stream.write_all(&message).unwrap();
            assert_eq!(read_exactly(&mut stream, message.len()), message);
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut stream), b"");
        }
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["PeerFin"; 4], "{model:?}");
        assert_eq!((summary.connections, summary.totals.frames_out), (4, 3));
    }
}

#[test]
fn one_byte_at_a_time_is_answered_frame_by_frame() {
    for model in MODELS {
        let server = start(config(model), Echo);
        let mut stream = server.connect();
        for message in [frame(b"slow"), frame(b"and slower")] {
            for byte in &message {
                stream.write_all(&[*byte]).unwrap();
            }
            assert_eq!(read_exactly(&mut stream, message.len()), message, "{model:?}");
        }
    }
}

#[test]
fn a_large_stream_comes_back_whole_to_a_peer_that_reads_late() {
    for model in MODELS {
        let server = start(config(model), Echo);
        let mut stream = server.connect();
        let message: Vec<u8> = (0..200u32).flat_map(|i| frame(&[i as u8; 40_000])).collect();
        let mut sending = stream.try_clone().unwrap();
        let sent = message.clone();
        let sender = std::thread::spawn(move || {
            sending.write_all(&sent).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        server.diary.wait_for("connected 1");
        assert!(read_to_end(&mut stream) == message, "{model:?}");
        sender.join().unwrap();
        let (summary, _) = server.finish();
        assert_eq!(summary.totals.frames_out, 200);
    }
}

#[test]
fn an_answer_survives_a_close_with_unread_bytes() {
    for model in MODELS {
        let server = start(config(model), Echo);
        let mut stream = server.connect();
        let good = frame(b"owed");
        stream.write_all(&[&good[..], &[0, 0xff, 0xff, 0xff], &[1; 100_000]].concat()).unwrap();
        assert_eq!(read_to_end(&mut stream), good, "{model:?}: EOF, not a reset");
        drop(stream);
        server.diary.wait_for("closed 1 FrameTooLarge { declared: 16777215 }");
    }
}

#[test]
fn silence_ends_at_the_timeout_and_not_before() {
    for model in MODELS {
        let timeout = Duration::from_millis(150);
        let limits = Limits { timeout: Some(timeout), ..Limits::default() };
        let server = start(ServerConfig { limits, ..config(model) }, Echo);
        for sent in [&b""[..], b"\0\0", b"\0\0\0\x09half"] {
            let started = Instant::now();
            let mut stream = server.connect();
            stream.write_all(sent).unwrap();
            assert_eq!(read_to_end(&mut stream), b"");
            assert!(started.elapsed() >= timeout);
        }
        let (_, diary) = server.finish();
        assert_eq!(diary.reasons(), ["RecvTimeout"; 3], "{model:?}");
    }
}

#[test]
fn a_peer_that_never_reads_is_cut() {
    for model in MODELS {
        let timeout = Duration::from_millis(200);
        let limits = Limits { timeout: Some(timeout), ..Limits::default() };
        let server = start(ServerConfig { limits, ..config(model) }, Echo);
        let mut stream = server.connect();
        let error = std::iter::repeat_with(|| stream.write_all(&[7; 65_536]))
            .find_map(Result::err)
            .unwrap();
        assert_eq!(error.raw_os_error(), Some(104), "ECONNRESET");
        server.diary.wait_for("closed 1 SendTimeout");
    }
}

#[test]
fn a_drain_finishes_the_frame_that_has_begun_and_refuses_newcomers() {
    for model in MODELS {
        let server = start(config(model), Echo);
        let mut stream = server.connect();
        let message = frame(b"begun before, finished after");
        stream.write_all(&frame(b"first")).unwrap();
        assert_eq!(read_exactly(&mut stream, 9), frame(b"first"));
        // The first byte is in the kernel's queue, whether or not the server has read it.
        stream.write_all(&message[..1]).unwrap();
        server.handle.drain();
        server.diary.wait_for("drain of 1");
        assert!(TcpStream::connect(server.address).is_err());
        stream.write_all(&message[1..]).unwrap();
        assert_eq!(read_to_end(&mut stream), message, "{model:?}");
        drop(stream);
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["Drain"]);
        assert_eq!((summary.drained, summary.cut, summary.cut_short), (1, 0, false));
    }
}

#[test]
fn a_frame_that_begins_after_the_drain_is_not_answered() {
    let server = start(config(Model::Event), Echo);
    let mut stream = server.connect();
    stream.write_all(b"\0\0").unwrap();
    server.diary.wait_for("connected 1");
    let mut idle = server.connect();
    server.diary.wait_for("connected 2");
    server.handle.drain();
    assert_eq!(read_to_end(&mut idle), b"", "connections are told in the order of acceptance");
    stream.write_all(&[b"\0\x01x", &frame(b"too late")[..]].concat()).unwrap();
    assert_eq!(read_to_end(&mut stream), frame(b"x"));
}

#[test]
fn a_client_in_the_backlog_is_served_by_the_drain() {
    let server = start(config(Model::Iterative), Echo);
    let first = server.connect();
    server.diary.wait_for("connected 1");
    let mut second = server.connect();
    second.write_all(&frame(b"waiting")).unwrap();
    server.handle.drain();
    drop(first);
    assert_eq!(read_to_end(&mut second), frame(b"waiting"));
    drop(second);
    let (summary, _) = server.finish();
    assert_eq!(summary.drained, 2);
}

#[test]
fn a_second_call_cuts_what_is_left() {
    for model in MODELS {
        let server = start(config(model), Echo);
        let mut stream = server.connect();
        stream.write_all(b"\0\0").unwrap();
        server.handle.drain();
        server.diary.wait_for("drain of 1");
        server.handle.cut();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(104), "{model:?}");
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["SecondSignal"]);
        assert_eq!((summary.cut, summary.cut_short), (1, true));
    }
}

#[test]
fn the_drain_timeout_cuts_unfinished_frames_only() {
    for model in MODELS {
        let drain_timeout = Duration::from_millis(100);
        let server = start(ServerConfig { drain_timeout, ..config(model) }, Echo);
        let mut stuck = server.connect();
        stuck.write_all(b"\0\0").unwrap();
        server.diary.wait_for("connected 1");
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["DrainTimeout"], "{model:?}");
        assert_eq!(summary.cut, 1);

        let server = start(ServerConfig { drain_timeout, ..config(model) }, Echo);
        let _idle = server.connect();
        server.diary.wait_for("connected 1");
        let (summary, diary) = server.finish();
        assert_eq!(diary.reasons(), ["Drain"], "{model:?}");
        assert_eq!((summary.cut, summary.drained), (0, 1));
    }
}

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
        let server = start(ServerConfig { workers: 2, ..config(model) }, Echo);
        let again = ServerConfig { addresses: vec![server.address], ..config(model) };
        let error = Server::bind(again, Echo, Arc::new(())).err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
}

#[test]
fn one_socket_serves_ipv6_and_ipv4_where_there_is_ipv6() {
    let addresses = socket::any_address(0);
    let server =
        Server::bind(ServerConfig { addresses, ..config(Model::Event) }, Echo, Arc::new(()));
    let server = server.unwrap();
    let (port, handle) = (server.local_addr().unwrap().port(), server.handle());
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

/// Counts its sessions and answers each run of frames with one frame: how many they were.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicI64>);

struct Counted(Counting);

impl Service for Counting {
    type Session = Counted;

    fn accept(&self, _peer: SocketAddr) -> Counted {
        self.0.fetch_add(1, Ordering::SeqCst);
        Counted(self.clone())
    }
}

impl Session for Counted {
    fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>) {
        reply.write_frame(&frames.count().to_be_bytes());
    }

    fn close(self, disconnect: &Disconnect) {
        assert_ne!(disconnect.reason, Reason::IoError);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn frames_of_one_segment_reach_the_service_together() {
    let server = start(config(Model::Event), Counting::default());
    let mut stream = server.connect();
    stream.write_all(&frame(b"x").repeat(1000)).unwrap();
    let answer = read_exactly(&mut stream, 12);
    let together = u64::from_be_bytes(answer[4..].try_into().unwrap());
    assert!(together > 1, "all frames that one receive brings in are one run");
}

#[test]
fn a_session_is_dropped_on_every_kind_of_end() {
    for model in MODELS {
        let service = Counting::default();
        let limits = Limits { timeout: Some(Duration::from_millis(100)), ..Limits::default() };
        let server = start(ServerConfig { limits, ..config(model) }, service.clone());
        drop(server.connect());
        let mut truncated = server.connect();
        truncated.write_all(b"\0\0\0").unwrap();
        drop(truncated);
        let reset = server.connect();
        socket::reset_on_close(std::os::fd::AsFd::as_fd(&reset));
        drop(reset);
        let mut too_large = server.connect();
        too_large.write_all(b"\0\xff\xff\xff").unwrap();
        drop(too_large);
        let silent = server.connect();
        server.diary.wait_for("closed 5 RecvTimeout");
        drop(silent);
        let (summary, diary) = server.finish();
        assert_eq!(service.0.load(Ordering::SeqCst), 0, "{model:?}");
        assert_eq!((summary.connections, diary.reasons().len()), (5, 5));
    }
}

#[test]
fn clients_are_spread_evenly_over_the_workers() {
    /// Answers with the name of its thread.
    struct Where;
    impl Service for Where {
        type Session = Where;
        fn accept(&self, _peer: SocketAddr) -> Where {
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

/// Echoes, but a frame `sleep` keeps its worker busy for so long, and `nap` for a little; and how often.
struct Sleepy(Duration, Arc<AtomicI64>);

struct SleepySession(Duration, Arc<AtomicI64>);

impl Service for Sleepy {
    type Session = SleepySession;

    fn accept(&self, _peer: SocketAddr) -> SleepySession {
        SleepySession(self.0, Arc::clone(&self.1))
    }
}

impl Session for SleepySession {
    fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>) {
        for (word, length) in [(&b"sleep"[..], self.0), (b"nap", self.0 / 20)] {
            if frames.into_iter().any(|payload| payload == word) {
                self.1.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(length);
            }
        }
        reply.send_back(frames);
    }
}

#[test]
fn a_server_that_was_held_up_cuts_nobody_who_had_sent_in_time() {
    // Several times as many connections as the kernel reports with one call.
    const CLIENTS: usize = 3500;
    allow_descriptors(3 * CLIENTS as u64);
    let timeout = Duration::from_secs(1);
    let limits = Limits { timeout: Some(timeout), ..Limits::default() };
    let config = ServerConfig { limits, max_clients: 2 * CLIENTS, ..config(Model::Event) };
    let server = start(config, Sleepy(timeout * 2, Arc::default()));
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    let [sleeper, others @ ..] = &mut clients[..] else { unreachable!() };
    for client in others.iter_mut() {
        client.write_all(&frame(b"first")).unwrap();
    }
    for client in others.iter_mut() {
        assert_eq!(read_exactly(client, 9), frame(b"first"));
    }
    sleeper.write_all(&frame(b"sleep")).unwrap();
    for client in others.iter_mut() {
        client.write_all(&frame(b"second")).unwrap();
    }
    for client in others.iter_mut() {
        assert_eq!(read_exactly(client, 10), frame(b"second"));
    }
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

#[test]
fn a_client_that_came_just_before_the_drain_is_served() {
    for model in MODELS {
        let server = start(config(model), Sleepy(Duration::from_millis(300), Arc::default()));
        let mut sleeper = server.connect();
        sleeper.write_all(&frame(b"sleep")).unwrap();
        server.diary.wait_for("connected 1");
        // Nobody accepts meanwhile, and so nobody is told that they are there.
        let mut late: Vec<TcpStream> = (0..30).map(|_| server.connect()).collect();
        for client in &mut late {
            client.write_all(&frame(b"still here?")).unwrap();
        }
        server.handle.drain();
        for client in &mut late {
            assert_eq!(read_to_end(client), frame(b"still here?"), "{model:?}");
        }
        // They stay, and linger, and keep nobody from being served.
        drop((late, sleeper));
        let (summary, diary) = server.finish();
        assert_eq!((summary.drained, summary.cut), (31, 0), "{:?}", diary.reasons());
    }
}

#[test]
fn clients_that_never_pause_keep_neither_deadlines_nor_a_stop_from_being_looked_at() {
    for (model, clients) in [(Model::Event, 3), (Model::Iterative, 1)] {
        let limits = Limits {
            max_lifetime: Some(Duration::from_millis(300)),
            linger_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let server = start(ServerConfig { limits, ..config(model) }, Echo);
        let flood = |_| {
            let mut sending = server.connect();
            let mut receiving = sending.try_clone().unwrap();
            let sender = std::thread::spawn(move || {
                let message = frame(&[7; 60_000]);
                while sending.write_all(&message).is_ok() {}
            });
            let receiver =
                std::thread::spawn(move || std::io::copy(&mut receiving, &mut std::io::sink()));
            (sender, receiver)
        };
        let floods: Vec<_> = (0..clients).map(flood).collect();
        for id in 1..=clients {
            server.diary.wait_for(&format!("closed {id} MaxLifetime"));
        }
        let (summary, _) = server.finish();
        assert_eq!(summary.connections, clients, "{model:?}");
        for (sender, receiver) in floods {
            sender.join().unwrap();
            let _ = receiver.join().unwrap();
        }
    }
}

#[test]
fn urgent_data_do_not_hide_what_comes_after_them() {
    for model in MODELS {
        let server = start(config(model), Sleepy(Duration::from_millis(200), Arc::default()));
        let mut stream = server.connect();
        // So that all of it is there before any of it is received.
        stream.write_all(&frame(b"sleep")).unwrap();
        stream.write_all(&frame(b"before")).unwrap();
        socket2::SockRef::from(&stream).send_out_of_band(b"!").unwrap();
        stream.write_all(&frame(b"after")).unwrap();
        let expected = [frame(b"sleep"), frame(b"before"), frame(b"after")].concat();
        assert_eq!(read_exactly(&mut stream, expected.len()), expected, "{model:?}");
    }
}

#[test]
fn the_frame_timeout_runs_from_the_first_byte_of_the_header() {
    for model in MODELS {
        let limits = Limits {
            timeout: None,
            frame_timeout: Some(Duration::from_millis(150)),
            ..Limits::default()
        };
        let server = start(ServerConfig { limits, ..config(model) }, Echo);
        let mut stream = server.connect();
        stream.write_all(&frame(b"whole")).unwrap();
        assert_eq!(read_exactly(&mut stream, 9), frame(b"whole"));
        stream.write_all(b"\0").unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().raw_os_error(), Some(104), "{model:?}");
        server.diary.wait_for("closed 1 FrameTimeout");
    }
}

#[test]
fn a_drain_without_patience_cuts_nobody_who_is_idle() {
    for model in MODELS {
        let drain_timeout = Duration::ZERO;
        let server = start(ServerConfig { drain_timeout, ..config(model) }, Echo);
        let mut stream = server.connect();
        stream.write_all(&frame(b"before")).unwrap();
        assert_eq!(read_exactly(&mut stream, 10), frame(b"before"));
        let unacknowledged = || socket::probe(std::os::fd::AsFd::as_fd(&stream)).unacknowledged;
        while unacknowledged() > 0 {
            std::thread::yield_now();
        }
        let (summary, diary) = server.finish();
        assert_eq!((summary.drained, summary.cut), (1, 0), "{model:?}: {:?}", diary.reasons());
    }
}

#[test]
fn an_address_in_use_is_not_replaced_by_another_one() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let taken = std::net::TcpListener::bind(taken).unwrap();
    let port = taken.local_addr().unwrap().port();
    let addresses = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|ip| SocketAddr::from((ip, port)));
    let listen =
        |addresses: &[SocketAddr]| socket::listen(addresses, Default::default(), |_| Ok(()));
    assert_eq!(listen(&addresses).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    // An address that the host does not have (RFC 5737) is passed over.
    let foreign = SocketAddr::from(([192, 0, 2, 1], port));
    assert!(listen(&[foreign, addresses[1]]).is_ok());
}

/// Panics on a frame `panic`.
struct Clumsy;

impl Service for Clumsy {
    type Session = Clumsy;

    fn accept(&self, _peer: SocketAddr) -> Clumsy {
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

/// Asks for statistics once more whenever it is told of some, until the server has been asked `most` times.
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

/// Has statistics asked for, and holds its worker up until a deadline of another connection has passed.
#[derive(Clone)]
struct HoldsUp {
    observer: Arc<Insatiable>,
    pause: Duration,
}

impl Service for HoldsUp {
    type Session = HoldsUp;

    fn accept(&self, _peer: SocketAddr) -> HoldsUp {
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
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
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
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
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
    server.diary.wait_for(&format!("closed {CLIENTS} RecvTimeout"));
    let (sleeps, seconds) = (sleeps_of("idle-server") - before, started.elapsed().as_secs_f64());
    // The grid for limits of 2 s and more is at least 62.5 ms.
    let sweeps = 2 + (seconds / 0.0625).ceil() as u64;
    assert!(sleeps <= sweeps, "{sleeps} sleeps in {seconds} s, {CLIENTS} connections");
}
